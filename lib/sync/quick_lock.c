/* SPDX-License-Identifier: MIT */
#include "sync/quick_lock.h"

#include "sync/lock.h"
#include "sync/wait.h"

/* How often to come again before going to the lock, */
#define TAKE_ROUNDS 8
/* and with the lock, before others are kept from taking the next turn. */
#define CLAIM_ROUNDS 16
/* How long to sleep without membarriers: then the one that has the turn, which does not fence, may miss that we wait. */
#define BLIND_SLEEP 4000000
/*
 * And with them: when an owner dies the kernel wakes one that sleeps on the word,
 * and the other side, which can read it, may have put sleepers of its own there.
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

/* Nobody's, a dead thread's, or claimed by a holder of the lock before us, who is dead then. */
static bool is_free(uint32_t word)
{
	return !(word & FUTEX_TID_MASK);
}

/* 0, LOCK_RECOVERED, or -EAGAIN. */
static int claim(struct quick_lock *lock)
{
	uint32_t word = atomic_load_explicit(&lock->word, memory_order_relaxed);

	/* Acquire pairs with the release of the last one that had the turn. */
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

/* The owner of the turn has been held up: the sleep ends when it goes on, or dies. */
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
		/* Relaxed: wait_membarrier comes before any sleep. */
		atomic_store_explicit(&lock->awaited, 1, memory_order_relaxed);
		do
			r = sleep_once(lock, deadline);
		while (r == -EAGAIN && (r = spin(lock, deadline)) == -EAGAIN);
	}
	/* Also for one that died while it waited. */
	if (atomic_load_explicit(&lock->awaited, memory_order_relaxed))
		atomic_store_explicit(&lock->awaited, 0, memory_order_relaxed);
	return r;
}
