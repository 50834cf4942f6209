/* SPDX-License-Identifier: MIT */
#include "ring/ring.h"

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
	}
	atomic_store_explicit(&s->own->next, tail, memory_order_relaxed);
	return true;
}

slow_path int ring_look(const struct sender *s)
{
	uint64_t seen = atomic_load_explicit(&s->own->head_seen, memory_order_relaxed);
	/* Pairs with the release in ring_release; without it our payload could overtake the receiver's reads. */
	uint64_t head = atomic_load_explicit(s->head, memory_order_acquire) & ~HEAD_HELD;

	/* Between what we saw last and what we sent, and where a record can begin: anything else is a lie. */
	if (head - seen > sender_tail(s) - seen || head % 8)
		return -EPROTO;
	atomic_store_explicit(&s->own->head_seen, head, memory_order_relaxed);
	return 0;
}

slow_path int ring_make_room(const struct sender *s, uint64_t len)
{
	uint64_t used;

	if (!catch_up(s))
		return -EPIPE;
	if (ring_look(s) < 0)
		return -EPROTO;
	used = sender_tail(s) - atomic_load_explicit(&s->own->head_seen, memory_order_relaxed);
	return used + record_size(len) <= s->limit ? 0 : -EAGAIN;
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
}
