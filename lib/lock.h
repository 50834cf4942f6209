/* SPDX-License-Identifier: MIT */
/*
 * The lock by which the co-owners of a shared end take turns.  It lives in
 * the end's own region, which the other side cannot write.  When its owner
 * dies, the kernel passes it on: what it guards must be good at every
 * instruction, or mend itself when it is next used.
 */
#ifndef BUFPIPE_LOCK_H
#define BUFPIPE_LOCK_H

#include <pthread.h>
#include <stdint.h>

int lock_init(pthread_mutex_t *lock);

/* Without waiting: 0 or -EAGAIN. */
int lock_try(pthread_mutex_t *lock);

/* Spins for a moment, then sleeps: 0 or, at an absolute time, -ETIMEDOUT. */
int lock_take(pthread_mutex_t *lock, int64_t deadline);

void lock_drop(pthread_mutex_t *lock);

#endif
