/* SPDX-License-Identifier: MIT */
/*
 * Prefetching: bringing cache lines near before they are needed.
 *
 * The lines that the sender writes next have been in the receiver's cache since
 * the last lap.  A store that waits for a line holds up all later stores of the
 * thread.  The sender has two ways to get the lines in time:
 *
 * - It prefetches them.  This costs hardly anything, but a core can have only few
 *   lines on their way at once.  It is enough between cores that share a near cache.
 *
 * - It clears free space in large steps.  A memset overwrites whole lines, so it
 *   needs the ownership of the lines but not their contents.  Some processors do this
 *   for many lines at once.  Between cores that share no cache it is then four times
 *   as fast per line, and pays although each line is written twice.  On other
 *   processors it is no faster than prefetching.
 *
 * In rings of 32 KiB and more the sender measures from time to time whether its
 * lines are remote, and whether clearing pays.  One send in many takes up to
 * three microseconds longer for this.  The results are in the sender's waiter state,
 * because they hold for the receiver too.
 *
 * If the lines are remote and clearing does not pay, the receiver prefetches as
 * well: while it copies a message, it asks for the lines that it will read next.
 */
#ifndef BUFPIPE_RING_PREFETCH_H
#define BUFPIPE_RING_PREFETCH_H

#include "ring/ring.h"

#include <stdbool.h>

/* How far ahead of the tail to prefetch: 512 was the best of 64 to 2048. */
#define PREFETCH_ASK 512
/* All lines of records up to this length are prefetched.  More lines than that delay each other. */
#define PREFETCH_ASK_MOST 2048
/* The same if lines are remote and clearing does not pay: then longer records gain up to a third. */
#define PREFETCH_ASK_REMOTE 6144
/* How far ahead of the tail free space should have been cleared. */
#define PREFETCH_CLEAR 8192
/* The receiver prefetches for records of these lengths.  Others gain nothing. */
#define PREFETCH_FETCH_LEAST 256
#define PREFETCH_FETCH_MOST  8192

/*
 * Prefetches a cache line for writing.  For x86-64 the builtin of the compilers does
 * not do this: unless they are told to build for a newer processor, it prefetches
 * for reading.  Processors of the last fifteen years know prefetchw or ignore it.
 */
static inline void prefetch_line(const char *line)
{
#if defined(__x86_64__)
	__asm__ volatile("prefetchw %0" : : "m"(*line));
#else
	__builtin_prefetch(line, 1);
#endif
}

/* Whether the sender's lines are remote, and prefetching them is better than clearing. */
static inline bool prefetch_is_best(const struct waiter_state *waiter)
{
	return atomic_load_explicit(&waiter->remote, memory_order_relaxed) > 0 &&
	       atomic_load_explicit(&waiter->clearing, memory_order_relaxed) <= 0;
}

/* Whether to prefetch all lines of a record of len bytes. */
static inline bool prefetch_covers(const struct waiter_state *waiter, uint64_t len)
{
	return len <= PREFETCH_ASK_MOST || (len <= PREFETCH_ASK_REMOTE && prefetch_is_best(waiter));
}

/*
 * Prefetches the lines of a record of len bytes, ahead of tail.  It may leave out the
 * last line: with it, 256 bytes were faster and 1 KiB was slower.
 */
void prefetch_record(const struct sender *s, uint64_t tail, uint64_t len);

/* Clears the next step, if clearing pays and the receiver has consumed everything there. */
void prefetch_clear(const struct sender *s, uint64_t tail, uint64_t len);

/*
 * Called after a record of len bytes that ended at tail, for the records that will
 * follow.  The caller may send, that is, it holds the quick lock of a shared end.
 * Not called in a dialogue: there it makes a round trip 13 % longer.
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
	else /* only the line of the header that the next send zeroes, if its record is as long */
		prefetch_line(s->data + ((tail + record_size(len)) & s->mask));
}

/* Whether the receiver of a record of len bytes should prefetch.  If the sender lies, this does no harm. */
static inline bool prefetch_reads(const struct waiter_state *waiter, uint64_t len)
{
	return len - PREFETCH_FETCH_LEAST <= PREFETCH_FETCH_MOST - PREFETCH_FETCH_LEAST &&
	       prefetch_is_best(waiter);
}

/* For that receiver: prefetches len bytes, 4 KiB beyond the payload. */
void prefetch_payload(const char *payload, uint64_t len);

/*
 * Votes on the result of a measurement.  The times are for the same number of lines:
 * to prefetch and store, to clear, and to clear again while they are in the cache.
 */
void prefetch_judge(struct waiter_state *waiter, int64_t asked, int64_t cleared, int64_t cached);

#endif
