/* SPDX-License-Identifier: MIT */
#include "sync/lock.h"

#include "base/backoff.h"
#include "base/sys.h"
#include "base/thread.h"
#include "sync/heal.h"

#include <sched.h>
#include <stdbool.h>

#ifndef SCHED_DEADLINE
#define SCHED_DEADLINE 6
#endif

#define SLICE (2 * NSEC_PER_SEC)
/*
 * How long a thread may take the lock again and again while others sleep for it.  With
 * ten times that, and eight holders, some get nothing in 200 ms.
 */
#define TURN (2000000 >> 16)
/* How long it then waits for another to take the lock: a few ticks, in which that one gets a CPU. */
#define ASIDE 4000000
/* A thread that sleeps for the lock stores `wanted` at least every SLICE. */
#define WANTED_FOR ((2 * SLICE) >> 16)
/* In `wanted`, beside a time, which is even: the thread that sleeps has a real-time priority. */
#define REAL_TIME ((uint32_t)1)

/* In units of 65 us, even. */
static uint32_t units_now(void)
{
	return (uint32_t)(time_now() >> 16) & ~REAL_TIME;
}

int lock_init(struct lock *lock)
{
	pthread_mutexattr_t attributes;
	int r;

	pthread_mutexattr_init(&attributes);
	r = pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
	if (!r)
		r = pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST);
	if (!r)
		r = pthread_mutex_init(&lock->mutex, &attributes);
	pthread_mutexattr_destroy(&attributes);
	/* At 0 they would lie in the future for half of the time, because the clock wraps. */
	atomic_init(&lock->since, units_now());
	atomic_init(&lock->wanted, units_now());
	return -r;
}

/* The owner died.  Nothing needs repair: the data under these locks is consistent at every instruction. */
static int settle(struct lock *lock, int error)
{
	if (error != EOWNERDEAD)
		return -error;
	error = pthread_mutex_consistent(&lock->mutex);
	return error ? -error : LOCK_RECOVERED;
}

/* Takes the mutex, and gives up at a time of CLOCK_MONOTONIC. */
static int take_until(pthread_mutex_t *mutex, int64_t deadline)
{
#ifdef HAVE_CLOCKLOCK
	const struct timespec until = time_spec(deadline);

	return pthread_mutex_clocklock(mutex, CLOCK_MONOTONIC, &until);
#else
	struct timespec until;
	int r;

	/*
	 * musl sleeps for the difference to the wall clock, so a step of that clock matters only
	 * if it comes between our look and musl's.  Then the sleep is too short, which the loop
	 * makes good, or too long.
	 */
	do {
		until = time_spec(time_of(CLOCK_REALTIME) + deadline - time_now());
		r = pthread_mutex_timedlock(mutex, &until);
	} while (r == ETIMEDOUT && time_now() < deadline);
	return r;
#endif
}

static int try_once(struct lock *lock)
{
	int r = settle(lock, pthread_mutex_trylock(&lock->mutex));

	return r == -EBUSY ? -EAGAIN : r;
}

int lock_try(struct lock *lock, struct lock_habit *habit)
{
	const struct thread_self *self = thread_self();
	int r;

	heal_enroll(habit, self);
	r = try_once(lock);
	if (r >= 0)
		heal_note(lock, habit->owner, self);
	return r;
}

/*
 * How often to look at the lock before sleeping.  Most owners hold it for a shorter
 * time than a sleep costs, but an owner that waits for the other side holds it for
 * long.  So the limit is twice the number of looks that were needed lately.  One take
 * in TRY_EVERY uses the full limit, to notice when the habit has changed.
 */
static uint32_t rounds_worth(struct lock_habit *habit)
{
	enum { MOST = 16, LEAST = 2, TRY_EVERY = 16 };
	uint32_t takes = atomic_load_explicit(&habit->takes, memory_order_relaxed);
	uint32_t rounds = LEAST + atomic_load_explicit(&habit->rounds, memory_order_relaxed) / 4;

	/* This is only an estimate, which the threads of a process share.  A lost update does no harm. */
	atomic_store_explicit(&habit->takes, takes + 1, memory_order_relaxed);
	return takes % TRY_EVERY == 0 || rounds > MOST ? MOST : rounds;
}

static void learn(struct lock_habit *habit, uint32_t rounds)
{
	uint32_t average = atomic_load_explicit(&habit->rounds, memory_order_relaxed);

	atomic_store_explicit(&habit->rounds, average - average / 8 + rounds, memory_order_relaxed);
}

static int spin(struct lock *lock, struct lock_habit *habit, int64_t deadline)
{
	uint32_t most = rounds_worth(habit);
	int r;

	for (uint32_t i = 0; i < most; i++) {
		if (!backoff_pause(deadline))
			return -ETIMEDOUT;
		r = try_once(lock);
		if (r != -EAGAIN) {
			learn(habit, i);
			return r;
		}
	}
	learn(habit, 0); /* the looks were in vain: do fewer next time */
	return -EAGAIN;
}

static uint32_t units_later(uint32_t a, uint32_t b)
{
	return (int32_t)(a - b) > 0 ? a : b;
}

static bool is_real_time(void)
{
	int policy = sched_getscheduler(0) & ~SCHED_RESET_ON_FORK;

	return policy == SCHED_FIFO || policy == SCHED_RR || policy == SCHED_DEADLINE;
}

/*
 * A mutex favours the thread that drops it and takes it again: that one has a CPU, while
 * the sleeper that it has just woken must first get one.  With more holders than CPUs the
 * same few then take all turns.  So a thread that has gone on like that for TURN, although
 * another went to sleep for the lock meanwhile, lets the other take it.  It does so when
 * it would wait, so little is lost.  Measured with busy programs, see docs/waiting.md.
 */
static void step_aside(struct lock *lock, int64_t deadline)
{
	uint32_t since = atomic_load_explicit(&lock->since, memory_order_relaxed);
	uint32_t wanted = atomic_load_explicit(&lock->wanted, memory_order_relaxed);
	uint32_t now = units_now();
	uint32_t changes;

	if ((int32_t)(wanted - since) <= 0 || (int32_t)(now - since) < TURN ||
	    (int32_t)(now - wanted) > WANTED_FOR)
		return;
	/*
	 * A real-time thread waits for no normal one.  For another real-time thread it does:
	 * SCHED_FIFO ends no turn by itself, so on one CPU that other would never get the lock.
	 */
	if (!(wanted & REAL_TIME) && is_real_time())
		return;
	atomic_store_explicit(&lock->since, now, memory_order_relaxed);
	/* Pairs with the load in note_taken: it wakes us, or it has changed the word on which we would sleep. */
	changes = atomic_fetch_or_explicit(&lock->changes, LOCK_ASIDE, memory_order_relaxed) | LOCK_ASIDE;
	sys_futex_wait(&lock->changes, changes, time_sooner(deadline, time_now() + ASIDE));
}

/* We have the lock, and another thread had it before. */
static void note_taken(struct lock *lock, uint32_t me)
{
	uint32_t changes = atomic_load_explicit(&lock->changes, memory_order_relaxed);
	uint32_t wanted = atomic_load_explicit(&lock->wanted, memory_order_relaxed) & ~REAL_TIME;

	atomic_store_explicit(&lock->last, me, memory_order_relaxed);
	/* Not before `wanted`, because `wanted` may be ours: then nobody else sleeps for the lock. */
	atomic_store_explicit(&lock->since, units_later(units_now(), wanted), memory_order_relaxed);
	/*
	 * An exchange, because the thread that had the lock may set LOCK_ASIDE after the load.  The
	 * owner alone changes the other bits.
	 */
	changes = atomic_exchange_explicit(&lock->changes, (changes & ~LOCK_ASIDE) + 2, memory_order_relaxed);
	if (changes & LOCK_ASIDE)
		sys_futex_wake(&lock->changes, FUTEX_FEW);
}

static int sleep_for(struct lock *lock, struct lock_habit *habit, int64_t deadline)
{
	uint32_t wanted;
	uint32_t now;
	int64_t slice;
	bool counts;
	int r;

	/*
	 * Sleep in slices, because a wake-up can be lost: the owner frees the lock and dies
	 * before it wakes the sleeper, and a third process takes the lock in between.  The
	 * kernel then finds a lock that the dead owner does not hold, and the third process
	 * does not know that somebody sleeps.
	 */
	do {
		heal(lock, habit);
		/*
		 * Later than `since`, so that it counts also if the other took the lock just now.  If the
		 * lock changes hands faster than the unit of time, `since` runs ahead of the clock, but by
		 * no more than TURN: then nobody keeps the lock, and we say what we want a bit later.
		 */
		now = units_now();
		wanted = units_later(now, atomic_load_explicit(&lock->since, memory_order_relaxed) + 2);
		counts = (int32_t)(wanted - now) <= TURN;
		wanted |= is_real_time() ? REAL_TIME : 0;
		if (counts)
			atomic_store_explicit(&lock->wanted, wanted, memory_order_relaxed);
		slice = time_sooner(deadline, time_now() + (counts ? SLICE : ASIDE));
		r = settle(lock, take_until(&lock->mutex, slice));
	} while (r == -ETIMEDOUT && slice < deadline);
	/* We do not want it any more.  Others that sleep for it store `wanted` again at their next slice. */
	if (r < 0)
		atomic_store_explicit(&lock->wanted, atomic_load_explicit(&lock->since, memory_order_relaxed),
				      memory_order_relaxed);
	return r;
}

int lock_take(struct lock *lock, struct lock_habit *habit, int64_t deadline)
{
	const struct thread_self *self = thread_self();
	uint32_t me = self ? self->id
			   : 0; /* unknown: to ask the kernel each time would cost more than it is worth */
	int r;

	heal_enroll(habit, self);
	if (me && deadline != TIME_TRY && atomic_load_explicit(&lock->last, memory_order_relaxed) == me)
		step_aside(lock, deadline);
	r = try_once(lock);
	if (r == -EAGAIN)
		r = spin(lock, habit, deadline);
	if (r == -EAGAIN)
		r = deadline == TIME_TRY ? -ETIMEDOUT : sleep_for(lock, habit, deadline);
	/* For a program that comes again and again, and never waits for long. */
	if (r == -ETIMEDOUT && heal(lock, habit) && (r = try_once(lock)) == -EAGAIN)
		r = -ETIMEDOUT;
	if (r < 0)
		return r;
	heal_note(lock, habit->owner, self);
	if (atomic_load_explicit(&lock->last, memory_order_relaxed) != me)
		note_taken(lock, me);
	return r;
}

void lock_drop(struct lock *lock, const struct lock_habit *habit)
{
	heal_forget(habit->owner);
	pthread_mutex_unlock(&lock->mutex);
}
