/* SPDX-License-Identifier: MIT */
/*
 * The lock by which the co-owners of a shared end take turns.  It lives in
 * the end's own region, which the other side cannot write.  When its owner
 * dies, the kernel passes it on: what it guards must be good at every
 * instruction, or mend itself when it is next used.
 */
#ifndef BUFPIPE_SYNC_LOCK_H
#define BUFPIPE_SYNC_LOCK_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>

/* How one process has fared with a lock: what it has learned of how long to look again before it sleeps. */
struct lock_habit {
	_Atomic uint32_t rounds; /* that it took, on average, in eighths */
	_Atomic uint32_t takes;  /* counts those that found it taken */
};

int lock_init(pthread_mutex_t *lock);

/* Taken from an owner that died: it may have published something and not rung. */
#define LOCK_RECOVERED 1

/* Without waiting: 0, LOCK_RECOVERED or -EAGAIN. */
int lock_try(pthread_mutex_t *lock);

/* Spins for as long as that pays, then sleeps: 0, LOCK_RECOVERED or, at an absolute time, -ETIMEDOUT. */
int lock_take(pthread_mutex_t *lock, struct lock_habit *habit, int64_t deadline);

void lock_drop(pthread_mutex_t *lock);

#endif
