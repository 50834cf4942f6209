/* SPDX-License-Identifier: MIT */
/*
 * The cache lines that the sender will write next.  They are in the receiver's
 * cache since the last lap, and a store that has to wait for one holds up all
 * later stores of its thread.  Two ways to have them in time:
 *
 * To ask for them costs the sender hardly anything, but only so many can be on
 * their way at once.  Between cores that share a cache that is enough.
 *
 * To clear free space, much of it at a time: to overwrite whole lines, as memset
 * does, takes the right to them and not what is in them, and for many at once.
 * Where no cache is shared that is four times as fast for a line, and pays
 * although each line is then written twice.  Which it is, is measured now and
 * then, with the system's clock.  One send in many takes up to three
 * microseconds longer for all this.
 */
#ifndef BUFPIPE_AHEAD_H
#define BUFPIPE_AHEAD_H

#include "ring.h"

/* How far ahead of the tail to ask for cache lines: 512 did best of 64 to 2048. */
#define AHEAD_ASK 512
/* Up to which length of records to ask for all lines of one: of longer ones so many are in each other's way. */
#define AHEAD_ASK_MOST 2048
/* How far ahead of the tail free space should have been cleared. */
#define AHEAD_CLEAR 8192

/*
 * Asks for a cache line to write to.  The builtin of compilers will not do for
 * x86-64: unless told of a newer processor, they make it ask for a copy to read.
 * Processors of the last fifteen years know prefetchw or ignore it.
 */
static inline void ahead_ask(const char *line)
{
#if defined(__x86_64__)
	__asm__ volatile("prefetchw %0" : : "m"(*line));
#else
	__builtin_prefetch(line, 1);
#endif
}

/*
 * For the lines of a record of len bytes, ahead of tail.  It may leave out the
 * last: to ask for that as well made 256 bytes faster and a KiB slower.
 */
void ahead_ask_all(const struct sender *s, uint64_t tail, uint64_t len);

/* The next step of clearing, if it pays and the receiver has done with so much. */
void ahead_clear(const struct sender *s, uint64_t tail, uint64_t len);

/*
 * After a record of len bytes that ended at tail, for those that will follow it.
 * In our turn, and not in a dialogue, which it would only delay (a round trip by 13 %).
 */
static inline void ahead_prepare(const struct sender *s, uint64_t tail, uint64_t len)
{
	uint64_t settled = atomic_load_explicit(&s->own->ahead.settled, memory_order_relaxed);

	if (unlikely((int64_t)(settled - tail) < AHEAD_CLEAR))
		ahead_clear(s, tail, len);
	else if (likely(len <= LAYOUT_LINE))
		ahead_ask(s->data + ((tail + AHEAD_ASK) & s->mask));
	else if (len <= AHEAD_ASK_MOST)
		ahead_ask_all(s, tail, len);
	else /* the header to be zeroed, if the next one is as long */
		ahead_ask(s->data + ((tail + record_size(len)) & s->mask));
}

#endif
