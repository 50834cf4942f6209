/* SPDX-License-Identifier: MIT */
#include "ring/ring.h"

#include "memory/populate.h"

/*
 * A record at the tail was published by a co-owner that died before it moved the
 * tail.  Moves it, and returns whether there will be more: the stream has not ended.
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
		/* Counted after the tail was moved, so by nobody yet. */
		count_step(&s->own->records);
	}
	atomic_store_explicit(&s->own->next, tail, memory_order_relaxed);
	return true;
}

/* The receiver's head, or -EPROTO if it is impossible. */
static int read_head(const struct sender *s, uint64_t *head)
{
	uint64_t seen = atomic_load_explicit(&s->own->head_seen, memory_order_relaxed);

	/* Pairs with the release in ring_release; without it our payload could overtake the receiver's reads. */
	*head = atomic_load_explicit(s->head, memory_order_acquire) & ~HEAD_HELD;
	/* Between what we saw last and what we sent, and where a record can begin: anything else is a lie. */
	return *head - seen > sender_tail(s) - seen || *head % 8 ? -EPROTO : 0;
}

/* Up to where the ring has memory for sure: in the first lap less than its size. */
static uint64_t backed(const struct sender *s)
{
	return atomic_load_explicit(&s->own->head_seen, memory_order_relaxed) + s->limit + RECORD_HEADER;
}

slow_path int ring_look(const struct sender *s)
{
	uint64_t head;

	if (read_head(s, &head) < 0)
		return -EPROTO;
	/* In the first lap the head means no room, unless there is memory as well: see ring_make_room. */
	if (backed(s) > s->mask)
		atomic_store_explicit(&s->own->head_seen, head, memory_order_relaxed);
	return 0;
}

/*
 * How far the memory of the ring must go beyond what is there, for a record of len
 * bytes, when it may go as far as most.  It grows in steps, as a call for each page
 * takes longer; the first are small, for pipes through which little goes.
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
	/* No record gets through before the receiver moves on: then the head must be seen as it is, to wait for that. */
	if (needed > (int64_t)most || step > most)
		step = most;
	return step < rest ? step : rest;
}

/*
 * Takes note of the head.  In the first lap only so far as the ring has memory,
 * which this provides by a call that fails where a store would raise SIGBUS.
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
	/* After ring_refuse the check above allows more. */
	return *unread <= s->limit ? 0 : -EPROTO;
}

void ring_end(const struct sender *s)
{
	if (!catch_up(s))
		return;
	/* Not the tail, from now on: whoever wants to send looks, and finds the end. */
	atomic_store_explicit(&s->own->next, sender_tail(s) + RECORD_HEADER, memory_order_relaxed);
	/* Pairs with ring_peek, as any commit; the header's room was kept. */
	atomic_store_explicit(sender_header(s, sender_tail(s)), RECORD_END, memory_order_release);
}

void ring_take_back(const struct sender *s, uint64_t tail, uint64_t len)
{
	/* The sender now looks at the head.  seq_cst: not before this store. */
	atomic_store_explicit(sender_header(s, tail - record_size(len)), RECORD_END, memory_order_seq_cst);
	atomic_store_explicit(&s->own->records,
			      atomic_load_explicit(&s->own->records, memory_order_relaxed) - 1,
			      memory_order_relaxed);
}
