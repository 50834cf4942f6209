/* SPDX-License-Identifier: MIT */
/*
 * A daemon around libevent: one descriptor in libevent's loop stands for a whole set of
 * pipes. The daemon answers each message with its number, prints once a second how many messages
 * it has served so far, and ends at SIGTERM.
 *
 *   libevent-daemon ADDRESS                    ask ADDRESS "hello"
 *
 * For another event loop, change the lines that add a descriptor, a signal and a timer.
 */
#include <bufpipe.h>
#include <errno.h>
#include <event2/event.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

static bufpipe_listener_t *listener;
static bufpipe_set_t *set;
static unsigned long served;
static int clients;

static void forget(bufpipe_t *pipe)
{
	bufpipe_set_remove(set, pipe);
	bufpipe_close(pipe);
	clients--;
}

static void answer(bufpipe_t *pipe)
{
	char text[1024], number[32];
	ssize_t r = bufpipe_recv(pipe, text, sizeof(text), 0);
	int len;

	if (r == -EAGAIN)
		return;
	if (r >= 0) {
		len = snprintf(number, sizeof(number), "%lu", ++served);
		/* A client that leaves a whole buffer of answers unread is not waited for. */
		r = bufpipe_send(pipe, number, (size_t)len, 0);
	}
	if (r < 0)
		forget(pipe);
}

/* The descriptor turns quiet when bufpipe_set_wait finds nothing, so go on until it returns 0. */
static void on_pipes(evutil_socket_t fd, short what, void *data)
{
	struct bufpipe_event events[16];
	int n;

	(void)fd, (void)what, (void)data;
	while ((n = bufpipe_set_wait(set, events, 16, 0)) > 0) {
		for (int i = 0; i < n; i++)
			answer(events[i].pipe);
	}
}

static void on_listener(evutil_socket_t fd, short what, void *data)
{
	bufpipe_t *pipe;

	(void)fd, (void)what, (void)data;
	while (bufpipe_accept(listener, &pipe, 0) == 0) {
		clients++;
		if (bufpipe_set_add(set, pipe, BUFPIPE_IN, NULL) < 0)
			forget(pipe);
	}
}

static void on_timer(evutil_socket_t fd, short what, void *data)
{
	(void)fd, (void)what, (void)data;
	printf("%lu served, %d clients\n", served, clients);
	fflush(stdout);
}

static void on_signal(evutil_socket_t fd, short what, void *base)
{
	(void)fd, (void)what;
	event_base_loopbreak(base);
}

int main(int argc, char **argv)
{
	const struct bufpipe_options options = { .flags = BUFPIPE_DUPLEX };
	const struct timeval second = { .tv_sec = 1 };
	struct event_base *base = event_base_new();
	struct event *watched[4];
	int r;

	if (argc != 2) {
		fprintf(stderr, "usage: libevent-daemon ADDRESS\n");
		return 2;
	}
	r = bufpipe_listen(&listener, argv[1], &options);
	if (r == 0)
		r = bufpipe_set_create(&set, BUFPIPE_POLLABLE);
	if (r < 0 || !base) {
		fprintf(stderr, "libevent-daemon: %s: %s\n", argv[1], strerror(-r));
		return 1;
	}
	watched[0] = event_new(base, bufpipe_set_fd(set), EV_READ | EV_PERSIST, on_pipes, NULL);
	watched[1] = event_new(base, bufpipe_listener_fd(listener), EV_READ | EV_PERSIST, on_listener, NULL);
	watched[2] = event_new(base, -1, EV_PERSIST, on_timer, NULL);
	watched[3] = event_new(base, SIGTERM, EV_SIGNAL | EV_PERSIST, on_signal, base);
	for (int i = 0; i < 4; i++) {
		if (!watched[i] || event_add(watched[i], i == 2 ? &second : NULL) < 0)
			return 1;
	}
	event_base_dispatch(base);

	/*
	 * The set and the listener go last, because the loop watches their descriptors. The clients then see
	 * that their peer is gone.
	 */
	for (int i = 0; i < 4; i++)
		event_free(watched[i]);
	event_base_free(base);
	bufpipe_set_destroy(set);
	bufpipe_listener_close(listener);
	return 0;
}
