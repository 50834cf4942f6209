/* SPDX-License-Identifier: MIT */
/*
 * How one side of a ring sleeps until the other side has published something, and
 * how the other side wakes it.  This file knows nothing about rings: a waiter waits
 * for a word to change; a publisher changes the word and then calls wait_notify.
 *
 * The publisher executes no full fence.  It stores the word and then loads the
 * flags of the waiter, and the processor may execute the load first.  So the
 * publisher can miss a flag that was just raised.  The waiter makes up for this:
 *
 *   waiter                                  publisher
 *   1  e = events                           a  word = new
 *   2  raise the flag                       b  is the flag up, and this raise unanswered?
 *   3  membarrier: a fence in every         c     events++, wake
 *      running publisher
 *   4  look at the word
 *   5  sleep while events == e
 *
 * If b missed the flag, b was executed before 3.  Then a was visible before 3 as
 * well, and 4 sees the new word.  A longer sleep moves to the socket, where it also
 * notices the end of the other side.  It follows the same order: raise, membarrier,
 * look, sleep.  docs/waiting.md has the rules for several kinds of waiters on one end.
 */
#ifndef BUFPIPE_SYNC_WAIT_H
#define BUFPIPE_SYNC_WAIT_H

#include "base/backoff.h"
#include "base/sys.h"
#include "memory/layout.h"

#include <stdbool.h>

/* How this process waits and wakes in one direction of one end.  Private to the process. */
struct wait {
	const struct waiter_state *theirs; /* we read their flags, and sleep on their events */
	struct notify *notify;             /* what we have seen of theirs */
	const struct notify *seen;         /* what they have seen of ours */
	struct waiter_state *ours;
	struct meter *meter;              /* ours: statistics of our waits */
	struct lock *doorbell_lock;       /* its owner trims the queue of the socket */
	const struct waiter_state *other; /* ours in the other direction, on the same socket */
	int socket;
	_Atomic uint32_t published; /* counts publications */
	_Atomic uint32_t waited;    /* the value of published at the last wait */
	_Atomic uint32_t waits;     /* counts waits, to try a pause in some of them */
	_Atomic uint32_t pauses;    /* the length of the pause before the first look of the last wait */
	_Atomic uint64_t place;     /* the wanted position of the last wait */
	bool fence;                 /* membarriers do not reach us: fence at each notify */
	bool sole;                  /* nobody else waits in this direction: each of our waiters leads */
	bool many_there;            /* several may wait at the other end, because it is shared */
	bool sends;                 /* we publish data; false: we publish room */
	bool silent; /* never sleep on the socket: its bytes would be taken for news about data */
	_Atomic int64_t unfenced; /* when we raised WAITER_FENCE without raising WAITER_FENCED since; or 0 */
	_Atomic uint32_t raised;  /* the value of published at the last raise */
	_Atomic uint32_t sparse;  /* how many raises in a row had few publications before them */
	bool interruptible;
	int sleepers;             /* how many sleepers of the other side to wake */
	bool may_linger;          /* may pause for longer if cache lines are remote */
	int64_t spin_ns;          /* as in bufpipe_options */
	int64_t patience;         /* how long to sleep on the futex before the socket */
	_Atomic int64_t expected; /* an average of how long recent waits took */
	_Atomic int64_t checked;  /* when we last looked whether the other side lives */
};

/*
 * What ends a wait: *word is no longer value, or *own is no longer own_value.  *own
 * is a position that a co-owner may move, or another word that ends the wait.
 */
struct look {
	const _Atomic uint64_t *word;
	const _Atomic uint64_t *own;
	uint64_t value;
	uint64_t own_value;
	uint64_t ignore; /* bits of both words that do not count */
	uint64_t wanted; /* the publisher should wake us when it has reached this position */
};

/* Registers the process for membarriers.  If that fails, tells the other side to fence. */
void wait_init(struct wait *wait);

/*
 * The two parts of wait_until.  wait_briefly looks for a moment, without reading the
 * clock and without telling anybody that we wait: true if a word has changed.
 */
bool wait_briefly(struct wait *wait, const struct look *look);
int wait_long(struct wait *wait, const struct look *look, int64_t deadline);

/* Whether publishers are told to fence.  Only the waiter that leads changes that. */
static inline bool wait_is_fencing(const struct wait *wait)
{
	return unlikely(atomic_load_explicit(&wait->ours->flags, memory_order_relaxed) & WAITER_FENCE);
}

void wait_take_fence_back(struct wait *wait);

/* Called by the waiter that leads when a spin was enough: publishers need not fence any more. */
static inline void wait_unfence(struct wait *wait)
{
	if (wait_is_fencing(wait))
		wait_take_fence_back(wait);
}

/*
 * Waits until a word changes or somebody rings; the caller must look again after 0.
 * -ETIMEDOUT at the absolute deadline, -EINTR if interruptible, -EPIPE if the other
 * side is gone and the word has not changed.
 */
static inline int wait_until(struct wait *wait, const struct look *look, int64_t deadline)
{
	if (!wait_briefly(wait, look))
		return wait_long(wait, look, deadline);
	wait_unfence(wait);
	return 0;
}

/*
 * For a try that found nothing: -EPIPE if the other side is known to be gone.  It
 * looks at the socket when a holder has left, and otherwise every few milliseconds.
 */
int wait_glance(struct wait *wait);

/* Whether a holder of the other side may have left since the last glance.  No system call. */
bool wait_has_leaver(const struct wait *wait);

/* Called after the socket was closed or shut down: tells the other side to look at it. */
void wait_leave(struct wait *wait);

/*
 * The parts of wait_until, for a wait for many pipes at once: read wait_events,
 * wait_raise, wait_order, look, and sleep while the events are unchanged.
 */

/* Acquire pairs with the release in ring: as long as the count is the old one, nobody has rung. */
static inline uint32_t wait_events(const struct wait *wait)
{
	return atomic_load_explicit(&wait->theirs->events, memory_order_acquire);
}

/*
 * Raises a flag: mode is one of WAITER_FUTEX, WAITER_DOORBELL, WAITER_FD and
 * WAITER_MANY.  True if a fence of ours is enough to order this raise, without a
 * membarrier; see docs/waiting.md, section 4.
 */
bool wait_raise(struct wait *wait, uint64_t wanted, uint32_t mode);
void wait_lower(struct wait *wait, uint32_t mode);

/*
 * Step 3 of the table.  fenced is what wait_raise returned.  After this, each
 * publisher either sees the flag, or what it had published before is visible to us.
 * False if this is not certain yet: then a sleep must be short.
 */
bool wait_order(struct wait *wait, bool fenced);

/* Raises the mode of the one that leads, and orders it; as wait_order. */
bool wait_raise_and_order(struct wait *wait, uint64_t wanted, uint32_t mode);

/* Called by wait_init: where membarriers do not work, publishers fence from the beginning. */
void wait_order_init(struct wait *wait);

/*
 * The same for many raises at once: call wait_ordered for each of them afterwards, with what
 * wait_order_all returned.  wait_ordered returns what wait_order would.
 */
bool wait_order_all(void);
bool wait_ordered(struct wait *wait, bool issued);

/* A fence in this and in each registered process.  False if it was a fence in this thread alone. */
bool wait_membarrier(void);

/* Whether the other side is gone or has ended this direction. */
bool wait_hung_up(const struct wait *wait);

/* Whether this end has shut this direction down, which ends its own waits. */
static inline bool wait_is_stopped(const struct wait *wait)
{
	/* Acquire pairs with the release in wait_stop. */
	return atomic_load_explicit(&wait->ours->ended, memory_order_acquire);
}

/* Ends all waits of this end and its co-owners in this direction, now and later.  Wakes sleepers. */
void wait_stop(struct wait *wait);

/* Undoes wait_stop. */
void wait_restart(struct wait *wait);

/* After wait_stop: whether a call of this end, a set or a bufpipe_room_fd may be asleep on the socket. */
bool wait_is_on_bell(const struct wait *wait);

/* Tells the other side that nothing will follow what is in the ring, and wakes it. */
void wait_end(struct wait *wait, uint64_t position);

/* Whether the other side is gone or has ended.  Unlike wait_hung_up, an invalid socket does not count. */
bool wait_is_over(const struct wait *wait);

/* The same if this end may have shut its own socket down for reading. */
bool wait_is_left(const struct wait *wait);

/* How long to spin now, in nanoseconds.  wait_learn takes note of how long a wait took. */
int64_t wait_budget(struct wait *wait);
void wait_learn(struct wait *wait, int64_t took);

static inline int64_t wait_expected(const struct wait *wait)
{
	return atomic_load_explicit(&wait->expected, memory_order_relaxed);
}

/*
 * Whether more messages are probably there for a receiver that has come to position:
 * its last wait was in a stream, or is long ago.  This is a guess.  Only waits that
 * spin count; for a receiver without any, as in a set, the answer is no.
 */
bool wait_flows(const struct wait *wait, uint64_t position);

/* Rings for a holder that died, because it may have published something and not rung. */
void wait_ring_again(struct wait *wait);

/* Wakes the other side if it sleeps and wants position.  -EPIPE if the other side is found to be gone. */
int wait_ring(struct wait *wait, uint64_t position);

/*
 * Whether the waiter sees a stream and no dialogue.  The word is in the line that wait_must_ring
 * has just read.
 */
static inline bool wait_streams(const struct wait *wait)
{
	return !atomic_load_explicit(&wait->theirs->single, memory_order_relaxed);
}

/* Adds to a count of rare events.  Atomic, because several holders may count at once. */
static inline void meter_add(_Atomic uint64_t *count, uint64_t n)
{
	atomic_fetch_add_explicit(count, n, memory_order_relaxed);
}

/* This is only an estimate, which the threads of a process share.  A lost update does no harm. */
static inline void wait_count(struct wait *wait)
{
	uint32_t published = atomic_load_explicit(&wait->published, memory_order_relaxed);

	atomic_store_explicit(&wait->published, published + 1, memory_order_relaxed);
}

/* Called after each publication: whether the flags of the other side need a wait_ring. */
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

/* Called after each publication: rings if need be.  Errors are those of wait_ring. */
static inline int wait_notify(struct wait *wait, uint64_t position)
{
	return wait_must_ring(wait) ? wait_ring(wait, position) : 0;
}

#endif
