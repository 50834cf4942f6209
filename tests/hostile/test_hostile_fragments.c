/* SPDX-License-Identifier: MIT */
/* A peer that begins long messages, but does not continue them as a sender does. */
#include "hostile/receiving.h"

TestSuite(hostile_fragments, .timeout = 30);

/* A message of this length comes in fragments if the ring is the smallest, and fits into the victim's buffers. */
#define TOTAL 2500

static void put_first(const struct duel *d, uint64_t len, uint64_t total)
{
	atomic_store(rogue_header(d, victim_head(d) + 8), total);
	rogue_put(d, RECORD_FIRST | len);
}

Test(hostile_fragments, beginnings_with_impossible_totals)
{
	static const uint64_t totals[] = {
		0, 1, 8, 56, 57, CAP, UINT64_MAX, LAYOUT_MAX + 1, (uint64_t)1 << 63
	};
	struct duel d = duel_begin(0, NULL);

	for (size_t i = 0; i < sizeof(totals) / sizeof(*totals); i++) {
		put_first(&d, 64, totals[i]);
		assert_soon(&d, RECV, 50 * MSEC, -EPROTO);
		assert_soon(&d, NEXT, 50 * MSEC, -EPROTO);
		assert_soon(&d, RECV_MANY, 0, -EPROTO);
		assert_soon(&d, PEEK, 0, -EMSGSIZE);
	}
	for (uint64_t len = 0; len <= 8; len += 4) { /* too short for its total */
		put_first(&d, len, 64);
		assert_soon(&d, RECV, 50 * MSEC, -EPROTO);
		assert_soon(&d, NEXT, 0, -EPROTO);
	}
	assert_recovers(&d, "good", 4);
	duel_end(&d);
}

Test(hostile_fragments, an_announced_terabyte_takes_no_memory)
{
	struct duel d = duel_begin(0, NULL);

	put_first(&d, 64, LAYOUT_MAX);
	assert_soon(&d, NEXT, 0, (ssize_t)LAYOUT_MAX);
	assert_soon(&d, RECV, 50 * MSEC, -EMSGSIZE);
	assert_recovers(&d, "good", 4);
	duel_end(&d);
}

/*
 * An honest message that fits into the ring never comes in fragments. So a try on a shared end does not
 * wait for the rest of one.
 */
Test(hostile_fragments, a_beginning_of_a_short_message_holds_nobody)
{
	const struct bufpipe_options options = { .flags = BUFPIPE_SHARED };
	struct duel d = duel_begin(0, &options);
	uint64_t longest = d.rogue->ours.identity.buffer_size;
	char *buf = malloc(longest + 1);
	int64_t begin;

	for (uint64_t total = 100; total <= longest; total += longest - 100) {
		put_first(&d, 64, total);
		begin = time_now();
		cr_assert_eq(bufpipe_recv(d.victim, buf, longest, 0), -EPROTO);
		cr_assert_lt(elapsed(begin), NSEC_PER_SEC / 2);
	}
	put_first(&d, 64, longest + 1);
	cr_assert_eq(bufpipe_recv(d.victim, buf, longest, 0), -EMSGSIZE);
	cr_assert_eq(bufpipe_next(d.victim, 0), (ssize_t)longest + 1);
	free(buf);
	duel_end(&d);
}

/* Each of these follows the beginning of a message, of which 56 bytes have come. */
static void follow_a_beginning(uint64_t header, ssize_t wanted)
{
	const struct bufpipe_options options = { .buffer_size = TOTAL - 50 };
	struct duel d = duel_begin(0, &options);

	atomic_store(rogue_header(&d, record_size(64)), header);
	put_first(&d, 64, TOTAL);
	assert_soon(&d, RECV, 50 * MSEC, wanted);
	assert_soon(&d, RECV, 0, 0);
	assert_soon(&d, NEXT, 50 * MSEC, 0);
	assert_soon(&d, PEEK, 0, 0);
	duel_end(&d);
}

Test(hostile_fragments, impossible_second_fragments)
{
	follow_a_beginning(0, -ETIMEDOUT);
	follow_a_beginning(RECORD_MORE, -EPROTO);
	follow_a_beginning(RECORD_MORE | (TOTAL - 55), -EPROTO);
	follow_a_beginning(RECORD_MORE | RECORD_LENGTH, -EPROTO);
	follow_a_beginning(RECORD_END, -EPIPE);
	follow_a_beginning(RECORD_END | RECORD_MORE, -EPROTO);
	follow_a_beginning(RECORD_WHOLE | 8, 8);
	follow_a_beginning(RECORD_MORE | (TOTAL - 56), TOTAL);
}

/*
 * Every place of the ring contains the same record, so the ring never ends, and the sender need not write
 * any more.
 */
static void fill_and_receive(uint64_t word, unsigned flags, bool gone)
{
	const struct bufpipe_options options = { .buffer_size = 1024, .flags = flags };
	struct duel d = duel_begin(0, &options);

	rogue_fill(&d, word);
	if (gone)
		shutdown(d.rogue->socket, SHUT_RDWR);
	for (int how = 0; how < RECEIVING_COUNT; how++) {
		assert_soon(&d, how, 0, 0);
		assert_soon(&d, how, 50 * MSEC, 0);
		if (gone)
			assert_soon(&d, how, -1, 0);
	}
	rogue_fill(&d, 0);
	receive(d.victim, RECV, 0); /* ends the message that has begun */
	if (!gone)
		assert_recovers(&d, "good", 4);
	duel_end(&d);
}

Test(hostile_fragments, strays_without_end)
{
	fill_and_receive(RECORD_MORE, 0, false);
	fill_and_receive(RECORD_MORE | 8, 0, false);
	fill_and_receive(RECORD_MORE, BUFPIPE_SHARED, false);
	fill_and_receive(RECORD_MORE | 8, BUFPIPE_SHARED, false);
}

Test(hostile_fragments, strays_of_a_dead_sender)
{
	fill_and_receive(RECORD_MORE | 8, 0, true);
	fill_and_receive(RECORD_MORE | 8, BUFPIPE_SHARED, true);
}

Test(hostile_fragments, empty_messages_without_end)
{
	fill_and_receive(RECORD_WHOLE, 0, false);
	fill_and_receive(RECORD_WHOLE, BUFPIPE_SHARED, true);
}

/* First fragments of 8 bytes, each followed by another first fragment. */
static void begin_without_end(unsigned flags, bool gone)
{
	const struct bufpipe_options options = { .buffer_size = 1, .flags = flags };
	struct duel d = duel_begin(0, &options);

	for (uint64_t at = 0; at < d.rogue->ours.identity.data_size; at += 8)
		atomic_store(rogue_header(&d, at), RECORD_FIRST | 16);
	for (uint64_t at = 8; at < d.rogue->ours.identity.data_size; at += 16)
		atomic_store(rogue_header(&d, at), TOTAL);
	/*
	 * Records of 24 bytes go round a ring whose size they do not divide, so header and total change
	 * places.
	 */
	if (gone)
		shutdown(d.rogue->socket, SHUT_RDWR);
	for (int i = 0; i < 100; i++) {
		assert_soon(&d, i % RECEIVING_COUNT, 0, 0);
		if (gone)
			assert_soon(&d, i % RECEIVING_COUNT, -1, 0);
	}
	for (int how = 0; how < RECEIVING_COUNT; how++)
		assert_soon(&d, how, 50 * MSEC, 0);
	duel_end(&d);
}

Test(hostile_fragments, beginnings_without_end)
{
	begin_without_end(0, false);
	begin_without_end(BUFPIPE_SHARED, false);
}

static void flip_given_up(const struct duel *d, uint64_t random)
{
	uint64_t head = atomic_load(&d->rogue->theirs.control->head) & ~HEAD_HELD;

	atomic_store(&d->rogue->ours.control->send_waiter.given_up,
		     random % 2 ? (head - random / 2 % 3 * 32) | GIVEN_UP : random);
}

/*
 * Some messages that begin are given up, some are not, and some change. They take time, but they are no
 * messages.
 */
Test(hostile_fragments, giving_up_flipped_during_the_call)
{
	for (int shared = 0; shared < 2; shared++) {
		const struct bufpipe_options options = { .buffer_size = 1,
							 .flags = shared ? BUFPIPE_SHARED : 0 };
		struct duel d = duel_begin(0, &options);
		pid_t pid = flipper_start(&d, flip_given_up);
		int64_t begin = time_now();

		for (int i = 0; elapsed(begin) < attack_time() / 2; i++) {
			atomic_store(rogue_header(&d, victim_head(&d) + 32), 0);
			put_first(&d, 24, TOTAL);
			assert_soon(&d, i % RECEIVING_COUNT, i % 8 ? 0 : MSEC, 0);
		}
		flipper_stop(pid);
		duel_end(&d);
	}
}

/* The same, but header and total are the same word, so no record in the ring is ever refused. */
static void begin_for_ever(unsigned flags, bool gone)
{
	const struct bufpipe_options options = { .buffer_size = 1, .flags = flags };
	struct duel d = duel_begin(0, &options);
	uint64_t size = d.rogue->ours.identity.data_size;

	/* 32 bytes each, a power of two, so that each lap has the same places. */
	for (uint64_t at = 0; at < size; at += 32) {
		atomic_store(rogue_header(&d, at + 8), TOTAL);
		atomic_store(rogue_header(&d, at), RECORD_FIRST | 24);
	}
	if (gone)
		shutdown(d.rogue->socket, SHUT_RDWR);
	assert_soon(&d, RECV, 0, 0);
	assert_soon(&d, RECV, 50 * MSEC, 0);
	assert_soon(&d, RECV_MANY, 50 * MSEC, 0);
	if (gone)
		assert_soon(&d, RECV, -1, -EPIPE);
	duel_end(&d);
}

Test(hostile_fragments, beginnings_for_ever)
{
	begin_for_ever(0, false);
	begin_for_ever(BUFPIPE_SHARED, false);
}

Test(hostile_fragments, beginnings_of_a_dead_sender)
{
	begin_for_ever(0, true);
	begin_for_ever(BUFPIPE_SHARED, true);
	begin_without_end(0, true);
}

/* A long message that comes byte by byte, each byte just before the receiver gives up. */
static void trickle(const struct duel *d, uint64_t random)
{
	static uint64_t position;
	const struct timespec pause = { .tv_nsec = 300 * MSEC };

	(void)random;
	if (!position)
		position = record_size(64);
	nanosleep(&pause, NULL);
	atomic_store(rogue_header(d, position + record_size(1)), 0);
	atomic_store(rogue_header(d, position), RECORD_MORE | 1);
	position += record_size(1);
}

Test(hostile_fragments, a_trickle_does_not_hold_a_shared_end)
{
	const struct bufpipe_options options = { .buffer_size = 1, .flags = BUFPIPE_SHARED };
	struct duel d = duel_begin(0, &options);
	pid_t pid;

	put_first(&d, 64, TOTAL);
	pid = flipper_start(&d, trickle);
	assert_soon(&d, RECV, 0, 0);
	flipper_stop(pid);
	duel_end(&d);
}
