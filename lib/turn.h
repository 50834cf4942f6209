/* SPDX-License-Identifier: MIT */
/*
 * Who may append to the ring of a shared end.  Nearly always that takes some
 * tens of nanoseconds, and for so long a turn is taken by one compare-and-swap
 * and ended by a plain store.  Who needs longer, or comes in vain, holds the
 * end's lock, and with it claims the turn: so of all that wait for a turn, one
 * waits for its word, and the others for the lock.
 *
 * Whoever dies with a turn leaves a good ring behind, and its turn to the next:
 * the kernel writes FUTEX_OWNER_DIED over the id of a thread, and a claim is
 * worth as much as the lock that goes with it.
 *
 *   word                            written by
 *   0                               who ends a turn, or gives up a claim
 *   thread id | FUTEX_WAITERS       that thread
 *   FUTEX_OWNER_DIED | ..           the kernel
 *   TURN_CLAIMED                    who holds the lock
 *
 * FUTEX_WAITERS is always there, so that the kernel always wakes who waits.
 */
#ifndef BUFPIPE_TURN_H
#define BUFPIPE_TURN_H

#include "layout.h"
#include "self.h"

#include <stdbool.h>

/*
 * A turn that ends with turn_end, soon: no system call that sleeps, and no lock
 * in between.  False when another has it, or somebody has waited for long.
 */
static inline bool turn_take(struct turn *turn)
{
	struct self *self = self_get();
	uint32_t nobody = 0;

	/* Relaxed: to see it late only lets the one that waits wait for another turn. */
	if (unlikely(!self || atomic_load_explicit(&turn->awaited, memory_order_relaxed)))
		return false;
	self_vouch(self, &turn->word);
	/* Acquire pairs with the release in turn_end: the ring is as the last one left it. */
	if (likely(atomic_compare_exchange_strong_explicit(&turn->word, &nobody, self->id | FUTEX_WAITERS,
							   memory_order_acquire, memory_order_relaxed)))
		return true;
	self_release(self);
	return false;
}

/* The same, a few times more. */
bool turn_await(struct turn *turn, int64_t deadline);

void turn_wake(struct turn *turn);

/* fence: no membarrier can reach this process. */
static inline void turn_end(struct turn *turn, bool fence)
{
	/* Release pairs with the acquire in turn_take and turn_claim. */
	atomic_store_explicit(&turn->word, 0, memory_order_release);
	/* Orders the store before the load, as in wait_must_ring; pairs with wait_membarrier in turn_claim. */
	if (unlikely(fence))
		atomic_thread_fence(memory_order_seq_cst);
	else
		atomic_signal_fence(memory_order_seq_cst);
	if (unlikely(atomic_load_explicit(&turn->awaited, memory_order_relaxed)))
		turn_wake(turn);
	self_release(&this_thread);
}

/* For who holds the lock of the end, until turn_leave: 0 or, at an absolute time, -ETIMEDOUT. */
int turn_claim(struct turn *turn, int64_t deadline);

static inline void turn_leave(struct turn *turn)
{
	/* Release as in turn_end; nobody sleeps on the word while the lock is ours. */
	atomic_store_explicit(&turn->word, 0, memory_order_release);
}

#endif
