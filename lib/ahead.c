/* SPDX-License-Identifier: MIT */
#include "ahead.h"

#include <stdbool.h>
#include <string.h>

/* How much to clear at a time, and more by this much for each byte of a message: less is no better than to store. */
#define STEP     16384
#define STEP_PER 8
#define STEP_MIN 8192
/* Records that are longer are copied in the same way as memory is cleared, with nothing to gain. */
#define LONGEST 8200
/* One step in so many is measured. */
#define MEASURE_EVERY 256

slow_path void ahead_ask_all(const struct sender *s, uint64_t tail, uint64_t len)
{
	uint64_t ahead = tail + AHEAD_ASK + 2 * len;
	const char *at = s->data + (ahead & s->mask);

	/* Not where the receiver may still have to read: that would take the lines from it. */
	if (ahead + len - atomic_load_explicit(&s->own->head_seen, memory_order_relaxed) > s->mask)
		return;
	for (uint64_t i = 0; i < len; i += LAYOUT_LINE)
		ahead_ask(at + i);
}

/* A quarter of the ring at most: the receiver may be behind by the rest. */
static uint64_t step_size(const struct sender *s, uint64_t len)
{
	uint64_t quarter = (s->mask + 1) / 4;
	uint64_t step = (STEP + STEP_PER * len) & ~(uint64_t)(LAYOUT_LINE - 1);

	return step < quarter ? step : quarter;
}

/* Whether the receiver has done with all up to a position. */
static bool is_free(const struct sender *s, uint64_t end)
{
	return end - atomic_load_explicit(&s->own->head_seen, memory_order_relaxed) <= s->mask;
}

static int64_t clear_timed(char *at, uint64_t n)
{
	int64_t begin = time_now();

	memset(at, 0, n);
	/* Until all lines have come. */
	atomic_thread_fence(memory_order_seq_cst);
	return time_now() - begin;
}

/* Whether to clear takes much longer than to clear again what is in our cache. */
static bool clear_measured(char *at, uint64_t n)
{
	int64_t first = clear_timed(at, n);

	return first > 2 * clear_timed(at, n);
}

/* In the first lap nobody has the lines, and memory that is not needed is not touched. */
static bool may_clear(const struct sender *s, uint64_t from, uint64_t end)
{
	return from > s->mask && (is_free(s, end) || (ring_look(s) == 0 && is_free(s, end)));
}

slow_path void ahead_clear(const struct sender *s, uint64_t tail, uint64_t len)
{
	struct ahead *own = &s->own->ahead;
	/* Whole lines, and not that of the header at tail, for which the receiver looks. */
	uint64_t first = (tail + RECORD_HEADER + LAYOUT_LINE - 1) & ~(uint64_t)(LAYOUT_LINE - 1);
	uint64_t from = atomic_load_explicit(&own->cleared, memory_order_relaxed);
	uint32_t steps = atomic_load_explicit(&own->steps, memory_order_relaxed);
	bool measure = steps % MEASURE_EVERY == 0;
	/* More than a small cache holds would be slow the second time as well. */
	uint64_t step = step_size(s, measure ? 0 : len);
	bool pays = atomic_load_explicit(&own->pays, memory_order_relaxed);
	char *at;

	if (from - first > s->mask)
		from = first;
	/* Also where there is nothing to do: the next look is so much later.  Too small a ring will not grow. */
	atomic_store_explicit(&own->cleared, from + (step < STEP_MIN ? LAYOUT_MAX : step),
			      memory_order_relaxed);
	if (len > LONGEST || step < STEP_MIN)
		return;
	at = s->data + (from & s->mask);
	if (pays || measure) {
		if (!may_clear(s, from, from + step))
			return;
		if (measure)
			atomic_store_explicit(&own->pays, clear_measured(at, step), memory_order_relaxed);
		else
			memset(at, 0, step);
	}
	atomic_store_explicit(&own->steps, steps + 1, memory_order_relaxed);
}
