/* SPDX-License-Identifier: MIT */
/* What a pipe reports about itself, and waiting until everything has been received. */
#include "support.h"

#include <stdatomic.h>

SUITE(stats);

static struct bufpipe_stats stats_of(const bufpipe_t *end)
{
	struct bufpipe_stats s;

	check_eq(bufpipe_get_stats(end, &s), 0);
	return s;
}

static void send_bytes(bufpipe_t *end, size_t len, int n)
{
	char buf[4096] = "";

	while (n--)
		check_eq(bufpipe_send(end, buf, len, PLENTY), 0);
}

static void recv_some(bufpipe_t *end, int n)
{
	char buf[4096];

	while (n--)
		check(bufpipe_recv(end, buf, sizeof(buf), PLENTY) >= 0);
}

/* Both ends report the same about one ring, and nothing about a ring that they do not have. */
static void check_ring(bufpipe_t *const ends[2], uint64_t sent, uint64_t received, uint64_t each)
{
	const struct bufpipe_stats none = { 0 };
	struct bufpipe_stats in = stats_of(ends[IN]);
	struct bufpipe_stats out = stats_of(ends[OUT]);

	check(!memcmp(&in.out, &none.out, sizeof(none.out)));
	check(!memcmp(&out.in, &none.in, sizeof(none.in)));
	for (int i = 0; i < 2; i++) {
		const struct bufpipe_ring_stats *r = i ? &out.out : &in.in;

		check_eq(r->sender.messages, sent);
		check_eq(r->sender.bytes, sent * each);
		check_eq(r->receiver.messages, received);
		check_eq(r->receiver.bytes, received * each);
		check_eq(r->messages, sent - received);
		check_eq(r->used, (sent - received) * each);
		check(r->high_water >= r->used && r->high_water <= r->size);
	}
}

Test(stats, count_messages_and_bytes)
{
	static const unsigned flags[] = { 0, BUFPIPE_SHARED };

	for (int i = 0; i < 2; i++) {
		const struct bufpipe_options options = { .buffer_size = 4096, .flags = flags[i] };
		bufpipe_t *ends[2];
		uint64_t sent = 0;

		check_eq(bufpipe_create(ends, &options), 0);
		check_ring(ends, 0, 0, 72);
		for (int lap = 0; lap < 200; lap++) {
			send_bytes(ends[OUT], 61, 20);
			sent += 20;
			check_ring(ends, sent, sent - 20, 72);
			recv_some(ends[IN], 7);
			check_ring(ends, sent, sent - 13, 72);
			recv_some(ends[IN], 13);
			check_ring(ends, sent, sent, 72);
		}
		bufpipe_close(ends[IN]);
		bufpipe_close(ends[OUT]);
	}
}

Test(stats, count_in_place_and_in_batches)
{
	struct iovec m[3] = { { (char[8]){ 0 }, 8 }, { (char[8]){ 0 }, 8 }, { (char[8]){ 0 }, 8 } };
	bufpipe_t *ends[2];
	const void *at;
	void *room;

	check_eq(bufpipe_create(ends, NULL), 0);
	check_eq(bufpipe_reserve(ends[OUT], &room, 100, 0), 0);
	check_ring(ends, 0, 0, 16);
	check_eq(bufpipe_commit(ends[OUT], 8), 0);
	check_ring(ends, 1, 0, 16);
	check_eq(bufpipe_send_many(ends[OUT], m, 3, 0), 3);
	check_ring(ends, 4, 0, 16);
	check_eq(bufpipe_peek(ends[IN], &at, 0), 8);
	check_ring(ends, 4, 0, 16);
	check_eq(bufpipe_release(ends[IN]), 0);
	check_eq(bufpipe_recv_many(ends[IN], m, 3, 0), 3);
	check_ring(ends, 4, 4, 16);
	bufpipe_close(ends[IN]);
	bufpipe_close(ends[OUT]);
}

static void *send_long(void *end)
{
	char *bytes = calloc(1, 100000);

	check(bytes != NULL);
	for (int i = 0; i < 3; i++)
		check_eq(bufpipe_send(end, bytes, 100000, PLENTY), 0);
	free(bytes);
	return NULL;
}

/* The pieces of a long message do not count as messages, whether one call sends it or several. */
Test(stats, count_a_long_message_once)
{
	static const unsigned flags[] = { 0, BUFPIPE_SHARED };

	for (int i = 0; i < 2; i++) {
		const struct bufpipe_options options = { .buffer_size = 4096, .flags = flags[i] };
		char *bytes = malloc(100000);
		bufpipe_t *ends[2];
		pthread_t thread;
		size_t after = 1;

		check(bytes != NULL);
		check_eq(bufpipe_create(ends, &options), 0);
		check_eq(pthread_create(&thread, NULL, send_long, ends[OUT]), 0);
		check_eq(bufpipe_recv(ends[IN], bytes, 100000, PLENTY), 100000);
		while (after)
			check(bufpipe_recv_part(ends[IN], bytes, 777, &after, PLENTY) > 0);
		check_eq(bufpipe_recv(ends[IN], bytes, 100000, PLENTY), 100000);
		check_eq(pthread_join(thread, NULL), 0);
		check_eq(stats_of(ends[OUT]).out.sender.messages, 3);
		check_eq(stats_of(ends[IN]).in.receiver.messages, 3);
		check_eq(stats_of(ends[IN]).in.messages, 0);
		check_eq(stats_of(ends[IN]).in.used, 0);
		bufpipe_close(ends[IN]);
		bufpipe_close(ends[OUT]);
		free(bytes);
	}
}

Test(stats, tell_of_tries_that_were_refused)
{
	const struct bufpipe_options options = { .object_size = 8, .object_count = 4 };
	bufpipe_t *ends[2];
	char buf[8] = "";

	check_eq(bufpipe_create(ends, &options), 0);
	check_eq(bufpipe_recv(ends[IN], buf, 8, 0), -EAGAIN);
	check_eq(bufpipe_recv(ends[IN], buf, 8, 0), -EAGAIN);
	send_bytes(ends[OUT], 8, 4);
	for (int i = 0; i < 3; i++)
		check_eq(bufpipe_send(ends[OUT], buf, 8, 0), -EAGAIN);
	check_eq(stats_of(ends[OUT]).out.sender.refusals, 3);
	check_eq(stats_of(ends[IN]).in.sender.refusals, 3);
	check_eq(stats_of(ends[OUT]).out.receiver.refusals, 2);
	check_eq(stats_of(ends[OUT]).out.high_water, stats_of(ends[OUT]).out.size);
	check_eq(stats_of(ends[OUT]).out.messages, 4);
	bufpipe_close(ends[IN]);
	bufpipe_close(ends[OUT]);
}

static void *send_later(void *end)
{
	/* The other side's numbers show that it sleeps. */
	while (!stats_of(end).out.receiver.asleep)
		sched_yield();
	check_eq(stats_of(end).out.receiver.sleeps, 0);
	send_bytes(end, 8, 1);
	return NULL;
}

Test(stats, tell_who_sleeps_and_slept)
{
	const struct bufpipe_options options = { .spin_ns = BUFPIPE_NO_SPIN };
	struct bufpipe_stats s;
	bufpipe_t *ends[2];
	pthread_t thread;

	check_eq(bufpipe_create(ends, &options), 0);
	check_eq(pthread_create(&thread, NULL, send_later, ends[OUT]), 0);
	recv_some(ends[IN], 1);
	check_eq(pthread_join(thread, NULL), 0);
	s = stats_of(ends[OUT]);
	check_eq(s.out.receiver.asleep, 0);
	check_eq(s.out.receiver.waits, 1);
	check(s.out.receiver.sleeps >= 1);
	check(s.out.receiver.slept > 0 && s.out.receiver.slept < (uint64_t)PLENTY);
	check(s.out.sender.wakeups >= 1);
	check_eq(s.out.sender.sleeps, 0);
	bufpipe_close(ends[IN]);
	bufpipe_close(ends[OUT]);
}

Test(stats, of_a_duplex_end_are_two_rings)
{
	const struct bufpipe_options options = { .flags = BUFPIPE_DUPLEX };
	bufpipe_t *ends[2];

	check_eq(bufpipe_create(ends, &options), 0);
	send_bytes(ends[0], 8, 3);
	send_bytes(ends[1], 8, 5);
	recv_some(ends[1], 1);
	check_eq(stats_of(ends[0]).out.sender.messages, 3);
	check_eq(stats_of(ends[0]).out.messages, 2);
	check_eq(stats_of(ends[0]).in.messages, 5);
	check_eq(stats_of(ends[1]).out.messages, 5);
	check_eq(stats_of(ends[1]).in.messages, 2);
	bufpipe_close(ends[0]);
	bufpipe_close(ends[1]);
}

struct crowd {
	bufpipe_t **ends;
	atomic_int left;
};

static void *take_turns(void *arg)
{
	struct crowd *crowd = arg;

	for (int i = 0; i < 5000; i++) {
		send_bytes(crowd->ends[OUT], 16, 1);
		recv_some(crowd->ends[IN], 1);
	}
	atomic_fetch_sub(&crowd->left, 1);
	return NULL;
}

/* No message is counted twice or left out, and the numbers are plausible at any moment. */
Test(stats, of_a_shared_end_are_those_of_all_holders)
{
	const struct bufpipe_options options = { .buffer_size = 4096, .flags = BUFPIPE_SHARED };
	struct crowd crowd = { .left = 4 };
	pthread_t threads[4];
	bufpipe_t *ends[2];

	crowd.ends = ends;
	check_eq(bufpipe_create(ends, &options), 0);
	for (int i = 0; i < 4; i++)
		check_eq(pthread_create(&threads[i], NULL, take_turns, &crowd), 0);
	while (atomic_load(&crowd.left)) {
		struct bufpipe_ring_stats r = stats_of(ends[IN]).in;

		check(r.used <= r.size && r.messages * 8 <= r.size);
		check(r.sender.messages >= r.receiver.messages && r.sender.messages <= 20000 + 16);
		sched_yield();
	}
	for (int i = 0; i < 4; i++)
		check_eq(pthread_join(threads[i], NULL), 0);
	check_ring(ends, 20000, 20000, 24);
	bufpipe_close(ends[IN]);
	bufpipe_close(ends[OUT]);
}

Test(stats, refuse_bad_arguments)
{
	struct bufpipe_stats s;
	bufpipe_t *ends[2];

	check_eq(bufpipe_create(ends, NULL), 0);
	check_eq(bufpipe_get_stats(NULL, &s), -EINVAL);
	check_eq(bufpipe_get_stats(ends[0], NULL), -EINVAL);
	check_eq(bufpipe_drain(NULL, 0), -EINVAL);
	check_eq(bufpipe_drain(ends[OUT], -2), -EINVAL);
	check_eq(bufpipe_drain(ends[IN], 0), -EBADF);
	bufpipe_close(ends[IN]);
	bufpipe_close(ends[OUT]);
}

/* The sender sleeps in bufpipe_drain before the second half, and must not return before its end. */
static void receive_in_halves(void *arg)
{
	bufpipe_t *pipe = arg;

	recv_some(pipe, 50);
	while (!stats_of(pipe).in.sender.asleep)
		sched_yield();
	recv_some(pipe, 50);
}

Test(stats, drain_waits_for_the_last_message)
{
	static const unsigned flags[] = { 0, BUFPIPE_SHARED, BUFPIPE_DUPLEX };

	for (int i = 0; i < 3; i++) {
		const struct bufpipe_options options = { .flags = flags[i] };
		bufpipe_t *ends[2];
		struct child child;

		check_eq(bufpipe_create(ends, &options), 0);
		check_eq(bufpipe_drain(ends[OUT], 0), 0);
		send_bytes(ends[OUT], 8, 100);
		check_eq(bufpipe_drain(ends[OUT], 0), -EAGAIN);
		check_eq(bufpipe_drain(ends[OUT], MSEC), -ETIMEDOUT);
		child = child_start(receive_in_halves, ends[IN]);
		check_eq(bufpipe_drain(ends[OUT], PLENTY), 0);
		check_eq(stats_of(ends[OUT]).out.used, 0);
		child_join(&child);
		check_eq(bufpipe_drain(ends[OUT], -1), 0);
		bufpipe_close(ends[IN]);
		bufpipe_close(ends[OUT]);
	}
}

Test(stats, drain_after_shutdown_and_death)
{
	bufpipe_t *ends[2];
	void *room;

	check_eq(bufpipe_create(ends, NULL), 0);
	send_bytes(ends[OUT], 8, 2);
	check_eq(bufpipe_shutdown(ends[OUT]), 0);
	check_eq(bufpipe_drain(ends[OUT], 0), -EAGAIN);
	recv_some(ends[IN], 2);
	check_eq(bufpipe_drain(ends[OUT], 0), 0);
	bufpipe_close(ends[IN]);
	check_eq(bufpipe_drain(ends[OUT], -1), 0);
	bufpipe_close(ends[OUT]);

	check_eq(bufpipe_create(ends, NULL), 0);
	send_bytes(ends[OUT], 8, 2);
	check_eq(bufpipe_reserve(ends[OUT], &room, 8, 0), 0);
	check_eq(bufpipe_drain(ends[OUT], -1), -EBUSY);
	check_eq(bufpipe_cancel(ends[OUT]), 0);
	bufpipe_close(ends[IN]);
	check_eq(bufpipe_drain(ends[OUT], -1), -EPIPE);
	check_eq(bufpipe_drain(ends[OUT], 0), -EPIPE);
	bufpipe_close(ends[OUT]);

	/* Both: this side has shut down, and the other side dies with something unread. */
	check_eq(bufpipe_create(ends, NULL), 0);
	send_bytes(ends[OUT], 8, 2);
	check_eq(bufpipe_shutdown(ends[OUT]), 0);
	check_eq(bufpipe_drain(ends[OUT], MSEC), -ETIMEDOUT);
	bufpipe_close(ends[IN]);
	check_eq(bufpipe_drain(ends[OUT], -1), -EPIPE);
	bufpipe_close(ends[OUT]);
}

Test(stats, name_of_a_pipe_is_known)
{
	const struct bufpipe_options options = { .name = "orders" };
	struct bufpipe_info info;
	bufpipe_t *ends[2];

	check_eq(bufpipe_create(ends, &options), 0);
	check_eq(bufpipe_get_info(ends[IN], &info), 0);
	check(!strcmp(info.name, "orders"));
	bufpipe_close(ends[IN]);
	bufpipe_close(ends[OUT]);
	check_eq(bufpipe_create(ends, NULL), 0);
	check_eq(bufpipe_get_info(ends[OUT], &info), 0);
	check(!strcmp(info.name, "bufpipe"));
	bufpipe_close(ends[IN]);
	bufpipe_close(ends[OUT]);
}

Test(stats, every_error_has_a_meaning)
{
	static const int known[] = {
		-EINVAL,          -EBADF,           -EAGAIN,    -ETIMEDOUT,    -EINTR,  -EPIPE,
		-EMSGSIZE,        -EBUSY,           -EPROTO,    -ENOMEM,       -EMFILE, -ENFILE,
		-EBADMSG,         -ECANCELED,       -EPERM,     -EFBIG,        -ENOSYS, -EOPNOTSUPP,
		-EPROTONOSUPPORT, -ENAMETOOLONG,    -EACCES,    -EADDRINUSE,   -EEXIST, -ENOENT,
		-ENOTSOCK,        -ESOCKTNOSUPPORT, -ESHUTDOWN, -ECONNREFUSED, -EUSERS, -ENOBUFS,
		-ECONNRESET,      -EPROTOTYPE,      -E2BIG,     -ENOSPC
	};

	check(!strcmp(bufpipe_strerror(0), "success"));
	check(!strcmp(bufpipe_strerror(17), "success"));
	check(!strcmp(bufpipe_strerror(-4000), "unknown error"));
	check(!strcmp(bufpipe_strerror(INT32_MIN), "unknown error"));
	for (unsigned i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
		check(strcmp(bufpipe_strerror(known[i]), "unknown error"));
		for (unsigned j = 0; j < i; j++)
			check(strcmp(bufpipe_strerror(known[i]), bufpipe_strerror(known[j])));
	}
}
