/* SPDX-License-Identifier: MIT */
/*
 * The data path alone, in one thread: full, empty, around the wrap, near the ends of its counters, and after
 * a death.
 */
#include "layers/ring_rig.h"

#include <sys/mman.h>

SUITE(ring);

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

/* Payload of the previous lap that looks like headers must not be taken for headers. */
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

/* A co-owner died between the commit word and the tail, so the tail was never stored. */
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

/* A co-owner died before the commit word and left part of a payload. Nothing was sent. */
Test(ring, is_written_again_where_nothing_was_published)
{
	for (const uint64_t *start = starts; start < starts + STARTS; start++) {
		for (uint64_t half_done = 8; half_done < DATA; half_done += 88) {
			char got[64];
			struct rig rig;

			rig_open(&rig, *start, DATA - RECORD_HEADER);
			atomic_store(&rig.sending.control->tail.next, *start + half_done);
			memset(rig.s.data + ((*start + 8) & rig.s.mask), 0xff, half_done - 8);
			check(ring_reserve(&rig.s, 8) == NULL);
			check_eq(put(&rig, "of the next", 11), 0);
			check(ring_reserve(&rig.s, 8) != NULL);
			check_eq(get(&rig, got), 11);
			check_eq(get(&rig, got), -EAGAIN);
			rig_close(&rig);
		}
	}
}

/* These lines belong to the receiver until the sender writes them. */
Test(ring, is_not_read_by_a_sender_that_reserves)
{
	struct rig rig;

	rig_open(&rig, 0, DATA - RECORD_HEADER);
	check_eq(put(&rig, "first", 5), 0);
	check_eq(mprotect(rig.s.data, DATA, PROT_NONE), 0);
	check(ring_reserve(&rig.s, 8) == rig.s.data + record_size(5) + RECORD_HEADER);
	check_eq(mprotect(rig.s.data, DATA, PROT_READ | PROT_WRITE), 0);
	rig_close(&rig);
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
			check_eq(put(&rig, "", 0), 0); /* into the last 8 bytes of the limit */
			n++;
			if (behind) /* the last sender died before it moved the tail */
				atomic_fetch_sub(&rig.sending.control->tail.tail, RECORD_HEADER);
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

Test(ring, ends_with_room_left)
{
	for (const uint64_t *start = starts; start < starts + STARTS; start++) {
		const char *payload;
		char got[64];
		struct rig rig;

		rig_open(&rig, *start, DATA - RECORD_HEADER);
		/* A co-owner died when it was about to end the stream. */
		atomic_store(&rig.sending.control->tail.next, *start + RECORD_HEADER);
		check_eq(put(&rig, "last", 4), 0);
		ring_end(&rig.s);
		for (int i = 0; i < 3; i++) {
			check(ring_reserve(&rig.s, 4) == NULL);
			check_eq(ring_make_room(&rig.s, 4), -EPIPE);
		}
		check_eq(get(&rig, got), 4);
		check_eq(ring_peek(&rig.r, &payload), RECORD_END);
		check(ring_reserve(&rig.s, 4) == NULL);
		rig_close(&rig);
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
			/*
			 * Beyond the tail, before what was seen, or not a multiple of the alignment of
			 * records.
			 */
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
