/* SPDX-License-Identifier: MIT */
/* Rings that keep the victim busy. Each call still ends by its timeout. */
#include "hostile/hostile.h"

TestSuite(hostile_time, .timeout = 120);

#define GIB ((size_t)1 << 30)

/* A long message begins at the head. After it there are only fragments of one byte, without end. */
static void fill_with_small_fragments(const struct duel *d, uint64_t total)
{
	uint64_t size = d->rogue->ours.identity.data_size;

	for (uint64_t at = 24; at < size; at += 16)
		atomic_store(rogue_header(d, at), RECORD_MORE | 1);
	/* The last fragment is so long that the next lap has the same places. */
	atomic_store(rogue_header(d, size - 8), RECORD_MORE | 17);
	atomic_store(rogue_header(d, 8), total);
	atomic_store(rogue_header(d, 0), RECORD_FIRST | 16);
}

/*
 * The time of several calls. Each of them took 20 s when it looked at no clock. Other programs may run beside
 * it.
 */
#define STILL_SOON (10 * NSEC_PER_SEC)

static void receive_small_fragments(const struct bufpipe_options *options, int64_t timeout_ns)
{
	struct duel d = duel_begin(0, options);
	char *buf = malloc(GIB); /* its pages are hardly touched */
	int64_t begin = time_now();
	size_t after;
	ssize_t r;

	fill_with_small_fragments(&d, GIB);
	r = bufpipe_recv(d.victim, buf, GIB, timeout_ns);
	cr_assert_eq(r, timeout_ns ? -ETIMEDOUT : -EAGAIN, "%zd", r);
	cr_assert_lt(elapsed(begin), STILL_SOON);
	/* What came of the message is kept. A call that continues it ends in time, too. */
	begin = time_now();
	bufpipe_recv(d.victim, buf, GIB, timeout_ns);
	bufpipe_recv_part(d.victim, buf, GIB, &after, timeout_ns);
	bufpipe_next(d.victim, timeout_ns);
	cr_assert_lt(elapsed(begin), STILL_SOON);
	free(buf);
	duel_end(&d);
}

Test(hostile_time, fragments_of_one_byte)
{
	receive_small_fragments(NULL, 0);
	receive_small_fragments(NULL, 20 * MSEC);
}

enum { PIECE = 1000, PIECES = 100 };

/* The peer publishes one more fragment.  Its bytes are its number. */
static void put_piece(const struct duel *d, int i)
{
	uint64_t at = victim_head(d);
	uint64_t len = i ? PIECE : PIECE + sizeof(uint64_t);
	char *payload = (char *)(uintptr_t)rogue_header(d, at + RECORD_HEADER);

	memset(payload, i, len);
	if (!i)
		memcpy(payload, &(uint64_t){ PIECE * PIECES }, sizeof(uint64_t));
	atomic_store(rogue_header(d, at + record_size(len)), 0);
	rogue_put(d, (i ? RECORD_MORE : RECORD_FIRST) | len);
}

/*
 * What came of a message stays where it is, and each fragment is appended to it. A call that gives up
 * copies none of it, neither to its own buffer nor to new memory. Otherwise a message of many fragments
 * would take quadratic time.
 */
Test(hostile_time, what_is_kept_is_not_copied_for_each_fragment)
{
	struct duel d = duel_begin(0, NULL);
	static char buf[PIECE * PIECES];
	const char *kept = NULL;

	for (int i = 0; i < PIECES - 1; i++) {
		memset(buf, 0xee, sizeof(buf));
		put_piece(&d, i);
		cr_assert_eq(bufpipe_recv(d.victim, buf, sizeof(buf), 0), -EAGAIN);
		cr_assert_eq(d.victim->partial.have, (uint64_t)PIECE * (uint64_t)(i + 1));
		if (!i)
			kept = d.victim->partial.data;
		cr_assert_eq(d.victim->partial.data, kept);
		for (size_t at = 0; i && at < sizeof(buf); at++)
			cr_assert_eq(buf[at], (char)0xee);
	}
	put_piece(&d, PIECES - 1);
	cr_assert_eq(bufpipe_recv(d.victim, buf, sizeof(buf), 0), (ssize_t)sizeof(buf));
	for (int i = 0; i < PIECE * PIECES; i++)
		cr_assert_eq(buf[i], (char)(i / PIECE));
	duel_end(&d);
}

Test(hostile_time, fragments_of_one_byte_in_parts)
{
	struct duel d = duel_begin(0, NULL);
	char *buf = malloc(GIB);
	int64_t begin = time_now();
	size_t after;

	fill_with_small_fragments(&d, GIB);
	cr_assert_gt(bufpipe_recv_part(d.victim, buf, GIB, &after, 0), 0);
	cr_assert_gt(after, 0);
	cr_assert_gt(bufpipe_recv_part(d.victim, buf, GIB, &after, 20 * MSEC), 0);
	cr_assert_lt(elapsed(begin), SOON);
	free(buf);
	duel_end(&d);
}

/*
 * A receive on a shared end may wait for the rest of a message beyond its timeout. It still gives up,
 * because this sender is slower than a sender may be.
 */
Test(hostile_time, fragments_of_one_byte_on_a_shared_end)
{
	struct duel d = duel_begin(0, &(struct bufpipe_options){ .flags = BUFPIPE_SHARED });
	char *buf = malloc(GIB);
	int64_t begin = time_now();

	/* The ring ends after a lap, because the sender stops there. */
	fill_with_small_fragments(&d, GIB);
	atomic_store(rogue_header(&d, d.rogue->ours.identity.data_size - 8), 0);
	cr_assert_lt(bufpipe_recv(d.victim, buf, GIB, 20 * MSEC), 0);
	cr_assert_lt(elapsed(begin), 2 * SOON);
	free(buf);
	duel_end(&d);
}

/* The victim skips fragments, and a fragment that it has passed becomes the beginning of another message. */
static void rewrite_at_head(const struct duel *d, uint64_t random)
{
	uint64_t size = d->rogue->ours.identity.data_size;
	uint64_t head = victim_head(d) + 16 * (random % 64);

	if ((head & (size - 1)) >= size - 4096)
		return;
	atomic_store(rogue_header(d, head + 8), (uint64_t)1 << 40);
	atomic_store(rogue_header(d, head), RECORD_FIRST | 16);
}

static void skip_strays(int64_t timeout_ns)
{
	struct duel d = duel_begin(0, &(struct bufpipe_options){ .buffer_size = 1 << 20 });
	int64_t attack = attack_time();
	int64_t began = time_now();
	pid_t pid;
	char buf[64];

	rogue_fill(&d, RECORD_MORE | 8);
	atomic_store(rogue_header(&d, d.rogue->ours.identity.data_size - 8), RECORD_WHOLE | RECORD_LENGTH);
	pid = flipper_start(&d, rewrite_at_head);
	while (elapsed(began) < attack) {
		int64_t begin = time_now();
		ssize_t r = bufpipe_recv(d.victim, buf, sizeof(buf), timeout_ns);

		cr_assert_lt(r, 0);
		cr_assert_lt(elapsed(begin), SOON);
		if (r == -EPROTO) /* at the end of the ring begin anew */
			rogue_fill(&d, RECORD_MORE | 8);
	}
	flipper_stop(pid);
	duel_end(&d);
}

Test(hostile_time, fragments_that_become_beginnings)
{
	skip_strays(0);
	skip_strays(MSEC);
}

/* A record that is there at each glance, and is gone when the victim has the turn and looks again. */
static void blink(const struct duel *d, uint64_t random)
{
	rogue_put(d, random % 2 ? RECORD_MORE | 8 : 0);
}

Test(hostile_time, records_that_vanish)
{
	struct duel d = duel_begin(0, NULL);
	pid_t pid = flipper_start(&d, blink);
	int64_t attack = attack_time();
	int64_t began = time_now();
	char buf[64];

	cr_assert_geq(bufpipe_fd(d.victim), 0);
	for (int i = 0; elapsed(began) < attack; i++) {
		struct bufpipe_pollfd p = { .pipe = d.victim, .events = BUFPIPE_IN };
		int64_t begin = time_now();
		const void *at;

		cr_assert_lt(bufpipe_recv(d.victim, buf, sizeof(buf), i % 2 * MSEC), 0);
		cr_assert_lt(bufpipe_peek(d.victim, &at, i % 2 * MSEC), 0);
		bufpipe_wait(&p, 1, i % 2 * MSEC);
		cr_assert_lt(elapsed(begin), SOON);
	}
	flipper_stop(pid);
	duel_end(&d);
}

/* The receiver frees eight bytes at a time, which is never enough. */
static void drip(const struct duel *d, uint64_t random)
{
	_Atomic uint64_t *head = &d->rogue->ours.control->head;

	(void)random;
	if (atomic_load(head) + 8 < sender_tail(&d->victim->sender))
		atomic_fetch_add(head, 8);
	for (int i = 0; i < 200; i++)
		cpu_relax();
}

Test(hostile_time, a_head_that_drips)
{
	const size_t size = 8 << 20;
	struct duel d = duel_begin(1, &(struct bufpipe_options){ .buffer_size = size });
	char *message = calloc(1, 64 * size);
	int64_t begin;
	pid_t pid;
	int r;

	while (bufpipe_send(d.victim, message, size / 100, 0) == 0)
		;
	pid = flipper_start(&d, drip);
	begin = time_now();
	r = bufpipe_send(d.victim, message, size, 20 * MSEC);
	cr_assert_eq(r, -ETIMEDOUT, "%d", r);
	r = bufpipe_send(d.victim, message, 64 * size, 20 * MSEC);
	cr_assert_eq(r, -ETIMEDOUT, "%d", r);
	cr_assert_lt(elapsed(begin), SOON);
	flipper_stop(pid);
	free(message);
	duel_end(&d);
}
