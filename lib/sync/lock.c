/* SPDX-License-Identifier: MIT */
#include "sync/lock.h"

#include "base/backoff.h"
#include "base/sys.h"

#define SLICE (2 * NSEC_PER_SEC)

int lock_init(pthread_mutex_t *lock)
{
	pthread_mutexattr_t attributes;
	int r;

	pthread_mutexattr_init(&attributes);
	r = pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
	if (!r)
		r = pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST);
	if (!r)
		r = pthread_mutex_init(lock, &attributes);
	pthread_mutexattr_destroy(&attributes);
	return -r;
}

/* The owner died.  Nothing needs repair: the data under these locks is consistent at every instruction. */
static int settle(pthread_mutex_t *lock, int error)
{
	if (error != EOWNERDEAD)
		return -error;
	error = pthread_mutex_consistent(lock);
	return error ? -error : LOCK_RECOVERED;
}

int lock_try(pthread_mutex_t *lock)
{
	int r = settle(lock, pthread_mutex_trylock(lock));

	return r == -EBUSY ? -EAGAIN : r;
}

/*
 * Most owners hold it for less than a sleep costs; who waits with it for the
 * other side does not.  So it is looked at twice as often as it took lately,
 * and now and then as often as is worth it at all, to see whether that changed.
 */
static uint32_t rounds_worth(struct lock_habit *habit)
{
	enum { MOST = 16, LEAST = 2, TRY_EVERY = 16 };
	uint32_t takes = atomic_load_explicit(&habit->takes, memory_order_relaxed);
	uint32_t rounds = LEAST + atomic_load_explicit(&habit->rounds, memory_order_relaxed) / 4;

	/* Only an estimate, which the threads of a process share: a lost step does no harm. */
	atomic_store_explicit(&habit->takes, takes + 1, memory_order_relaxed);
	return takes % TRY_EVERY == 0 || rounds > MOST ? MOST : rounds;
}

static void learn(struct lock_habit *habit, uint32_t rounds)
{
	uint32_t average = atomic_load_explicit(&habit->rounds, memory_order_relaxed);

	atomic_store_explicit(&habit->rounds, average - average / 8 + rounds, memory_order_relaxed);
}

static int spin(pthread_mutex_t *lock, struct lock_habit *habit, int64_t deadline)
{
	uint32_t most = rounds_worth(habit);
	int r;

	for (uint32_t i = 0; i < most; i++) {
		if (!backoff_pause(deadline))
			return -ETIMEDOUT;
		r = lock_try(lock);
		if (r != -EAGAIN) {
			learn(habit, i);
			return r;
		}
	}
	learn(habit, 0); /* to look at it was in vain */
	return -EAGAIN;
}

int lock_take(pthread_mutex_t *lock, struct lock_habit *habit, int64_t deadline)
{
	struct timespec until;
	int64_t slice;
	int r = lock_try(lock);

	if (r == -EAGAIN)
		r = spin(lock, habit, deadline);
	if (r == -EAGAIN && deadline == TIME_TRY)
		return -ETIMEDOUT;
	if (r != -EAGAIN)
		return r;
	/*
	 * Not for ever at once.  An owner that dies between freeing the lock and
	 * waking the next, while a third takes it, leaves the sleeper asleep: the
	 * kernel finds a lock that is not the dead one's, the third sees no waiter.
	 */
	do {
		slice = time_sooner(deadline, time_now() + SLICE);
		until = time_spec(slice);
		r = settle(lock, pthread_mutex_clocklock(lock, CLOCK_MONOTONIC, &until));
	} while (r == -ETIMEDOUT && slice < deadline);
	return r;
}

void lock_drop(pthread_mutex_t *lock)
{
	pthread_mutex_unlock(lock);
}
