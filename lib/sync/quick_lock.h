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
 *   QUICK_LOCK_CLAIMED                    who holds the lock
 *
 * FUTEX_WAITERS is always there, so that the kernel always wakes who waits.
 */
#ifndef BUFPIPE_SYNC_QUICK_LOCK_H
#define BUFPIPE_SYNC_QUICK_LOCK_H

#include "base/thread.h"
#include "memory/layout.h"

#include <stdbool.h>

/*
 * A turn that ends with quick_lock_release, soon: no system call that sleeps, and no lock
 * in between.  False when another has it, or somebody has waited for long.
 */
static inline bool quick_lock_try(struct quick_lock *lock)
{
	struct thread_self *self = thread_self();
	uint32_t nobody = 0;

	/* Relaxed: to see it late only lets the one that waits wait for another turn. */
	if (unlikely(!self || atomic_load_explicit(&lock->awaited, memory_order_relaxed)))
		return false;
	thread_vouch(self, &lock->word);
	/* Acquire pairs with the release in quick_lock_release: the ring is as the last one left it. */
	if (likely(atomic_compare_exchange_strong_explicit(&lock->word, &nobody, self->id | FUTEX_WAITERS,
							   memory_order_acquire, memory_order_relaxed)))
		return true;
	thread_release(self);
	return false;
}

/* The same, a few times more. */
bool quick_lock_retry(struct quick_lock *lock, int64_t deadline);

void quick_lock_wake(struct quick_lock *lock);

/* fence: no membarrier can reach this process. */
static inline void quick_lock_release(struct quick_lock *lock, bool fence)
{
	/* Release pairs with the acquire in quick_lock_try and quick_lock_claim. */
	atomic_store_explicit(&lock->word, 0, memory_order_release);
	/* Orders the store before the load, as in wait_must_ring; pairs with wait_membarrier in quick_lock_claim. */
	if (unlikely(fence))
		atomic_thread_fence(memory_order_seq_cst);
	else
		atomic_signal_fence(memory_order_seq_cst);
	if (unlikely(atomic_load_explicit(&lock->awaited, memory_order_relaxed)))
		quick_lock_wake(lock);
	thread_release(&this_thread);
}

/*
 * For who holds the lock of the end, until quick_lock_unclaim: 0, LOCK_RECOVERED from one
 * that died in its turn, or, at an absolute time, -ETIMEDOUT.
 */
int quick_lock_claim(struct quick_lock *lock, int64_t deadline);

static inline void quick_lock_unclaim(struct quick_lock *lock)
{
	/* Release as in quick_lock_release; nobody sleeps on the word while the lock is ours. */
	atomic_store_explicit(&lock->word, 0, memory_order_release);
}

#endif
