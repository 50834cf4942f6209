/* SPDX-License-Identifier: MIT */
/*
 * The robust lock with which the co-owners of a shared end exclude each other.  It
 * is in the end's own region, which the other side cannot write.  When its owner
 * dies, the kernel passes it on.  So the data under the lock must be consistent at
 * every instruction, or be repaired when it is next used.
 */
#ifndef BUFPIPE_SYNC_LOCK_H
#define BUFPIPE_SYNC_LOCK_H

#include "memory/layout.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>

/* What one process knows about a lock. */
struct lock_habit {
	_Atomic uint32_t rounds;  /* the looks that were needed on average before it was free, in eighths */
	_Atomic uint32_t takes;   /* how many times the lock was found taken */
	struct lock_owner *owner; /* NULL: a lock that nobody waits for, or that need not be healed */
	/* See heal.c. */
	_Atomic uint32_t process; /* the process that enrolled */
	_Atomic uint64_t seen;    /* the hold that was seen in the last look, */
	_Atomic int64_t seen_at;  /* when, */
	_Atomic uint32_t gone;    /* and whether its owner did not exist then */
};

int lock_init(struct lock *lock);

/* The lock was taken, and its last owner has died.  That owner may have published a record and not rung. */
#define LOCK_RECOVERED 1

/* Does not wait: 0, LOCK_RECOVERED or -EAGAIN. */
int lock_try(struct lock *lock, struct lock_habit *habit);

/* Spins for as long as this pays, then sleeps until the deadline: 0, LOCK_RECOVERED or -ETIMEDOUT. */
int lock_take(struct lock *lock, struct lock_habit *habit, int64_t deadline);

void lock_drop(struct lock *lock, const struct lock_habit *habit);

#endif
