/* SPDX-License-Identifier: MIT */
/*
 * Concurrency Kit's ring for one producer and one consumer.  It carries pointers
 * to slots, in memory that both processes have inherited at the same address.  There
 * are two more slots than the ring has entries, so the sender never writes to the
 * slot that the receiver copies from.  Both sides spin.
 */
#include "../transport.h"
#include "spin.h"

#include <ck_ring.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

struct shared_ring {
	ck_ring_t ring;
	ck_ring_buffer_t entries[];
};

struct direction {
	struct shared_ring *shared;
	unsigned char *slots;
	size_t next;
};

struct rings {
	unsigned char *shared;
	size_t size;
	size_t count; /* of entries, a power of two, of which one stays empty */
	size_t len;
	bool one_core;
	struct direction in;
	struct direction out;
};

static size_t head_size(const struct rings *r)
{
	return (sizeof(struct shared_ring) + r->count * sizeof(ck_ring_buffer_t) + 127) & ~(size_t)127;
}

static struct direction direction_at(const struct rings *r, int which)
{
	unsigned char *at = r->shared + (size_t)which * r->size / 2;

	return (struct direction){ .shared = (void *)at, .slots = at + head_size(r) };
}

static int ck_open(void **state, const struct shape *shape)
{
	struct rings *r = calloc(1, sizeof(*r));
	void *shared;

	if (!r)
		return -ENOMEM;
	r->len = shape->len;
	r->one_core = shape->one_core;
	for (r->count = 4; r->count * r->len < shape->ring; r->count *= 2)
		;
	r->size = 2 * ((head_size(r) + (r->count + 2) * r->len + 4095) & ~(size_t)4095);
	shared =
		mmap(NULL, r->size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	if (shared == MAP_FAILED) {
		free(r);
		return -ENOMEM;
	}
	r->shared = shared;
	for (int i = 0; i < 2; i++)
		ck_ring_init(&direction_at(r, i).shared->ring, (unsigned)r->count);
	*state = r;
	return 0;
}

static int ck_take(void *state, enum side side)
{
	struct rings *r = state;

	r->out = direction_at(r, side);
	r->in = direction_at(r, !side);
	return 0;
}

static int ck_send(void *state, const void *buf, size_t len)
{
	struct rings *r = state;
	struct direction *d = &r->out;
	unsigned char *slot = d->slots + d->next * r->len;

	memcpy(slot, buf, len);
	while (!ck_ring_enqueue_spsc(&d->shared->ring, d->shared->entries, slot))
		spin_once(r->one_core);
	d->next = d->next + 1 == r->count + 2 ? 0 : d->next + 1;
	return 0;
}

static ssize_t ck_recv(void *state, void *buf, size_t len)
{
	struct rings *r = state;
	struct direction *d = &r->in;
	void *slot;

	while (!ck_ring_dequeue_spsc(&d->shared->ring, d->shared->entries, &slot))
		spin_once(r->one_core);
	memcpy(buf, slot, len);
	return (ssize_t)len;
}

static void ck_close(void *state)
{
	struct rings *r = state;

	munmap(r->shared, r->size);
	free(r);
}

static const char *ck_version(void)
{
	return PERF_CK_VERSION;
}

const struct transport transport_ck = {
	.name = "ck-ring",
	.about = "floor: Concurrency Kit's ck_ring for one producer and one consumer, spinning",
	.room = "slots of the message's size, three at least, up to twice the bytes",
	.flags = TRANSPORT_EXTRA | TRANSPORT_SPINS | TRANSPORT_FLOOR_TRIP | TRANSPORT_FLOOR_STREAM,
	.open = ck_open,
	.take = ck_take,
	.send = ck_send,
	.recv = ck_recv,
	.close = ck_close,
	.version = ck_version,
};
