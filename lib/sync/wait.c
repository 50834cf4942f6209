/* SPDX-License-Identifier: MIT */
#include "sync/wait.h"

#include "bufpipe.h"
#include "sync/lock.h"
#include "sync/spin.h"

#include <sys/socket.h>

#define MSEC 1000000ll

/*
 * How long to sleep while a publisher may still have to learn that it must
 * fence.  No shorter: the kernel must set up a timer of its own for a timeout
 * below its tick, which costs more than the sleep.
 */
#define BLIND_SLEEP (4 * MSEC)
/*
 * A sleeper on the socket looks again now and then: one of several holders of
 * the other end may die after publishing and before ringing, and no hang-up
 * tells of that while another holder lives.
 */
#define LONG_SLEEP (5 * NSEC_PER_SEC)
/* How often a try looks at the socket. */
#define GLANCE (4 * MSEC)

/* Whether membarriers work for this process; fork inherits the registration, and this word with it. */
enum { UNKNOWN, USABLE, UNUSABLE };
static _Atomic int membarrier_state;

static bool membarrier_usable(void)
{
	int state = atomic_load_explicit(&membarrier_state, memory_order_relaxed);

	if (state == UNKNOWN) {
		state = sys_membarrier(MEMBARRIER_CMD_REGISTER_GLOBAL_EXPEDITED) ? UNUSABLE : USABLE;
		atomic_store_explicit(&membarrier_state, state, memory_order_relaxed);
	}
	return state == USABLE;
}

void wait_init(struct wait *wait)
{
	wait->fence = !membarrier_usable();
	atomic_store_explicit(&wait->expected, SPIN_FIRST_GUESS, memory_order_relaxed);
	if (wait->fence)
		atomic_fetch_or_explicit(&wait->ours->flags, WAITER_FENCE, memory_order_relaxed);
}

static int poll_end(const struct wait *wait)
{
	struct pollfd p = { .fd = wait->socket, .events = POLLRDHUP };

	return sys_poll(&p, 0) > 0 ? p.revents : 0;
}

bool wait_hung_up(const struct wait *wait)
{
	return poll_end(wait);
}

bool wait_is_over(const struct wait *wait)
{
	return poll_end(wait) & (POLLHUP | POLLRDHUP);
}

/* Woken, or not put to sleep, with nothing to see: is somebody there?  The last look comes after that answer. */
static int check_life(const struct wait *wait, const struct look *look)
{
	if (!wait_hung_up(wait))
		return 0;
	return changed(look) ? 0 : -EPIPE;
}

/* The publisher, when the flags are not quiet. */

/* One sleeper on the futex says from which position on it should be woken; of several we cannot know that. */
static bool may_ring_later(uint32_t flags)
{
	return (flags & WAITER_ASLEEP) == WAITER_FUTEX || (flags & WAITER_ASLEEP) == WAITER_MANY;
}

/* Answers a raised flag, once for each raise.  -EPIPE if the one that raised it seems to be dead. */
static int ring(struct wait *wait, uint32_t flags, uint64_t position)
{
	uint64_t answer;

	/* Pairs with the release in wait_raise: this is the raise that set the flags, or a later one. */
	atomic_thread_fence(memory_order_acquire);
	answer = atomic_load_explicit(&wait->theirs->raises, memory_order_relaxed) << 8 |
		 (flags & WAITER_ASLEEP);
	if (answer == atomic_load_explicit(&wait->notify->rung, memory_order_relaxed))
		return wait_glance(wait);
	if (may_ring_later(flags) &&
	    (int64_t)(position - atomic_load_explicit(&wait->theirs->wanted, memory_order_relaxed)) < 0)
		return 0;

	spin_note_cpu(wait);
	/* Pairs with the acquire in sleep_once and in wait_events: who read the old count does not sleep on it. */
	atomic_fetch_add_explicit(&wait->ours->events, 1, memory_order_release);
	if (flags & (WAITER_MANY | WAITER_FD) || !(flags & WAITER_DOORBELL))
		sys_futex_wake(&wait->ours->events);
	if (flags & (WAITER_DOORBELL | WAITER_FD)) {
		ssize_t r = sys_send(wait->socket, "", 1, MSG_DONTWAIT | MSG_NOSIGNAL);

		if (r < 0 && r != -EAGAIN)
			return 0; /* the next publication tries again; a full socket rings already */
	}
	/* Last: a co-owner must ring again for one that died before it had. */
	atomic_store_explicit(&wait->notify->rung, answer, memory_order_relaxed);
	return 0;
}

slow_path int wait_ring(struct wait *wait, uint64_t position)
{
	uint32_t flags = atomic_load_explicit(&wait->theirs->flags, memory_order_relaxed);
	uint32_t quiet = atomic_load_explicit(&wait->notify->quiet, memory_order_relaxed);
	int r = 0;

	if (flags & WAITER_FENCE) {
		/* Pairs with the fence in wait_order, for a waiter that has no membarrier. */
		atomic_thread_fence(memory_order_seq_cst);
		flags = atomic_load_explicit(&wait->theirs->flags, memory_order_relaxed);
	}
	if (flags & WAITER_ASLEEP)
		r = ring(wait, flags, position);
	if (r < 0)
		return r;
	if ((flags ^ quiet) >= WAITER_LEAVE && wait_hung_up(wait))
		return -EPIPE;
	atomic_store_explicit(&wait->notify->quiet, flags & ~(uint32_t)(WAITER_ASLEEP | WAITER_FENCE),
			      memory_order_relaxed);
	return 0;
}

slow_path int wait_glance(struct wait *wait)
{
	uint32_t flags = atomic_load_explicit(&wait->theirs->flags, memory_order_acquire);
	uint32_t quiet = atomic_load_explicit(&wait->notify->quiet, memory_order_relaxed);
	int64_t now = time_of(CLOCK_MONOTONIC_COARSE);

	if ((flags ^ quiet) < WAITER_LEAVE &&
	    now - atomic_load_explicit(&wait->checked, memory_order_relaxed) < GLANCE)
		return 0;
	if (wait_hung_up(wait))
		return -EPIPE;
	atomic_store_explicit(&wait->checked, now, memory_order_relaxed);
	atomic_store_explicit(&wait->notify->quiet, flags & ~(uint32_t)(WAITER_ASLEEP | WAITER_FENCE),
			      memory_order_relaxed);
	return 0;
}

void wait_leave(struct wait *wait)
{
	/* Release: who sees the count finds the socket hung up, if we were the last. */
	atomic_fetch_add_explicit(&wait->ours->flags, WAITER_LEAVE, memory_order_release);
	atomic_fetch_add_explicit(&wait->ours->events, 1, memory_order_release);
	sys_futex_wake(&wait->ours->events);
}

/* The waiter: spin (see spin.c), sleep on the futex, sleep on the socket. */

void wait_raise(struct wait *wait, uint64_t wanted, uint32_t mode)
{
	if (!membarrier_usable())
		mode |= WAITER_FENCE;
	atomic_store_explicit(&wait->ours->wanted, wanted, memory_order_relaxed);
	atomic_fetch_add_explicit(&wait->ours->raises, 1, memory_order_relaxed);
	/* Release pairs with the acquire in ring: with the mode goes the count, and what is wanted. */
	atomic_fetch_or_explicit(&wait->ours->flags, mode, memory_order_release);
}

void wait_lower(struct wait *wait, uint32_t mode)
{
	atomic_fetch_and_explicit(&wait->ours->flags, ~mode, memory_order_relaxed);
}

/* Not when membarriers do not work, or do not work any more: a sandbox may have come. */
static bool issue_membarrier(void)
{
	if (!membarrier_usable())
		return false;
	if (sys_membarrier(MEMBARRIER_CMD_GLOBAL_EXPEDITED) == 0)
		return true;
	/* With the next raise publishers are told to fence. */
	atomic_store_explicit(&membarrier_state, UNUSABLE, memory_order_relaxed);
	return false;
}

bool wait_order(struct wait *wait)
{
	bool told = atomic_load_explicit(&wait->told, memory_order_relaxed);
	bool known = !membarrier_usable();

	if (issue_membarrier())
		return true;
	if (known)
		atomic_store_explicit(&wait->told, true, memory_order_relaxed);
	/* Pairs with the fence in wait_ring, or in wait_must_ring. */
	atomic_thread_fence(memory_order_seq_cst);
	return told;
}

bool wait_membarrier(void)
{
	if (issue_membarrier())
		return true;
	atomic_thread_fence(memory_order_seq_cst);
	return false;
}

bool wait_order_all(void)
{
	bool known = !membarrier_usable();

	if (issue_membarrier())
		return true;
	/* As above.  They were told when they were made, or at the last raise; if not, the long sleep has an end. */
	atomic_thread_fence(memory_order_seq_cst);
	return known;
}

/* What a sleep that returned r means. */
static int judge(const struct wait *wait, const struct look *look, int r, bool last)
{
	if (changed(look))
		return 0;
	if (r == -ETIMEDOUT)
		return last ? -ETIMEDOUT : NOTHING;
	if (r == -EINTR)
		return wait->interruptible ? -EINTR : NOTHING;
	if (r == 0 || r == -EAGAIN)
		return check_life(wait, look);
	return r;
}

static int futex_sleep(const struct wait *wait, const struct look *look, uint32_t events, int64_t until,
		       int64_t deadline)
{
	int r;

	if (changed(look))
		return 0;
	r = sys_futex_wait(&wait->theirs->events, events, time_sooner(until, deadline));
	return judge(wait, look, r, deadline <= until);
}

void wait_drain(int socket)
{
	char bytes[64];

	for (int i = 0; i < 64; i++) {
		if (sys_recv(socket, bytes, sizeof(bytes), MSG_DONTWAIT) <= 0)
			return;
	}
}

static int poll_socket(const struct wait *wait, const struct look *look, int64_t deadline)
{
	struct pollfd p = { .fd = wait->socket, .events = POLLIN | POLLRDHUP };
	int64_t now = time_now();
	int r = sys_poll(&p, time_sooner(LONG_SLEEP, deadline > now ? deadline - now : 0));

	if (r >= 0)
		r = r ? 0 : -ETIMEDOUT;
	return judge(wait, look, r, time_now() >= deadline);
}

static bool somebody_polls(const struct wait *wait)
{
	return (atomic_load_explicit(&wait->ours->flags, memory_order_relaxed) |
		atomic_load_explicit(&wait->other->flags, memory_order_relaxed)) &
	       WAITER_FD;
}

static int socket_sleep(struct wait *wait, const struct look *look, uint32_t events, int64_t deadline)
{
	int r;

	/*
	 * An end has one socket, and perhaps two directions and many holders.  If
	 * another waiter is there, it might swallow our byte, or we its own; so we
	 * stay on the futex.
	 */
	if (somebody_polls(wait) || lock_try(wait->doorbell_lock) < 0) {
		r = futex_sleep(wait, look, events, time_now() + wait->patience, deadline);
		return r == NOTHING ? check_life(wait, look) ?: NOTHING : r;
	}
	wait_drain(wait->socket);
	wait_raise(wait, look->wanted, WAITER_DOORBELL);
	/* Again: a publisher may have read the flag as it was, and left it at a FUTEX_WAKE. */
	if (!wait_order(wait))
		r = NOTHING;
	else if (changed(look))
		r = 0;
	else
		r = poll_socket(wait, look, deadline);
	lock_drop(wait->doorbell_lock);
	return r;
}

static int sleep_once(struct wait *wait, const struct look *look, int64_t deadline)
{
	/* Acquire pairs with the release in ring; first of all, or a ring between look and sleep is missed. */
	uint32_t events = atomic_load_explicit(&wait->theirs->events, memory_order_acquire);
	bool ordered;
	int r;

	wait_raise(wait, look->wanted, WAITER_FUTEX);
	ordered = wait_order(wait);
	r = futex_sleep(wait, look, events, time_now() + (ordered ? wait->patience : BLIND_SLEEP), deadline);
	if (r == NOTHING && ordered)
		r = socket_sleep(wait, look, events, deadline);
	wait_lower(wait, WAITER_MODE);
	return r;
}

slow_path int wait_long(struct wait *wait, const struct look *look, int64_t deadline)
{
	int64_t begin = time_now();
	int64_t now;
	int r;

	r = spin_until(wait, look, begin, deadline, &now);
	while (r == NOTHING) {
		r = sleep_once(wait, look, deadline);
		now = time_now();
	}
	/* A peer may ring without end and have nothing to say. */
	if (r == 0 && now >= deadline && !changed(look))
		r = -ETIMEDOUT;
	if (r == 0 || now - begin > wait_expected(wait))
		wait_learn(wait, now - begin);
	return r;
}
