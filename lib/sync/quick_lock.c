/* SPDX-License-Identifier: MIT */
#include "sync/quick_lock.h"

#include "sync/wait.h"

/* How often to come again before going to the lock, */
#define TAKE_ROUNDS 8
/* and with the lock, before others are kept from taking the next turn. */
#define CLAIM_ROUNDS 16
/* How long to sleep without membarriers: then the one that has the turn, which does not fence, may miss that we wait. */
#define BLIND_SLEEP 4000000

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
	sys_futex_wake(&lock->word);
}

/* Nobody's, a dead thread's, or claimed by a holder of the lock before us, who is dead then. */
static bool is_free(uint32_t word)
{
	return !(word & FUTEX_TID_MASK);
}

static bool claim(struct quick_lock *lock)
{
	uint32_t word = atomic_load_explicit(&lock->word, memory_order_relaxed);

	/* Acquire pairs with the release of the last one that had the turn. */
	return is_free(word) &&
	       atomic_compare_exchange_strong_explicit(&lock->word, &word, QUICK_LOCK_CLAIMED,
						       memory_order_acquire, memory_order_relaxed);
}

static bool spin(struct quick_lock *lock, int64_t deadline)
{
	for (int i = 0; i < CLAIM_ROUNDS; i++) {
		if (claim(lock))
			return true;
		if (!backoff_pause(deadline))
			break;
	}
	return false;
}

/* The owner of the turn has been held up: the sleep ends when it goes on, or dies. */
static int sleep_once(struct quick_lock *lock, int64_t deadline)
{
	bool ordered = wait_membarrier();
	uint32_t word = atomic_load_explicit(&lock->word, memory_order_relaxed);
	int64_t now = time_now();
	int64_t until = ordered ? deadline : time_sooner(deadline, now + BLIND_SLEEP);

	if (now >= deadline)
		return -ETIMEDOUT;
	if (!is_free(word))
		sys_futex_wait(&lock->word, word, until);
	return 0;
}

int quick_lock_claim(struct quick_lock *lock, int64_t deadline)
{
	int r = 0;

	if (!spin(lock, deadline)) {
		if (deadline == TIME_TRY)
			return -ETIMEDOUT;
		/* Relaxed: wait_membarrier comes before any sleep. */
		atomic_store_explicit(&lock->awaited, 1, memory_order_relaxed);
		while (r == 0 && !spin(lock, deadline))
			r = sleep_once(lock, deadline);
	}
	/* Also for one that died while it waited. */
	if (atomic_load_explicit(&lock->awaited, memory_order_relaxed))
		atomic_store_explicit(&lock->awaited, 0, memory_order_relaxed);
	return r;
}
