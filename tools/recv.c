/* SPDX-License-Identifier: MIT */
/* The protocol is told in send.c. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common.h"
#include "progress.h"

#define SECOND_NS 1000000000LL
/* Room for the sender to run ahead; more would only leave the CPU's caches. */
#define DEFAULT_BUFFER ((size_t)1 << 20)
/* Messages from this size on are written out where they are. */
#define DIRECT 8192u

/* Short messages are gathered here, for one write(2) of many. */
struct receiver {
	bufpipe_t *pipe;
	size_t gathered;
	char gather[65536];
};

static int write_out(const void *data, size_t len)
{
	int result = write_all(STDOUT_FILENO, data, len);

	if (result == 0) {
		progress_add(len);
		return 0;
	}
	if (!stop_signal())
		complain("standard output: %s", strerror(-result));
	return -1;
}

static int flush(struct receiver *receiver)
{
	size_t len = receiver->gathered;

	receiver->gathered = 0;
	return write_out(receiver->gather, len);
}

static int put(struct receiver *receiver, const void *data, size_t len)
{
	if (len > sizeof(receiver->gather) - receiver->gathered || len >= DIRECT) {
		if (flush(receiver) < 0)
			return -1;
	}
	if (len >= DIRECT)
		return write_out(data, len);
	memcpy(receiver->gather + receiver->gathered, data, len);
	receiver->gathered += len;
	return 0;
}

/* The pipe ended or broke before the end was marked. */
static int lost_sender(struct receiver *receiver, ssize_t error)
{
	if (stop_signal() || flush(receiver) < 0)
		return -1;
	if (error == -EPIPE)
		complain("the sender died before the end");
	else
		complain("receiving: %s", strerror((int)-error));
	return -1;
}

/* A message longer than the ring is not in one place and must be copied. */
static int receive_long(struct receiver *receiver)
{
	ssize_t len, result;
	char *data;

	do
		len = bufpipe_next(receiver->pipe, -1);
	while (should_repeat(len));
	if (len < 0)
		return lost_sender(receiver, len);
	data = malloc((size_t)len);
	if (!data) {
		complain("a line of %zd bytes: %s", len, strerror(ENOMEM));
		return -1;
	}
	do
		result = bufpipe_recv(receiver->pipe, data, (size_t)len, -1);
	while (should_repeat(result));
	if (result < 0)
		result = lost_sender(receiver, result);
	else
		result = put(receiver, data, (size_t)result);
	free(data);
	return (int)result;
}

/* The next message; whoever reads us gets all that came before we sleep. */
static ssize_t peek(struct receiver *receiver, const void **data)
{
	ssize_t len = bufpipe_peek(receiver->pipe, data, 0);

	if (len != -EAGAIN)
		return len;
	if (receiver->gathered > 0 && flush(receiver) < 0)
		return -ECANCELED;
	do
		len = bufpipe_peek(receiver->pipe, data, progress_tick_ns());
	while (should_repeat(len));
	return len;
}

static int receive_messages(struct receiver *receiver)
{
	const void *data;
	ssize_t len;
	int result;

	for (;;) {
		len = peek(receiver, &data);
		if (len == -ECANCELED)
			return -1;
		if (len < 0 && len != -EMSGSIZE)
			return lost_sender(receiver, len);
		if (len == -EMSGSIZE) {
			result = receive_long(receiver);
		} else {
			result = put(receiver, data, (size_t)len);
			bufpipe_release(receiver->pipe);
		}
		if (result < 0)
			return -1;
		if (len == 0)
			return flush(receiver);
	}
}

/* The way back is never full, so a try is enough. */
static int say(bufpipe_t *pipe, char what)
{
	return bufpipe_send(pipe, &what, sizeof(what), 0);
}

static int finish(struct receiver *receiver)
{
	/* Some filesystems tell only now that there was no room. */
	if (close(STDOUT_FILENO) < 0) {
		complain("standard output: %s", strerror(errno));
		return -1;
	}
	/* A sender that cannot wait for the answer is its own problem: all is here. */
	say(receiver->pipe, SAY_DONE);
	return 0;
}

static int receive_all(bufpipe_t *pipe, const struct settings *settings)
{
	static struct receiver receiver;
	int result;

	receiver.pipe = pipe;
	if (settings->progress)
		progress_start();
	result = receive_messages(&receiver);
	if (result == 0)
		result = finish(&receiver);
	progress_end();
	return result;
}

/* Before anything is made for a client. */
static int admit(void *settings, const struct bufpipe_client *client)
{
	return user_is_welcome(client->uid, settings) ? 0 : -EACCES;
}

/* The first client that may send to us. */
static int accept_sender(bufpipe_listener_t *listener, bufpipe_t **pipe, const struct settings *settings)
{
	int64_t deadline_ns = now_ns() + settings->wait_ns;
	int64_t left_ns = settings->wait_ns;
	int result;

	for (;;) {
		do {
			if (settings->wait_ns > 0) {
				left_ns = deadline_ns - now_ns();
				if (left_ns <= 0)
					return -ETIMEDOUT;
			}
			result = bufpipe_accept(listener, pipe, left_ns);
		} while (result == -EINTR && !stop_signal());
		/* It may have gone meanwhile. */
		if (result < 0 || say(*pipe, SAY_WELCOME) == 0)
			return result;
		bufpipe_close(*pipe);
	}
}

static int run(int argc, char **argv)
{
	struct bufpipe_options options = {
		.flags = BUFPIPE_DUPLEX | BUFPIPE_INTERRUPTIBLE,
		.name = "bufpipe-recv",
	};
	bufpipe_listener_t *listener;
	struct settings settings;
	bufpipe_t *pipe;
	int result;

	if (!parse_settings(&settings, &command_recv, argc, argv, &result))
		return result;
	options.buffer_size = settings.buffer ? settings.buffer : DEFAULT_BUFFER;
	catch_signals();
	result = bufpipe_listen(&listener, settings.address, &options);
	if (result < 0)
		return complain_address(&command_recv, settings.address, result);
	bufpipe_listener_set_policy(listener, admit, &settings);
	result = accept_sender(listener, &pipe, &settings);
	/* One sender is enough: the address is free for the next pair. */
	bufpipe_listener_close(listener);
	if (result == 0) {
		result = receive_all(pipe, &settings) < 0 ? STATUS_FAILED : 0;
		bufpipe_close(pipe);
	} else if (!stop_signal()) {
		result = complain_address(&command_recv, settings.address,
					  result == -EAGAIN ? -ETIMEDOUT : result);
	}
	/* What has been written in full is a success even if a signal came meanwhile. */
	return result != 0 && stop_signal() ? 128 + stop_signal() : result;
}

const struct command command_recv = {
	.name = "recv",
	.summary = "write what a 'bufpipe send' sends to standard output",
	.help = "usage: bufpipe recv [OPTION...] ADDRESS\n\n"
		"Waits at ADDRESS for one 'bufpipe send' and writes what it sends to standard\n"
		"output.  Ends with status 0 only when all of it has arrived.  Either may be\n"
		"started first.  ADDRESS is @name (an abstract name), /path or ./path (a socket),\n"
		"fd:N or systemd: (a socket that listens already).\n\n"
		"  --buffer SIZE  the pipe holds SIZE bytes (1M)\n"
		"  --wait SECONDS give up when no sender comes in this time (wait for ever)\n"
		"  --any-user     let the sender belong to any user, not only to this one or root\n"
		"  --progress     show bytes, rate and time on the terminal\n\n"
		"SIZE may end in K, M or G.\n",
	.run = run,
};
