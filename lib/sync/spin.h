/* SPDX-License-Identifier: MIT */
/* How a waiter spins before it sleeps, for how long, and what it learns from it. */
#ifndef BUFPIPE_SYNC_SPIN_H
#define BUFPIPE_SYNC_SPIN_H

#include "sync/wait.h"

/* A step of a wait returns this when nothing has happened: go on with the next step. */
#define NOTHING 1

/* The first estimate of how long a wait takes, in nanoseconds.  It is short enough for a spin. */
#define SPIN_FIRST_GUESS 12500ll

static inline bool changed(const struct look *look)
{
	/* Acquire pairs with the release store of the publisher: what it published is visible. */
	uint64_t difference = (atomic_load_explicit(look->word, memory_order_acquire) ^ look->value) |
			      (atomic_load_explicit(look->own, memory_order_relaxed) ^ look->own_value);

	return difference & ~look->ignore;
}

/* How often to yield before sleeping, if both sides run on one CPU. */
#define SPIN_TURNS 2

/*
 * Whether both sides last ran on the same CPU, according to their hints.  Then one cannot run
 * while the other spins.
 */
static inline bool spin_is_here(const struct wait *wait, const struct waiter_state *ours)
{
	return atomic_load_explicit(&wait->theirs->cpu, memory_order_relaxed) ==
	       atomic_load_explicit(&ours->cpu, memory_order_relaxed);
}

/* Stores on which CPU this end runs, for spin_is_here. */
void spin_note_cpu(struct wait *wait);

/*
 * Spins from the time begin for as long as this pays: 0, -ETIMEDOUT, -EPIPE or
 * NOTHING.  *now becomes the time at the end; after success it may be a few looks old.
 */
int spin_until(struct wait *wait, const struct look *look, int64_t begin, int64_t deadline, int64_t *now);

#endif
