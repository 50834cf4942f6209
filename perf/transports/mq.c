/* SPDX-License-Identifier: MIT */
/*
 * POSIX message queues.  A queue holds messages of as many bytes as the other
 * transports.  If the system does not allow so many messages (ten by default), it
 * holds as many as the system allows.
 */
#include "../transport.h"

#include <errno.h>
#include <fcntl.h>
#include <mqueue.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

struct queues {
	mqd_t there;
	mqd_t back;
	mqd_t in;
	mqd_t out;
};

static void drop(mqd_t *queue)
{
	if (*queue >= 0)
		mq_close(*queue);
	*queue = -1;
}

static void queues_close(void *state)
{
	struct queues *q = state;

	drop(&q->there);
	drop(&q->back);
	free(q);
}

static long messages_allowed(void)
{
	FILE *file = fopen("/proc/sys/fs/mqueue/msg_max", "re");
	long allowed = 10;

	if (file && fscanf(file, "%ld", &allowed) != 1)
		allowed = 10;
	if (file)
		fclose(file);
	return allowed;
}

/* The queue has its name only until it is open, because both processes inherit the descriptor. */
static int queue_open(mqd_t *queue, const struct shape *shape)
{
	struct mq_attr attr = { .mq_msgsize = (long)shape->len };
	long wanted = (long)(shape->ring / shape->len), allowed = messages_allowed();
	char name[64];

	attr.mq_maxmsg = wanted < 2 ? 2 : wanted;
	snprintf(name, sizeof(name), "/bufpipe-bench.%d", (int)getpid());
	*queue = mq_open(name, O_RDWR | O_CREAT | O_EXCL, 0600, &attr);
	if (*queue < 0 && attr.mq_maxmsg > allowed) {
		attr.mq_maxmsg = allowed;
		*queue = mq_open(name, O_RDWR | O_CREAT | O_EXCL, 0600, &attr);
	}
	if (*queue < 0)
		return -errno;
	mq_unlink(name);
	return 0;
}

static int queues_open(void **state, const struct shape *shape)
{
	struct queues *q = malloc(sizeof(*q));
	int err;

	if (!q)
		return -ENOMEM;
	*q = (struct queues){ .there = -1, .back = -1, .in = -1, .out = -1 };
	err = queue_open(&q->there, shape);
	if (!err)
		err = queue_open(&q->back, shape);
	if (err) {
		queues_close(q);
		/* A kernel without them, a message that is too long, a limit that is used up. */
		return err == -ENOMEM ? err : -EOPNOTSUPP;
	}
	*state = q;
	return 0;
}

static int queues_take(void *state, enum side side)
{
	struct queues *q = state;

	q->out = side == SIDE_LEAD ? q->there : q->back;
	q->in = side == SIDE_LEAD ? q->back : q->there;
	return 0;
}

static int queues_send(void *state, const void *buf, size_t len)
{
	const struct queues *q = state;
	int r;

	do {
		r = mq_send(q->out, buf, len, 0);
	} while (r < 0 && errno == EINTR);
	return r < 0 ? -errno : 0;
}

static ssize_t queues_recv(void *state, void *buf, size_t len)
{
	const struct queues *q = state;
	ssize_t n;

	do {
		n = mq_receive(q->in, buf, len, NULL);
	} while (n < 0 && errno == EINTR);
	return n < 0 ? -errno : n;
}

const struct transport transport_mq = {
	.name = "mq",
	.about = "POSIX message queues",
	.room = "as many messages as hold the bytes, two at least; where the system forbids that, its "
		"msg_max",
	.flags = TRANSPORT_EXTRA | TRANSPORT_MANY,
	.open = queues_open,
	.take = queues_take,
	.send = queues_send,
	.recv = queues_recv,
	.close = queues_close,
};
