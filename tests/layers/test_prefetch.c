/* SPDX-License-Identifier: MIT */
/*
 * Clearing free space in advance, and what is concluded from the access times of cache lines and from the hints
 * of a sender.
 */
#include "layers/ring_rig.h"

#include <sys/mman.h>

SUITE(prefetch);

/* As if the two sides shared no cache. The next step clears, with or without a measurement. */
static void let_clear(struct rig *rig, bool measured)
{
	atomic_store(&rig->s.waiter->remote, INT32_MAX);
	atomic_store(&rig->s.waiter->clearing, INT32_MAX);
	atomic_store(&rig->sending.control->send_meter.steps, measured ? 0 : 1);
}

static uint32_t steps_cleared(const struct rig *rig, bool measured)
{
	return atomic_load(&rig->sending.control->send_meter.steps) - (measured ? 0 : 1);
}

static uint64_t nth_length(uint64_t i)
{
	return i * 37 % (i % 1000 < 500 ? 100 : 9000);
}

/* The receiver is at most so many records behind: from none to as many as fit. */
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

/*
 * Clears in advance while records stream. The receiver is behind by a varying number of records, and sometimes
 * a co-owner dies before it moves the tail. Returns how many steps were cleared.
 */
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

Test(prefetch, clears_in_advance_only_what_is_free)
{
	for (const uint64_t *start = starts; start < starts + STARTS; start++) {
		for (int measured = 0; measured < 2; measured++) {
			check(clear_under_way(*start, 65536, measured) > 100);
			check(clear_under_way(*start, 32768, measured) > 100);
			check_eq(clear_under_way(*start, 16384, measured), 0);
		}
	}
}

/* Each record ends near the place where the free space behind it is just one step long. */
Test(prefetch, clears_no_byte_of_a_record_that_was_not_received)
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
		atomic_store(&rig.sending.control->tail.settled, sender_tail(&rig.s));
		let_clear(&rig, false);
		check_eq(put(&rig, "", 0), 0);
		cleared += steps_cleared(&rig, false);
		check_eq(get(&rig, got), (int64_t)len);
		check(pattern_holds(got, len, 1));
		rig_close(&rig);
	}
	check(cleared > 0 && cleared < AROUND);
}

/* How many bytes between two distances from the tail still have the old content. The space there is free. */
static uint64_t used_ahead(const struct rig *rig, uint64_t from, uint64_t to)
{
	uint64_t used = 0;

	for (uint64_t i = sender_tail(&rig->s) + from; i < sender_tail(&rig->s) + to; i++)
		used += rig->sending.data[i & rig->s.mask] == 'x';
	return used;
}

/* Makes an empty ring in its second lap, with no byte of its free space cleared except the next header. */
static void rig_open_used(struct rig *rig, uint64_t size)
{
	rig_open_sized(rig, size, size, size - RECORD_HEADER);
	memset(rig->sending.data, 'x', size);
	memset(rig->sending.data, 0, RECORD_HEADER);
}

/* Lines that were already prefetched would seem near, so the measured lines lie beyond them. */
Test(prefetch, measures_nothing_that_was_prefetched)
{
	static char bytes[PREFETCH_ASK_REMOTE];
	static char got[PREFETCH_ASK_REMOTE];

	for (uint64_t len = 8; len <= PREFETCH_ASK_REMOTE; len += 8) {
		const uint64_t asked = PREFETCH_ASK + 2 * len - LAYOUT_LINE;
		struct rig rig;

		rig_open_used(&rig, 1 << 16);
		let_clear(&rig, true);
		atomic_store(&rig.s.waiter->clearing, 0);
		check_eq(put(&rig, bytes, len), 0);
		check_eq(steps_cleared(&rig, true), 1);
		check_eq(used_ahead(&rig, RECORD_HEADER, asked), asked - RECORD_HEADER);
		check(used_ahead(&rig, 0, 1 << 15) < (1 << 15) - 8000);
		check_eq(get(&rig, got), (int64_t)len);
		rig_close(&rig);
	}
}

/* This also holds in the smallest ring that is cleared, with a receiver that is always one record behind. */
Test(prefetch, goes_on_clearing_however_long_the_records)
{
	static char bytes[8192];
	static char got[8192];

	for (uint64_t len = 200; len <= sizeof(bytes); len += 200) {
		struct rig rig;

		rig_open_used(&rig, 32768);
		let_clear(&rig, true);
		check_eq(put(&rig, bytes, len), 0);
		for (int i = 0; i < 20000 && atomic_load(&rig.sending.control->send_meter.steps) < 200; i++) {
			atomic_store(&rig.s.waiter->clearing, INT32_MAX);
			check_eq(put(&rig, bytes, len), 0);
			check_eq(get(&rig, got), (int64_t)len);
		}
		check_eq(atomic_load(&rig.sending.control->send_meter.steps), 200);
		rig_close(&rig);
	}
}

/* Where clearing does not pay, remote lines are prefetched instead. */
Test(prefetch, clears_nothing_where_it_does_not_pay)
{
	static char bytes[1024];

	for (int pays = 0; pays < 2; pays++) {
		struct rig rig;

		rig_open_used(&rig, 1 << 16);
		let_clear(&rig, false);
		atomic_store(&rig.s.waiter->clearing, pays);
		check_eq(put(&rig, bytes, sizeof(bytes)), 0);
		check_eq(used_ahead(&rig, RECORD_HEADER, 1 << 15) == (1 << 15) - RECORD_HEADER, !pays);
		rig_close(&rig);
	}
}

/* How many bytes of the first lap are not yet cleared when a second lap has begun. */
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

Test(prefetch, clears_in_advance_a_quarter_of_a_ring_at_most)
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

Test(prefetch, clears_nothing_on_the_word_of_a_head_that_lies)
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

Test(prefetch, touches_no_memory_in_advance_before_it_was_used)
{
	enum { SIZE = 1 << 20 };
	struct rig rig;
	long used;

	rig_open_sized(&rig, 0, SIZE, SIZE - RECORD_HEADER);
	/* The first send touches one page, or all of them if the system uses huge pages. */
	check_eq(put(&rig, "12345678", 8), 0);
	used = pages_used(&rig, SIZE);
	for (int i = 0; i < 8; i++) {
		let_clear(&rig, false);
		check_eq(put(&rig, "12345678", 8), 0);
	}
	check_eq(pages_used(&rig, SIZE), used);
	rig_close(&rig);
}

/*
 * An end is shut down while it sends. The look at the head, which clearing needs, must not admit more sends.
 */
Test(prefetch, a_look_in_advance_does_not_undo_a_refusal)
{
	enum { SIZE = 1 << 16, LEN = 8000 };
	static char bytes[LEN];
	char got[LEN];

	for (int refused = 0; refused < 2; refused++) {
		struct rig rig;
		uint64_t tail;

		rig_open_used(&rig, SIZE);
		while (ring_reserve(&rig.s, LEN)) {
			ring_commit(&rig.s, LEN, RECORD_WHOLE);
			check_eq(get(&rig, got), LEN);
		}
		check(ring_reserve(&rig.s, 8) != NULL);
		tail = ring_commit(&rig.s, 8, RECORD_WHOLE);
		check_eq(get(&rig, bytes), 8);
		atomic_store(&rig.sending.control->tail.settled, tail);
		let_clear(&rig, false);
		if (refused)
			ring_refuse(&rig.s);
		prefetch_next(&rig.s, tail, 8);
		check_eq(steps_cleared(&rig, false), !refused);
		check_eq(ring_reserve(&rig.s, LEN) ? 0 : 1, refused);
		rig_close(&rig);
	}
}

/* Several measurements with the same result. */
static void judge(struct waiter_state *waiter, int times, int64_t asked, int64_t cleared, int64_t cached)
{
	while (times--)
		prefetch_judge(waiter, asked, cleared, cached);
}

static bool is_remote(const struct waiter_state *waiter)
{
	return atomic_load(&waiter->remote) > 0;
}

static bool pays(const struct waiter_state *waiter)
{
	return atomic_load(&waiter->clearing) > 0;
}

Test(prefetch, lines_are_remote_if_clearing_them_is_slow)
{
	struct waiter_state waiter = { 0 };

	judge(&waiter, 1, 10000, 301, 100);
	check(is_remote(&waiter));
	waiter = (struct waiter_state){ 0 };
	judge(&waiter, 1, 10000, 300, 100);
	check(!is_remote(&waiter));
	check(!pays(&waiter));
}

Test(prefetch, clearing_pays_if_it_beats_prefetching_by_half)
{
	struct waiter_state waiter = { 0 };

	judge(&waiter, 1, 801, 400, 100);
	check(is_remote(&waiter) && pays(&waiter));
	waiter = (struct waiter_state){ 0 };
	judge(&waiter, 1, 800, 400, 100);
	check(is_remote(&waiter) && !pays(&waiter));
}

Test(prefetch, one_wrong_measurement_does_not_change_a_sure_result)
{
	const int64_t slow = 10000, quick = 1;
	struct waiter_state waiter = { 0 };

	judge(&waiter, 100, slow, 400, 100);
	judge(&waiter, 3, quick, 200, 100);
	check(is_remote(&waiter) && pays(&waiter));
	judge(&waiter, 1, quick, 200, 100);
	check(!is_remote(&waiter) && !pays(&waiter));
	judge(&waiter, 100, quick, 200, 100);
	judge(&waiter, 4, slow, 400, 100);
	check(!is_remote(&waiter) && !pays(&waiter));
	judge(&waiter, 1, slow, 400, 100);
	check(is_remote(&waiter) && pays(&waiter));
}

/* This holds whatever a co-owner has written there. */
Test(prefetch, votes_do_not_overflow)
{
	const int32_t ends[] = { INT32_MIN, INT32_MAX };

	for (int i = 0; i < 2; i++) {
		for (int64_t cleared = 200; cleared <= 400; cleared += 200) {
			struct waiter_state waiter = { .remote = ends[i], .clearing = ends[i] };

			judge(&waiter, 2, 10000, cleared, 100);
			check_eq(is_remote(&waiter), i);
			check_eq(pays(&waiter), i);
		}
	}
}

Test(prefetch, receiver_prefetches_where_the_sender_does)
{
	for (int32_t remote = -1; remote <= 1; remote++) {
		for (int32_t clearing = -1; clearing <= 1; clearing++) {
			const struct waiter_state waiter = { .remote = remote, .clearing = clearing };
			bool asks = remote > 0 && clearing <= 0;

			check_eq(prefetch_is_best(&waiter), asks);
			check_eq(prefetch_reads(&waiter, 1024), asks);
			check(!prefetch_reads(&waiter, 0));
			check(!prefetch_reads(&waiter, PREFETCH_FETCH_LEAST - 1));
			check_eq(prefetch_reads(&waiter, PREFETCH_FETCH_LEAST), asks);
			check_eq(prefetch_reads(&waiter, PREFETCH_FETCH_MOST), asks);
			check(!prefetch_reads(&waiter, PREFETCH_FETCH_MOST + 1));
			check(!prefetch_reads(&waiter, UINT64_MAX));
		}
	}
}
