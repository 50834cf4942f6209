/* SPDX-License-Identifier: MIT */
/* How a waiter spins before it sleeps, for how long, and what it learns of it. */
#ifndef BUFPIPE_SYNC_SPIN_H
#define BUFPIPE_SYNC_SPIN_H

#include "sync/wait.h"

/* A step of the wait that ended with nothing: go on with the next. */
#define NOTHING 1

/* How long the first waits will take: short enough to be worth a spin, until we know better. */
#define SPIN_FIRST_GUESS 12500ll

static inline bool changed(const struct look *look)
{
	/* Pairs with the release store of the publisher: what it published is visible. */
	uint64_t moved = (atomic_load_explicit(look->word, memory_order_acquire) ^ look->value) |
			 (atomic_load_explicit(look->own, memory_order_relaxed) ^ look->own_value);

	return moved & ~look->ignore;
}

/* On one CPU: how often to give way before going to sleep. */
#define SPIN_TURNS 2

/* Hints of both sides: where the other side last ran, it cannot run while we, of whom ours tells, spin. */
static inline bool spin_is_here(const struct wait *wait, const struct waiter_state *ours)
{
	return atomic_load_explicit(&wait->theirs->cpu, memory_order_relaxed) ==
	       atomic_load_explicit(&ours->cpu, memory_order_relaxed);
}

/* Leaves the hint where this end runs: see spin_is_here. */
void spin_note_cpu(struct wait *wait);

/*
 * Spins from begin for as long as that pays: 0, -ETIMEDOUT, -EPIPE or NOTHING.  *now
 * becomes the time when it gave up or, nearly, when it succeeded.
 */
int spin_until(struct wait *wait, const struct look *look, int64_t begin, int64_t deadline, int64_t *now);

#endif
