/* SPDX-License-Identifier: MIT */
/*
 * A Unix SOCK_SEQPACKET socket pair: what the kernel offers for whole messages.
 * A message must fit into the send buffer; where the system does not allow one
 * that is large enough, the longest messages are left out.
 */
#include "../transport.h"
#include "stream.h"

#include <stdlib.h>

struct sockets {
	int fd[2];
	int own;
};

static void socketpair_close(void *state)
{
	struct sockets *s = state;

	for (int i = 0; i < 2; i++) {
		if (s->fd[i] >= 0)
			close(s->fd[i]);
	}
	free(s);
}

static int socketpair_open(void **state, const struct shape *shape)
{
	struct sockets *s;
	size_t wanted;
	int size;
	socklen_t size_len = sizeof(size);
	int err;

	s = malloc(sizeof(*s));
	if (!s)
		return -ENOMEM;
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, s->fd)) {
		err = -errno;
		free(s);
		return err;
	}
	/* A message has to fit whole, and twice, so that both sides can work at the same time. */
	wanted = shape->len * 2 > shape->ring ? shape->len * 2 : shape->ring;
	err = set_buffer(s->fd[0], SO_SNDBUF, SO_SNDBUFFORCE, wanted);
	if (!err)
		err = set_buffer(s->fd[1], SO_SNDBUF, SO_SNDBUFFORCE, wanted);
	/* The kernel counts its own bookkeeping in the buffer as well; a page is ample. */
	if (!err && getsockopt(s->fd[0], SOL_SOCKET, SO_SNDBUF, &size, &size_len))
		err = -errno;
	if (!err && shape->len + 4096 > (size_t)size)
		err = -EOPNOTSUPP;
	if (err) {
		socketpair_close(s);
		return err;
	}
	*state = s;
	return 0;
}

static int socketpair_take(void *state, enum side side)
{
	struct sockets *s = state;
	int other = side == SIDE_LEAD ? 1 : 0;

	s->own = s->fd[!other];
	close(s->fd[other]);
	s->fd[other] = -1;
	return 0;
}

static int socketpair_send(void *state, const void *buf, size_t len)
{
	const struct sockets *s = state;
	ssize_t n;

	do {
		n = send(s->own, buf, len, MSG_NOSIGNAL);
	} while (n < 0 && errno == EINTR);
	return n < 0 ? -errno : 0;
}

static ssize_t socketpair_recv(void *state, void *buf, size_t len)
{
	const struct sockets *s = state;
	ssize_t n;

	do {
		n = recv(s->own, buf, len, 0);
	} while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;
	return n ? n : -EPIPE;
}

const struct transport transport_socketpair = {
	.name = "socketpair",
	.about = "Unix SOCK_SEQPACKET socket pair",
	.room = "SO_SNDBUF, two messages at least; the kernel counts its bookkeeping in it too",
	.flags = TRANSPORT_MANY,
	.open = socketpair_open,
	.take = socketpair_take,
	.send = socketpair_send,
	.recv = socketpair_recv,
	.close = socketpair_close,
};
