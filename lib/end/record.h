/* SPDX-License-Identifier: MIT */
/* The next record of a receiving end: look at it, wait for it, consume it. */
#ifndef BUFPIPE_END_RECORD_H
#define BUFPIPE_END_RECORD_H

#include "end/end.h"

struct record {
	const char *payload;
	uint64_t flags;
	uint64_t len;
};

/*
 * Counts the work of one call, so that the call ends in time whatever the sender
 * writes.  Records without a message, and fragments of one, are consumed without a wait,
 * so without this count nothing would read the clock.
 */
struct effort {
	int64_t deadline; /* for TIME_TRY, EFFORT_A_TRY is the limit */
	unsigned spent;   /* records looked at, and bytes copied, in units of EFFORT_BYTES */
};

#define EFFORT_BYTES  512
#define EFFORT_A_LOOK 1024 /* the clock is read after this much work, about 0.1 ms */
/*
 * The most that a try may do.  An honest sender leaves far less in a ring, where each fragment is an
 * eighth of it.
 */
#define EFFORT_A_TRY 8192

/*
 * The effort of a look that was told of a record and found none.  With bufpipe_fd each takes
 * several system calls, and a hostile peer can cause one at every try.
 */
#define EFFORT_IN_VAIN 128

/* Adds to the count: 0, or -ETIMEDOUT. */
int effort_spend(struct effort *effort, uint64_t units);

/* Whether a header is that of a whole message of a length that this end takes. */
static inline bool record_whole(const struct direction *in, uint64_t header)
{
	return (header - RECORD_WHOLE) - in->shortest <= in->span;
}

/* The record at head: 0, -EAGAIN, -EPIPE at the end of the stream, -EPROTO. */
int record_look(const bufpipe_t *pipe, struct record *record);

/*
 * Sleeps until there may be a record.  In a shared end all co-owners first wait
 * briefly.  Then only the owner of the lead lock sleeps on the ring, so that one
 * message wakes one receiver, and only one co-owner raises and lowers the flag.  In
 * the middle of a long message, rest is its beginning, and the sleep also ends when
 * the message is given up.  Otherwise rest is NULL.
 */
int record_wait(bufpipe_t *pipe, const struct partial *rest, int64_t deadline);

/* The last long message that the sender gave up; see layout.h. */
static inline uint64_t record_given_up(const bufpipe_t *p)
{
	/* Acquire pairs with the release in fragments_give_up: all fragments that were sent are visible. */
	return atomic_load_explicit(&p->in.wait.theirs->given_up, memory_order_acquire);
}

/* Called when a try found nothing: -EAGAIN; -EPIPE if nobody sends any more; or 0: look again. */
int record_try_again(bufpipe_t *pipe);

/* Called when a try found that another holder has the turn: -EAGAIN, or 0: look again. */
int record_try_busy(bufpipe_t *pipe);

static inline int record_consume(bufpipe_t *p, uint64_t len)
{
	return wait_notify(&p->in.wait, ring_release(&p->receiver, len));
}

#endif
