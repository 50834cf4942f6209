/* SPDX-License-Identifier: MIT */
/* A peer that publishes false headers, before the calls of its victim and during them. */
#include "hostile/receiving.h"

TestSuite(hostile_memory, .timeout = 30);

/* Puts each header where the next message should be. Every call refuses it and consumes nothing. */
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

/* Random headers, most of them nearly right. */
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

/* Changes the header at the victim's position, and those to which it may come next. */
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

/*
 * The victim uses the length that it has checked. A header that changes after the peek does not change the
 * release.
 */
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
