/* SPDX-License-Identifier: MIT */
/* Several threads wait on one end: one of them has the lead, and the others wait for the lead. */
#include "end/record.h"

#include "support.h"

SUITE(record);

static const struct bufpipe_options shared = { .flags = BUFPIPE_SHARED };

struct other {
	bufpipe_t *end;
	_Atomic int begun;
	_Atomic int over;
};

static void lead(void *arg)
{
	struct other *o = arg;

	check_eq(lock_take(o->end->lead_lock, &o->end->lead_habit, TIME_FOREVER), 0);
	atomic_store(&o->begun, 1);
	while (!atomic_load(&o->over))
		sleep_ns(MSEC);
	lock_drop(o->end->lead_lock, &o->end->lead_habit);
}

Test(record, is_found_by_a_waiter_although_another_has_the_lead)
{
	bufpipe_t *ends[2];
	struct other other = { 0 };
	struct thread thread;

	pipe_open(ends, &shared);
	other.end = ends[IN];
	thread_start(&thread, lead, &other);
	while (!atomic_load(&other.begun))
		sched_yield();
	check_eq(record_wait(ends[IN], NULL, time_deadline(MSEC)), -ETIMEDOUT);
	say(ends[OUT], "x");
	check_eq(record_wait(ends[IN], NULL, time_deadline(PLENTY)), 0);
	hear(ends[IN], "x");
	atomic_store(&other.over, 1);
	thread_join(&thread);
	pipe_close(ends);
}

/* The waiter may have seen the message and lost it to others, which are quicker again and again. */
Test(record, is_not_awaited_beyond_the_deadline)
{
	for (unsigned flags = 0; flags <= BUFPIPE_SHARED; flags += BUFPIPE_SHARED) {
		const struct bufpipe_options options = { .flags = flags };
		bufpipe_t *ends[2];

		pipe_open(ends, &options);
		say(ends[OUT], "x");
		check_eq(record_wait(ends[IN], NULL, time_now()), -ETIMEDOUT);
		check_eq(record_wait(ends[IN], NULL, time_deadline(PLENTY)), 0);
		check_eq(record_wait(ends[IN], NULL, TIME_FOREVER), 0);
		pipe_close(ends);
	}
}
