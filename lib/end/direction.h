/* SPDX-License-Identifier: MIT */
/*
 * One direction of an end: its wait, and whose turn it is to use its ring.  In
 * an exclusive end it is always ours, and all here comes down to a flag; the
 * holders of a shared end take turns with a lock.
 */
#ifndef BUFPIPE_END_DIRECTION_H
#define BUFPIPE_END_DIRECTION_H

#include "ring/ring.h"
#include "sync/lock.h"
#include "sync/quick_lock.h"
#include "sync/wait.h"

/* Why a direction of an end cannot take the short way through send or recv. */
enum {
	DIRECTION_NONE = 1 << 0,    /* the end does not go this way */
	DIRECTION_SHARED = 1 << 1,  /* there is a lock to take */
	DIRECTION_OPEN = 1 << 2,    /* a reservation or a peek is open */
	DIRECTION_PARTIAL = 1 << 3, /* receiving: half of a long message is in 'partial' */
};

/* The open_len of a direction that is in the middle of a message that goes in parts. */
#define OPEN_IN_PARTS UINT64_MAX

/* One direction.  Lengths of whole messages are valid when (len - shortest) <= span. */
struct direction {
	unsigned state; /* DIRECTION_*; 0 in an end with nothing unusual */
	uint64_t shortest;
	uint64_t span;
	struct wait wait;
	pthread_mutex_t *lock;         /* of co-owners; taken if DIRECTION_SHARED */
	struct lock_habit habit;       /* with it */
	const struct receiver *held;   /* receiving: whose head is held with it, */
	struct quick_lock *quick_lock; /* sending: the turn that is claimed with it */
	_Atomic uint64_t
		refused;        /* sending: the size of the record for which there was no room last; else 0 */
	uint64_t open_len;      /* of the record that is reserved or peeked */
	_Atomic uint32_t owner; /* shared: the thread that has it open */
};

int direction_enter_shared(struct direction *direction, int64_t deadline);
void direction_leave_shared(struct direction *direction);

/* Notes that this thread has the record open; asks; and forgets it. */
void direction_own(struct direction *direction);
bool direction_is_owned(const struct direction *direction);
void direction_disown(struct direction *direction);

/* Makes the turn ours until direction_leave: -EBADF, -EBUSY, or what taking the lock gives. */
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

/* Keeps the turn, with a record of len bytes open; direction_close ends that and leaves. */
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

/* In the middle of a message that this thread sends or receives in parts. */
static inline bool direction_in_parts(const struct direction *direction)
{
	return direction_is_open(direction) && direction->open_len == OPEN_IN_PARTS;
}

/* Ends it, and still keeps the turn. */
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
