/* SPDX-License-Identifier: MIT */
#include "senders.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include "../progress.h"
#include "../welcome.h"
#include "protocol.h"

/* Called before anything is made for a client. */
static int admit(void *context, const struct bufpipe_client *client)
{
	const struct settings *settings = context;

	return user_is_welcome(client->uid, settings->address, settings->any_user) ? 0 : -EACCES;
}

/* The direction back to the sender is never full, so a try is enough. */
static int say(bufpipe_t *pipe, char what)
{
	return bufpipe_send(pipe, &what, sizeof(what), 0);
}

static int watch_listener(struct senders *senders)
{
	int error;

	if (senders->listening || !senders->listener)
		return 0;
	error = bufpipe_set_add_fd(senders->set, bufpipe_listener_fd(senders->listener), POLLIN, NULL);
	senders->listening = error == 0;
	return error;
}

static void unwatch_listener(struct senders *senders)
{
	if (!senders->listening)
		return;
	bufpipe_set_remove_fd(senders->set, bufpipe_listener_fd(senders->listener));
	senders->listening = false;
}

int senders_open(struct senders *senders, const struct settings *settings, size_t buffer_size)
{
	struct bufpipe_options options = {
		.buffer_size = buffer_size,
		.flags = BUFPIPE_DUPLEX | BUFPIPE_INTERRUPTIBLE,
		.name = "bufpipe-recv",
	};
	int error = bufpipe_listen(&senders->listener, settings->address, &options);

	if (error < 0)
		return error;
	senders->settings = settings;
	bufpipe_listener_set_policy(senders->listener, admit, (void *)(uintptr_t)settings);
	/*
	 * With one sender the set lives for a moment only. Making and closing an epoll is quicker
	 * than an io_uring.
	 */
	error = bufpipe_set_create(&senders->set, BUFPIPE_NO_URING);
	if (error == 0)
		error = watch_listener(senders);
	if (error < 0)
		senders_close(senders);
	return error;
}

static struct sender *find_place(struct senders *senders)
{
	static unsigned next;
	unsigned i;

	for (i = 0; i < SENDERS; i++) {
		if (!senders->list[i].pipe)
			return &senders->list[i];
	}
	/* Clients that have said nothing make room for others, in turn. */
	for (i = 0; i < SENDERS; i++) {
		struct sender *sender = &senders->list[next++ % SENDERS];

		if (!sender->welcomed) {
			senders_leave(senders, sender);
			return sender;
		}
	}
	return NULL;
}

/* Accepts all clients that have come. What they say is read later. */
static int accept_all(struct senders *senders)
{
	struct sender *sender;
	bufpipe_t *pipe;
	int error;
	unsigned i;

	/* The number is bounded, so that new clients that keep coming do not delay the others for ever. */
	for (i = 0; i < SENDERS; i++) {
		sender = find_place(senders);
		if (!sender) {
			unwatch_listener(senders);
			return 0;
		}
		error = bufpipe_accept(senders->listener, &pipe, 0);
		if (error == -EMFILE || error == -ENFILE) {
			if (!senders->exhausted)
				complain("%s: senders must wait: %s", senders->settings->address,
					 bufpipe_strerror(error));
			senders->exhausted = true;
			return 0;
		}
		if (error < 0)
			return error == -EAGAIN || error == -EINTR ? 0 : error;
		*sender = (struct sender){ .pipe = pipe };
		error = bufpipe_set_add(senders->set, pipe, BUFPIPE_IN, sender);
		if (error < 0) {
			bufpipe_close(pipe);
			sender->pipe = NULL;
			return error;
		}
	}
	return 0;
}

/* Reads the first message of a client. Returns true if it is a sender. */
static bool greet(struct senders *senders, struct sender *sender)
{
	char word = 0;
	ssize_t got = bufpipe_recv(sender->pipe, &word, sizeof(word), 0);

	if (got == -EAGAIN || got == -EINTR)
		return false;
	if (got == sizeof(word) && word == SAY_HELLO && say(sender->pipe, SAY_WELCOME) == 0) {
		sender->welcomed = true;
		senders->welcomed++;
		return true;
	}
	/* A client that leaves without a message is no error: it may have refused us. */
	if (got != -EPIPE && word != SAY_HELLO)
		complain("%s: what has connected is not 'bufpipe send', and is ignored",
			 senders->settings->address);
	senders_leave(senders, sender);
	return false;
}

int senders_wait(struct senders *senders, struct sender **ready, int64_t timeout_ns)
{
	int64_t deadline_ns = timeout_ns > 0 ? now_ns() + timeout_ns : 0;
	int64_t tick_ns = progress_tick_ns();
	int64_t left_ns = timeout_ns;
	struct bufpipe_event event;
	int found, error;

	for (;;) {
		if (timeout_ns > 0) {
			left_ns = deadline_ns - now_ns();
			if (left_ns <= 0)
				return -ETIMEDOUT;
		}
		if (tick_ns >= 0 && (left_ns < 0 || left_ns > tick_ns))
			left_ns = tick_ns;
		found = bufpipe_set_wait(senders->set, &event, 1, left_ns);
		if (stop_signal())
			return -EINTR;
		if (found < 0 && found != -EINTR)
			return found;
		if (found == 0 && timeout_ns == 0)
			return -EAGAIN;
		progress_draw();
		if (found <= 0)
			continue;
		if (!event.pipe) {
			error = accept_all(senders);
			if (error < 0)
				return error;
			continue;
		}
		*ready = event.user;
		if ((*ready)->welcomed || greet(senders, *ready))
			return 0;
	}
}

void senders_take(struct senders *senders, struct sender *sender)
{
	bufpipe_set_remove(senders->set, sender->pipe);
}

void senders_leave(struct senders *senders, struct sender *sender)
{
	if (sender->welcomed)
		senders->welcomed--;
	bufpipe_set_remove(senders->set, sender->pipe);
	bufpipe_close(sender->pipe);
	free(sender->whole);
	*sender = (struct sender){ 0 };
	watch_listener(senders);
}

void senders_no_more(struct senders *senders)
{
	unsigned i;

	unwatch_listener(senders);
	bufpipe_listener_close(senders->listener);
	senders->listener = NULL;
	for (i = 0; i < SENDERS; i++) {
		if (senders->list[i].pipe && !senders->list[i].welcomed)
			senders_leave(senders, &senders->list[i]);
	}
}

void senders_close(struct senders *senders)
{
	unsigned i;

	senders_no_more(senders);
	for (i = 0; i < SENDERS; i++) {
		if (senders->list[i].pipe)
			senders_leave(senders, &senders->list[i]);
	}
	bufpipe_set_destroy(senders->set);
	senders->set = NULL;
}
