/* SPDX-License-Identifier: MIT */
#include "base/backoff.h"

#include <sched.h>

/*
 * A step that takes longer than this was preempted by another program.  Beside a
 * busy program a step takes a time slice of the scheduler, 700 us or more.  On a
 * free CPU it takes as long as the other side works before it waits itself: 25
 * to 50 us for a full buffer of 64 KiB.  If the other side works for longer, a
 * sleep costs little in comparison.
 */
#define LATE 200000ll
/*
 * For how long the thread treats its CPU as crowded after it was preempted: the
 * first time, and at most.  The time doubles when the thread is preempted again
 * soon after.  To test again costs one time slice of each busy program.
 */
#define LESSON_FIRST (NSEC_PER_SEC / 4)
#define LESSON_MOST  (16 * NSEC_PER_SEC)
/*
 * A late yield counts only if one of this many yields before it was late too.  Beside a busy
 * program every second or third yield is late.  If a control group has used up its CPU time, or
 * the host of a virtual machine ran something else, one yield of thousands is late.  A sleep
 * would have been as late, so yielding still pays.
 */
#define DOUBT 8
/* With less time left than this we do not yield: several busy programs may run before we do. */
#define YIELD_LEFT (NSEC_PER_SEC / 10)

_Thread_local struct backoff this_backoff;

void backoff_learn(int64_t from, int64_t to)
{
	struct backoff *b = &this_backoff;

	if (to - from >= LATE) {
		b->lesson = b->lesson < LESSON_FIRST ? LESSON_FIRST : time_sooner(2 * b->lesson, LESSON_MOST);
		b->until = to + b->lesson;
	} else if (unlikely(b->until) && to - b->until > b->lesson) {
		/* The thread was not preempted for as long as the last lesson lasted: halve the lesson. */
		b->lesson /= 2;
		b->until = b->lesson < LESSON_FIRST ? 0 : to;
	}
}

/* Learns from one yield. */
static void learn_from_yield(int64_t from, int64_t to)
{
	struct backoff *b = &this_backoff;

	if (to - from < LATE) {
		b->doubt -= b->doubt > 0;
	} else if (!b->doubt) {
		b->doubt = DOUBT;
		return;
	}
	backoff_learn(from, to);
}

bool backoff_give_way(int64_t deadline, int64_t *now)
{
	int64_t before = *now;

	if (backoff_crowded() || deadline - before < YIELD_LEFT)
		return false;
	sched_yield();
	*now = time_now();
	learn_from_yield(before, *now);
	return true;
}

bool backoff_pause(int64_t deadline)
{
	/* About the time of a few messages.  More frequent looks would slow down the owner of the lock. */
	enum { PAUSES = 32 };
	int64_t now = time_now();

	if (deadline != TIME_TRY && now >= deadline)
		return false;
	/* With more processes than CPUs the co-owner may need this one. */
	backoff_give_way(deadline, &now);
	for (int i = 0; i < PAUSES; i++)
		cpu_relax();
	return true;
}
