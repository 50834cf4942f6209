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
 * How often to look at the lock before sleeping.  Most owners hold it for a shorter
 * time than a sleep costs, but an owner that waits for the other side holds it for
 * long.  So the limit is twice the number of looks that were needed lately.  One take
 * in TRY_EVERY uses the full limit, to notice when the habit has changed.
 */
static uint32_t rounds_worth(struct lock_habit *habit)
{
	enum { MOST = 16, LEAST = 2, TRY_EVERY = 16 };
	uint32_t takes = atomic_load_explicit(&habit->takes, memory_order_relaxed);
	uint32_t rounds = LEAST + atomic_load_explicit(&habit->rounds, memory_order_relaxed) / 4;

	/* This is only an estimate, which the threads of a process share.  A lost update does no harm. */
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
	learn(habit, 0); /* the looks were in vain: do fewer next time */
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
	 * Sleep in slices, because a wake-up can be lost: the owner frees the lock and dies
	 * before it wakes the sleeper, and a third process takes the lock in between.  The
	 * kernel then finds a lock that the dead owner does not hold, and the third process
	 * does not know that somebody sleeps.
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
