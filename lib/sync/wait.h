/* SPDX-License-Identifier: MIT */
/*
 * How one side of a ring sleeps until the other side has published, and how
 * the other side wakes it.  It knows nothing of rings: a waiter waits for a
 * word to change; a publisher changes the word, then calls wait_notify.
 *
 * The publisher executes no full fence: it stores the word, then loads the
 * waiter's flags, and the processor may do these in the other order.  It can
 * so miss a flag that has just gone up.  The waiter makes good for it:
 *
 *   waiter                                  publisher
 *   1  e = events                           a  word = new
 *   2  raise the flag                       b  flag up, and not rung for this raise?
 *   3  membarrier: a fence in every         c     events++, wake
 *      running publisher
 *   4  look at the word
 *   5  sleep while events == e
 *
 * If b missed the flag, b came before 3, so a did, and 4 sees the word.  After
 * a while the sleep moves to the socket, which also tells of the other side's
 * end, in the same order: raise, membarrier, look, sleep.  docs/waiting.md has the
 * rules for waiters of several kinds on one end.
 */
#ifndef BUFPIPE_SYNC_WAIT_H
#define BUFPIPE_SYNC_WAIT_H

#include "base/backoff.h"
#include "base/sys.h"
#include "memory/layout.h"

#include <stdbool.h>

/* The private half: how this process sleeps and wakes in one direction of one end. */
struct wait {
	const struct waiter_state *theirs; /* read: are they asleep; slept on: have they rung */
	struct notify *notify;             /* what we know of their waiter */
	struct waiter_state *ours;
	struct meter *meter;              /* ours: what becomes of our waits */
	pthread_mutex_t *doorbell_lock;   /* whose owner may sleep on the socket */
	const struct waiter_state *other; /* of our other direction, on the same socket */
	int socket;
	_Atomic uint32_t moved;  /* counts publications, */
	_Atomic uint32_t waited; /* and had come to this at the last wait */
	_Atomic uint32_t waits;  /* counts, to try a pause now and then */
	_Atomic uint32_t pauses; /* how many came before the first look */
	_Atomic uint64_t place;  /* what was wanted at the last wait */
	bool fence;              /* no membarrier can reach us: fence at each notify */
	bool sole;   /* no other process or thread waits in this direction: we may take WAITER_FENCE back */
	bool sends;  /* what we publish is data, not room */
	bool silent; /* never sleeps on the socket: bytes in it would be taken for data */
	atomic_bool fencing;     /* we raised WAITER_FENCE, */
	atomic_bool unfenced;    /* and no membarrier has followed yet */
	_Atomic uint32_t raised; /* publications up to the last raise, */
	_Atomic uint32_t lonely; /* and how many raises in a row had few before them */
	bool interruptible;
	int crowd;                /* how many of the other side may sleep on our events */
	bool may_linger;          /* for much to come, if it comes from afar */
	int64_t spin_ns;          /* as in bufpipe_options */
	int64_t patience;         /* how long to sleep on the futex before the socket */
	_Atomic int64_t expected; /* how long recent waits took */
	_Atomic int64_t checked;  /* when we last looked whether the other side lives */
};

/*
 * What to wait for: *word is no longer value; or *own is no longer own_value: a
 * position that a co-owner may move, or what else may end the wait.
 */
struct look {
	const _Atomic uint64_t *word;
	const _Atomic uint64_t *own;
	uint64_t value;
	uint64_t own_value;
	uint64_t ignore; /* bits of both words that say nothing */
	uint64_t wanted; /* the publisher's position from which on it should wake us from the futex */
};

/* Registers the process for membarriers and tells the other side what we cannot do. */
void wait_init(struct wait *wait);

/*
 * The two parts of wait_until.  The quickest answers come before it is worth
 * looking at the clock, and before others have to know that we wait: true if one
 * of the two words has changed.
 */
bool wait_briefly(struct wait *wait, const struct look *look);
int wait_long(struct wait *wait, const struct look *look, int64_t deadline);

/*
 * Sleeps until the word changes or somebody rang, so the caller looks again
 * after 0.  Absolute deadline.  -ETIMEDOUT, -EINTR if interruptible, or -EPIPE:
 * the other side is gone and the word has not changed.
 */
static inline int wait_until(struct wait *wait, const struct look *look, int64_t deadline)
{
	return wait_briefly(wait, look) ? 0 : wait_long(wait, look, deadline);
}

/*
 * For a try that found nothing: -EPIPE when the other side is known to be gone.
 * It looks at the socket when a holder left, and else every few milliseconds.
 */
int wait_glance(struct wait *wait);

/* After the socket was closed or shut down: tell the other side to look at it. */
void wait_leave(struct wait *wait);

/*
 * The parts of wait_until, for those who wait for many pipes at once: read
 * wait_events, raise, order, look, sleep while the events are as they were.
 */

/* Acquire pairs with the release in wait_ring: who reads the old count has not been rung for. */
static inline uint32_t wait_events(const struct wait *wait)
{
	return atomic_load_explicit(&wait->theirs->events, memory_order_acquire);
}

/*
 * mode is one of WAITER_FUTEX, WAITER_DOORBELL, WAITER_FD and WAITER_MANY.  True if a
 * fence of ours is enough to order this raise; see docs/waiting.md, section 4.
 */
bool wait_raise(struct wait *wait, uint64_t wanted, uint32_t mode);
void wait_lower(struct wait *wait, uint32_t mode);

/*
 * Step 3 of the table, with what the raise returned: from here on every publisher
 * either has seen the flag, or has made visible what it published before it looked.
 * False when that cannot be had yet, and a sleep must be short.
 */
bool wait_order(struct wait *wait, bool fenced);

/* The same when many were raised; wait_ordered is then to be called for each. */
bool wait_order_all(void);
void wait_ordered(struct wait *wait);

/* The waiter gets its answers while it spins: publishers need not fence any more. */
void wait_unfence(struct wait *wait);

/* A fence here and in each process that has registered; false when there was one here alone. */
bool wait_membarrier(void);

/* The other side is gone, or has ended this direction. */
bool wait_hung_up(const struct wait *wait);

/* This end has shut this direction down: its own waits end. */
static inline bool wait_is_stopped(const struct wait *wait)
{
	/* Acquire pairs with the release in wait_stop. */
	return atomic_load_explicit(&wait->ours->ended, memory_order_acquire);
}

/* From now on every wait in this direction ends, also of the co-owners; those that sleep are woken. */
void wait_stop(struct wait *wait);

/* Undoes wait_stop. */
void wait_restart(struct wait *wait);

/* After wait_stop: whether a call of this end may sleep on the socket. */
bool wait_is_on_bell(const struct wait *wait);

/* And the other side need not wait for more than there is: then it is told. */
void wait_end(struct wait *wait, uint64_t position);

/* Whether that is for good, and not because the socket was closed behind our back. */
bool wait_is_over(const struct wait *wait);

/* The same where this end may have shut its own socket down for reading. */
bool wait_is_left(const struct wait *wait);

/* How long to spin, and what comes of it. */
int64_t wait_budget(struct wait *wait);
void wait_learn(struct wait *wait, int64_t took);

static inline int64_t wait_expected(const struct wait *wait)
{
	return atomic_load_explicit(&wait->expected, memory_order_relaxed);
}

/*
 * Whether much may be there already for a receiver that has come to position: its
 * last wait was in a stream, or is long ago.  A guess: only waits that spin count,
 * and who has none, as in a set, is told no.
 */
bool wait_flows(const struct wait *wait, uint64_t position);

/* In the place of a holder that died: it may have published and not rung. */
void wait_ring_again(struct wait *wait);

/* Wakes the other side if it sleeps and wants position; -EPIPE when it is found that nobody is there any more. */
int wait_ring(struct wait *wait, uint64_t position);

/* Not a dialogue, as far as the waiter knows.  It is in the cache line that wait_must_ring has just read. */
static inline bool wait_streams(const struct wait *wait)
{
	return !atomic_load_explicit(&wait->theirs->single, memory_order_relaxed);
}

/* A count of rare things.  Several holders may count at once. */
static inline void meter_add(_Atomic uint64_t *count, uint64_t n)
{
	atomic_fetch_add_explicit(count, n, memory_order_relaxed);
}

/* Only an estimate, which the threads of a process share: a lost step does no harm. */
static inline void wait_count(struct wait *wait)
{
	uint32_t moved = atomic_load_explicit(&wait->moved, memory_order_relaxed);

	atomic_store_explicit(&wait->moved, moved + 1, memory_order_relaxed);
}

/* After each publication: whether the other side's flags call for wait_ring. */
static inline bool wait_must_ring(struct wait *wait)
{
	wait_count(wait);
	/* Orders the publication before the load of the flags; see the table above. */
	if (unlikely(wait->fence))
		atomic_thread_fence(memory_order_seq_cst);
	else
		atomic_signal_fence(memory_order_seq_cst);
	return unlikely(atomic_load_explicit(&wait->theirs->flags, memory_order_relaxed) !=
			atomic_load_explicit(&wait->notify->quiet, memory_order_relaxed));
}

/* Both; errors as wait_ring. */
static inline int wait_notify(struct wait *wait, uint64_t position)
{
	return wait_must_ring(wait) ? wait_ring(wait, position) : 0;
}

#endif
