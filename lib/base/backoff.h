/* SPDX-License-Identifier: MIT */
/*
 * What to do between two looks at a word that another thread is about to change.
 *
 * A spin keeps the CPU from other threads.  sched_yield gives the CPU away until
 * all other threads have run.  Both pay only on a CPU that nobody else wants, so
 * the library times each step.  A step of a spin that took much longer than a sleep
 * was preempted by another program, and so were two of a few yields that did.  The
 * thread remembers this for a while: it stops yielding, and it spins only for as long
 * as a sleep would cost in CPU time.  See docs/waiting.md, section 5.
 */
#ifndef BUFPIPE_BASE_BACKOFF_H
#define BUFPIPE_BASE_BACKOFF_H

#include "base/sys.h"

#include <stdbool.h>

/* What this thread knows about its CPU.  A child of fork starts with what its parent knew. */
struct backoff {
	int64_t until;  /* the CPU counts as crowded until this time; 0: it does not */
	int64_t lesson; /* for how long it counted as crowded the last time */
	int doubt;      /* a yield was late: for how many more yields to remember that */
};

/* initial-exec: this is small enough for the static TLS block, even if the library is loaded by dlopen. */
extern _Thread_local struct backoff this_backoff
	__attribute__((tls_model("initial-exec"), visibility("hidden")));

/* Pauses for an instant.  This costs the other thread of the core, and the bus, less than another look. */
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

/* Learns from one step of a spin, which lasted from one time to the other. */
void backoff_learn(int64_t from, int64_t to);

/* Whether another program wants this CPU, as far as this thread knows. */
static inline bool backoff_crowded(void)
{
	return unlikely(this_backoff.until) && time_of(CLOCK_MONOTONIC_COARSE) < this_backoff.until;
}

/*
 * Yields the CPU once and updates *now.  Does nothing and returns false if the
 * CPU is crowded, or if a yield could last beyond the deadline.
 */
bool backoff_give_way(int64_t deadline, int64_t *now);

/*
 * Waits between two looks at a lock that a co-owner frees soon: yields if that
 * pays, then pauses.  Returns false when the deadline has passed, but never for
 * TIME_TRY.
 */
bool backoff_pause(int64_t deadline);

#endif
