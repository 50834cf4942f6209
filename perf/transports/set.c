/* SPDX-License-Identifier: MIT */
/*
 * Many bufpipes into one bufpipe_set, as a daemon and its clients have them: the
 * echo listens at an address, the lead connects once for each pipe.  So neither
 * process ever holds both ends, and an end keeps one descriptor only.
 */
#include "../transport.h"
#include "many.h"

#include <bufpipe.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define BUFFER_SIZE 2000 /* a ring of one page */
#define PATIENCE    10000000000

struct sets {
	unsigned count;
	unsigned most; /* messages to take from a pipe before the next one has its turn */
	unsigned set_flags;
	char address[64];
	bufpipe_listener_t *listener; /* the echo's; it tells the lead through a pipe when it is there */
	int listening[2];
	bufpipe_t **pipes;
	bufpipe_t *in;
	bufpipe_t *out;
	bufpipe_set_t *set;
	struct bufpipe_event events[EVENTS];
	unsigned event_count;
	unsigned next;
	unsigned taken; /* from the pipe of the next event */
};

static void drop(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

static void close_all(void *state)
{
	struct sets *s = state;

	drop(&s->listening[0]);
	drop(&s->listening[1]);
	bufpipe_set_destroy(s->set);
	for (unsigned i = 0; i < s->count; i++)
		bufpipe_close(s->pipes[i]);
	bufpipe_close(s->in);
	bufpipe_close(s->out);
	bufpipe_listener_close(s->listener);
	free(s->pipes);
	free(s);
}

static struct bufpipe_options options_of(unsigned flags)
{
	return (struct bufpipe_options){ .buffer_size = BUFFER_SIZE, .flags = flags | BUFPIPE_NO_HANDOVER };
}

static int open_with(void **state, const struct shape *shape, unsigned set_flags)
{
	struct sets *s;
	int err;

	if (!many_fit(shape->pipes))
		return -EOPNOTSUPP;
	s = calloc(1, sizeof(*s));
	if (!s)
		return -ENOMEM;
	s->count = shape->pipes;
	s->most = shape->stream ? MOST_IN_ONE_GO : 1;
	s->set_flags = set_flags;
	s->pipes = calloc(s->count, sizeof(bufpipe_t *));
	err = s->pipes ? 0 : -ENOMEM;
	snprintf(s->address, sizeof(s->address), "@bufpipe-bench-%d-%p", (int)getpid(), (void *)s);
	if (!err && pipe2(s->listening, O_CLOEXEC))
		err = -errno;
	if (err) {
		free(s->pipes);
		free(s);
		return err;
	}
	*state = s;
	return 0;
}

static int open_default(void **state, const struct shape *shape)
{
	return open_with(state, shape, 0);
}

static int open_epoll(void **state, const struct shape *shape)
{
	return open_with(state, shape, BUFPIPE_NO_URING);
}

/* The first connection is the pipe back to the lead. */
static int take_lead(struct sets *s)
{
	struct bufpipe_options options = options_of(BUFPIPE_RECEIVE);
	char byte;
	int err;

	if (read(s->listening[0], &byte, 1) != 1)
		return -EPIPE;
	err = bufpipe_connect(&s->in, s->address, &options, PATIENCE);
	options = options_of(BUFPIPE_SEND);
	for (unsigned i = 0; !err && i < s->count; i++)
		err = bufpipe_connect(&s->pipes[i], s->address, &options, PATIENCE);
	return err;
}

static int take_echo(struct sets *s)
{
	const struct bufpipe_options options = options_of(0);
	int err = bufpipe_listen(&s->listener, s->address, &options);

	if (!err && write(s->listening[1], "", 1) != 1)
		err = -errno;
	if (!err)
		err = bufpipe_accept(s->listener, &s->out, PATIENCE);
	if (!err)
		err = bufpipe_set_create(&s->set, s->set_flags);
	for (unsigned i = 0; !err && i < s->count; i++) {
		err = bufpipe_accept(s->listener, &s->pipes[i], PATIENCE);
		if (!err)
			err = bufpipe_set_add(s->set, s->pipes[i], BUFPIPE_IN, (void *)(uintptr_t)i);
	}
	return err;
}

static int take(void *state, enum side side)
{
	struct sets *s = state;

	/* Closes the end of the other side. If this process kept it, it would not notice the death of the other side. */
	drop(&s->listening[side == SIDE_LEAD]);
	return side == SIDE_LEAD ? take_lead(s) : take_echo(s);
}

static int send_back(void *state, const void *buf, size_t len)
{
	const struct sets *s = state;

	return bufpipe_send(s->out, buf, len, -1);
}

static ssize_t recv_back(void *state, void *buf, size_t len)
{
	const struct sets *s = state;

	return bufpipe_recv(s->in, buf, len, -1);
}

static int send_to(void *state, unsigned which, const void *buf, size_t len)
{
	const struct sets *s = state;

	return bufpipe_send(s->pipes[which], buf, len, -1);
}

static int await_events(struct sets *s)
{
	int n = bufpipe_set_wait(s->set, s->events, EVENTS, -1);

	if (n == -EINTR || n == 0)
		return 0;
	if (n < 0)
		return n;
	s->event_count = (unsigned)n;
	s->next = 0;
	s->taken = 0;
	return 0;
}

static ssize_t recv_any(void *state, unsigned *which, void *buf, size_t len)
{
	struct sets *s = state;
	int err = 0;

	while (!err) {
		for (; s->next < s->event_count; s->next++, s->taken = 0) {
			const struct bufpipe_event *e = &s->events[s->next];
			ssize_t n;

			if (s->taken == s->most)
				continue;
			n = bufpipe_recv(e->pipe, buf, len, 0);
			if (n == -EAGAIN)
				continue;
			s->taken++;
			*which = (unsigned)(uintptr_t)e->user;
			return n;
		}
		err = await_events(s);
	}
	return err;
}

const struct transport transport_set = {
	.name = "set",
	.about = "bufpipe_set over bufpipes with rings of a page",
	.room = "a page in each pipe",
	.flags = TRANSPORT_SET,
	.open = open_default,
	.take = take,
	.send = send_back,
	.recv = recv_back,
	.send_to = send_to,
	.recv_any = recv_any,
	.close = close_all,
};

const struct transport transport_set_epoll = {
	.name = "set-no-uring",
	.about = "the same with BUFPIPE_NO_URING",
	.room = "a page in each pipe",
	.flags = TRANSPORT_SET,
	.open = open_epoll,
	.take = take,
	.send = send_back,
	.recv = recv_back,
	.send_to = send_to,
	.recv_any = recv_any,
	.close = close_all,
};
