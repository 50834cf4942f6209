/* SPDX-License-Identifier: MIT */
/*
 * The ring buffer of libqb, on which its IPC is built.  A reader sleeps on a
 * semaphore.  A writer that finds no room has nothing to sleep on, so it yields.
 * The library counts the users of a ring, so the lead makes both rings after the
 * fork.  It tells the echo through a pipe that they are there.
 */
#include "../transport.h"
#include "name.h"

#include <errno.h>
#include <fcntl.h>
#include <qb/qbrb.h>
#include <sched.h>
#include <stdlib.h>
#include <unistd.h>

struct rings {
	char there[NAME_MAX_LEN];
	char back[NAME_MAX_LEN];
	size_t size;
	int made[2]; /* a pipe, in which a byte says that both rings can be opened */
	qb_ringbuffer_t *in;
	qb_ringbuffer_t *out;
};

static int rings_open(void **state, const struct shape *shape)
{
	struct rings *r = calloc(1, sizeof(*r));
	int err;

	if (!r)
		return -ENOMEM;
	if (pipe2(r->made, O_CLOEXEC)) {
		err = -errno;
		free(r);
		return err;
	}
	make_name(r->there, "qb-there");
	make_name(r->back, "qb-back");
	/* A message has to fit whole, and twice, so that both sides can work at the same time. */
	r->size = shape->ring > 2 * (shape->len + 64) ? shape->ring : 2 * (shape->len + 64);
	*state = r;
	return 0;
}

static int join(qb_ringbuffer_t **ring, const char *name, size_t size, uint32_t flags)
{
	*ring = qb_rb_open(name, size, flags | QB_RB_FLAG_SHARED_PROCESS, 0);
	if (*ring)
		return 0;
	return errno ? -errno : -EIO;
}

static int rings_take(void *state, enum side side)
{
	struct rings *r = state;
	char byte = 0;
	int err;

	if (side == SIDE_LEAD) {
		err = join(&r->out, r->there, r->size, QB_RB_FLAG_CREATE);
		if (!err)
			err = join(&r->in, r->back, r->size, QB_RB_FLAG_CREATE);
		if (!err && write(r->made[1], &byte, 1) != 1)
			err = -errno;
		return err;
	}
	if (read(r->made[0], &byte, 1) != 1)
		return -errno;
	err = join(&r->out, r->back, r->size, 0);
	return err ? err : join(&r->in, r->there, r->size, 0);
}

static int rings_send(void *state, const void *buf, size_t len)
{
	const struct rings *r = state;

	for (;;) {
		ssize_t n = qb_rb_chunk_write(r->out, buf, len);

		if (n >= 0)
			return 0;
		if (n != -EAGAIN)
			return (int)n;
		sched_yield();
	}
}

static ssize_t rings_recv(void *state, void *buf, size_t len)
{
	const struct rings *r = state;
	ssize_t n;

	do {
		n = qb_rb_chunk_read(r->in, buf, len, -1);
	} while (n == -ETIMEDOUT || n == -EINTR || n == -EAGAIN);
	return n;
}

static void rings_close(void *state)
{
	struct rings *r = state;

	if (r->in)
		qb_rb_close(r->in);
	if (r->out)
		qb_rb_close(r->out);
	close(r->made[0]);
	close(r->made[1]);
	free(r);
}

static const char *rings_version(void)
{
	return "libqb " PERF_QB_VERSION;
}

const struct transport transport_libqb = {
	.name = "libqb",
	.about = "ring buffers of libqb, with its semaphores",
	.room = "the ring's size, two messages at least; a record has a header of 16 bytes",
	.flags = TRANSPORT_EXTRA,
	.open = rings_open,
	.take = rings_take,
	.send = rings_send,
	.recv = rings_recv,
	.close = rings_close,
	.version = rings_version,
};
