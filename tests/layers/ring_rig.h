/* SPDX-License-Identifier: MIT */
/* A ring alone, with both of its ends in one thread. */
#ifndef TESTS_RING_RIG_H
#define TESTS_RING_RIG_H

#include "support.h"

#include "memory/region.h"
#include "ring/prefetch.h"
#include "ring/ring.h"

#define DATA 4096

struct rig {
	struct region sending; /* as the sender maps it */
	struct region seen;    /* as the receiver does */
	struct region receiving;
	struct region watched;
	struct sender s;
	struct receiver r;
};

static inline void attach(struct region *ours, struct region *theirs, const struct identity *identity)
{
	int fd;

	check_eq(region_create(ours, &fd, identity, "ring-test", 0), 0);
	check_eq(region_attach(theirs, fd, 0, 0, NULL), 0);
}

/* Makes a ring whose positions begin at start, as if so many bytes had gone through it. */
static inline void rig_open_sized(struct rig *rig, uint64_t start, uint64_t data_size, uint64_t limit)
{
	struct identity id = {
		.magic = LAYOUT_MAGIC,
		.version = LAYOUT_VERSION,
		.flags = LAYOUT_SENDS,
		.buffer_size = 8,
		.data_size = data_size,
		.limit = limit,
	};
	struct identity receiving = { .magic = LAYOUT_MAGIC,
				      .version = LAYOUT_VERSION,
				      .flags = LAYOUT_RECEIVES };

	attach(&rig->sending, &rig->seen, &id);
	attach(&rig->receiving, &rig->watched, &receiving);
	rig->s = (struct sender){ .data = rig->sending.data,
				  .mask = data_size - 1,
				  .limit = limit,
				  .own = &rig->sending.control->tail,
				  .waiter = &rig->sending.control->send_waiter,
				  .meter = &rig->sending.control->send_meter,
				  .head = &rig->watched.control->head };
	rig->r = (struct receiver){ .data = rig->seen.data,
				    .mask = data_size - 1,
				    .limit = limit,
				    .head = &rig->receiving.control->head };
	atomic_store(&rig->sending.control->tail.tail, start);
	atomic_store(&rig->sending.control->tail.next, start);
	atomic_store(&rig->sending.control->tail.head_seen, start);
	atomic_store(&rig->sending.control->tail.settled, start);
	atomic_store(&rig->receiving.control->head, start);
}

static inline void rig_open(struct rig *rig, uint64_t start, uint64_t limit)
{
	rig_open_sized(rig, start, DATA, limit);
}

static inline void rig_close(struct rig *rig)
{
	region_drop(&rig->sending);
	region_drop(&rig->seen);
	region_drop(&rig->receiving);
	region_drop(&rig->watched);
}

static inline int put(struct rig *rig, const void *bytes, uint64_t len)
{
	void *room = ring_reserve(&rig->s, len);
	int r;

	if (!room) {
		r = ring_make_room(&rig->s, len);
		if (r < 0)
			return r;
		room = ring_reserve(&rig->s, len);
		check(room != NULL);
	}
	memcpy(room, bytes, len);
	prefetch_next(&rig->s, ring_commit(&rig->s, len, RECORD_WHOLE), len);
	return 0;
}

/* Consumes the next record and returns its length. -EAGAIN if there is none. */
static inline int64_t get(struct rig *rig, void *bytes)
{
	const char *payload;
	uint64_t header = ring_peek(&rig->r, &payload);
	uint64_t len = header & RECORD_LENGTH;

	if (!header)
		return -EAGAIN;
	check(ring_valid(&rig->r, header));
	check_eq(header & ~RECORD_LENGTH, RECORD_WHOLE);
	memcpy(bytes, payload, len);
	ring_release(&rig->r, len);
	return (int64_t)len;
}

static const uint64_t starts[] = {
	0,
	8,
	DATA - 8,
	((uint64_t)1 << 32) - 8,
	1ull << 32,
	((uint64_t)1 << 32) - DATA + 16,
	1ull << 63,
	((uint64_t)1 << 63) - 24,
	-(uint64_t)8,
	-(uint64_t)DATA,
	-(uint64_t)64,
};

enum { STARTS = sizeof(starts) / sizeof(starts[0]) };

#endif
