/* SPDX-License-Identifier: MIT */
/*
 * One direction of an end: its wait, and whose turn it is to use its ring.  In
 * an exclusive end it is always ours, and all here comes down to a flag; the
 * holders of a shared end take turns with a lock.
 */
#ifndef BUFPIPE_WAY_H
#define BUFPIPE_WAY_H

#include "lock.h"
#include "ring.h"
#include "turn.h"
#include "wait.h"

/* Why a direction of an end cannot take the short way through send or recv. */
enum {
	WAY_NONE = 1 << 0,    /* the end does not go this way */
	WAY_SHARED = 1 << 1,  /* there is a lock to take */
	WAY_OPEN = 1 << 2,    /* a reservation or a peek is open */
	WAY_PARTIAL = 1 << 3, /* receiving: half of a long message is in 'partial' */
};

/* One direction.  Lengths of whole messages are valid when (len - shortest) <= span. */
struct way {
	unsigned state; /* WAY_*; 0 in an end with nothing unusual */
	uint64_t shortest;
	uint64_t span;
	struct wait wait;
	pthread_mutex_t *lock;       /* of co-owners; taken if WAY_SHARED */
	struct lock_habit habit;     /* with it */
	const struct receiver *held; /* receiving: whose head is held with it, */
	struct turn *turn;           /* sending: the turn that is claimed with it */
	uint64_t open_len;           /* of the record that is reserved or peeked */
	_Atomic uint32_t owner;      /* shared: the thread that has it open */
};

int way_enter_shared(struct way *way, int64_t deadline);
void way_leave_shared(struct way *way);

/* Notes that this thread has the record open; asks; and forgets it. */
void way_own(struct way *way);
bool way_is_owned(const struct way *way);
void way_disown(struct way *way);

/* Makes the turn ours until way_leave: -EBADF, -EBUSY, or what taking the lock gives. */
static inline int way_enter(struct way *way, int64_t deadline)
{
	if (way->state & WAY_NONE)
		return -EBADF;
	if (unlikely(way->state & WAY_SHARED))
		return way_enter_shared(way, deadline);
	return way->state & WAY_OPEN ? -EBUSY : 0;
}

static inline void way_leave(struct way *way)
{
	if (unlikely(way->state & WAY_SHARED))
		way_leave_shared(way);
}

/* Keeps the turn, with a record of len bytes open; way_close ends that and leaves. */
static inline void way_open(struct way *way, uint64_t len)
{
	way->open_len = len;
	if (unlikely(way->state & WAY_SHARED))
		way_own(way);
	else
		way->state |= WAY_OPEN;
}

static inline bool way_is_open(const struct way *way)
{
	if (unlikely(way->state & WAY_SHARED))
		return way_is_owned(way);
	return way->state & WAY_OPEN;
}

/* Ends it, and still keeps the turn. */
static inline void way_resume(struct way *way)
{
	if (unlikely(way->state & WAY_SHARED))
		way_disown(way);
	else
		way->state &= ~(unsigned)WAY_OPEN;
}

static inline void way_close(struct way *way)
{
	way_resume(way);
	way_leave(way);
}

#endif
