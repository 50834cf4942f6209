/* SPDX-License-Identifier: MIT */
/* How the holders of a shared end take turns. */
#include "way.h"

int way_enter_shared(struct way *way, int64_t deadline)
{
	int r;

	if (way_is_owned(way))
		return -EBUSY;
	r = lock_take(way->lock, &way->habit, deadline);
	if (r == 0 && way->held)
		ring_hold(way->held);
	if (r == 0 && way->turn) {
		r = turn_claim(way->turn, deadline);
		if (r < 0)
			lock_drop(way->lock);
	}
	/* Who had it open and now has the lock no more has died. */
	if (r == 0)
		way_disown(way);
	return r == -ETIMEDOUT && deadline == TIME_TRY ? -EAGAIN : r;
}

void way_leave_shared(struct way *way)
{
	if (way->held)
		ring_unhold(way->held);
	if (way->turn)
		turn_leave(way->turn);
	lock_drop(way->lock);
}

/* The order of the owner's loads and stores does not matter: only our own store can match. */

void way_own(struct way *way)
{
	atomic_store_explicit(&way->owner, self_id(), memory_order_relaxed);
}

bool way_is_owned(const struct way *way)
{
	uint32_t owner = atomic_load_explicit(&way->owner, memory_order_relaxed);

	/* In a child of fork what is open is its parent's. */
	return unlikely(owner) && owner == self_id();
}

void way_disown(struct way *way)
{
	atomic_store_explicit(&way->owner, 0, memory_order_relaxed);
}
