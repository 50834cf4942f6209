/* SPDX-License-Identifier: MIT */
#include "ring/ring.h"

#include "base/probe.h"
#include "memory/populate.h"

/*
 * A record at the tail means that a co-owner published it and died before it moved
 * the tail.  Moves the tail.  Returns false if the stream has ended.
 */
static bool catch_up(const struct sender *s)
{
	uint64_t tail = sender_tail(s);
	uint64_t header;

	while ((header = atomic_load_explicit(sender_header(s, tail), memory_order_relaxed))) {
		if (header & RECORD_END)
			return false;
		tail += record_size(header & RECORD_LENGTH);
		atomic_store_explicit(&s->own->tail, tail, memory_order_relaxed);
		/* The co-owner counts after it moves the tail, so it has not counted this record. */
		count_step(&s->own->records);
	}
	atomic_store_explicit(&s->own->next, tail, memory_order_relaxed);
	return true;
}

/* The receiver's head, or -EPROTO if it is impossible. */
static int read_head(const struct sender *s, uint64_t *head)
{
	uint64_t seen = atomic_load_explicit(&s->own->head_seen, memory_order_relaxed);

	/* Pairs with the release in ring_release; without it we could overwrite what is still being read. */
	*head = atomic_load_explicit(s->head, memory_order_acquire) & ~HEAD_HELD;
	/* An honest head is not before the last one and not behind the tail, and it is a multiple of 8. */
	if (*head - seen > sender_tail(s) - seen || *head % 8)
		return protocol_error("head");
	return 0;
}

/* The ring has memory up to this position.  In the first lap this is less than the size of the ring. */
static uint64_t backed(const struct sender *s)
{
	return atomic_load_explicit(&s->own->head_seen, memory_order_relaxed) + s->limit + RECORD_HEADER;
}

slow_path int ring_look(const struct sender *s)
{
	uint64_t seen = atomic_load_explicit(&s->own->head_seen, memory_order_relaxed);
	uint64_t head;

	/* After ring_refuse nothing fits, and it must stay so: the next sender has to find that the stream ends. */
	if (sender_tail(s) - seen > s->mask)
		return -EPIPE;
	if (read_head(s, &head) < 0)
		return -EPROTO;
	/* In the first lap head_seen also says how much memory there is, so only take_head may move it. */
	if (backed(s) <= s->mask)
		return 0;
	/* If ring_refuse comes between the load and this exchange, its value stays. */
	if (!atomic_compare_exchange_strong_explicit(&s->own->head_seen, &seen, head, memory_order_relaxed,
						     memory_order_relaxed))
		return -EPIPE;
	return 0;
}

/*
 * How many bytes of memory to add to the ring for a record of len bytes, but no more
 * than most.  The memory grows in steps, because a call for each page would take
 * longer.  The first steps are small, for pipes that carry little.
 */
static uint64_t next_step(const struct sender *s, uint64_t len, uint64_t most)
{
	enum { STEP = 16384 };
	uint64_t at = backed(s);
	uint64_t rest = s->mask + 1 - at;
	uint64_t step = at < STEP ? at : STEP;
	int64_t needed = (int64_t)(sender_tail(s) + record_size(len) + RECORD_HEADER - at);

	if (needed > (int64_t)step)
		step = ((uint64_t)needed + STEP - 1) & ~(uint64_t)(STEP - 1);
	/*
	 * If there is no room for the record yet, go up to most: then head_seen becomes
	 * the head, and a wait for the head to move can begin.
	 */
	if (needed > (int64_t)most || step > most)
		step = most;
	return step < rest ? step : rest;
}

/*
 * Stores the head in head_seen.  In the first lap this first adds memory to the ring,
 * by a call that fails where a store would raise SIGBUS, and moves head_seen only as
 * far as there is memory.
 */
static int take_head(const struct sender *s, uint64_t head, uint64_t len)
{
	uint64_t seen = atomic_load_explicit(&s->own->head_seen, memory_order_relaxed);
	uint64_t at = backed(s);
	uint64_t step;

	if (at <= s->mask && head != seen) {
		step = next_step(s, len, head - seen);
		if (populate(s->data + at, step) < 0)
			return -ENOMEM;
		if (at + step <= s->mask)
			head = seen + step;
	}
	atomic_store_explicit(&s->own->head_seen, head, memory_order_relaxed);
	return 0;
}

static void note_high_water(const struct sender *s, uint64_t used)
{
	if (used <= s->limit && used > atomic_load_explicit(&s->meter->high_water, memory_order_relaxed))
		atomic_store_explicit(&s->meter->high_water, used, memory_order_relaxed);
}

slow_path int ring_make_room(const struct sender *s, uint64_t len)
{
	uint64_t used;
	uint64_t head;

	if (!catch_up(s))
		return -EPIPE;
	if (read_head(s, &head) < 0)
		return -EPROTO;
	note_high_water(s, sender_tail(s) - head);
	if (take_head(s, head, len) < 0)
		return -ENOMEM;
	used = sender_tail(s) - atomic_load_explicit(&s->own->head_seen, memory_order_relaxed);
	return used + record_size(len) <= s->limit ? 0 : -EAGAIN;
}

int ring_unread(const struct sender *s, uint64_t *head, uint64_t *unread)
{
	catch_up(s);
	if (read_head(s, head) < 0)
		return -EPROTO;
	*unread = sender_tail(s) - *head;
	/* read_head does not check this after ring_refuse. */
	return *unread <= s->limit ? 0 : protocol_error("head");
}

void ring_end(const struct sender *s)
{
	if (!catch_up(s))
		return;
	/* From now on next differs from the tail, so ring_reserve fails and ring_make_room finds the end. */
	atomic_store_explicit(&s->own->next, sender_tail(s) + RECORD_HEADER, memory_order_relaxed);
	/* Pairs with the acquire in ring_peek.  There is always room for one more header. */
	atomic_store_explicit(sender_header(s, sender_tail(s)), RECORD_END, memory_order_release);
}

void ring_take_back(const struct sender *s, uint64_t tail, uint64_t len)
{
	/* seq_cst: the sender looks at the head afterwards, and that load must not come before this store. */
	atomic_store_explicit(sender_header(s, tail - record_size(len)), RECORD_END, memory_order_seq_cst);
	atomic_store_explicit(&s->own->records,
			      atomic_load_explicit(&s->own->records, memory_order_relaxed) - 1,
			      memory_order_relaxed);
}
