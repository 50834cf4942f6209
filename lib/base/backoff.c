/* SPDX-License-Identifier: MIT */
#include "base/backoff.h"

#include <sched.h>

/*
 * A step that took so long was preempted.  Beside a busy program it takes a slice
 * of the scheduler's, 700 us or more; on a free CPU as long as the other side
 * works until it waits itself: 25 to 50 us for a full buffer of 64 KiB.  Where
 * that takes longer, a sleep costs little beside it.
 */
#define LATE 200000ll
/*
 * How long to believe it: at first, and at most, as each test costs a slice of
 * each busy program.  Learned again soon, it is believed for twice as long.
 */
#define LESSON_FIRST (NSEC_PER_SEC / 4)
#define LESSON_MOST  (16 * NSEC_PER_SEC)
/* With less time than that we do not give up the CPU: several busy programs may have it first. */
#define YIELD_LEFT (NSEC_PER_SEC / 10)

_Thread_local struct backoff this_backoff;

void backoff_learn(int64_t from, int64_t to)
{
	struct backoff *b = &this_backoff;

	if (to - from >= LATE) {
		b->lesson = b->lesson < LESSON_FIRST ? LESSON_FIRST : time_sooner(2 * b->lesson, LESSON_MOST);
		b->until = to + b->lesson;
	} else if (unlikely(b->until) && to - b->until > b->lesson) {
		/* Nothing of the kind for as long as it was believed: forget half of it. */
		b->lesson /= 2;
		b->until = b->lesson < LESSON_FIRST ? 0 : to;
	}
}

bool backoff_give_way(int64_t deadline, int64_t *now)
{
	int64_t before = *now;

	if (backoff_crowded() || deadline - before < YIELD_LEFT)
		return false;
	sched_yield();
	*now = time_now();
	backoff_learn(before, *now);
	return true;
}

bool backoff_pause(int64_t deadline)
{
	enum { PAUSES = 32 }; /* as long as some messages take: each look slows down who works there */
	int64_t now = time_now();

	if (deadline != TIME_TRY && now >= deadline)
		return false;
	/* With more processes than CPUs the co-owner may need this one. */
	backoff_give_way(deadline, &now);
	for (int i = 0; i < PAUSES; i++)
		cpu_relax();
	return true;
}
