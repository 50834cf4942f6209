/* SPDX-License-Identifier: MIT */
#include "sync/wait.h"

#include "base/probe.h"
#include "bufpipe.h"
#include "sync/doorbell.h"
#include "sync/lock.h"
#include "sync/spin.h"

#include <sys/socket.h>

#define MSEC 1000000ll

/*
 * The longest sleep while a publisher may not know yet that it must fence.  A
 * shorter timeout, below the tick of the kernel, would cost more than the sleep,
 * because the kernel sets up a timer of its own for it.
 */
#define BLIND_SLEEP (4 * MSEC)
/*
 * How often a sleeper on the socket looks again.  One of several holders of the
 * other end may die after it published and before it rang, and the socket does not
 * hang up while another holder lives.
 */
#define LONG_SLEEP (5 * NSEC_PER_SEC)
/* The length of each further sleep on the futex, if this waiter may not sleep on the socket. */
#define SILENT_SLEEP (100 * MSEC)
/* A try looks at the socket at most once in this time. */
#define GLANCE (4 * MSEC)

/* The flags that a publisher remembers as quiet.  Each of the others needs action every time. */
#define QUIET (~(uint32_t)(WAITER_ASLEEP | WAITER_FENCE | WAITER_FENCED))

void wait_init(struct wait *wait)
{
	wait_order_init(wait);
	atomic_store_explicit(&wait->expected, SPIN_FIRST_GUESS, memory_order_relaxed);
}

static int poll_end(const struct wait *wait)
{
	struct pollfd p = { .fd = wait->socket, .events = POLLRDHUP };

	return sys_poll(&p, 0) > 0 ? p.revents : 0;
}

/* Acquire pairs with the release in wait_end: what was published before is visible. */
static bool was_ended(const struct wait *wait)
{
	return atomic_load_explicit(&wait->theirs->ended, memory_order_acquire) & ENDED_OVER;
}

/* Whether the other side has ended this direction, or the socket shows one of these events. */
static bool is_gone(const struct wait *wait, int events)
{
	if (!was_ended(wait) && !(poll_end(wait) & events))
		return false;
	PROBE(peer_gone, wait->socket, wait->sends);
	return true;
}

bool wait_hung_up(const struct wait *wait)
{
	return is_gone(wait, ~0);
}

bool wait_is_over(const struct wait *wait)
{
	return is_gone(wait, POLLHUP | POLLRDHUP);
}

bool wait_is_left(const struct wait *wait)
{
	return is_gone(wait, POLLHUP);
}

/*
 * How often to wake the sleepers of an end that is stopped.  The pause after each wake-up
 * is twice as long as the last, 16 ms in all.  One wake-up is enough unless a waiter is
 * between its look at `ended` and its sleep.  If the waiter is held up there for longer,
 * it notices at the end of that sleep.
 */
#define STOP_WAKES 11
#define STOP_PAUSE 8000ll

/* This end cannot change the event count on which its waiters sleep, so they are woken until their flag is down. */
static void wake_stopped(const struct wait *wait)
{
	uint32_t flags;

	for (int i = 0; i < STOP_WAKES; i++) {
		sys_futex_wake(&wait->theirs->events, FUTEX_MANY);
		flags = atomic_load_explicit(&wait->ours->flags, memory_order_relaxed);
		if (!(flags & WAITER_FUTEX))
			return;
		/* Only a pause, since nobody wakes us.  It does not begin if the flags have changed. */
		sys_futex_wait(&wait->ours->flags, flags, time_now() + (STOP_PAUSE << i));
	}
}

void wait_stop(struct wait *wait)
{
	/* Release pairs with the acquire in wait_is_stopped. */
	atomic_fetch_or_explicit(&wait->ours->ended, ENDED_STOPPED, memory_order_release);
	/* Pairs with order in sleep_once: we see its flag, or it sees that it is stopped. */
	atomic_thread_fence(memory_order_seq_cst);
	wake_stopped(wait);
}

void wait_restart(struct wait *wait)
{
	atomic_fetch_and_explicit(&wait->ours->ended, ~ENDED_STOPPED, memory_order_relaxed);
}

bool wait_is_on_bell(const struct wait *wait)
{
	/*
	 * Pairs with wait_order in sleep_on_bell, and in those that arm a set or bufpipe_room_fd:
	 * either we see the mode of the sleeper, or it sees the stop.
	 */
	atomic_thread_fence(memory_order_seq_cst);
	return atomic_load_explicit(&wait->ours->flags, memory_order_relaxed) & (WAITER_DOORBELL | WAITER_FD);
}

void wait_end(struct wait *wait, uint64_t position)
{
	/* Release pairs with the acquire in was_ended. */
	atomic_fetch_or_explicit(&wait->ours->ended, ENDED_OVER, memory_order_release);
	wait_notify(wait, position);
}

/*
 * After a sleep that ended without a change: is the other side still there?  If not,
 * look once more, because the peer may have published just before it closed.
 */
static int check_life(const struct wait *wait, const struct look *look)
{
	if (!wait_is_stopped(wait) && !wait_hung_up(wait))
		return 0;
	return changed(look) ? 0 : -EPIPE;
}

static bool differ_in_leavers(uint32_t flags, uint32_t quiet)
{
	return (flags ^ quiet) >= WAITER_LEAVE;
}

bool wait_has_leaver(const struct wait *wait)
{
	/* Acquire as in glance. */
	return differ_in_leavers(atomic_load_explicit(&wait->theirs->flags, memory_order_acquire),
				 atomic_load_explicit(&wait->notify->quiet, memory_order_relaxed));
}

/* -EPIPE if the other side is known to be gone. */
static int glance(struct wait *wait)
{
	/* Acquire pairs with the release in wait_leave: the hang-up is visible. */
	uint32_t flags = atomic_load_explicit(&wait->theirs->flags, memory_order_acquire);
	uint32_t quiet = atomic_load_explicit(&wait->notify->quiet, memory_order_relaxed);
	int64_t now = time_of(CLOCK_MONOTONIC_COARSE);

	if (was_ended(wait)) {
		PROBE(peer_gone, wait->socket, wait->sends);
		return -EPIPE;
	}
	if (!differ_in_leavers(flags, quiet) &&
	    now - atomic_load_explicit(&wait->checked, memory_order_relaxed) < GLANCE)
		return 0;
	if (wait_hung_up(wait))
		return -EPIPE;
	atomic_store_explicit(&wait->checked, now, memory_order_relaxed);
	atomic_store_explicit(&wait->notify->quiet, flags & QUIET, memory_order_relaxed);
	return 0;
}

/* The publisher: what it does when the flags of the waiter are not quiet. */

/*
 * Whether this publication comes before the position that the waiter wants, so that it needs
 * no ring.  A waiter for data wants what is behind its head.  So a late publisher, whose
 * record was consumed before the waiter raised its flag, wakes nobody for nothing.
 * Waiters for room may want different positions.  In a shared end the least of them is
 * kept, with the raise for which it holds; see want_least in order.c.  In an exclusive end
 * the position counts if one kind of waiter sleeps.
 */
static bool is_too_early(const struct wait *wait, uint32_t flags, uint64_t raises, uint64_t position)
{
	uint32_t asleep = flags & WAITER_ASLEEP;
	uint64_t wanted = atomic_load_explicit(&wait->theirs->wanted, memory_order_relaxed);

	if (!wait->sends && wait->many_there)
		return wanted_holds(wanted, raises) && wanted_distance(wanted, position) < 0;
	if (!wait->sends && asleep != WAITER_FUTEX && asleep != WAITER_MANY && asleep != WAITER_FD)
		return false;
	return (int64_t)(position - wanted) < 0;
}

/* Answers a raised flag, once for each raise.  -EPIPE if the waiter is found to be gone. */
static int ring(struct wait *wait, uint32_t flags, uint64_t position)
{
	uint64_t raises;
	uint64_t answer;

	/*
	 * Pairs with the release in wait_raise: raises counts the raise that set the flags, or a
	 * later one.
	 */
	atomic_thread_fence(memory_order_acquire);
	raises = atomic_load_explicit(&wait->theirs->raises, memory_order_relaxed);
	answer = raises << 8 | (flags & WAITER_ASLEEP);
	if (answer == atomic_load_explicit(&wait->notify->rung, memory_order_relaxed))
		return glance(wait);
	if (is_too_early(wait, flags, raises, position))
		return 0;

	spin_note_cpu(wait);
	/*
	 * Release pairs with the acquire in sleep_once and wait_events.  A waiter with the old
	 * count does not sleep.
	 */
	atomic_fetch_add_explicit(&wait->ours->events, 1, memory_order_release);
	if (flags & (WAITER_DOORBELL | WAITER_FD)) {
		ssize_t r = sys_send(wait->socket, "", 1, MSG_DONTWAIT | MSG_NOSIGNAL);

		/*
		 * -EAGAIN: the queue is full, so the peer has events enough.  An honest peer trims
		 * it before.
		 */
		if (r < 0 && r != -EAGAIN)
			return 0; /* the next publication tries again */
	}
	/* After the byte: a call that is woken by this and then polls the socket finds the byte. */
	if (flags & (WAITER_FUTEX | WAITER_MANY))
		sys_futex_wake(&wait->ours->events, wait->sleepers);
	meter_add(&wait->meter->rings, 1);
	PROBE(wakeup, wait->socket, wait->sends, position);
	/* Last: if we die before this, a co-owner rings again. */
	atomic_store_explicit(&wait->notify->rung, answer, memory_order_relaxed);
	return 0;
}

slow_path int wait_ring(struct wait *wait, uint64_t position)
{
	uint32_t flags = atomic_load_explicit(&wait->theirs->flags, memory_order_relaxed);
	uint32_t quiet = atomic_load_explicit(&wait->notify->quiet, memory_order_relaxed);
	int r = 0;

	if (flags & WAITER_FENCE) {
		/* Pairs with the fence in wait_order of a waiter that issues no membarrier. */
		atomic_thread_fence(memory_order_seq_cst);
		flags = atomic_load_explicit(&wait->theirs->flags, memory_order_relaxed);
	}
	if (flags & WAITER_ASLEEP)
		r = ring(wait, flags, position);
	if (r < 0)
		return r;
	if (differ_in_leavers(flags, quiet) && wait_hung_up(wait))
		return -EPIPE;
	atomic_store_explicit(&wait->notify->quiet, flags & QUIET, memory_order_relaxed);
	return 0;
}

slow_path void wait_ring_again(struct wait *wait)
{
	uint32_t flags;

	/* Pairs as in wait_ring: what the dead holder published is visible before we load the flags. */
	atomic_thread_fence(memory_order_seq_cst);
	flags = atomic_load_explicit(&wait->theirs->flags, memory_order_relaxed);
	/* No raise has this number, so the current raise is answered again. */
	atomic_store_explicit(&wait->notify->rung, UINT64_MAX, memory_order_relaxed);
	if (flags & WAITER_ASLEEP)
		ring(wait, flags, atomic_load_explicit(&wait->theirs->wanted, memory_order_relaxed));
}

slow_path int wait_glance(struct wait *wait)
{
	return wait_is_stopped(wait) ? -EPIPE : glance(wait);
}

void wait_leave(struct wait *wait)
{
	/*
	 * Release pairs with the acquire in glance: if we were the last holder, the peer then
	 * finds the hang-up.
	 */
	atomic_fetch_add_explicit(&wait->ours->flags, WAITER_LEAVE, memory_order_release);
	atomic_fetch_add_explicit(&wait->ours->events, 1, memory_order_release);
	sys_futex_wake(&wait->ours->events, wait->sleepers);
}

/* The waiter: it spins (see spin.c), sleeps on the futex, and then sleeps on the socket. */

/* Turns the result r of a sleep into the result of the wait, or NOTHING. */
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
	/* -EFAULT: the other side punched out the page of the futex word while the kernel read it. */
	return r == -EFAULT ? protocol_error("hole in the control page") : r;
}

static int futex_sleep(const struct wait *wait, const struct look *look, uint32_t events, int64_t until,
		       int64_t deadline)
{
	int r;

	if (changed(look))
		return 0;
	/* Pairs with the fence in wait_stop. */
	if (wait_is_stopped(wait))
		return -EPIPE;
	r = sys_futex_wait(&wait->theirs->events, events, time_sooner(until, deadline));
	return judge(wait, look, r, deadline <= until);
}

/* Sleeps on the futex once more, until any publication, and then looks whether the other side lives. */
static int sleep_silently(struct wait *wait, const struct look *look, uint32_t events, int64_t deadline)
{
	bool ordered = wait_raise_and_order(wait, look->value & ~look->ignore, WAITER_FUTEX);
	int r = futex_sleep(wait, look, events, time_now() + (ordered ? SILENT_SLEEP : BLIND_SLEEP),
			    deadline);

	return r == NOTHING ? check_life(wait, look) ?: NOTHING : r;
}

static int sleep_on_bell(struct wait *wait, const struct look *look, int bell, int64_t deadline)
{
	bool ordered;
	int64_t now;
	int r;

	doorbell_take(bell);
	/* A second order is needed: a publisher may have read the old flag and used FUTEX_WAKE alone. */
	ordered = wait_raise_and_order(wait, look->wanted, WAITER_DOORBELL);
	/* Ask for the hang-up, because doorbell_take may have taken its event. */
	if (changed(look) || wait_is_stopped(wait) || wait_hung_up(wait))
		return check_life(wait, look);
	now = time_now();
	if (!ordered || now >= deadline)
		return now >= deadline ? -ETIMEDOUT : NOTHING;
	r = doorbell_sleep(bell, time_sooner(LONG_SLEEP, deadline - now));
	return judge(wait, look, r, time_now() >= deadline);
}

static int socket_sleep(struct wait *wait, const struct look *look, uint32_t events, int64_t deadline)
{
	int bell = wait->silent ? -EOPNOTSUPP : doorbell_open();
	int r = bell < 0 ? bell : doorbell_join(bell, wait->socket);

	r = r < 0 ? sleep_silently(wait, look, events, deadline) : sleep_on_bell(wait, look, bell, deadline);
	if (bell >= 0)
		doorbell_close(bell);
	return r;
}

/* Sleeps on the futex and then on the socket.  *now is the time when that begins, and becomes the time when it ended. */
static int sleep_once(struct wait *wait, const struct look *look, int64_t deadline, int64_t *now)
{
	/*
	 * Acquire pairs with the release in ring.  This load comes first, or we could miss a ring
	 * after the look.
	 */
	uint32_t events = atomic_load_explicit(&wait->theirs->events, memory_order_acquire);
	bool ordered = wait_raise_and_order(wait, look->wanted, WAITER_FUTEX);
	int64_t begin = *now;
	int r = NOTHING;

	/*
	 * A holder that left before we loaded events does not end this sleep.  Its flag, which it
	 * changed first, tells.
	 */
	if (glance(wait) < 0)
		r = changed(look) ? 0 : -EPIPE;
	if (r == NOTHING)
		r = futex_sleep(wait, look, events,
				ordered ? begin + wait->patience : time_now() + BLIND_SLEEP, deadline);
	if (r == NOTHING && ordered)
		r = socket_sleep(wait, look, events, deadline);
	wait_lower(wait, WAITER_MODE);
	*now = time_now();
	meter_add(&wait->meter->sleeps, 1);
	meter_add(&wait->meter->slept, (uint64_t)(*now - begin));
	return r;
}

slow_path int wait_long(struct wait *wait, const struct look *look, int64_t deadline)
{
	int64_t begin = time_now();
	int64_t now;
	int r;

	r = spin_until(wait, look, begin, deadline, &now);
	if (r == 0)
		wait_unfence(wait);
	if (r == NOTHING) {
		/* Only one waiter sleeps at a time.  The 1 is set because 0 would mean that nobody sleeps. */
		atomic_store_explicit(&wait->meter->since, (uint64_t)begin | 1, memory_order_relaxed);
		PROBE(sleep_begin, wait->socket, wait->sends, look->wanted);
		while (r == NOTHING)
			r = sleep_once(wait, look, deadline, &now);
		PROBE(sleep_end, wait->socket, wait->sends, look->wanted, r, now - begin);
		atomic_store_explicit(&wait->meter->since, 0, memory_order_relaxed);
	}
	/* A hostile peer may ring for ever without publishing anything. */
	if (r == 0 && now >= deadline && !changed(look))
		r = -ETIMEDOUT;
	if (r == 0 || now - begin > wait_expected(wait))
		wait_learn(wait, now - begin);
	return r;
}
