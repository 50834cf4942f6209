/* SPDX-License-Identifier: MIT */
/*
 * Cache lines in time: those that the sender will write next.  They are in the
 * receiver's cache since the last lap, and a store that has to wait for one holds
 * up all later stores of its thread.  Two ways to have them:
 *
 * To ask for them costs the sender hardly anything, but only so many can be on
 * their way at once.  Between cores that share a cache close to them that is enough.
 *
 * To clear free space, much of it at a time: to overwrite whole lines, as memset
 * does, takes the right to them and not what is in them.  Some processors do
 * that for many at once: where no cache is shared that is four times as fast for
 * a line, and pays although each line is then written twice.  With others it is
 * no faster than to ask.
 *
 * Whether lines come from afar, and whether clearing pays then, is measured now
 * and then in rings of 32 KiB and more, with the system's clock.  One send in many
 * takes up to three microseconds longer for all this.  What comes of it stands in
 * the sender's waiter state: the receiver's way to the lines is as long.
 *
 * Where they come from afar and clearing does not pay, the receiver asks as well
 * when it copies a message, for the lines that it will read.
 */
#ifndef BUFPIPE_RING_PREFETCH_H
#define BUFPIPE_RING_PREFETCH_H

#include "ring/ring.h"

#include <stdbool.h>

/* How far ahead of the tail to ask for cache lines: 512 did best of 64 to 2048. */
#define PREFETCH_ASK 512
/* Up to which length of records to ask for all lines of one: of longer ones so many are in each other's way. */
#define PREFETCH_ASK_MOST 2048
/* The same where they come from afar and clearing does not pay: there longer ones gain up to a third. */
#define PREFETCH_ASK_AFAR 6144
/* How far ahead of the tail free space should have been cleared. */
#define PREFETCH_CLEAR 8192
/* For records of which lengths the receiver asks: others gain nothing. */
#define PREFETCH_FETCH_LEAST 256
#define PREFETCH_FETCH_MOST  8192

/*
 * Asks for a cache line to write to.  The builtin of compilers will not do for
 * x86-64: unless told of a newer processor, they make it ask for a copy to read.
 * Processors of the last fifteen years know prefetchw or ignore it.
 */
static inline void prefetch_line(const char *line)
{
#if defined(__x86_64__)
	__asm__ volatile("prefetchw %0" : : "m"(*line));
#else
	__builtin_prefetch(line, 1);
#endif
}

/* Whether a sender's lines come from afar, and to ask for them is the best that can be done. */
static inline bool prefetch_is_best(const struct waiter_state *waiter)
{
	return atomic_load_explicit(&waiter->afar, memory_order_relaxed) > 0 &&
	       atomic_load_explicit(&waiter->clearing, memory_order_relaxed) <= 0;
}

/* Whether to ask for all lines of a record of len bytes. */
static inline bool prefetch_covers(const struct waiter_state *waiter, uint64_t len)
{
	return len <= PREFETCH_ASK_MOST || (len <= PREFETCH_ASK_AFAR && prefetch_is_best(waiter));
}

/*
 * For the lines of a record of len bytes, ahead of tail.  It may leave out the
 * last: to ask for that as well made 256 bytes faster and a KiB slower.
 */
void prefetch_record(const struct sender *s, uint64_t tail, uint64_t len);

/* The next step of clearing, if it pays and the receiver has done with so much. */
void prefetch_clear(const struct sender *s, uint64_t tail, uint64_t len);

/*
 * After a record of len bytes that ended at tail, for those that will follow it.
 * In our turn, and not in a dialogue, which it would only delay (a round trip by 13 %).
 */
static inline void prefetch_next(const struct sender *s, uint64_t tail, uint64_t len)
{
	uint64_t settled = atomic_load_explicit(&s->own->settled, memory_order_relaxed);

	if (unlikely((int64_t)(settled - tail) < PREFETCH_CLEAR))
		prefetch_clear(s, tail, len);
	else if (likely(len <= LAYOUT_LINE))
		prefetch_line(s->data + ((tail + PREFETCH_ASK) & s->mask));
	else if (prefetch_covers(s->waiter, len))
		prefetch_record(s, tail, len);
	else /* the header to be zeroed, if the next one is as long */
		prefetch_line(s->data + ((tail + record_size(len)) & s->mask));
}

/* Whether a receiver of a record of len bytes should ask as well.  The sender may lie: asking does no harm. */
static inline bool prefetch_reads(const struct waiter_state *waiter, uint64_t len)
{
	return len - PREFETCH_FETCH_LEAST <= PREFETCH_FETCH_MOST - PREFETCH_FETCH_LEAST &&
	       prefetch_is_best(waiter);
}

/* For that receiver: asks for len bytes, 4 KiB beyond the payload. */
void prefetch_payload(const char *payload, uint64_t len);

/* A vote on what it means that as many lines took so long: to ask for and store to, to clear, and to clear once more. */
void prefetch_judge(struct waiter_state *waiter, int64_t asked, int64_t cleared, int64_t cached);

#endif
