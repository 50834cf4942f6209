/* SPDX-License-Identifier: MIT */
#include "ring/prefetch.h"

#include <string.h>

/* How much to clear at a time, and more by this much for each byte of a message: to clear less is no faster than to store. */
#define STEP     16384
#define STEP_PER 8
/* Rings whose quarter is less are left alone. */
#define STEP_MIN 8192
/* Records that are longer are copied in the same way as memory is cleared, with nothing to gain. */
#define LONGEST 8200
/* One step in so many is measured. */
#define MEASURE_EVERY 64
/* How far ahead of the head the receiver asks: 3072 to 6144 did alike, and less does not last until they come. */
#define FETCH 4096
/* Single measurements are often wrong: once a thing is so for sure, so many must say that it is not, and one more the other way. */
#define VOTES_MOST 4

slow_path void prefetch_record(const struct sender *s, uint64_t tail, uint64_t len)
{
	uint64_t ahead = tail + PREFETCH_ASK + 2 * len;
	const char *at = s->data + (ahead & s->mask);

	/* Not where the receiver may still have to read: that would take the lines from it. */
	if (ahead + len - atomic_load_explicit(&s->own->head_seen, memory_order_relaxed) > s->mask)
		return;
	for (uint64_t i = 0; i < len; i += LAYOUT_LINE)
		prefetch_line(at + i);
}

slow_path void prefetch_payload(const char *payload, uint64_t len)
{
	/* The ring is mapped twice in a row; where a small one ends, asking does no harm. */
	for (uint64_t i = 0; i < len; i += LAYOUT_LINE)
		__builtin_prefetch(payload + FETCH + i);
}

/* A quarter of the ring at most: the receiver may be behind by half of it. */
static uint64_t step_size(const struct sender *s, uint64_t len)
{
	uint64_t quarter = (s->mask + 1) / 4;
	uint64_t step = (STEP + STEP_PER * len) & ~(uint64_t)(LAYOUT_LINE - 1);

	return step < quarter ? step : quarter;
}

/*
 * Whether the receiver has done with all up to a position.  No more order is
 * needed: head_seen comes from the acquire in ring_look, by us or in a turn before ours.
 */
static bool is_free(const struct sender *s, uint64_t end)
{
	return end - atomic_load_explicit(&s->own->head_seen, memory_order_relaxed) <= s->mask;
}

/* In the first lap nobody has the lines, and memory that is not needed is not touched. */
static bool may_clear(const struct sender *s, uint64_t from, uint64_t end)
{
	return from > s->mask && (is_free(s, end) || (ring_look(s) == 0 && is_free(s, end)));
}

static void touch(char *at, uint64_t n)
{
	for (volatile char *line = at; line < at + n; line += LAYOUT_LINE)
		*line = 0;
}

/* How long all stores since the mark took, and a new mark. */
static int64_t time_since(int64_t *mark)
{
	int64_t last = *mark;

	atomic_thread_fence(memory_order_seq_cst);
	*mark = time_now();
	return *mark - last;
}

static void vote(_Atomic int32_t *votes, bool yes)
{
	int32_t before = atomic_load_explicit(votes, memory_order_relaxed);

	if (yes ? before < VOTES_MOST : before > -VOTES_MOST)
		atomic_store_explicit(votes, before + (yes ? 1 : -1), memory_order_relaxed);
}

/*
 * From afar: clearing takes more than three times as long as in the cache.  It
 * pays if to ask and store takes longer than to clear half as much again and to
 * store twice: one need not wait for what one has asked for.
 */
void prefetch_judge(struct waiter_state *waiter, int64_t asked, int64_t cleared, int64_t cached)
{
	bool afar = cleared > 3 * cached;

	vote(&waiter->afar, afar);
	vote(&waiter->clearing, afar && 2 * asked > 3 * cleared + 4 * cached);
}

static void measure(const struct sender *s, char *at, uint64_t n)
{
	uint64_t rest = n - n / 4;
	int64_t mark = time_now();
	int64_t asked, cleared, cached;

	/* The end first: what follows cleared space, the processor may be fetching by itself. */
	for (uint64_t i = rest; i < n; i += LAYOUT_LINE)
		prefetch_line(at + i);
	touch(at + rest, n - rest);
	asked = 3 * time_since(&mark);
	memset(at, 0, rest);
	cleared = time_since(&mark);
	memset(at, 0, rest);
	cached = time_since(&mark);
	prefetch_judge(s->waiter, asked, cleared, cached);
}

slow_path void prefetch_clear(const struct sender *s, uint64_t tail, uint64_t len)
{
	struct tail *own = s->own;
	/* Whole lines, and not that of the header at tail, for which the receiver looks. */
	uint64_t first = (tail + RECORD_HEADER + LAYOUT_LINE - 1) & ~(uint64_t)(LAYOUT_LINE - 1);
	uint64_t from = atomic_load_explicit(&own->settled, memory_order_relaxed);
	uint32_t steps = atomic_load_explicit(&s->meter->steps, memory_order_relaxed);
	bool measured = steps % MEASURE_EVERY == 0;
	/* More than a small cache holds would be slow the second time as well. */
	uint64_t step = step_size(s, measured ? 0 : len);
	bool pays = atomic_load_explicit(&s->waiter->clearing, memory_order_relaxed) > 0;

	if (from - first > s->mask)
		from = first;
	/* What was asked for, at the latest when the record before this ended, would be measured as if it were near. */
	if (measured && prefetch_covers(s->waiter, len) && from - first < PREFETCH_ASK + 2 * len)
		from = (first + PREFETCH_ASK + 2 * len) & ~(uint64_t)(LAYOUT_LINE - 1);
	if (step < STEP_MIN) { /* and will be, so there is no need to look again */
		atomic_store_explicit(&own->settled, from + LAYOUT_MAX, memory_order_relaxed);
		return;
	}
	/* Also if nothing is done: the next look is so much later. */
	atomic_store_explicit(&own->settled, from + step, memory_order_relaxed);
	if (len > LONGEST)
		return;
	if (measured || pays) {
		if (!may_clear(s, from, from + step))
			return;
		if (measured)
			measure(s, s->data + (from & s->mask), step);
		else
			memset(s->data + (from & s->mask), 0, step);
	}
	atomic_store_explicit(&s->meter->steps, steps + 1, memory_order_relaxed);
}
