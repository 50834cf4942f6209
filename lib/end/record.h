/* SPDX-License-Identifier: MIT */
/* The next record of an end that receives: to look at it, to wait for it, to consume it. */
#ifndef BUFPIPE_END_RECORD_H
#define BUFPIPE_END_RECORD_H

#include "end/end.h"

struct record {
	const char *payload;
	uint64_t flags;
	uint64_t len;
};

/*
 * What one call has done for its caller, so that it ends in time whatever the
 * sender writes.  Records that bring no message, and pieces of one, cost no wait,
 * so nothing else would look at the clock.
 */
struct effort {
	int64_t deadline; /* TIME_TRY: when enough has been done */
	unsigned spent;   /* records looked at, and bytes copied, in units of EFFORT_BYTES */
};

#define EFFORT_BYTES  512
#define EFFORT_A_LOOK 1024 /* at the clock: some 0.1 ms */
/* As much as a try may do; far more than an honest sender leaves behind in a ring, of which each piece is an eighth. */
#define EFFORT_A_TRY 8192

/* Counts: 0, or -ETIMEDOUT. */
int effort_spend(struct effort *effort, uint64_t units);

/* Whether a header is that of a whole message of a length that this end takes. */
static inline bool record_whole(const struct direction *in, uint64_t header)
{
	return (header - RECORD_WHOLE) - in->shortest <= in->span;
}

/* The record at head: 0, -EAGAIN, -EPIPE at the end of the stream, -EPROTO. */
int record_look(const bufpipe_t *pipe, struct record *record);

/*
 * Nothing is there: sleeps until that may have changed.  The co-owners of a
 * shared end all wait briefly, but then only one at a time, the one with the lead:
 * one message wakes one of them, and one alone raises and lowers the flag.
 * In the middle of a long message, in our turn: rest is what there is of it,
 * and the sleep also ends when it is given up.  Else rest is NULL.
 */
int record_wait(bufpipe_t *pipe, const struct partial *rest, int64_t deadline);

/* The long message that the sender gave up last; see layout.h. */
static inline uint64_t record_given_up(const bufpipe_t *p)
{
	/* Pairs with the release in give_up: all that was sent of it is visible. */
	return atomic_load_explicit(&p->in.wait.theirs->given_up, memory_order_acquire);
}

/* A try found nothing: -EAGAIN, -EPIPE when nobody sends any more, or 0: look again. */
int record_try_again(bufpipe_t *pipe);

/* A try found that another holder has the turn: -EAGAIN, or 0: look again. */
int record_try_busy(bufpipe_t *pipe);

static inline int record_consume(bufpipe_t *p, uint64_t len)
{
	return wait_notify(&p->in.wait, ring_release(&p->receiver, len));
}

#endif
