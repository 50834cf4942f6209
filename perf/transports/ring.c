/* SPDX-License-Identifier: MIT */
/*
 * The floor of a stream: a ring of slots of one size, with one sender and one receiver
 * that both spin.  Each slot begins with its sequence number, which publishes it.  The
 * receiver reports how far it has read only now and then, and the sender reads that only
 * when the ring is full by its own copy.  So only the cache lines of the message travel.
 * A message longer than a slot takes several slots.
 *
 * In a stream, a side that has to wait pauses for long before it looks again.  Meanwhile
 * the other side moves a batch of slots, and nobody reads its cache lines.  This made
 * messages of 512 bytes twice as fast.  In a round trip there is no batch to wait for.
 * Nothing sleeps, and nothing is checked.
 */
#include "../transport.h"
#include "spin.h"

#include <errno.h>
#include <stdalign.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define LINE        64
#define LAZY_PAUSES 128
#define PIECE_MAX   8192

struct slot {
	_Atomic uint64_t sequence; /* 1 + the position that the slot holds, so never the 0 of an empty slot */
	unsigned char data[];
};

/* Each side writes its own line; the slots follow. */
struct ring {
	alignas(2 * LINE) _Atomic uint64_t consumed;
	alignas(2 * LINE) unsigned char slots[];
};

/* One side's private view of one ring. */
struct cursor {
	struct ring *ring;
	unsigned char *next;
	uint64_t position;
	uint64_t limit; /* sender: free up to here; receiver: reports its position when it is here */
};

struct rings {
	unsigned char *shared;
	size_t ring_size; /* of one ring, with its head */
	size_t piece;
	size_t stride;
	size_t count;
	bool one_core;
	int pauses; /* pauses between two looks */
	struct cursor in;
	struct cursor out;
};

static int ring_open(void **state, const struct shape *shape)
{
	size_t least = PIECE_MAX < shape->ring / 8 ? PIECE_MAX : shape->ring / 8;
	struct rings *r;
	void *shared;

	r = calloc(1, sizeof(*r));
	if (!r)
		return -ENOMEM;
	r->piece = shape->len < least ? shape->len : least;
	r->stride = (sizeof(struct slot) + r->piece + 7) & ~(size_t)7;
	r->count = shape->ring / r->stride;
	if (r->count < 4)
		r->count = 4;
	r->ring_size = (sizeof(struct ring) + r->count * r->stride + 4095) & ~(size_t)4095;
	r->one_core = shape->one_core;
	r->pauses = shape->stream && !shape->one_core ? LAZY_PAUSES : 1;
	shared = mmap(NULL, 2 * r->ring_size, PROT_READ | PROT_WRITE,
		      MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	if (shared == MAP_FAILED) {
		free(r);
		return -ENOMEM;
	}
	r->shared = shared;
	*state = r;
	return 0;
}

static int ring_take(void *state, enum side side)
{
	struct rings *r = state;
	unsigned char *there = r->shared, *back = r->shared + r->ring_size;

	r->out.ring = (void *)(side == SIDE_LEAD ? there : back);
	r->out.next = r->out.ring->slots;
	r->out.limit = r->count;
	r->in.ring = (void *)(side == SIDE_LEAD ? back : there);
	r->in.next = r->in.ring->slots;
	r->in.limit = r->count / 4;
	return 0;
}

static inline void advance(const struct rings *r, struct cursor *c)
{
	c->position++;
	c->next += r->stride;
	if (c->next == c->ring->slots + r->count * r->stride)
		c->next = c->ring->slots;
}

static void wait_a_little(const struct rings *r)
{
	for (int i = 0; i < r->pauses; i++)
		spin_once(r->one_core);
}

static void wait_for_room(const struct rings *r, struct cursor *c)
{
	for (;;) {
		/* Pairs with the store in recv_piece; without it a slot could be overwritten too early. */
		c->limit = atomic_load_explicit(&c->ring->consumed, memory_order_acquire) + r->count;
		if (c->position < c->limit)
			return;
		wait_a_little(r);
	}
}

static inline void send_piece(struct rings *r, const void *buf, size_t len)
{
	struct cursor *c = &r->out;
	struct slot *slot;

	if (c->position == c->limit)
		wait_for_room(r, c);
	slot = (void *)c->next;
	if (len == 8)
		memcpy(slot->data, buf, 8);
	else
		memcpy(slot->data, buf, len);
	/* Pairs with the load in recv_piece; without it the data could come late. */
	atomic_store_explicit(&slot->sequence, c->position + 1, memory_order_release);
	advance(r, c);
}

static inline void recv_piece(struct rings *r, void *buf, size_t len)
{
	struct cursor *c = &r->in;
	struct slot *slot = (void *)c->next;

	/* Pairs with the store in send_piece; without it the data could be read early. */
	while (atomic_load_explicit(&slot->sequence, memory_order_acquire) != c->position + 1)
		wait_a_little(r);
	if (len == 8)
		memcpy(buf, slot->data, 8);
	else
		memcpy(buf, slot->data, len);
	advance(r, c);
	if (c->position == c->limit) {
		/* Pairs with the load in wait_for_room. */
		atomic_store_explicit(&c->ring->consumed, c->position, memory_order_release);
		c->limit += r->count / 4;
	}
}

static int ring_send(void *state, const void *buf, size_t len)
{
	struct rings *r = state;
	const unsigned char *from = buf;

	while (len > r->piece) {
		send_piece(r, from, r->piece);
		from += r->piece;
		len -= r->piece;
	}
	send_piece(r, from, len);
	return 0;
}

static ssize_t ring_recv(void *state, void *buf, size_t len)
{
	struct rings *r = state;
	unsigned char *to = buf;
	size_t left = len;

	while (left > r->piece) {
		recv_piece(r, to, r->piece);
		to += r->piece;
		left -= r->piece;
	}
	recv_piece(r, to, left);
	return (ssize_t)len;
}

static void ring_close(void *state)
{
	struct rings *r = state;

	munmap(r->shared, 2 * r->ring_size);
	free(r);
}

const struct transport transport_ring = {
	.name = "ring",
	.about = "floor: a plain ring of slots, spinning",
	.room = "slots of the message's size, four at least",
	.flags = TRANSPORT_SPINS | TRANSPORT_FLOOR_TRIP | TRANSPORT_FLOOR_STREAM,
	.open = ring_open,
	.take = ring_take,
	.send = ring_send,
	.recv = ring_recv,
	.close = ring_close,
};
