/* SPDX-License-Identifier: MIT */
#include "sync/quick_lock.h"

#include "sync/lock.h"
#include "sync/wait.h"

/* How often to try the quick lock again before taking the robust lock. */
#define TAKE_ROUNDS 8
/* How often to try with the robust lock held, before other co-owners are kept from taking the quick lock. */
#define CLAIM_ROUNDS 16
/* The longest sleep without membarriers: then the owner, which does not fence, may not see that we wait. */
#define BLIND_SLEEP 4000000
/*
 * The longest sleep with membarriers.  It is limited because the kernel wakes only
 * one sleeper when the owner dies, and a hostile peer, which can read the word, may
 * have put sleepers of its own on it.
 */
#define SLICE (2 * NSEC_PER_SEC)

bool quick_lock_retry(struct quick_lock *lock, int64_t deadline)
{
	if (!thread_self())
		return false;
	for (int i = 0; i < TAKE_ROUNDS && backoff_pause(deadline); i++) {
		if (quick_lock_try(lock))
			return true;
	}
	return false;
}

void quick_lock_wake(struct quick_lock *lock)
{
	sys_futex_wake(&lock->word, FUTEX_MANY);
}

/*
 * Free, marked by the kernel for a dead thread, or claimed by an owner of the robust lock before
 * us, now dead.
 */
static bool is_free(uint32_t word)
{
	return !(word & FUTEX_TID_MASK);
}

/* 0, LOCK_RECOVERED, or -EAGAIN. */
static int claim(struct quick_lock *lock)
{
	uint32_t word = atomic_load_explicit(&lock->word, memory_order_relaxed);

	/* Acquire pairs with the release in quick_lock_release and quick_lock_unclaim. */
	if (!is_free(word) ||
	    !atomic_compare_exchange_strong_explicit(&lock->word, &word, QUICK_LOCK_CLAIMED,
						     memory_order_acquire, memory_order_relaxed))
		return -EAGAIN;
	return word ? LOCK_RECOVERED : 0;
}

static int spin(struct quick_lock *lock, int64_t deadline)
{
	int r = -EAGAIN;

	for (int i = 0; i < CLAIM_ROUNDS; i++) {
		r = claim(lock);
		if (r != -EAGAIN || !backoff_pause(deadline))
			break;
	}
	return r;
}

/* The owner is taking long, most likely preempted.  Sleeps until it releases the quick lock or dies. */
static int sleep_once(struct quick_lock *lock, int64_t deadline)
{
	bool ordered = wait_membarrier();
	uint32_t word = atomic_load_explicit(&lock->word, memory_order_relaxed);
	int64_t now = time_now();
	int64_t until = time_sooner(deadline, now + (ordered ? SLICE : BLIND_SLEEP));

	if (now >= deadline)
		return -ETIMEDOUT;
	if (!is_free(word))
		sys_futex_wait(&lock->word, word, until);
	return -EAGAIN;
}

int quick_lock_claim(struct quick_lock *lock, int64_t deadline)
{
	int r = spin(lock, deadline);

	if (r == -EAGAIN) {
		if (deadline == TIME_TRY)
			return -ETIMEDOUT;
		/* Relaxed: wait_membarrier follows before each sleep. */
		atomic_store_explicit(&lock->awaited, 1, memory_order_relaxed);
		do
			r = sleep_once(lock, deadline);
		while (r == -EAGAIN && (r = spin(lock, deadline)) == -EAGAIN);
	}
	/* Also if another waiter died and left it set. */
	if (atomic_load_explicit(&lock->awaited, memory_order_relaxed))
		atomic_store_explicit(&lock->awaited, 0, memory_order_relaxed);
	return r;
}
