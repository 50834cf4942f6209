/* SPDX-License-Identifier: MIT */
/*
 * One direction of an end: its wait, and whose turn it is to use its ring.
 *
 * A thread has the turn between direction_enter and direction_leave; then nobody
 * else uses the ring in this direction.  In a shared end a lock gives the turn.  In
 * an exclusive end the turn is always ours, and only a flag says whether a record is
 * open.  "In our turn" at a function means that its caller has the turn.
 */
#ifndef BUFPIPE_END_DIRECTION_H
#define BUFPIPE_END_DIRECTION_H

#include "ring/ring.h"
#include "sync/lock.h"
#include "sync/quick_lock.h"
#include "sync/wait.h"

/* The reasons why send or recv cannot take the fast path.  0: it can. */
enum {
	DIRECTION_NONE = 1 << 0,    /* the end does not have this direction */
	DIRECTION_SHARED = 1 << 1,  /* there is a lock to take */
	DIRECTION_OPEN = 1 << 2,    /* a reservation or a peek is open */
	DIRECTION_PARTIAL = 1 << 3, /* receiving: the beginning of a long message is in 'partial' */
};

/* The value of open_len in the middle of a message that is sent or received in parts. */
#define OPEN_IN_PARTS UINT64_MAX

/* A length of a whole message is valid if (len - shortest) <= span. */
struct direction {
	unsigned state; /* DIRECTION_*; 0 in an end with nothing unusual */
	uint64_t shortest;
	uint64_t span;
	struct wait wait;
	struct lock *lock;             /* taken if DIRECTION_SHARED */
	struct lock_habit habit;       /* for lock */
	const struct receiver *held;   /* receiving: ring_hold keeps its head while the lock is held */
	struct quick_lock *quick_lock; /* sending: claimed while the lock is held */
	_Atomic uint64_t refused;      /* sending: the size of the record that did not fit; 0: it did */
	uint64_t open_len;             /* the length of the record that is reserved or peeked */
	_Atomic uint32_t owner;        /* shared: the thread that has a record open */
};

int direction_enter_shared(struct direction *direction, int64_t deadline);
void direction_leave_shared(struct direction *direction);

/* Note that this thread has a record open; ask whether it has; and forget it. */
void direction_own(struct direction *direction);
bool direction_is_owned(const struct direction *direction);
void direction_disown(struct direction *direction);

/*
 * Takes the turn until direction_leave: 0; -EBADF if the end does not have this
 * direction; -EBUSY if this thread has a record open; or an error of lock_take.
 */
static inline int direction_enter(struct direction *direction, int64_t deadline)
{
	if (direction->state & DIRECTION_NONE)
		return -EBADF;
	if (unlikely(direction->state & DIRECTION_SHARED))
		return direction_enter_shared(direction, deadline);
	return direction->state & DIRECTION_OPEN ? -EBUSY : 0;
}

static inline void direction_leave(struct direction *direction)
{
	if (unlikely(direction->state & DIRECTION_SHARED))
		direction_leave_shared(direction);
}

/* Keeps the turn after the call, with a record of len bytes open.  direction_close ends this. */
static inline void direction_open(struct direction *direction, uint64_t len)
{
	direction->open_len = len;
	if (unlikely(direction->state & DIRECTION_SHARED))
		direction_own(direction);
	else
		direction->state |= DIRECTION_OPEN;
}

static inline bool direction_is_open(const struct direction *direction)
{
	if (unlikely(direction->state & DIRECTION_SHARED))
		return direction_is_owned(direction);
	return direction->state & DIRECTION_OPEN;
}

/* Whether this thread is in the middle of a message that it sends or receives in parts. */
static inline bool direction_in_parts(const struct direction *direction)
{
	return direction_is_open(direction) && direction->open_len == OPEN_IN_PARTS;
}

/* Closes the record, but keeps the turn. */
static inline void direction_resume(struct direction *direction)
{
	if (unlikely(direction->state & DIRECTION_SHARED))
		direction_disown(direction);
	else
		direction->state &= ~(unsigned)DIRECTION_OPEN;
}

static inline void direction_close(struct direction *direction)
{
	direction_resume(direction);
	direction_leave(direction);
}

#endif
