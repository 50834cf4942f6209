/* SPDX-License-Identifier: MIT */
#include "ring/prefetch.h"

#include <string.h>

/*
 * A step clears STEP bytes, and STEP_PER more per byte of a message.  Less is not faster than
 * plain stores.
 */
#define STEP     16384
#define STEP_PER 8
/* Nothing is cleared in rings of which a quarter is less than this. */
#define STEP_MIN 8192
/* memcpy writes longer records in the same way as memset clears, so clearing gains nothing for them. */
#define LONGEST 8200
/* One step in this many is measured. */
#define MEASURE_EVERY 64
/* How far ahead of the head the receiver prefetches.  3072 to 6144 are alike; less is too late. */
#define FETCH 4096
/*
 * Single measurements are often wrong, so each of them is a vote.  A result at the
 * limit needs this many votes against it to become doubtful, and one more to turn.
 */
#define VOTES_MOST 4

slow_path void prefetch_record(const struct sender *s, uint64_t tail, uint64_t len)
{
	uint64_t ahead = tail + PREFETCH_ASK + 2 * len;
	const char *at = s->data + (ahead & s->mask);

	/* Not where the receiver may still read: this would take the lines out of its cache. */
	if (ahead + len - atomic_load_explicit(&s->own->head_seen, memory_order_relaxed) > s->mask)
		return;
	for (uint64_t i = 0; i < len; i += LAYOUT_LINE)
		prefetch_line(at + i);
}

slow_path void prefetch_payload(const char *payload, uint64_t len)
{
	/* The ring is mapped twice in a row.  To prefetch beyond the end of a small one does no harm. */
	for (uint64_t i = 0; i < len; i += LAYOUT_LINE)
		__builtin_prefetch(payload + FETCH + i);
}

/* At most a quarter of the ring, because the receiver may be half a ring behind. */
static uint64_t step_size(const struct sender *s, uint64_t len)
{
	uint64_t quarter = (s->mask + 1) / 4;
	uint64_t step = (STEP + STEP_PER * len) & ~(uint64_t)(LAYOUT_LINE - 1);

	return step < quarter ? step : quarter;
}

/*
 * Whether the receiver has consumed all records up to a position.  Relaxed: head_seen
 * was loaded with acquire in ring_look, by us or by a co-owner that held the quick
 * lock before us.
 */
static bool is_free(const struct sender *s, uint64_t end)
{
	return end - atomic_load_explicit(&s->own->head_seen, memory_order_relaxed) <= s->mask;
}

/* Not in the first lap: the receiver has no lines of it yet, and unused memory should stay untouched. */
static bool may_clear(const struct sender *s, uint64_t from, uint64_t end)
{
	return from > s->mask && (is_free(s, end) || (ring_look(s) == 0 && is_free(s, end)));
}

static void touch(char *at, uint64_t n)
{
	for (volatile char *line = at; line < at + n; line += LAYOUT_LINE)
		*line = 0;
}

/* Returns how long all stores since *mark took, and sets *mark to now. */
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
 * Lines are remote if clearing them takes more than three times as long as in
 * the cache.  Clearing pays if prefetching and storing takes longer than clearing
 * 1.5 times plus storing twice.  The factor of 1.5 is in favour of prefetching,
 * because the sender need not wait for the lines that it has prefetched.
 */
void prefetch_judge(struct waiter_state *waiter, int64_t asked, int64_t cleared, int64_t cached)
{
	bool remote = cleared > 3 * cached;

	vote(&waiter->remote, remote);
	vote(&waiter->clearing, remote && 2 * asked > 3 * cleared + 4 * cached);
}

static void measure(const struct sender *s, char *at, uint64_t n)
{
	uint64_t rest = n - n / 4;
	int64_t mark = time_now();
	int64_t asked, cleared, cached;

	/* The end comes first: the processor itself may fetch the lines that follow cleared space. */
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
	/* Only whole lines, and not the line of the header at tail, which the receiver polls. */
	uint64_t first = (tail + RECORD_HEADER + LAYOUT_LINE - 1) & ~(uint64_t)(LAYOUT_LINE - 1);
	uint64_t from = atomic_load_explicit(&own->settled, memory_order_relaxed);
	uint32_t steps = atomic_load_explicit(&s->meter->steps, memory_order_relaxed);
	bool measured = steps % MEASURE_EVERY == 0;
	/* A measured step is short: more than a small cache holds would be slow the second time as well. */
	uint64_t step = step_size(s, measured ? 0 : len);
	bool pays = atomic_load_explicit(&s->waiter->clearing, memory_order_relaxed) > 0;

	if (from - first > s->mask)
		from = first;
	/* Skip the lines that were prefetched after the last record: they would be measured as near. */
	if (measured && prefetch_covers(s->waiter, len) && from - first < PREFETCH_ASK + 2 * len)
		from = (first + PREFETCH_ASK + 2 * len) & ~(uint64_t)(LAYOUT_LINE - 1);
	if (step < STEP_MIN) { /* the ring is too small, now and always: never come back here */
		atomic_store_explicit(&own->settled, from + LAYOUT_MAX, memory_order_relaxed);
		return;
	}
	/* Even if nothing is cleared, so that the next call comes one step later. */
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
