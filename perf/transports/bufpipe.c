/* SPDX-License-Identifier: MIT */
/*
 * bufpipe: a one-way pipe in each direction, with the default options but for
 * the size.  The variants differ in how the pipe is made, or in how it is used.
 */
#include "../transport.h"

#include <bufpipe.h>
#include <errno.h>
#include <stdlib.h>

struct bufpipes {
	bufpipe_t *there[2]; /* from the lead to the echo */
	bufpipe_t *back[2];
	bufpipe_t *in;
	bufpipe_t *out;
};

static void drop(bufpipe_t **pipe)
{
	bufpipe_close(*pipe);
	*pipe = NULL;
}

static void close_all(void *state)
{
	struct bufpipes *b = state;

	for (int i = 0; i < 2; i++) {
		drop(&b->there[i]);
		drop(&b->back[i]);
	}
	free(b);
}

static int open_with(void **state, const struct bufpipe_options *options)
{
	struct bufpipes *b = calloc(1, sizeof(*b));
	int err;

	if (!b)
		return -ENOMEM;
	err = bufpipe_create(b->there, options);
	if (!err)
		err = bufpipe_create(b->back, options);
	if (err) {
		close_all(b);
		return err;
	}
	*state = b;
	return 0;
}

/*
 * The buffer_size for a ring of this many bytes, headers included.  So a pipe takes as
 * much memory as the other transports, and never has more bytes in flight.
 */
static size_t size_for(size_t ring)
{
	return ring - 16;
}

static int open_generic(void **state, const struct shape *shape)
{
	return open_with(state, &(struct bufpipe_options){ .buffer_size = size_for(shape->ring) });
}

static int open_sleeping(void **state, const struct shape *shape)
{
	return open_with(state, &(struct bufpipe_options){ .buffer_size = size_for(shape->ring),
							   .spin_ns = BUFPIPE_NO_SPIN });
}

static int open_shared(void **state, const struct shape *shape)
{
	return open_with(state, &(struct bufpipe_options){ .buffer_size = size_for(shape->ring),
							   .flags = BUFPIPE_SHARED });
}

/* Objects of as many bytes as the others hold, but at least two, so that both sides can work at the same time. */
static int open_static(void **state, const struct shape *shape)
{
	size_t count = shape->ring / shape->len;

	return open_with(state, &(struct bufpipe_options){
					.object_size = shape->len,
					.object_count = count > 2 ? count : 2,
				});
}

static int open_zero(void **state, const struct shape *shape)
{
	/* A reserved message has to fit whole, and twice, so that both sides can work at the same time. */
	size_t two = 2 * (shape->len + 16);
	size_t size = two > size_for(shape->ring) ? two : size_for(shape->ring);

	return open_with(state, &(struct bufpipe_options){ .buffer_size = size });
}

static int take(void *state, enum side side)
{
	struct bufpipes *b = state;

	/* Closes the ends of the other side. If this process kept them, it would not notice the death of the other side. */
	if (side == SIDE_LEAD) {
		drop(&b->there[0]);
		drop(&b->back[1]);
		b->out = b->there[1];
		b->in = b->back[0];
	} else {
		drop(&b->there[1]);
		drop(&b->back[0]);
		b->out = b->back[1];
		b->in = b->there[0];
	}
	return 0;
}

static int send_copy(void *state, const void *buf, size_t len)
{
	const struct bufpipes *b = state;

	return bufpipe_send(b->out, buf, len, -1);
}

static ssize_t recv_copy(void *state, void *buf, size_t len)
{
	const struct bufpipes *b = state;

	return bufpipe_recv(b->in, buf, len, -1);
}

static int reserve(void *state, void **room, size_t len)
{
	return bufpipe_reserve(((const struct bufpipes *)state)->out, room, len, -1);
}

static int commit(void *state, size_t len)
{
	return bufpipe_commit(((const struct bufpipes *)state)->out, len);
}

static ssize_t peek(void *state, const void **message)
{
	return bufpipe_peek(((const struct bufpipes *)state)->in, message, -1);
}

static int release(void *state)
{
	return bufpipe_release(((const struct bufpipes *)state)->in);
}

const struct transport transport_bufpipe = {
	.name = "bufpipe",
	.about = "bufpipe, generic, bufpipe_send and bufpipe_recv",
	.room = "the ring's size, with a header of 8 bytes for each message",
	.open = open_generic,
	.take = take,
	.send = send_copy,
	.recv = recv_copy,
	.close = close_all,
};

const struct transport transport_bufpipe_static = {
	.name = "bufpipe-static",
	.about = "bufpipe, static: objects of the size of the message",
	.room = "object_count, two messages at least",
	.open = open_static,
	.take = take,
	.send = send_copy,
	.recv = recv_copy,
	.close = close_all,
};

const struct transport transport_bufpipe_zero = {
	.name = "bufpipe-zero",
	.about = "bufpipe, generic, written by reserve and read in place by peek",
	.room = "the ring's size, two messages at least, with a header of 8 bytes for each",
	.flags = TRANSPORT_EXTRA,
	.open = open_zero,
	.take = take,
	.reserve = reserve,
	.commit = commit,
	.peek = peek,
	.release = release,
	.close = close_all,
};

const struct transport transport_bufpipe_shared = {
	.name = "bufpipe-shared",
	.about = "bufpipe, generic, with BUFPIPE_SHARED",
	.room = "the ring's size, with a header of 8 bytes for each message",
	.flags = TRANSPORT_EXTRA | TRANSPORT_MANY,
	.open = open_shared,
	.take = take,
	.send = send_copy,
	.recv = recv_copy,
	.close = close_all,
};

const struct transport transport_bufpipe_sleeping = {
	.name = "bufpipe-nospin",
	.about = "bufpipe, generic, with BUFPIPE_NO_SPIN: a waiting side sleeps at once",
	.room = "the ring's size, with a header of 8 bytes for each message",
	.flags = TRANSPORT_EXTRA,
	.open = open_sleeping,
	.take = take,
	.send = send_copy,
	.recv = recv_copy,
	.close = close_all,
};
