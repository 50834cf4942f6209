/* SPDX-License-Identifier: MIT */
/*
 * The layout of shared memory.
 *
 * Each end has one region, a sealed memfd that only this end writes.  The other
 * end maps it read-only and trusts nothing in it.
 *
 *   offset       line          written by          read by
 *   0            identity      creator, once       both ends, once when they attach
 *   64           send_waiter   sender              receiver at the other end
 *   128          recv_waiter   receiver            sender at the other end
 *   192          head          receiver            sender at the other end, when the ring looks full,
 *                                                  and before it clears free space
 *   256          tail          sender              co-owners only
 *   320          recv_notify   receiver            co-owners only
 *   384 ..       locks         co-owners           co-owners only
 *   640          send_meter    sender              both ends and tools, for statistics
 *   768          recv_meter    receiver            the same
 *   896          about         creator, opener     the same
 *   page size    data          sender              receiver at the other end
 *
 * "Sender" and "receiver" mean the holder that sends or receives through this end.  The
 * first page holds all lines.  If the end sends, data_size bytes of ring follow.
 * Each line has 64 bytes, so that a word that is written for every message never
 * shares a cache line with a word that the other end reads for every message.
 *
 * Numbers are in the byte order of the machine.  Any change here needs a new
 * LAYOUT_VERSION: two ends of different versions refuse to make a pipe.
 */
#ifndef BUFPIPE_MEMORY_LAYOUT_H
#define BUFPIPE_MEMORY_LAYOUT_H

#include <assert.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#define LAYOUT_MAGIC   0x65706970667562ull /* "bufpipe" in memory, if little-endian */
#define LAYOUT_VERSION 14u
#define LAYOUT_LINE    64
#define LAYOUT_MAX     ((uint64_t)1 << 40) /* the largest size that a user may ask for */

/* Flags of the identity: what this end does. */
enum {
	LAYOUT_SENDS = 1 << 0,
	LAYOUT_RECEIVES = 1 << 1,
	LAYOUT_SHARED = 1 << 2,
	LAYOUT_ALL = LAYOUT_SENDS | LAYOUT_RECEIVES | LAYOUT_SHARED,
};

/* The other fields than magic, version and flags describe the ring, and are 0 if this end does not send. */
struct identity {
	uint64_t magic;
	uint32_t version;
	uint32_t flags;
	uint64_t buffer_size; /* the longest message that is one record */
	uint64_t object_size; /* not 0: a static pipe, in which every message has this length */
	uint64_t data_size;   /* bytes of ring: a power of two, at least a page */
	uint64_t limit;       /* the most bytes of records in the ring at once: data_size - 8 or less */
};

/* Flags of a waiter. */
enum {
	WAITER_FUTEX = 1 << 0,    /* a blocked call sleeps on the events of the other end */
	WAITER_DOORBELL = 1 << 1, /* a blocked call sleeps on the socket */
	WAITER_MODE = WAITER_FUTEX | WAITER_DOORBELL,
	WAITER_FENCE = 1 << 2, /* publishers must fence, because we may sleep without a membarrier */
	WAITER_FD = 1 << 3,    /* somebody polls the socket: each raise wants one byte */
	WAITER_MANY = 1 << 4,  /* somebody waits for many pipes: each raise wants one wake-up of the futex */
	WAITER_ASLEEP = WAITER_MODE | WAITER_FD | WAITER_MANY,
	/* Every publisher has seen WAITER_FENCE, or what it published before is visible. */
	WAITER_FENCED = 1 << 5,
	WAITER_LEAVE = 1 << 6, /* the bits from here count the holders that have closed this end */
};

/*
 * How one end sleeps and wakes in one direction.  flags and raises say how this
 * end sleeps.  events is the word on which the other end sleeps.
 */
struct waiter_state {
	_Atomic uint32_t flags;
	_Atomic uint32_t events;   /* futex word; incremented before each wake-up */
	_Atomic uint64_t raises;   /* how often a flag was raised; each raise is answered once */
	_Atomic uint64_t wanted;   /* the position of the publisher that is waited for; see wanted_for */
	_Atomic uint32_t cpu;      /* a hint: where this end last waited or rang */
	_Atomic uint32_t single;   /* a hint for the sender: messages come one at a time, as in a dialogue */
	_Atomic uint64_t given_up; /* sender: the last long message that it gave up: position | GIVEN_UP */
	_Atomic int32_t remote;    /* a hint: > 0 if the cache lines of the sender are remote */
	_Atomic int32_t clearing;  /* a hint: > 0 if it pays to clear these lines; see prefetch.h */
	_Atomic uint64_t ended;    /* ENDED_* */
	_Atomic uint32_t fence_stays; /* a holder cannot issue membarriers: nobody takes WAITER_FENCE back */
};

/* How this end has shut a direction down.  Each bit is there twice, because a wait for the word ignores HEAD_HELD. */
#define ENDED_STOPPED ((uint64_t)1 << 32 | 1) /* the waits of this end return */
#define ENDED_OVER    ((uint64_t)2 << 32 | 2) /* the other end finds nothing after what is in the ring */

#define GIVEN_UP ((uint64_t)2)

/*
 * Of a shared end that waits for room, `wanted` holds the low 48 bits of a position and the
 * low 16 bits of the number of raises for which it is valid.
 */
static inline uint64_t wanted_for(uint64_t position, uint64_t raises)
{
	return raises << 48 | (position & UINT64_MAX >> 16);
}

static inline int wanted_holds(uint64_t wanted, uint64_t raises)
{
	return wanted >> 48 == (raises & 0xffff);
}

/* How far position is behind the wanted one: < 0 if it is before it. */
static inline int64_t wanted_distance(uint64_t wanted, uint64_t position)
{
	return (int64_t)((position - wanted) << 16);
}

/* What a publisher remembers of the waiter at the other end, so that one comparison finds a quiet waiter. */
struct notify {
	_Atomic uint32_t quiet; /* the flags that need no action */
	_Atomic uint64_t rung;  /* the raise that was answered last, and its flags: raises << 8 | flags */
};

/*
 * A lock of the co-owners of an end.  What follows the mutex are hints that keep it fair,
 * see lock.c.  Times are in units of 65,536 ns.
 */
struct lock {
	pthread_mutex_t mutex;
	_Atomic uint32_t last;    /* the thread that took it last, by its id; written by that thread */
	_Atomic uint32_t since;   /* when that thread took it from another; written by that thread */
	_Atomic uint32_t wanted;  /* when a thread last went to sleep for it; written by that thread */
	_Atomic uint32_t changes; /* futex word: grows by 2 when another thread takes it; LOCK_ASIDE */
};

/* In changes: the thread that had the lock sleeps until another has taken it. */
#define LOCK_ASIDE ((uint32_t)1)

/* Who has a lock, for a waiter that finds out that the owner does not exist; see heal.c. */
struct lock_owner {
	/*
	 * Written by the owner, and by a waiter that takes the lock from a dead one: how often the
	 * lock was dropped, the real id of the owner, and its id in the mutex.  The ids are 0 if
	 * nobody has the lock.
	 */
	_Atomic uint64_t holder;
	/* The pid namespace in which the ids are valid; written by each process, once. */
	_Atomic uint32_t pid_space;
};

/* Which co-owner of a shared end may send now; see quick_lock.h. */
struct quick_lock {
	_Atomic uint32_t word;    /* futex word */
	_Atomic uint32_t awaited; /* 1 while the owner of send_lock waits for word; written by that owner */
};

#define QUICK_LOCK_CLAIMED 0x80000000u

/* The positions of the sender count bytes since the pipe was made.  Modulo data_size they are places. */
struct tail {
	_Atomic uint64_t tail; /* where the next record goes; too small if a co-owner died, see ring.h */
	_Atomic uint64_t next; /* equals tail, unless a send is half done or the stream has ended */
	/*
	 * The head of the receiver as last read.  No record may reach further than limit
	 * bytes beyond it.  In the first lap it is less (even below 0) while the ring has
	 * no memory that far, so that one comparison checks both room and memory.
	 */
	_Atomic uint64_t head_seen;
	struct notify notify;
	struct quick_lock quick_lock;
	_Atomic uint64_t settled; /* a hint: free space before this was cleared or skipped; see prefetch.h */
	_Atomic uint64_t records; /* how many were published, without the end of the stream */
};

/*
 * Statistics of one direction at one end, for bufpipe_get_stats and for tools.  The
 * sender or the receiver writes them where it waits anyway.  Nothing depends on
 * them.  The last step of a count may be lost when a holder is killed.
 */
struct meter {
	_Atomic uint64_t waits;      /* calls that found the ring full or empty and waited */
	_Atomic uint64_t refusals;   /* tries that found the ring full or empty and gave up */
	_Atomic uint64_t sleeps;     /* times that a blocked call slept in the kernel */
	_Atomic uint64_t slept;      /* nanoseconds of these sleeps */
	_Atomic uint64_t since;      /* CLOCK_MONOTONIC when the current sleep began; 0: nobody sleeps */
	_Atomic uint64_t rings;      /* wake-ups of the other end */
	_Atomic uint64_t fragments;  /* records that continue a long message: RECORD_MORE */
	_Atomic uint64_t high_water; /* sender: the most bytes found in the ring by a look at the head */
	_Atomic uint32_t steps;      /* sender: steps of clearing; some are measured, see prefetch.h */
};

#define LAYOUT_NAME 208 /* bytes of a name, with the 0 at its end */

/* For tools: which pipe this region belongs to. */
struct about {
	_Atomic uint64_t peer;  /* the inode of the other end's region, according to this end */
	char name[LAYOUT_NAME]; /* from the options */
};

struct control {
	_Alignas(LAYOUT_LINE) struct identity identity;
	_Alignas(LAYOUT_LINE) struct waiter_state send_waiter;
	_Alignas(LAYOUT_LINE) struct waiter_state recv_waiter;
	/* All before it is consumed.  With HEAD_HELD.  The receiver alone writes it. */
	_Alignas(LAYOUT_LINE) _Atomic uint64_t head;
	_Atomic uint64_t released; /* records consumed with the lock held, or without co-owners */
	_Atomic uint64_t taken;    /* records consumed without the lock, by ring_take */
	_Alignas(LAYOUT_LINE) struct tail tail;
	_Alignas(LAYOUT_LINE) struct notify recv_notify;
	/* In shared ends the owner of send_lock sends or waits for room, */
	_Alignas(LAYOUT_LINE) struct lock send_lock;
	/* the owner of recv_lock receives, */
	_Alignas(LAYOUT_LINE) struct lock recv_lock;
	/* and the owner of lead_lock waits for messages, for all receivers. */
	_Alignas(LAYOUT_LINE) struct lock lead_lock;
	/* In all ends the owner of doorbell_lock takes old bytes out of the socket. */
	_Alignas(LAYOUT_LINE) struct lock doorbell_lock;
	_Alignas(LAYOUT_LINE) struct meter send_meter;
	_Alignas(LAYOUT_LINE) struct meter recv_meter;
	_Alignas(LAYOUT_LINE) struct about about;
	_Alignas(LAYOUT_LINE) struct lock_owner send_owner;
	struct lock_owner recv_owner;
	struct lock_owner lead_owner;
};

/*
 * A bit in the head of a shared end.  While it is set, only the owner of recv_lock
 * may consume the record at the head.  While it is clear, any co-owner may consume
 * the record, by moving the head with a compare-and-swap.
 */
#define HEAD_HELD ((uint64_t)1)

/*
 * A record is an 8-byte header and the payload, 8-byte aligned.  The header is
 * the commit word: it is 0 before the record is published, and never 0 afterwards.
 *
 *   bits 0-47   length of the payload
 *   bits 56-63  RECORD_* flags, never 0
 */
#define RECORD_HEADER 8
#define RECORD_LENGTH (((uint64_t)1 << 48) - 1)
#define RECORD_WHOLE  ((uint64_t)1 << 56) /* a message */
#define RECORD_FIRST  ((uint64_t)1 << 57) /* a long message begins: 8 bytes of length, the first fragment */
#define RECORD_MORE   ((uint64_t)1 << 58) /* the next fragment of a long message, up to its length */
#define RECORD_END    ((uint64_t)1 << 59) /* the end of the stream: no payload, no further record */

static_assert(sizeof(struct identity) <= LAYOUT_LINE, "identity is one line");
static_assert(sizeof(struct waiter_state) <= LAYOUT_LINE, "a waiter is one line");
static_assert(sizeof(struct tail) <= LAYOUT_LINE, "the tail is one line");
static_assert(sizeof(struct lock) <= LAYOUT_LINE, "a lock is one line");
static_assert(offsetof(struct control, identity) == 0, "layout");
static_assert(offsetof(struct control, send_waiter) == 64, "layout");
static_assert(offsetof(struct control, recv_waiter) == 128, "layout");
static_assert(offsetof(struct control, head) == 192, "layout");
static_assert(offsetof(struct control, tail) == 256, "layout");
static_assert(offsetof(struct control, recv_notify) == 320, "layout");
static_assert(offsetof(struct control, send_lock) == 384, "layout");
static_assert(offsetof(struct control, doorbell_lock) == 576, "layout");
static_assert(offsetof(struct control, released) == 200 && offsetof(struct control, taken) == 208, "layout");
static_assert(offsetof(struct control, send_meter) == 640, "layout");
static_assert(offsetof(struct control, recv_meter) == 768, "layout");
static_assert(offsetof(struct control, about) == 896, "layout");
static_assert(offsetof(struct control, send_owner) == 1152, "layout");
static_assert(sizeof(struct control) == 1216, "layout");
static_assert(offsetof(struct waiter_state, events) == 4 && offsetof(struct waiter_state, raises) == 8 &&
		      offsetof(struct waiter_state, wanted) == 16 &&
		      offsetof(struct waiter_state, cpu) == 24 &&
		      offsetof(struct waiter_state, single) == 28 &&
		      offsetof(struct waiter_state, given_up) == 32 &&
		      offsetof(struct waiter_state, remote) == 40 &&
		      offsetof(struct waiter_state, clearing) == 44 &&
		      offsetof(struct waiter_state, ended) == 48 &&
		      offsetof(struct waiter_state, fence_stays) == 56,
	      "layout");
static_assert(offsetof(struct identity, version) == 8 && offsetof(struct identity, data_size) == 32 &&
		      offsetof(struct identity, limit) == 40,
	      "layout");
static_assert(sizeof(_Atomic uint64_t) == 8 && ATOMIC_LLONG_LOCK_FREE == 2 && ATOMIC_INT_LOCK_FREE == 2,
	      "shared words are plain machine words");

/* The ring bytes that a record of len payload bytes takes. */
static inline uint64_t record_size(uint64_t len)
{
	return RECORD_HEADER + ((len + 7) & ~(uint64_t)7);
}

#endif
