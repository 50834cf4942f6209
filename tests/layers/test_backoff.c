/* SPDX-License-Identifier: MIT */
/*
 * When a waiter yields the CPU. It stops where another program wants the CPU, and tests such a CPU again only
 * rarely.
 */
#include "support.h"

#include "base/backoff.h"

SUITE(backoff);

static int yields;
static int64_t yield_takes;
static int late_every; /* one yield in so many takes a millisecond; 0: none does */

/* Replaces the C library's function, so that the test plays the kernel's scheduler. */
int sched_yield(void)
{
	int64_t end = clock_ns() + yield_takes;

	yields++;
	if (late_every && yields % late_every == 0)
		end += MSEC;
	while (clock_ns() < end)
		cpu_relax();
	return 0;
}

static void forget(void)
{
	this_backoff = (struct backoff){ 0 };
	yields = 0;
	yield_takes = 0;
	late_every = 0;
}

/* Makes so many steps. Returns how often they yielded. */
static int give_way(int tries, int64_t deadline)
{
	int before = yields;

	for (int i = 0; i < tries; i++) {
		int64_t now = clock_ns();

		backoff_give_way(deadline, &now);
	}
	return yields - before;
}

Test(backoff, stops_at_the_second_yield_that_comes_back_late)
{
	forget();
	yield_takes = MSEC;
	check_eq(give_way(1000, TIME_FOREVER), 2);
	check(backoff_crowded());
}

/* Beside a busy program an answer takes two yields, and one of the two comes back late. */
Test(backoff, stops_where_every_second_yield_comes_back_late)
{
	forget();
	late_every = 2;
	check_eq(give_way(1000, TIME_FOREVER), 4);
	check(backoff_crowded());
}

/*
 * A control group that has used up its CPU time is stopped for as long in a sleep as in a yield. So a rare late
 * yield is no reason to stop yielding.
 */
Test(backoff, goes_on_yielding_where_a_rare_yield_comes_back_late)
{
	forget();
	late_every = 100;
	check_eq(give_way(1000, TIME_FOREVER), 1000);
	check(!backoff_crowded());
}

Test(backoff, does_not_give_way_when_there_is_little_time)
{
	forget();
	check_eq(give_way(10, clock_ns() + 50 * MSEC), 0);
	check_eq(give_way(10, TIME_TRY), 0);
	check(give_way(10, clock_ns() + PLENTY) > 0);
}

Test(backoff, pauses_without_giving_way_where_another_program_wants_the_cpu)
{
	forget();
	backoff_learn(clock_ns() - MSEC, clock_ns());
	for (int i = 0; i < 1000; i++)
		check(backoff_pause(TIME_FOREVER));
	check_eq(yields, 0);
	check(!backoff_pause(clock_ns() - 1));
}

/* In the tests that follow, time passes only in the arguments. */

Test(backoff, learns_from_one_late_yield_and_not_from_quick_ones)
{
	int64_t now = SEC;

	forget();
	for (int i = 0; i < 1000; i++, now += 50 * USEC)
		backoff_learn(now, now + 50 * USEC);
	check_eq(this_backoff.until, 0);
	backoff_learn(now, now + MSEC);
	check(this_backoff.until > now + 100 * MSEC);
}

/* A busy program that never ends. Each test of the CPU costs a millisecond. */
Test(backoff, tests_a_cpu_that_stays_busy_less_than_once_in_ten_seconds)
{
	int64_t now = SEC;
	int64_t end = now + 600 * SEC;
	int tests = 0;

	forget();
	while (now < end) {
		backoff_learn(now, now + MSEC);
		now = this_backoff.until + 1;
		tests++;
	}
	check(tests > 5);
	check(tests < 60);
}

Test(backoff, forgets_a_busy_cpu_only_after_it_was_quiet_for_as_long)
{
	int64_t now = SEC;
	int64_t last;

	forget();
	for (int i = 0; i < 4; i++) {
		backoff_learn(now, now + MSEC);
		now = this_backoff.until;
	}
	last = this_backoff.lesson;
	/* From here on every yield returns quickly. */
	for (int64_t end = now + last / 2; now < end; now += MSEC)
		backoff_learn(now, now + USEC);
	check_eq(this_backoff.lesson, last);
	for (int64_t end = now + 3 * last; now < end; now += MSEC)
		backoff_learn(now, now + USEC);
	check_eq(this_backoff.until, 0);
}

static void crowd_another(void *arg)
{
	(void)arg;
	backoff_learn(SEC, 2 * SEC);
}

Test(backoff, is_learned_by_each_thread_for_itself)
{
	struct thread thread;

	forget();
	thread_start(&thread, crowd_another, NULL);
	thread_join(&thread);
	check_eq(this_backoff.until, 0);
}
