/* SPDX-License-Identifier: MIT */
#include "lock.h"

#include "sys.h"
#include "wait.h"

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
	enum { ROUNDS = 100 };
	struct timespec until;
	int r;

	for (int i = 0; i < ROUNDS; i++) {
		r = lock_try(lock);
		if (r != -EAGAIN)
			return r;
		for (int pause = 0; pause < 4; pause++)
			wait_relax();
	}
	if (deadline == TIME_FOREVER)
		return settle(lock, pthread_mutex_lock(lock));
	until = time_spec(deadline);
	return settle(lock, pthread_mutex_clocklock(lock, CLOCK_MONOTONIC, &until));
}

void lock_drop(pthread_mutex_t *lock)
{
	pthread_mutex_unlock(lock);
}
