/* SPDX-License-Identifier: MIT */
/*
 * What to do between two looks at a word that another thread is about to change.
 *
 * A spin keeps this CPU from others; sched_yield gives it away until all others
 * had their turn.  Both are worth it on a free CPU only, so each is timed: one
 * that took much longer than a sleep was preempted, as another program wants
 * this CPU.  The thread learns that at once, and until it has forgotten it no
 * longer yields, and spins only for what costs less CPU time than a sleep.  See
 * docs/waiting.md, section 5.
 */
#ifndef BUFPIPE_BASE_BACKOFF_H
#define BUFPIPE_BASE_BACKOFF_H

#include "base/sys.h"

#include <stdbool.h>

/* What this thread has learned of its CPU.  A child of fork goes on with its parent's. */
struct backoff {
	int64_t until;  /* another program wants this CPU, at least until then; 0: not that we know */
	int64_t lesson; /* for how long we believed that last */
};

/* Small enough for the static block, also of a library that is loaded late. */
extern _Thread_local struct backoff this_backoff
	__attribute__((tls_model("initial-exec"), visibility("hidden")));

/* For an instant: it costs the thread that shares this core, and the bus, less than a look. */
static inline void cpu_relax(void)
{
#if defined(__x86_64__)
	__builtin_ia32_pause();
#elif defined(__aarch64__)
	__asm__ volatile("isb" ::: "memory");
#else
	atomic_signal_fence(memory_order_seq_cst);
#endif
}

/* Learns from a step of a spin, or a yield, that lasted from one time to another. */
void backoff_learn(int64_t from, int64_t to);

/* Whether another program wants this CPU, as far as this thread knows. */
static inline bool backoff_crowded(void)
{
	return unlikely(this_backoff.until) && time_of(CLOCK_MONOTONIC_COARSE) < this_backoff.until;
}

/*
 * Lets others have this CPU once.  *now is the time, before and after.  False,
 * and nothing is done, where that would not pay, or could last longer than until
 * the deadline.
 */
bool backoff_give_way(int64_t deadline, int64_t *now);

/*
 * Between two looks at a lock that a co-owner frees soon: gives way, where that
 * pays, and pauses.  False when the time is up; of a try it never is.
 */
bool backoff_pause(int64_t deadline);

#endif
