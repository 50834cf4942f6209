/* SPDX-License-Identifier: MIT */
#include "lock.h"

#include "sys.h"
#include "wait.h"

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

/* The owner died: nothing to repair, because what a lock guards is good at every instruction. */
static int settle(pthread_mutex_t *lock, int error)
{
	if (error == EOWNERDEAD)
		error = pthread_mutex_consistent(lock);
	return -error;
}

int lock_try(pthread_mutex_t *lock)
{
	int r = settle(lock, pthread_mutex_trylock(lock));

	return r == -EBUSY ? -EAGAIN : r;
}

int lock_take(pthread_mutex_t *lock, int64_t deadline)
{
	/* Most owners hold it for some tens of nanoseconds; a sleep costs a thousand times that. */
	enum { ROUNDS = 16 };
	struct timespec until;
	int64_t slice;
	int r;

	for (int i = 0; i < ROUNDS; i++) {
		r = lock_try(lock);
		if (r != -EAGAIN)
			return r;
		wait_give_way(deadline);
	}
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
