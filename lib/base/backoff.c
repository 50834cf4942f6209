/* SPDX-License-Identifier: MIT */
#include "base/backoff.h"

#include <sched.h>

/* Who has less time than that does not give up the CPU. */
#define YIELD_LEFT (NSEC_PER_SEC / 10)

bool backoff_yield(int64_t deadline)
{
	enum { PAUSES = 32 }; /* as long as some messages take: each look slows down who works there */
	int64_t left = deadline;

	if (deadline != TIME_TRY && deadline != TIME_FOREVER) {
		left = deadline - time_now();
		if (left <= 0)
			return false;
	}
	/* With more processes than CPUs it may need this one; but it comes back after the turns of all others. */
	if (left >= YIELD_LEFT)
		sched_yield();
	for (int i = 0; i < PAUSES; i++)
		cpu_relax();
	return true;
}
