/* SPDX-License-Identifier: MIT */
/*
 * A lock whose owner no longer exists, although the kernel did not notice.
 *
 * The kernel passes a robust lock on when its owner dies.  It compares the id in the lock
 * with that of the dying thread, so it misses two cases: a thread that is not the first of
 * its process calls execve, which gives it another id; and a child that was made by a bare
 * clone dies, whose C library still uses the id of its parent.  So each owner notes its
 * real id, and a thread that waits for long asks the kernel whether that thread exists.
 */
#ifndef BUFPIPE_SYNC_HEAL_H
#define BUFPIPE_SYNC_HEAL_H

#include "base/thread.h"
#include "sync/lock.h"

#include <stdbool.h>

/* The fields of holder.  An id has at most 22 bits in every configuration of the kernel. */
#define HEAL_ID_BITS  22
#define HEAL_ONE_DROP ((uint64_t)1 << 2 * HEAL_ID_BITS)
#define HEAL_BOTH_IDS (HEAL_ONE_DROP - 1)

void heal_enroll_process(struct lock_habit *habit, uint32_t process);

/* Before a process takes the lock for the first time: notes in which pid namespace its ids are valid. */
static inline void heal_enroll(struct lock_habit *habit, const struct thread_self *self)
{
	uint32_t process = likely(self) ? self->process : thread_process();

	/* Relaxed: a second enrolment of the same process does no harm. */
	if (unlikely(atomic_load_explicit(&habit->process, memory_order_relaxed) != process))
		heal_enroll_process(habit, process);
}

/* The id of this thread, and that in its locks. */
uint64_t heal_ids(const struct lock *lock);

/* Called by the owner when it has taken the lock. */
static inline void heal_note(const struct lock *lock, struct lock_owner *owner,
			     const struct thread_self *self)
{
	uint64_t ids;

	if (!owner)
		return;
	ids = likely(self) ? (uint64_t)self->id << HEAL_ID_BITS | self->id : heal_ids(lock);
	/* Relaxed: a thread that sees it early or late is not sure, and looks again later. */
	atomic_store_explicit(&owner->holder,
			      (atomic_load_explicit(&owner->holder, memory_order_relaxed) & ~HEAL_BOTH_IDS) |
				      ids,
			      memory_order_relaxed);
}

/* Called by the owner before it drops the lock. */
static inline void heal_forget(struct lock_owner *owner)
{
	uint64_t drops;

	if (!owner)
		return;
	drops = atomic_load_explicit(&owner->holder, memory_order_relaxed) & ~HEAL_BOTH_IDS;
	/* The mutex is dropped after this, with release: a thread that sees the id of the next owner there sees this. */
	atomic_store_explicit(&owner->holder, drops + HEAL_ONE_DROP, memory_order_relaxed);
}

/*
 * Called from time to time by a thread that waits for the lock, or tries in vain.  True if the
 * lock was taken from an owner that does not exist: then the next one that takes it recovers it.
 */
bool heal(struct lock *lock, struct lock_habit *habit);

#endif
