/* SPDX-License-Identifier: MIT */
/* A pair of Unix stream sockets. */
#include "../transport.h"
#include "stream.h"

#include <stdlib.h>

struct sockets {
	int fd[2];
	int own;
};

static void unix_close(void *state)
{
	struct sockets *s = state;

	for (int i = 0; i < 2; i++) {
		if (s->fd[i] >= 0)
			close(s->fd[i]);
	}
	free(s);
}

static int unix_open(void **state, const struct shape *shape)
{
	struct sockets *s = malloc(sizeof(*s));
	int err;

	if (!s)
		return -ENOMEM;
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, s->fd)) {
		err = -errno;
		free(s);
		return err;
	}
	err = set_buffer(s->fd[0], SO_SNDBUF, SO_SNDBUFFORCE, shape->ring);
	if (!err)
		err = set_buffer(s->fd[1], SO_SNDBUF, SO_SNDBUFFORCE, shape->ring);
	if (err) {
		unix_close(s);
		return err;
	}
	*state = s;
	return 0;
}

static int unix_take(void *state, enum side side)
{
	struct sockets *s = state;

	s->own = s->fd[side];
	close(s->fd[!side]);
	s->fd[!side] = -1;
	return 0;
}

static int unix_send(void *state, const void *buf, size_t len)
{
	return stream_send(((const struct sockets *)state)->own, buf, len);
}

static ssize_t unix_recv(void *state, void *buf, size_t len)
{
	return stream_recv(((const struct sockets *)state)->own, buf, len);
}

const struct transport transport_unix_stream = {
	.name = "unix-stream",
	.about = "Unix SOCK_STREAM socket pair",
	.room = "SO_SNDBUF, in which the kernel counts its bookkeeping too",
	.flags = TRANSPORT_EXTRA,
	.open = unix_open,
	.take = unix_take,
	.send = unix_send,
	.recv = unix_recv,
	.close = unix_close,
};
