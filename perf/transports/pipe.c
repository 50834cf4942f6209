/* SPDX-License-Identifier: MIT */
/* A Unix pipe in each direction. */
#include "../transport.h"
#include "stream.h"

#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

struct pipes {
	int there[2]; /* from the lead to the echo */
	int back[2];
	int in;
	int out;
};

static void drop(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

static void pipe_close(void *state)
{
	struct pipes *p = state;

	for (int i = 0; i < 2; i++) {
		drop(&p->there[i]);
		drop(&p->back[i]);
	}
	free(p);
}

/* Set always, even to the default: when a user exceeds a quota, new pipes hold only one or two pages. */
static int set_capacity(int fd, size_t size)
{
	if (size > 1 << 30)
		return -EINVAL;
	return fcntl(fd, F_SETPIPE_SZ, (int)size) < 0 ? -errno : 0;
}

static int pipe_open(void **state, const struct shape *shape)
{
	struct pipes *p = malloc(sizeof(*p));
	int err;

	if (!p)
		return -ENOMEM;
	*p = (struct pipes){ .there = { -1, -1 }, .back = { -1, -1 }, .in = -1, .out = -1 };
	if (pipe2(p->there, O_CLOEXEC) || pipe2(p->back, O_CLOEXEC)) {
		err = -errno;
		goto fail;
	}
	err = set_capacity(p->there[0], shape->ring);
	if (!err)
		err = set_capacity(p->back[0], shape->ring);
	if (err)
		goto fail;
	*state = p;
	return 0;
fail:
	pipe_close(p);
	return err;
}

static int pipe_take(void *state, enum side side)
{
	struct pipes *p = state;

	/* Closes the ends of the other side. If this process kept them, it would not notice the death of the other side. */
	if (side == SIDE_LEAD) {
		drop(&p->there[0]);
		drop(&p->back[1]);
		p->out = p->there[1];
		p->in = p->back[0];
	} else {
		drop(&p->there[1]);
		drop(&p->back[0]);
		p->out = p->back[1];
		p->in = p->there[0];
	}
	return 0;
}

static int pipe_send(void *state, const void *buf, size_t len)
{
	return stream_send(((const struct pipes *)state)->out, buf, len);
}

static ssize_t pipe_recv(void *state, void *buf, size_t len)
{
	return stream_recv(((const struct pipes *)state)->in, buf, len);
}

const struct transport transport_pipe = {
	.name = "pipe",
	.about = "Unix pipes, write(2) and read(2); the baseline",
	.room = "F_SETPIPE_SZ",
	.flags = TRANSPORT_MANY,
	.open = pipe_open,
	.take = pipe_take,
	.send = pipe_send,
	.recv = pipe_recv,
	.close = pipe_close,
};
