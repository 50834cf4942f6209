/* SPDX-License-Identifier: MIT */
/*
 * ZeroMQ: a pair of PAIR sockets over its ipc transport.  It has threads of its
 * own, so each process makes its socket after the fork.
 */
#include "../transport.h"
#include "name.h"

#include <errno.h>
#include <stdlib.h>
#include <zmq.h>

struct pair {
	char address[NAME_MAX_LEN + 16];
	int messages;
	void *context;
	void *socket;
};

static int pair_open(void **state, const struct shape *shape)
{
	struct pair *p = calloc(1, sizeof(*p));
	size_t count = shape->ring / shape->len / 2;
	char name[NAME_MAX_LEN];

	if (!p)
		return -ENOMEM;
	make_name(name, "zeromq");
	/* An abstract address: no file is left behind. */
	snprintf(p->address, sizeof(p->address), "ipc://@%s", name);
	p->messages = count ? (int)count : 1;
	*state = p;
	return 0;
}

static int set(void *socket, int option, int value)
{
	return zmq_setsockopt(socket, option, &value, sizeof(value)) ? -errno : 0;
}

static int pair_take(void *state, enum side side)
{
	struct pair *p = state;
	int err;

	p->context = zmq_ctx_new();
	p->socket = p->context ? zmq_socket(p->context, ZMQ_PAIR) : NULL;
	if (!p->socket)
		return -errno;
	err = set(p->socket, ZMQ_SNDHWM, p->messages);
	if (!err)
		err = set(p->socket, ZMQ_RCVHWM, p->messages);
	if (!err)
		err = set(p->socket, ZMQ_RECONNECT_IVL, 1);
	/* The side that connects tries until the other side has bound the address. */
	if (!err && (side == SIDE_LEAD ? zmq_bind : zmq_connect)(p->socket, p->address))
		err = -errno;
	return err;
}

static int pair_send(void *state, const void *buf, size_t len)
{
	int n;

	do {
		n = zmq_send(((const struct pair *)state)->socket, buf, len, 0);
	} while (n < 0 && errno == EINTR);
	return n < 0 ? -errno : 0;
}

static ssize_t pair_recv(void *state, void *buf, size_t len)
{
	int n;

	do {
		n = zmq_recv(((const struct pair *)state)->socket, buf, len, 0);
	} while (n < 0 && errno == EINTR);
	return n < 0 ? -errno : n;
}

static void pair_close(void *state)
{
	struct pair *p = state;

	if (p->socket)
		zmq_close(p->socket);
	if (p->context)
		zmq_ctx_term(p->context);
	free(p);
}

static const char *pair_version(void)
{
	static char text[32];
	int major, minor, patch;

	zmq_version(&major, &minor, &patch);
	snprintf(text, sizeof(text), "libzmq %d.%d.%d", major, minor, patch);
	return text;
}

const struct transport transport_zeromq = {
	.name = "zeromq",
	.about = "ZeroMQ PAIR sockets over ipc",
	.room = "high-water marks, half of the messages at either side; its batches and the socket's buffer "
		"come on top",
	.flags = TRANSPORT_EXTRA,
	.open = pair_open,
	.take = pair_take,
	.send = pair_send,
	.recv = pair_recv,
	.close = pair_close,
	.version = pair_version,
};
