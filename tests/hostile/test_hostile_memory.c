/* SPDX-License-Identifier: MIT */
/* A peer that writes lies into its own region, before the calls of its victim and during them. */
#include "hostile/hostile.h"

TestSuite(hostile_memory, .timeout = 30);

/*
 * The capacity of the victim's buffers. They are on the heap, so that AddressSanitizer notices one byte too
 * many.
 */
#define CAP 3000
/* A message of this length comes in fragments if the ring is the smallest, and fits into the buffers. */
#define TOTAL 2500

enum receiving { RECV, NEXT, PEEK, RECV_MANY, RECEIVING_COUNT };
static const char *const receiving_names[] = { "recv", "next", "peek", "recv_many" };

static ssize_t receive(bufpipe_t *p, enum receiving how, int64_t timeout_ns)
{
	char *bufs[2] = { malloc(CAP), malloc(CAP) };
	struct iovec two[2] = { { bufs[0], CAP }, { bufs[1], CAP } };
	volatile char sum = 0;
	const void *at;
	ssize_t r = -1;

	switch (how) {
	case RECV:
		r = bufpipe_recv(p, bufs[0], CAP, timeout_ns);
		break;
	case NEXT:
		r = bufpipe_next(p, timeout_ns);
		break;
	case PEEK:
		r = bufpipe_peek(p, &at, timeout_ns);
		for (ssize_t i = 0; i < r; i++)
			sum += ((const char *)at)[i];
		cr_assert_eq(bufpipe_release(p), r < 0 ? -EINVAL : 0);
		break;
	default:
		r = bufpipe_recv_many(p, two, 2, timeout_ns);
		cr_assert(r <= 2 && two[0].iov_len <= CAP && two[1].iov_len <= CAP);
		break;
	}
	(void)sum;
	free(bufs[0]);
	free(bufs[1]);
	return r;
}

/* Fails if a call returns to a receiver an error that blames somebody else than its lying sender. */
static bool documented(ssize_t r)
{
	return r >= 0 || r == -EPROTO || r == -EPIPE || r == -EAGAIN || r == -ETIMEDOUT || r == -EMSGSIZE;
}

static void assert_soon(struct duel *d, enum receiving how, int64_t timeout_ns, ssize_t wanted)
{
	int64_t begin = time_now();
	ssize_t r = receive(d->victim, how, timeout_ns);

	cr_assert_lt(elapsed(begin), SOON, "%s did not return in time", receiving_names[how]);
	if (wanted)
		cr_assert_eq(r, wanted, "%s: %zd, not %zd", receiving_names[how], r, wanted);
	cr_assert(documented(r), "%s: %zd", receiving_names[how], r);
}

/* The victim can still receive once its peer behaves. */
static void assert_recovers(struct duel *d, const char *text, size_t len)
{
	char buf[64] = "";

	memcpy(rogue_header(d, victim_head(d) + 8), text, len);
	atomic_store(rogue_header(d, victim_head(d) + record_size(len)), 0);
	rogue_put(d, RECORD_WHOLE | len);
	cr_assert_eq(bufpipe_recv(d->victim, buf, sizeof(buf), 0), (ssize_t)len);
	cr_assert_eq(memcmp(buf, text, len), 0);
}

/* Each header in turn stands where the next message should be. Every call refuses it and consumes nothing. */
static void refuse_headers(const struct bufpipe_options *options, const uint64_t *headers, size_t n,
			   int wanted, const char *text, size_t len)
{
	struct duel d = duel_begin(0, options);

	for (size_t i = 0; i < n; i++) {
		uint64_t head = victim_head(&d);

		rogue_put(&d, headers[i]);
		for (int how = 0; how < RECEIVING_COUNT; how++) {
			assert_soon(&d, how, 0, wanted);
			assert_soon(&d, how, 50 * MSEC, wanted);
		}
		cr_assert_eq(victim_head(&d), head, "header %zu was consumed", i);
		assert_recovers(&d, text, len);
	}
	duel_end(&d);
}

Test(hostile_memory, headers_that_no_ring_has)
{
	struct identity id = honest_identity(LAYOUT_SENDS);
	const uint64_t headers[] = {
		UINT64_MAX,
		0xffffffff,
		1,
		RECORD_WHOLE | RECORD_LENGTH,
		RECORD_WHOLE | 0xffffffff,
		RECORD_WHOLE | id.data_size,
		RECORD_WHOLE | (id.limit - 7),
		RECORD_WHOLE | (id.buffer_size + 1),
		RECORD_FIRST | RECORD_LENGTH,
		RECORD_MORE | RECORD_LENGTH,
		RECORD_MORE | id.limit,
		RECORD_WHOLE | RECORD_FIRST | 16,
		RECORD_WHOLE | RECORD_END | 16,
		RECORD_FIRST | RECORD_MORE | 16,
		RECORD_WHOLE | (uint64_t)1 << 48,
		RECORD_WHOLE | (uint64_t)1 << 60,
		(uint64_t)1 << 63,
		(uint64_t)1 << 55 | 16,
	};

	refuse_headers(NULL, headers, sizeof(headers) / sizeof(*headers), -EPROTO, "good", 4);
}

Test(hostile_memory, headers_that_no_static_ring_has)
{
	const struct bufpipe_options options = { .object_size = 24 };
	const uint64_t headers[] = {
		RECORD_WHOLE,
		RECORD_WHOLE | 23,
		RECORD_WHOLE | 25,
		RECORD_WHOLE | 32,
		RECORD_FIRST | 24,
		RECORD_MORE | 24,
		RECORD_WHOLE | RECORD_LENGTH,
		RECORD_MORE | 1,
	};

	refuse_headers(&options, headers, sizeof(headers) / sizeof(*headers), -EPROTO,
		       "twenty-four bytes long..", 24);
}

Test(hostile_memory, a_message_that_was_never_written)
{
	struct duel d = duel_begin(0, NULL);

	rogue_put(&d, RECORD_WHOLE | 500);
	assert_soon(&d, NEXT, 0, 500);
	assert_soon(&d, PEEK, 0, 500);
	rogue_put(&d, RECORD_WHOLE | d.rogue->ours.identity.buffer_size);
	assert_soon(&d, RECV, 0, -EMSGSIZE);
	assert_soon(&d, PEEK, 0, (ssize_t)d.rogue->ours.identity.buffer_size);
	duel_end(&d);
}

static void put_first(const struct duel *d, uint64_t len, uint64_t total)
{
	atomic_store(rogue_header(d, victim_head(d) + 8), total);
	rogue_put(d, RECORD_FIRST | len);
}

Test(hostile_memory, beginnings_with_impossible_totals)
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

Test(hostile_memory, an_announced_terabyte_takes_no_memory)
{
	struct duel d = duel_begin(0, NULL);

	put_first(&d, 64, LAYOUT_MAX);
	assert_soon(&d, NEXT, 0, (ssize_t)LAYOUT_MAX);
	assert_soon(&d, RECV, 50 * MSEC, -EMSGSIZE);
	assert_recovers(&d, "good", 4);
	duel_end(&d);
}

/*
 * A message that fits into the ring never comes in fragments, so a try on a shared end has nothing to wait
 * for.
 */
Test(hostile_memory, a_beginning_of_a_short_message_holds_nobody)
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

Test(hostile_memory, impossible_second_fragments)
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

/* The ring says the same at each place, so it never ends, and the sender has nothing more to do. */
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

Test(hostile_memory, strays_without_end)
{
	fill_and_receive(RECORD_MORE, 0, false);
	fill_and_receive(RECORD_MORE | 8, 0, false);
	fill_and_receive(RECORD_MORE, BUFPIPE_SHARED, false);
	fill_and_receive(RECORD_MORE | 8, BUFPIPE_SHARED, false);
}

Test(hostile_memory, strays_of_a_dead_sender)
{
	fill_and_receive(RECORD_MORE | 8, 0, true);
	fill_and_receive(RECORD_MORE | 8, BUFPIPE_SHARED, true);
}

Test(hostile_memory, empty_messages_without_end)
{
	fill_and_receive(RECORD_WHOLE, 0, false);
	fill_and_receive(RECORD_WHOLE, BUFPIPE_SHARED, true);
}

/* Beginnings without a second fragment. Each of them brings 8 bytes. */
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

Test(hostile_memory, beginnings_without_end)
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
 * Some beginnings are given up, some are not, and some change. They cost their own time and are no messages.
 */
Test(hostile_memory, giving_up_flipped_during_the_call)
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

/* The same, but header and total are one word, so nothing in the ring is ever refused. */
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

Test(hostile_memory, beginnings_for_ever)
{
	begin_for_ever(0, false);
	begin_for_ever(BUFPIPE_SHARED, false);
}

Test(hostile_memory, beginnings_of_a_dead_sender)
{
	begin_for_ever(0, true);
	begin_for_ever(BUFPIPE_SHARED, true);
	begin_without_end(0, true);
}

/* A long message that comes byte by byte, each byte just before patience ends. */
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

Test(hostile_memory, a_trickle_does_not_hold_a_shared_end)
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

Test(hostile_memory, records_after_the_end)
{
	struct duel d = duel_begin(0, NULL);

	for (int i = 0; i < 3; i++) {
		rogue_put(&d, RECORD_END);
		for (int how = 0; how < RECEIVING_COUNT; how++)
			assert_soon(&d, how, 50 * MSEC, -EPIPE);
		assert_recovers(&d, "more", 4);
	}
	duel_end(&d);
}

/* Random words that look as good as possible. */
static uint64_t random_header(uint64_t random)
{
	static const uint64_t flags[] = {
		RECORD_WHOLE, RECORD_WHOLE, RECORD_FIRST, RECORD_MORE, RECORD_MORE, RECORD_END, 0
	};
	static const uint64_t lengths[] = { 0,   1,       8,    16,    24,    100,    CAP - 1,
					    CAP, CAP + 1, 4096, 32748, 65536, 131072, RECORD_LENGTH };

	if (random % 64 == 0)
		return random;
	return flags[random / 64 % 7] | lengths[random / 512 % 14];
}

/* The header at the victim's position, and those that it may come to next. */
static void flip_headers(const struct duel *d, uint64_t random)
{
	uint64_t head = victim_head(d);

	for (int i = 0; i < 16; i++)
		atomic_store_explicit(rogue_header(d, head), random_header(random >> i),
				      memory_order_relaxed);
	for (int i = 1; i < 8; i++)
		atomic_store_explicit(rogue_header(d, head + 8 * ((random >> i) % 130)),
				      random_header(random >> (2 * i)), memory_order_relaxed);
}

static void receive_under(flip_step *step, const struct bufpipe_options *options)
{
	struct duel d = duel_begin(0, options);
	pid_t pid = flipper_start(&d, step);
	int64_t begin = time_now();

	for (int i = 0; elapsed(begin) < attack_time(); i++) {
		assert_soon(&d, i % RECEIVING_COUNT, i % 5 ? 0 : MSEC, 0);
		cr_assert_eq(victim_head(&d) % 8, 0);
	}
	flipper_stop(pid);
	duel_end(&d);
}

Test(hostile_memory, headers_flipped_during_the_call)
{
	receive_under(flip_headers, &(struct bufpipe_options){ .buffer_size = 1 });
}

Test(hostile_memory, headers_flipped_during_the_call_shared)
{
	const struct bufpipe_options options = { .buffer_size = 1, .flags = BUFPIPE_DUPLEX | BUFPIPE_SHARED };

	receive_under(flip_headers, &options);
}

Test(hostile_memory, headers_flipped_during_the_call_static)
{
	const struct bufpipe_options options = { .object_size = 100 };

	receive_under(flip_headers, &options);
}

/* The victim uses what it has checked: the header, changed after a peek, does not change the release. */
Test(hostile_memory, header_enlarged_after_the_peek)
{
	static const uint64_t later[] = { 0, RECORD_WHOLE | 4096, RECORD_WHOLE | RECORD_LENGTH, UINT64_MAX,
					  RECORD_END };
	struct duel d = duel_begin(0, NULL);
	const void *at;

	for (size_t i = 0; i < sizeof(later) / sizeof(*later); i++) {
		uint64_t head = victim_head(&d);

		rogue_put(&d, RECORD_WHOLE | 100);
		cr_assert_eq(bufpipe_peek(d.victim, &at, 0), 100);
		rogue_put(&d, later[i]);
		cr_assert_eq(bufpipe_release(d.victim), 0);
		cr_assert_eq(victim_head(&d), head + record_size(100));
	}
	duel_end(&d);
}

static void flip_geometry(const struct duel *d, uint64_t random)
{
	volatile uint64_t *words = (volatile uint64_t *)&d->rogue->ours.control->identity;

	words[random % 8] = random % 3 ? random : random >> 1 << 60;
}

Test(hostile_memory, geometry_flipped_after_the_attach)
{
	const struct bufpipe_options options = { .flags = BUFPIPE_DUPLEX };
	struct duel d = duel_begin(0, &options);
	pid_t pid = flipper_start(&d, flip_geometry);
	struct bufpipe_info info;
	int64_t begin = time_now();
	char buf[1000];

	while (elapsed(begin) < attack_time()) {
		cr_assert_eq(bufpipe_send(d.rogue, buf, sizeof(buf), 0), 0);
		cr_assert_eq(bufpipe_recv(d.victim, buf, sizeof(buf), 0), (ssize_t)sizeof(buf));
		cr_assert_eq(bufpipe_send(d.victim, buf, 900, 0), 0);
		cr_assert_eq(bufpipe_recv(d.rogue, buf, sizeof(buf), 0), 900);
		cr_assert_eq(bufpipe_get_info(d.victim, &info), 0);
		cr_assert_eq(info.buffer_size, d.victim->theirs.identity.buffer_size);
	}
	flipper_stop(pid);
	duel_end(&d);
}
