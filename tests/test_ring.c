/* SPDX-License-Identifier: MIT */
/* The data path alone, in one thread: full, empty, around the wrap, near the ends of its counters, after a death. */
#include "support.h"

#include "ahead.h"
#include "region.h"
#include "ring.h"

#include <sys/mman.h>

#define DATA 4096

SUITE(ring);

struct rig {
	struct region sending; /* as the sender maps it */
	struct region seen;    /* as the receiver does */
	struct region receiving;
	struct region watched;
	struct sender s;
	struct receiver r;
};

static void attach(struct region *ours, struct region *theirs, const struct identity *identity)
{
	int fd;

	check_eq(region_create(ours, &fd, identity, "ring-test", 0), 0);
	check_eq(region_attach(theirs, fd, 0, 0, NULL), 0);
}

/* A ring whose positions begin at start, as if that much had gone through it. */
static void rig_open_sized(struct rig *rig, uint64_t start, uint64_t data_size, uint64_t limit)
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
				  .bell = &rig->sending.control->send_bell,
				  .head = &rig->watched.control->head };
	rig->r = (struct receiver){ .data = rig->seen.data,
				    .mask = data_size - 1,
				    .limit = limit,
				    .head = &rig->receiving.control->head };
	atomic_store(&rig->sending.control->tail.tail, start);
	atomic_store(&rig->sending.control->tail.head_seen, start);
	atomic_store(&rig->sending.control->tail.ahead.settled, start);
	atomic_store(&rig->receiving.control->head, start);
}

static void rig_open(struct rig *rig, uint64_t start, uint64_t limit)
{
	rig_open_sized(rig, start, DATA, limit);
}

static void rig_close(struct rig *rig)
{
	region_drop(&rig->sending);
	region_drop(&rig->seen);
	region_drop(&rig->receiving);
	region_drop(&rig->watched);
}

static int put(struct rig *rig, const void *bytes, uint64_t len)
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
	ahead_prepare(&rig->s, ring_commit(&rig->s, len, RECORD_WHOLE), len);
	return 0;
}

/* The length of the next record, consumed; -EAGAIN when there is none. */
static int64_t get(struct rig *rig, void *bytes)
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

Test(ring, is_empty_at_first_and_after_each_record)
{
	for (const uint64_t *start = starts; start < starts + STARTS; start++) {
		char bytes[64];
		struct rig rig;

		rig_open(&rig, *start, DATA - RECORD_HEADER);
		check_eq(get(&rig, bytes), -EAGAIN);
		for (int i = 0; i < 3 * DATA / 16; i++) {
			check_eq(put(&rig, "12345678", 8), 0);
			check_eq(get(&rig, bytes), 8);
			check_eq(get(&rig, bytes), -EAGAIN);
		}
		rig_close(&rig);
	}
}

Test(ring, holds_exactly_its_limit)
{
	static const uint64_t limits[] = { 16, 32, 48, DATA / 2, DATA - 16, DATA - 8 };

	for (const uint64_t *start = starts; start < starts + STARTS; start++) {
		for (unsigned i = 0; i < 6; i++) {
			uint64_t n = 0;
			char bytes[64];
			struct rig rig;

			rig_open(&rig, *start, limits[i]);
			for (int lap = 0; lap < 3; lap++) {
				for (n = 0; put(&rig, "12345678", 8) == 0; n++)
					;
				check_eq(n, limits[i] / 16);
				check_eq(put(&rig, "", 1), -EAGAIN);
				check_eq(get(&rig, bytes), 8);
				check_eq(put(&rig, "12345678", 8), 0);
				while (get(&rig, bytes) == 8)
					n--;
				check_eq(n, 0);
			}
			rig_close(&rig);
		}
	}
}

Test(ring, keeps_records_whole_wherever_they_begin)
{
	for (const uint64_t *start = starts; start < starts + STARTS; start++) {
		char sent[DATA];
		char got[DATA];
		struct rig rig;
		uint64_t i;

		rig_open(&rig, *start, DATA - RECORD_HEADER);
		for (i = 0; i < 3000; i++) {
			uint64_t len = i * 37 % 2000;

			pattern_fill(sent, len, i);
			check_eq(put(&rig, sent, len), 0);
			check_eq(put(&rig, sent, len), 0);
			for (int twice = 0; twice < 2; twice++) {
				check_eq(get(&rig, got), len);
				check(pattern_holds(got, len, i));
			}
		}
		rig_close(&rig);
	}
}

/* Payload of a lap ago that looks like headers must not be taken for one. */
Test(ring, never_shows_what_was_there_a_lap_ago)
{
	uint64_t liar[100];
	char got[DATA];
	struct rig rig;

	for (int i = 0; i < 100; i++)
		liar[i] = RECORD_WHOLE | 8;
	rig_open(&rig, 0, DATA - RECORD_HEADER);
	for (uint64_t i = 0; i < 5000; i++) {
		uint64_t len = 8 * (i % 100);

		check_eq(put(&rig, liar, len), 0);
		check_eq(get(&rig, got), len);
		check_eq(get(&rig, got), -EAGAIN);
	}
	rig_close(&rig);
}

/* A co-owner died between the commit word and the tail: as if the store of the tail had not been. */
Test(ring, catches_up_with_a_tail_that_was_left_behind)
{
	for (const uint64_t *start = starts; start < starts + STARTS; start++) {
		for (int lost = 1; lost < 5; lost++) {
			char got[64];
			struct rig rig;

			rig_open(&rig, *start, DATA - RECORD_HEADER);
			for (int i = 0; i < lost; i++)
				check_eq(put(&rig, "of him", 6), 0);
			atomic_store(&rig.sending.control->tail.tail, *start);
			check(ring_reserve(&rig.s, 8) == NULL);
			check_eq(put(&rig, "of the next", 11), 0);
			for (int i = 0; i < lost; i++)
				check_eq(get(&rig, got), 6);
			check_eq(get(&rig, got), 11);
			check(!memcmp(got, "of the next", 11));
			check_eq(get(&rig, got), -EAGAIN);
			rig_close(&rig);
		}
	}
}

Test(ring, catches_up_in_a_full_ring)
{
	char got[64];
	struct rig rig;
	int n = 0;

	rig_open(&rig, DATA - 48, DATA - RECORD_HEADER);
	while (put(&rig, "12345678", 8) == 0)
		n++;
	atomic_fetch_sub(&rig.sending.control->tail.tail, 16);
	check_eq(put(&rig, "x", 1), -EAGAIN);
	while (n--)
		check_eq(get(&rig, got), 8);
	check_eq(put(&rig, "x", 1), 0);
	check_eq(get(&rig, got), 1);
	rig_close(&rig);
}

/* As where no cache is shared: the next step clears, measured or not. */
static void let_clear(struct rig *rig, bool measured)
{
	atomic_store(&rig->s.bell->afar, INT32_MAX);
	atomic_store(&rig->s.bell->clearing, INT32_MAX);
	atomic_store(&rig->sending.control->tail.ahead.steps, measured ? 0 : 1);
}

static uint32_t steps_cleared(const struct rig *rig, bool measured)
{
	return atomic_load(&rig->sending.control->tail.ahead.steps) - (measured ? 0 : 1);
}

static uint64_t nth_length(uint64_t i)
{
	return i * 37 % (i % 1000 < 500 ? 100 : 9000);
}

/* After how many more records the receiver is to be behind, at most: from none to as many as fit. */
static uint64_t nth_backlog(uint64_t i)
{
	return i / 250 % 3 == 0 ? 0 : i / 250 % 3 == 1 ? i * 7 % 60 : UINT64_MAX;
}

static void take(struct rig *rig, uint64_t *taken)
{
	static char got[65536];
	uint64_t i = (*taken)++;

	check_eq(get(rig, got), nth_length(i));
	check(pattern_holds(got, nth_length(i), i));
}

/* However far the receiver is behind, and although now and then a co-owner dies before it moves the tail. */
static uint32_t clear_under_way(uint64_t start, uint64_t size, bool measured)
{
	enum { RECORDS = 5000 };
	static char sent[65536];
	uint32_t cleared = 0;
	uint64_t taken = 0;
	struct rig rig;

	rig_open_sized(&rig, start, size, size - RECORD_HEADER);
	for (uint64_t i = 0; i < RECORDS; i++) {
		uint64_t left_behind = sender_tail(&rig.s);

		let_clear(&rig, measured);
		pattern_fill(sent, nth_length(i), i);
		while (put(&rig, sent, nth_length(i)) == -EAGAIN)
			take(&rig, &taken);
		cleared += steps_cleared(&rig, measured);
		while (i + 1 - taken > nth_backlog(i))
			take(&rig, &taken);
		if (i % 7 == 0)
			atomic_store(&rig.sending.control->tail.tail, left_behind);
	}
	while (taken < RECORDS)
		take(&rig, &taken);
	rig_close(&rig);
	return cleared;
}

Test(ring, clears_in_advance_only_what_is_free)
{
	for (const uint64_t *start = starts; start < starts + STARTS; start++) {
		for (int measured = 0; measured < 2; measured++) {
			check(clear_under_way(*start, 65536, measured) > 100);
			check(clear_under_way(*start, 32768, measured) > 100);
			check_eq(clear_under_way(*start, 16384, measured), 0);
		}
	}
}

/* A record that ends anywhere around where it leaves room for just one step. */
Test(ring, clears_nothing_of_a_record_that_is_in_the_way)
{
	enum { SIZE = 32768, STEP = SIZE / 4, AROUND = 256 };
	static char sent[SIZE];
	char got[SIZE];
	uint32_t cleared = 0;

	pattern_fill(sent, SIZE, 1);
	for (uint64_t i = 0; i < AROUND; i++) {
		uint64_t head = SIZE + i % 8 * 8;
		uint64_t len = SIZE - STEP - 64 - i / 8 * 8;
		struct rig rig;

		rig_open_sized(&rig, head, SIZE, SIZE - RECORD_HEADER);
		check_eq(put(&rig, sent, len), 0);
		atomic_store(&rig.sending.control->tail.ahead.settled, sender_tail(&rig.s));
		let_clear(&rig, false);
		check_eq(put(&rig, "", 0), 0);
		cleared += steps_cleared(&rig, false);
		check_eq(get(&rig, got), (int64_t)len);
		check(pattern_holds(got, len, 1));
		rig_close(&rig);
	}
	check(cleared > 0 && cleared < AROUND);
}

/* How many bytes of free space hold something: of those between two distances from the tail. */
static uint64_t used_ahead(const struct rig *rig, uint64_t from, uint64_t to)
{
	uint64_t used = 0;

	for (uint64_t i = sender_tail(&rig->s) + from; i < sender_tail(&rig->s) + to; i++)
		used += rig->sending.data[i & rig->s.mask] == 'x';
	return used;
}

/* A ring in its second lap, with nothing in it, and no byte of its free space cleared. */
static void rig_open_used(struct rig *rig, uint64_t size)
{
	rig_open_sized(rig, size, size, size - RECORD_HEADER);
	memset(rig->sending.data, 'x', size);
	memset(rig->sending.data, 0, RECORD_HEADER);
}

/* What was asked for before would seem near, so that what is measured lies beyond. */
Test(ring, measures_nothing_that_was_asked_for)
{
	static char bytes[AHEAD_ASK_AFAR];
	static char got[AHEAD_ASK_AFAR];

	for (uint64_t len = 8; len <= AHEAD_ASK_AFAR; len += 8) {
		const uint64_t asked = AHEAD_ASK + 2 * len - LAYOUT_LINE;
		struct rig rig;

		rig_open_used(&rig, 1 << 16);
		let_clear(&rig, true);
		atomic_store(&rig.s.bell->clearing, 0);
		check_eq(put(&rig, bytes, len), 0);
		check_eq(steps_cleared(&rig, true), 1);
		check_eq(used_ahead(&rig, RECORD_HEADER, asked), asked - RECORD_HEADER);
		check(used_ahead(&rig, 0, 1 << 15) < (1 << 15) - 8000);
		check_eq(get(&rig, got), (int64_t)len);
		rig_close(&rig);
	}
}

/* A receiver that is a record or two behind leaves room enough for that, also in the smallest ring that is cleared. */
Test(ring, goes_on_clearing_however_long_the_records)
{
	static char bytes[8192];
	static char got[8192];

	for (uint64_t len = 200; len <= sizeof(bytes); len += 200) {
		struct rig rig;

		rig_open_used(&rig, 32768);
		let_clear(&rig, true);
		check_eq(put(&rig, bytes, len), 0);
		for (int i = 0; i < 20000 && atomic_load(&rig.sending.control->tail.ahead.steps) < 200; i++) {
			atomic_store(&rig.s.bell->clearing, INT32_MAX);
			check_eq(put(&rig, bytes, len), 0);
			check_eq(get(&rig, got), (int64_t)len);
		}
		check_eq(atomic_load(&rig.sending.control->tail.ahead.steps), 200);
		rig_close(&rig);
	}
}

/* Lines from afar are asked for, unless clearing pays. */
Test(ring, clears_nothing_where_it_does_not_pay)
{
	static char bytes[1024];

	for (int pays = 0; pays < 2; pays++) {
		struct rig rig;

		rig_open_used(&rig, 1 << 16);
		let_clear(&rig, false);
		atomic_store(&rig.s.bell->clearing, pays);
		check_eq(put(&rig, bytes, sizeof(bytes)), 0);
		check_eq(used_ahead(&rig, RECORD_HEADER, 1 << 15) == (1 << 15) - RECORD_HEADER, !pays);
		rig_close(&rig);
	}
}

/* How many of the bytes that were free hold something, when a second lap has begun. */
static uint64_t used_after_a_lap(uint64_t size)
{
	char bytes[1016];
	char got[1016];
	uint64_t used = 0;
	struct rig rig;

	memset(bytes, 'x', sizeof(bytes));
	rig_open_sized(&rig, 0, size, size - RECORD_HEADER);
	for (uint64_t i = 0; i < size / 1024 + 1; i++) {
		let_clear(&rig, false);
		check_eq(put(&rig, bytes, sizeof(bytes)), 0);
		check_eq(get(&rig, got), sizeof(got));
	}
	for (uint64_t i = 0; i < size; i++)
		used += rig.sending.data[i] == 'x';
	rig_close(&rig);
	return used;
}

Test(ring, clears_in_advance_a_quarter_of_a_ring_at_most)
{
	check(used_after_a_lap(16384) > 16000);
	check(used_after_a_lap(32768) > 32768 - 8192 - 500);
	check(used_after_a_lap(32768) < 32768 - 8000);
	check(used_after_a_lap(1 << 20) < (1 << 20) - 16384);
}

static long pages_used(const struct rig *rig, size_t size)
{
	unsigned char there[1024];
	const long pages = (long)size / sysconf(_SC_PAGESIZE);
	long used = 0;

	check(pages <= (long)sizeof(there));
	check_eq(mincore(rig->sending.data, size, there), 0);
	for (long i = 0; i < pages; i++)
		used += there[i] & 1;
	return used;
}

Test(ring, clears_nothing_on_the_word_of_a_head_that_lies)
{
	enum { SIZE = 65536 };
	const uint64_t lies[] = { SIZE - 8, 2 * SIZE + 16, 3 * SIZE, SIZE + 4, 0, UINT64_MAX - 7 };
	static char sent[SIZE / 2];
	char got[SIZE];

	pattern_fill(sent, sizeof(sent), 1);
	for (size_t i = 0; i < sizeof(lies) / sizeof(lies[0]); i++) {
		struct rig rig;

		rig_open_sized(&rig, SIZE, SIZE, SIZE - RECORD_HEADER);
		check_eq(put(&rig, sent, sizeof(sent)), 0);
		atomic_store(&rig.receiving.control->head, lies[i]);
		let_clear(&rig, false);
		for (int n = 0; n < 100; n++)
			check_eq(put(&rig, "12345678", 8), 0);
		atomic_store(&rig.receiving.control->head, SIZE);
		check_eq(get(&rig, got), (int64_t)sizeof(sent));
		check(pattern_holds(got, sizeof(sent), 1));
		rig_close(&rig);
	}
}

Test(ring, touches_no_memory_in_advance_before_it_was_used)
{
	enum { SIZE = 1 << 20 };
	struct rig rig;
	long used;

	rig_open_sized(&rig, 0, SIZE, SIZE - RECORD_HEADER);
	/* The first touches a page, or all if the system likes huge ones. */
	check_eq(put(&rig, "12345678", 8), 0);
	used = pages_used(&rig, SIZE);
	for (int i = 0; i < 8; i++) {
		let_clear(&rig, false);
		check_eq(put(&rig, "12345678", 8), 0);
	}
	check_eq(pages_used(&rig, SIZE), used);
	rig_close(&rig);
}

Test(ring, ends_in_the_header_that_is_kept)
{
	for (const uint64_t *start = starts; start < starts + STARTS; start++) {
		for (int behind = 0; behind < 2; behind++) {
			const char *payload;
			char got[64];
			struct rig rig;
			int n = 0;

			rig_open(&rig, *start, DATA - RECORD_HEADER);
			while (put(&rig, "12345678", 8) == 0)
				n++;
			check_eq(put(&rig, "", 0) == 0, DATA % 16 == 0 && (DATA - 8) % 16 >= 8);
			n += (DATA - 8) % 16 >= 8;
			if (behind) /* its last sender died before he moved the tail */
				atomic_fetch_sub(&rig.sending.control->tail.tail,
						 (DATA - 8) % 16 >= 8 ? 8 : 16);
			ring_end(&rig.s);
			ring_end(&rig.s);
			check(ring_reserve(&rig.s, 0) == NULL);
			check_eq(ring_make_room(&rig.s, 0), -EPIPE);
			while (n--)
				check(get(&rig, got) >= 0);
			check_eq(ring_peek(&rig.r, &payload), RECORD_END);
			check_eq(ring_make_room(&rig.s, 0), -EPIPE);
			rig_close(&rig);
		}
	}
}

Test(ring, takes_the_last_record_back_unless_it_is_being_received)
{
	for (const uint64_t *start = starts; start < starts + STARTS; start++) {
		for (int received = 0; received < 2; received++) {
			const char *payload;
			char got[64];
			struct rig rig;

			rig_open(&rig, *start, DATA - RECORD_HEADER);
			check_eq(put(&rig, "first", 5), 0);
			check_eq(put(&rig, "last", 4), 0);
			check_eq(get(&rig, got), 5);
			if (received)
				check_eq(ring_peek(&rig.r, &payload), RECORD_WHOLE | 4);
			ring_take_back(&rig.s, sender_tail(&rig.s), 4);
			ring_end(&rig.s);
			if (received) {
				check_eq(memcmp(payload, "last", 4), 0);
				ring_release(&rig.r, 4);
			}
			check_eq(ring_peek(&rig.r, &payload), RECORD_END);
			check_eq(ring_make_room(&rig.s, 0), -EPIPE);
			rig_close(&rig);
		}
	}
}

Test(ring, refuses_a_head_that_cannot_be)
{
	static const int64_t lies[] = { 8,     5,         -8,           -1,        3,        DATA,
					-DATA, 1ll << 32, -(1ll << 32), INT64_MAX, INT64_MIN };

	for (const uint64_t *start = starts; start < starts + STARTS; start++) {
		for (unsigned i = 0; i < sizeof(lies) / sizeof(lies[0]); i++) {
			struct rig rig;
			uint64_t tail;

			rig_open(&rig, *start, DATA - RECORD_HEADER);
			while (put(&rig, "12345678", 8) == 0)
				;
			tail = sender_tail(&rig.s);
			/* Beyond the tail, before what was seen, or in the middle of a record's alignment. */
			atomic_store(&rig.receiving.control->head,
				     (lies[i] > 0 && lies[i] != 3 ? tail : *start) + (uint64_t)lies[i]);
			check_eq(ring_make_room(&rig.s, 8), -EPROTO);
			check_eq(sender_tail(&rig.s), tail);
			rig_close(&rig);
		}
	}
}

Test(ring, knows_headers_that_cannot_be)
{
	static const uint64_t kinds[] = { RECORD_WHOLE, RECORD_FIRST, RECORD_MORE, RECORD_END };
	struct rig rig;

	rig_open(&rig, 0, 1000);
	for (int i = 0; i < 4; i++) {
		check(ring_valid(&rig.r, kinds[i]));
		check(ring_valid(&rig.r, kinds[i] | 992));
		check(!ring_valid(&rig.r, kinds[i] | 993));
		check(!ring_valid(&rig.r, kinds[i] | 4096));
		check(!ring_valid(&rig.r, kinds[i] | RECORD_LENGTH));
		check(!ring_valid(&rig.r, kinds[i] | 1ull << 48));
		check(!ring_valid(&rig.r, kinds[i] | 1ull << 63));
		check(!ring_valid(&rig.r, kinds[i] | kinds[(i + 1) % 4]));
	}
	check(!ring_valid(&rig.r, 1));
	check(!ring_valid(&rig.r, UINT64_MAX));
	rig_close(&rig);
}
