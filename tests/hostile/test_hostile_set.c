/* SPDX-License-Identifier: MIT */
/*
 * Hostile peers of an end in a set or in bufpipe_wait. They may break their own pipe, but they delay no
 * call and no other pipe.
 */
#include "hostile/hostile.h"
#include "sets.h"
#include "syscall.h"

TestSuite(hostile_set, .timeout = 60);

static void wake(const struct duel *d)
{
	struct waiter_state *waiter = &d->rogue->ours.control->send_waiter;

	atomic_fetch_add(&waiter->events, 1);
	sys_futex_wake(&waiter->events, INT32_MAX);
}

static void flood_futex(const struct duel *d, uint64_t random)
{
	(void)random;
	wake(d);
}

static void flood_socket(const struct duel *d, uint64_t random)
{
	char bytes[100] = "";

	/* Also urgent, empty and long packets. */
	send(d->rogue->socket, bytes, random % 4 ? 1 : random % sizeof(bytes), MSG_DONTWAIT | MSG_NOSIGNAL);
	send(d->rogue->socket, bytes, 0, MSG_DONTWAIT | MSG_NOSIGNAL);
}

static void flood_both(const struct duel *d, uint64_t random)
{
	wake(d);
	flood_socket(d, random);
}

static void flood_flags(const struct duel *d, uint64_t random)
{
	struct waiter_state *waiter = &d->rogue->ours.control->send_waiter;

	atomic_store(&waiter->flags, (uint32_t)random);
	atomic_store(&waiter->raises, random);
	atomic_store(&waiter->wanted, random);
	wake(d);
}

/*
 * While the peer of one end floods its socket, the messages of another pipe are reported, waits end in
 * time, and the set can be changed.
 */
static void resist_in_set(unsigned flags, flip_step *step)
{
	struct duel d = duel_begin(IN, NULL);
	bufpipe_set_t *set = set_open(flags);
	bufpipe_t *honest[2];
	int64_t begin;
	pid_t pid;

	pipe_open(honest, NULL);
	pid = flipper_start(&d, step);
	check_eq(bufpipe_set_add(set, d.victim, BUFPIPE_IN, &d), 0);
	check_eq(bufpipe_set_add(set, honest[IN], BUFPIPE_IN, honest), 0);
	for (int i = 0; i < 200; i++) {
		begin = clock_ns();
		check_eq(bufpipe_set_wait(set, &(struct bufpipe_event){ 0 }, 1, i % 2 ? 0 : MSEC), 0);
		check(elapsed(begin) < SOON);
		say(honest[OUT], "x");
		check_eq(set_expect(set, honest, PLENTY), BUFPIPE_IN);
		hear(honest[IN], "x");
		check_eq(bufpipe_set_modify(set, d.victim, i % 3 ? BUFPIPE_IN : 0, &d), 0);
	}
	flipper_stop(pid);
	check_eq(bufpipe_set_remove(set, d.victim), 0);
	bufpipe_set_destroy(set);
	pipe_close(honest);
	duel_end(&d);
}

static void resist_in_wait(flip_step *step)
{
	struct duel d = duel_begin(IN, NULL);
	struct bufpipe_pollfd p[2] = { { d.victim, BUFPIPE_IN, 0 } };
	bufpipe_t *honest[2];
	int64_t begin;
	pid_t pid;

	pipe_open(honest, NULL);
	p[1] = (struct bufpipe_pollfd){ honest[IN], BUFPIPE_IN, 0 };
	pid = flipper_start(&d, step);
	for (int i = 0; i < 100; i++) {
		begin = clock_ns();
		check_eq(bufpipe_wait(p, 2, i == 7 ? 150 * MSEC : i % 2 * MSEC), 0);
		check(elapsed(begin) < SOON);
		say(honest[OUT], "x");
		check_eq(bufpipe_wait(p, 2, PLENTY), 1);
		check_eq(p[1].revents, BUFPIPE_IN);
		hear(honest[IN], "x");
	}
	flipper_stop(pid);
	pipe_close(honest);
	duel_end(&d);
}

BOTH(hostile_set, wake_ups_without_end)
{
	resist_in_set(flags, flood_futex);
}

BOTH(hostile_set, packets_without_end)
{
	resist_in_set(flags, flood_socket);
}

BOTH(hostile_set, wake_ups_and_packets_without_end)
{
	resist_in_set(flags, flood_both);
}

BOTH(hostile_set, garbage_in_the_waiter_state)
{
	resist_in_set(flags, flood_flags);
}

Test(hostile_set, floods_do_not_hold_up_bufpipe_wait)
{
	resist_in_wait(flood_futex);
	resist_in_wait(flood_both);
	resist_in_wait(flood_flags);
}

static void publish_garbage(const struct duel *d, uint64_t random)
{
	rogue_put(d, random % 3 ? random | RECORD_WHOLE : 0);
	wake(d);
}

/* The set reports the end as ready, and a receive from it returns the error. */
BOTH(hostile_set, records_that_come_and_go)
{
	struct duel d = duel_begin(IN, NULL);
	bufpipe_set_t *set = set_open(flags);
	bufpipe_t *honest[2];
	char buf[16];
	pid_t pid;

	pipe_open(honest, NULL);
	pid = flipper_start(&d, publish_garbage);
	check_eq(bufpipe_set_add(set, d.victim, BUFPIPE_IN, &d), 0);
	check_eq(bufpipe_set_add(set, honest[IN], BUFPIPE_IN, honest), 0);
	for (int i = 0; i < 200; i++) {
		say(honest[OUT], "x");
		check(set_await(set, honest, BUFPIPE_IN, PROMPT));
		hear(honest[IN], "x");
		bufpipe_recv(d.victim, buf, sizeof(buf), 0);
	}
	flipper_stop(pid);
	bufpipe_set_destroy(set);
	pipe_close(honest);
	duel_end(&d);
}

/* A message for which nobody rings may be found late. No other message may. */
BOTH(hostile_set, a_peer_that_never_rings_hides_only_its_own_messages)
{
	struct duel d = duel_begin(IN, NULL);
	bufpipe_set_t *set = set_open(flags);
	bufpipe_t *honest[2];

	pipe_open(honest, NULL);
	check_eq(bufpipe_set_add(set, d.victim, BUFPIPE_IN, &d), 0);
	check_eq(bufpipe_set_add(set, honest[IN], BUFPIPE_IN, honest), 0);
	set_expect_nothing(set);
	check(ring_reserve(&d.rogue->sender, 4) != NULL);
	ring_commit(&d.rogue->sender, 4, RECORD_WHOLE);
	for (int i = 0; i < 10; i++) {
		say(honest[OUT], "x");
		check(set_await(set, honest, BUFPIPE_IN, PROMPT));
		hear(honest[IN], "x");
	}
	/* The message is found by the next look at the end. */
	check_eq(bufpipe_set_modify(set, d.victim, BUFPIPE_IN, &d), 0);
	check_eq(set_expect(set, &d, PLENTY), BUFPIPE_IN);
	bufpipe_set_destroy(set);
	pipe_close(honest);
	duel_end(&d);
}

/*
 * A false hang-up ends only that pipe. Honest pipes go on, and removing the end from the set ends the
 * reports.
 */
BOTH(hostile_set, a_socket_that_was_shut_down_is_a_hang_up_of_that_pipe_alone)
{
	struct duel d = duel_begin(IN, NULL);
	bufpipe_set_t *set = set_open(flags);
	bufpipe_t *honest[2];

	pipe_open(honest, NULL);
	check_eq(bufpipe_set_add(set, d.victim, BUFPIPE_IN, &d), 0);
	check_eq(bufpipe_set_add(set, honest[IN], BUFPIPE_IN, honest), 0);
	set_expect_nothing(set);
	check_eq(shutdown(d.rogue->socket, SHUT_RDWR), 0);
	for (int i = 0; i < 100; i++)
		check(set_expect(set, &d, PROMPT) & BUFPIPE_HUP);
	say(honest[OUT], "x");
	check(set_await(set, honest, BUFPIPE_IN, PROMPT));
	check_eq(bufpipe_recv(d.victim, NULL, 0, 0), -EPIPE);
	check_eq(bufpipe_set_remove(set, d.victim), 0);
	hear(honest[IN], "x");
	set_expect_nothing(set);
	bufpipe_set_destroy(set);
	pipe_close(honest);
	duel_end(&d);
}

/* A receiver with an impossible head never makes room, and does no other harm. */
BOTH(hostile_set, a_receiver_that_lies_about_its_position_makes_no_trouble_but_its_own)
{
	static const int64_t lies[] = { 1, -8, 8, INT64_MIN, 1ll << 32, 0x5555555555555555 };
	bufpipe_t *honest[2];

	pipe_open(honest, NULL);
	for (unsigned i = 0; i < sizeof(lies) / sizeof(*lies); i++) {
		struct duel d = duel_begin(OUT, NULL);
		bufpipe_set_t *set = set_open(flags);
		struct bufpipe_event events[2];
		int64_t begin = clock_ns();

		fill_up(d.victim, 100);
		atomic_fetch_add(&d.rogue->ours.control->head, (uint64_t)lies[i]);
		check_eq(bufpipe_set_add(set, d.victim, BUFPIPE_OUT, &d), 0);
		check_eq(bufpipe_set_add(set, honest[IN], BUFPIPE_IN, honest), 0);
		check(bufpipe_set_wait(set, events, 2, MSEC) <= 1);
		check(elapsed(begin) < SOON);
		say(honest[OUT], "x");
		check(set_await(set, honest, BUFPIPE_IN, PROMPT));
		hear(honest[IN], "x");
		bufpipe_set_destroy(set);
		duel_end(&d);
	}
	pipe_close(honest);
}

/*
 * A publisher executes no fence. So it may have looked at the flags before they were raised, and its message
 * may become visible only at the membarrier. This substitute for syscall makes it so: a message for which
 * nobody rings appears there.
 */
static bufpipe_t *unrung;

long syscall(long number, ...)
{
	bufpipe_t *into = unrung;
	va_list list;
	long r;

	if (number == SYS_membarrier && into) {
		unrung = NULL;
		check(ring_reserve(&into->sender, 4) != NULL);
		ring_commit(&into->sender, 4, RECORD_WHOLE);
	}
	va_start(list, number);
	r = syscall_pass_on(number, list);
	va_end(list);
	return r;
}

BOTH(hostile_set, a_message_whose_sender_could_not_see_that_we_fall_asleep_is_found)
{
	bufpipe_set_t *set = set_open(flags);
	bufpipe_t *ends[2];

	pipe_open(ends, NULL);
	check_eq(bufpipe_set_add(set, ends[IN], BUFPIPE_IN, ends), 0);
	unrung = ends[OUT];
	check_eq(set_expect(set, ends, PROMPT), BUFPIPE_IN);
	check(!unrung);
	bufpipe_set_destroy(set);
	pipe_close(ends);
}

Test(hostile_set, bufpipe_wait_too_finds_a_message_whose_sender_could_not_see_that_we_fall_asleep)
{
	struct bufpipe_options options = { .spin_ns = BUFPIPE_NO_SPIN };
	struct bufpipe_pollfd p = { .events = BUFPIPE_IN };
	bufpipe_t *ends[2];
	int64_t begin = clock_ns();

	pipe_open(ends, &options);
	p.pipe = ends[IN];
	unrung = ends[OUT];
	check_eq(bufpipe_wait(&p, 1, PLENTY), 1);
	check(!unrung && elapsed(begin) < PROMPT);
	pipe_close(ends);
}
