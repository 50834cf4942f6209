/* SPDX-License-Identifier: MIT */
/*
 * Transports that fail, beside two that do not, for the benchmark that test_failures.py runs.
 * They are Unix pipes, whose echo, or whose receivers, go wrong with the first message.
 */
#include "../transport.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

/* Of this process, set when it takes its side. */
static enum side my_side;

static int broken_open(void **state, const struct shape *shape)
{
	return transport_pipe.open(state, shape);
}

static int broken_take(void *state, enum side side)
{
	my_side = side;
	return transport_pipe.take(state, side);
}

static int broken_send(void *state, const void *buf, size_t len)
{
	return transport_pipe.send(state, buf, len);
}

static void broken_close(void *state)
{
	transport_pipe.close(state);
}

static ssize_t hang(void *state, void *buf, size_t len)
{
	while (my_side == SIDE_ECHO)
		pause();
	return transport_pipe.recv(state, buf, len);
}

static ssize_t crash(void *state, void *buf, size_t len)
{
	if (my_side == SIDE_ECHO)
		abort();
	return transport_pipe.recv(state, buf, len);
}

/* As a library that gives up would; the status says that all is well. */
static ssize_t leave(void *state, void *buf, size_t len)
{
	if (my_side == SIDE_ECHO)
		exit(0);
	return transport_pipe.recv(state, buf, len);
}

/* The receiver sees that, ends, and so breaks the pipe of the sender. */
static ssize_t garble(void *state, void *buf, size_t len)
{
	ssize_t n = transport_pipe.recv(state, buf, len);

	if (my_side == SIDE_ECHO)
		((unsigned char *)buf)[len - 1] ^= 0xff;
	return n;
}

static int refuse(void **state, const struct shape *shape)
{
	(void)state;
	(void)shape;
	return -ENOSPC;
}

#define BROKEN(its_name, its_open, its_recv)                                                                \
	{                                                                                                   \
		.name = (its_name), .about = "goes wrong", .room = "F_SETPIPE_SZ", .flags = TRANSPORT_MANY, \
		.open = (its_open), .take = broken_take, .send = broken_send, .recv = (its_recv),           \
		.close = broken_close,                                                                      \
	}

static const struct transport broken[] = {
	BROKEN("hangs", broken_open, hang),   BROKEN("crashes", broken_open, crash),
	BROKEN("leaves", broken_open, leave), BROKEN("garbles", broken_open, garble),
	BROKEN("refuses", refuse, hang),
};

extern const struct transport transport_socketpair;

const struct transport *const transports[] = {
	&transport_pipe,       &broken[0],       &broken[1], &broken[2], &broken[3], &broken[4],
	&transport_socketpair, &transport_epoll, NULL,
};
