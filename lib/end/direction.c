/* SPDX-License-Identifier: MIT */
/* How the co-owners of a shared end take turns. */
#include "end/direction.h"

#include "base/probe.h"

int direction_enter_shared(struct direction *direction, int64_t deadline)
{
	bool recovered;
	int r;

	if (direction_is_owned(direction))
		return -EBUSY;
	r = lock_take(direction->lock, &direction->habit, deadline);
	recovered = r == LOCK_RECOVERED;
	if (r >= 0 && direction->held)
		ring_hold(direction->held);
	if (r >= 0 && direction->quick_lock) {
		r = quick_lock_claim(direction->quick_lock, deadline);
		recovered |= r == LOCK_RECOVERED;
		if (r < 0)
			lock_drop(direction->lock, &direction->habit);
	}
	if (r < 0)
		return r == -ETIMEDOUT && deadline == TIME_TRY ? -EAGAIN : r;
	/* If another thread is still noted as the owner, it has died: it does not hold the lock any more. */
	direction_disown(direction);
	if (recovered) {
		PROBE(recovered, direction->wait.socket, direction->wait.sends);
		wait_ring_again(&direction->wait);
	}
	return 0;
}

void direction_leave_shared(struct direction *direction)
{
	if (direction->held)
		ring_unhold(direction->held);
	if (direction->quick_lock)
		quick_lock_unclaim(direction->quick_lock);
	lock_drop(direction->lock, &direction->habit);
}

/* The order of loads and stores of owner does not matter, because only our own store can match our id. */

void direction_own(struct direction *direction)
{
	atomic_store_explicit(&direction->owner, thread_id(), memory_order_relaxed);
}

bool direction_is_owned(const struct direction *direction)
{
	uint32_t owner = atomic_load_explicit(&direction->owner, memory_order_relaxed);

	/* A child of fork has another id, so a record that its parent has open is not its own. */
	return unlikely(owner) && owner == thread_id();
}

void direction_disown(struct direction *direction)
{
	atomic_store_explicit(&direction->owner, 0, memory_order_relaxed);
}
