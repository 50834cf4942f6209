/* SPDX-License-Identifier: MIT */
/*
 * The quick lock: its owner may append to the ring of a shared end.  A send nearly
 * always takes some tens of nanoseconds.  So the lock is taken by one
 * compare-and-swap and released by a plain store.  A sender that needs longer, or
 * that finds the quick lock taken for long, first takes the robust lock of the end
 * (send_lock) and then claims the quick lock.  So of all waiting senders one waits
 * for the word of the quick lock, and the others wait for the robust lock.
 *
 * If the owner dies, the ring is consistent and the lock goes to the next sender.
 * The kernel replaces the id of a dead thread by FUTEX_OWNER_DIED.  A claim is valid
 * only while its owner holds the robust lock, so the next owner of that takes it over.
 *
 *   word                        written by
 *   0                           the owner, when it releases the lock or gives up a claim
 *   thread id | FUTEX_WAITERS   that thread
 *   FUTEX_OWNER_DIED | ..       the kernel
 *   QUICK_LOCK_CLAIMED          the owner of the robust lock
 *
 * FUTEX_WAITERS is always set, so that the kernel always wakes a sleeper.
 */
#ifndef BUFPIPE_SYNC_QUICK_LOCK_H
#define BUFPIPE_SYNC_QUICK_LOCK_H

#include "base/thread.h"
#include "memory/layout.h"

#include <stdbool.h>

/*
 * Takes the quick lock until quick_lock_release.  The owner must release it soon: no
 * system call that sleeps, and no other lock, in between.  Returns false if another
 * sender has the lock, or if somebody has been waiting for it for long.
 */
static inline bool quick_lock_try(struct quick_lock *lock)
{
	struct thread_self *self = thread_self();
	uint32_t nobody = 0;

	/* Relaxed: if we see it late, the waiter only waits for one more send. */
	if (unlikely(!self || atomic_load_explicit(&lock->awaited, memory_order_relaxed)))
		return false;
	thread_vouch(self, &lock->word);
	/* Acquire pairs with the release in quick_lock_release: we see the ring as the last owner left it. */
	if (likely(atomic_compare_exchange_strong_explicit(&lock->word, &nobody, self->id | FUTEX_WAITERS,
							   memory_order_acquire, memory_order_relaxed)))
		return true;
	thread_release(self);
	return false;
}

/* Calls quick_lock_try a few more times, with pauses. */
bool quick_lock_retry(struct quick_lock *lock, int64_t deadline);

void quick_lock_wake(struct quick_lock *lock);

/* fence: membarriers do not reach this process, so it needs a fence of its own. */
static inline void quick_lock_release(struct quick_lock *lock, bool fence)
{
	/* Release pairs with the acquire in quick_lock_try and quick_lock_claim. */
	atomic_store_explicit(&lock->word, 0, memory_order_release);
	/*
	 * Orders the store before the load, as in wait_must_ring; pairs with wait_membarrier in
	 * quick_lock_claim.
	 */
	if (unlikely(fence))
		atomic_thread_fence(memory_order_seq_cst);
	else
		atomic_signal_fence(memory_order_seq_cst);
	if (unlikely(atomic_load_explicit(&lock->awaited, memory_order_relaxed)))
		quick_lock_wake(lock);
	thread_release(&this_thread);
}

/*
 * Takes the quick lock until quick_lock_unclaim.  The caller holds the robust lock.
 * 0, LOCK_RECOVERED if the last owner died, or -ETIMEDOUT at the deadline.
 */
int quick_lock_claim(struct quick_lock *lock, int64_t deadline);

static inline void quick_lock_unclaim(struct quick_lock *lock)
{
	/* Release as in quick_lock_release.  Nobody sleeps on the word while we hold the robust lock. */
	atomic_store_explicit(&lock->word, 0, memory_order_release);
}

#endif
