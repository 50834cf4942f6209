/* SPDX-License-Identifier: MIT */
/* What a set looks at in each call: the ends that are busy, and not all that once were. */
#include "poll/set.h"
#include "sets.h"

#include <poll.h>
#include <sys/eventfd.h>

SUITE(set_hot);

/*
 * Where SOME comes from: each round looks once at the hot pipes and makes one more pipe hot. A pipe is put to
 * sleep after 256 looks in vain, 32 pipes at a time.
 */
enum { PIPES = 1000, FEW = 64, SOME = 300, EVENTS = 64 };

static bufpipe_t *pipes[PIPES][2];

static void open_all(bufpipe_set_t *set)
{
	const struct bufpipe_options small = { .buffer_size = 2000, .flags = BUFPIPE_NO_HANDOVER };

	for (int i = 0; i < PIPES; i++) {
		pipe_open(pipes[i], &small);
		check_eq(bufpipe_set_add(set, pipes[i][IN], BUFPIPE_IN, &pipes[i]), 0);
	}
}

static void close_all(bufpipe_set_t *set)
{
	bufpipe_set_destroy(set);
	for (int i = 0; i < PIPES; i++)
		pipe_close(pipes[i]);
}

static void hear_from_all(bufpipe_set_t *set)
{
	struct bufpipe_event events[EVENTS];
	int heard = 0;

	while (heard < PIPES) {
		int n = bufpipe_set_wait(set, events, EVENTS, PLENTY);

		check(n > 0);
		for (int i = 0; i < n; i++)
			hear(events[i].pipe, "x");
		heard += n;
	}
}

static unsigned hot_in(bufpipe_set_t *set)
{
	unsigned n = 0;

	for (uint32_t i = 0; i < set->slot_count; i++)
		n += set->slots[i] && set->slots[i]->next;
	check_eq(n, set->hot_count);
	return n;
}

BOTH(set_hot, a_burst_in_all_pipes_does_not_burden_later_calls_while_one_is_always_ready)
{
	bufpipe_set_t *set = set_open(flags);
	struct bufpipe_event events[EVENTS];

	open_all(set);
	for (int i = 0; i < PIPES; i++)
		say(pipes[i][OUT], "x");
	hear_from_all(set);
	check_eq(hot_in(set), PIPES);
	say(pipes[0][OUT], "x");
	for (int i = 0; i < 1000; i++)
		check_eq(bufpipe_set_wait(set, events, EVENTS, PLENTY), 1);
	check(hot_in(set) <= FEW);
	/* These ends sleep, and are not forgotten. */
	hear(pipes[0][IN], "x");
	for (int i = 0; i < PIPES; i++)
		say(pipes[i][OUT], "x");
	hear_from_all(set);
	close_all(set);
}

BOTH(set_hot, what_is_busy_stays_hot_and_what_waits_for_nothing_sleeps)
{
	bufpipe_set_t *set = set_open(flags);

	open_all(set);
	for (int round = 0; round < 100; round++) {
		for (int i = 0; i < PIPES; i++)
			say(pipes[i][OUT], "x");
		hear_from_all(set);
		check_eq(hot_in(set), PIPES);
	}
	set_expect_nothing(set);
	check_eq(hot_in(set), 0);
	close_all(set);
}

BOTH(set_hot, pipes_that_are_used_in_turn_are_served_and_few_are_looked_at)
{
	bufpipe_set_t *set = set_open(flags);

	open_all(set);
	set_expect_nothing(set);
	for (unsigned i = 0; i < 5 * PIPES; i++) {
		bufpipe_t **p = pipes[i * 7919 % PIPES];

		say(p[OUT], "x");
		check_eq(set_expect(set, p, PLENTY), BUFPIPE_IN);
		hear(p[IN], "x");
		check(hot_in(set) <= SOME);
	}
	close_all(set);
}

/*
 * A message arrives at a shared end while the end is put to sleep, so the end stays hot. A co-owner takes the
 * message before the set looks again. The test's own sleeper stands before the real one and does both at
 * these steps.
 */
static const struct sleeper *real;
static bufpipe_t *shared[2];
static const struct entry *last;
static int sent, taken;
static bool slept_beside_hot;

static void prepare_and_send(struct entry *e)
{
	real->prepare(e);
	if (e->pipe == shared[IN] && !sent++)
		say(shared[OUT], "x");
}

static int watch_and_take(struct bufpipe_set *set, struct entry *e)
{
	if (e == last && sent && !taken++)
		hear(shared[IN], "x");
	return real->watch(set, e);
}

static int sleep_and_judge(struct bufpipe_set *set, int64_t until)
{
	if (until != TIME_TRY && set->hot)
		slept_beside_hot = true;
	return real->sleep(set, until);
}

BOTH(set_hot, a_message_that_a_co_owner_takes_first_leaves_no_end_unwatched)
{
	const struct bufpipe_options options = { .flags = BUFPIPE_SHARED };
	bufpipe_set_t *set = set_open(flags);
	struct sleeper between = *set->sleeper;
	bufpipe_t *other[2];

	real = set->sleeper;
	between.prepare = prepare_and_send;
	between.watch = watch_and_take;
	between.sleep = sleep_and_judge;
	pipe_open(shared, &options);
	pipe_open(other, NULL);
	check_eq(bufpipe_set_add(set, shared[IN], BUFPIPE_IN, shared), 0);
	check_eq(bufpipe_set_add(set, other[IN], BUFPIPE_IN, other), 0);
	last = other[IN]->entry;
	set->sleeper = &between;
	set_expect_nothing(set);
	check(sent && taken);
	check(!slept_beside_hot);
	set->sleeper = real;
	bufpipe_set_destroy(set);
	pipe_close(shared);
	pipe_close(other);
}

/*
 * Nobody rings for a message, because its sender, one of several holders, died before it could. A descriptor
 * that is always ready keeps the set from ever sleeping.
 */
static void publish_and_do_not_ring(bufpipe_t *p)
{
	const struct waiter_state *theirs = p->out.wait.theirs;

	/* For this sender nobody sleeps, according to the flags that it sees. */
	p->out.wait.theirs = &p->ours.control->send_waiter;
	say(p, "x");
	p->out.wait.theirs = theirs;
}

BOTH(set_hot, a_message_for_which_nobody_rings_is_found_although_the_set_never_sleeps)
{
	const struct bufpipe_options options = { .flags = BUFPIPE_SHARED };
	bufpipe_set_t *set = set_open(flags);
	int fd = eventfd(1, EFD_CLOEXEC);
	bufpipe_t *ends[2];

	pipe_open(ends, &options);
	check_eq(bufpipe_set_add(set, ends[IN], BUFPIPE_IN, ends), 0);
	set_expect_nothing(set);
	publish_and_do_not_ring(ends[OUT]);
	check_eq(bufpipe_set_add_fd(set, fd, POLLIN, &fd), 0);
	check_eq(set_expect(set, &fd, 0), POLLIN);
	check_eq(set_await(set, ends, BUFPIPE_IN, PLENTY), BUFPIPE_IN);
	hear(ends[IN], "x");
	bufpipe_set_destroy(set);
	pipe_close(ends);
	close(fd);
}

/* No call looks at all pipes of a large set, but several calls together do. */
BOTH(set_hot, the_look_at_all_pipes_is_spread_over_several_calls)
{
	bufpipe_set_t *set = set_open(flags);
	int fd = eventfd(1, EFD_CLOEXEC);

	open_all(set);
	set_expect_nothing(set);
	check_eq(bufpipe_set_add_fd(set, fd, POLLIN, &fd), 0);
	publish_and_do_not_ring(pipes[PIPES - 1][OUT]);
	set->round_due = 0;
	check_eq(set_expect(set, &fd, 0), POLLIN);
	check(set->round > 0 && set->round < PIPES);
	check(set_await(set, pipes[PIPES - 1], BUFPIPE_IN, PROMPT));
	hear(pipes[PIPES - 1][IN], "x");
	close_all(set);
	close(fd);
}
