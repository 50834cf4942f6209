/* SPDX-License-Identifier: MIT */
/*
 * What is where in shared memory.
 *
 * An end has one region, a sealed memfd that it alone writes.  The other end
 * maps it read-only and believes nothing in it.
 *
 *   offset          line           written by            read by
 *   0               identity       creator, once         both sides, once at attach
 *   64              send_waiter      who sends             the other side's receiver
 *   128             recv_waiter      who receives          the other side's sender
 *   192             head           who receives          the other side's sender, when the ring looks full, or
 *                                                        before free space is cleared
 *   256             tail           who sends             co-owners only
 *   320             recv_notify    who receives          co-owners only
 *   384 ..          locks          co-owners             co-owners only
 *   640             send_meter     who sends             both sides, and tools, to look
 *   768             recv_meter     who receives          the same
 *   896             about          creator; who opens it the same
 *   page size       data           who sends             the other side's receiver
 *
 * One page of control, then, if the end sends, data_size bytes of ring.  Each
 * line is 64 bytes, so that nothing written for every message shares a cache
 * line with something that the other side reads for every message.
 *
 * Numbers are in the byte order of the machine.  Any change here changes
 * LAYOUT_VERSION; an end of another version is refused when it is met.
 */
#ifndef BUFPIPE_MEMORY_LAYOUT_H
#define BUFPIPE_MEMORY_LAYOUT_H

#include <assert.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#define LAYOUT_MAGIC   0x65706970667562ull /* "bufpipe" in memory, if little-endian */
#define LAYOUT_VERSION 12u
#define LAYOUT_LINE    64
#define LAYOUT_MAX     ((uint64_t)1 << 40) /* of any size that a user may ask for */

/* Identity flags: what this end does, and how. */
enum {
	LAYOUT_SENDS = 1 << 0,
	LAYOUT_RECEIVES = 1 << 1,
	LAYOUT_SHARED = 1 << 2,
	LAYOUT_ALL = LAYOUT_SENDS | LAYOUT_RECEIVES | LAYOUT_SHARED,
};

/*
 * What the region is.  buffer_size, data_size and limit describe the ring that
 * this end sends through; they are 0 if it does not send.
 */
struct identity {
	uint64_t magic;
	uint32_t version;
	uint32_t flags;
	uint64_t buffer_size; /* the longest message that is one record */
	uint64_t object_size; /* not 0: static, every message has this length */
	uint64_t data_size;   /* bytes of ring: a power of two, at least a page */
	uint64_t limit;       /* bytes of records in the ring at once, at most data_size - 8 */
};

/* Flags of a waiter. */
enum {
	WAITER_FUTEX = 1 << 0,    /* asleep on the other side's events */
	WAITER_DOORBELL = 1 << 1, /* asleep on the socket */
	WAITER_MODE = WAITER_FUTEX | WAITER_DOORBELL,
	WAITER_FENCE = 1 << 2, /* the publisher must fence: we issue no membarrier before we sleep */
	WAITER_FD = 1 << 3,    /* somebody polls the socket: a byte for each raise */
	WAITER_MANY = 1 << 4,  /* somebody waits for many pipes: a wake-up of the futex for each raise */
	WAITER_ASLEEP = WAITER_MODE | WAITER_FD | WAITER_MANY,
	WAITER_FENCED =
		1 << 5, /* every publisher has seen WAITER_FENCE, or what it published before is visible */
	WAITER_LEAVE = 1 << 6, /* counted in the bits from here: how many holders let go */
};

/*
 * One direction's sleeping and waking, as one end does it: flags and raises say
 * how this end sleeps, events is what the other end sleeps on.
 */
struct waiter_state {
	_Atomic uint32_t flags;
	_Atomic uint32_t events;   /* futex word; bumped before each wake-up */
	_Atomic uint64_t raises;   /* how often the mode was raised: one ring each */
	_Atomic uint64_t wanted;   /* sender: the head worth a wake-up from WAITER_FUTEX */
	_Atomic uint32_t cpu;      /* a hint: where this end last waited or rang */
	_Atomic uint32_t single;   /* a hint for the sender: messages come one at a time, as in a dialogue */
	_Atomic uint64_t given_up; /* sender: the long message that it gave up last: position | GIVEN_UP */
	_Atomic int32_t afar; /* a hint for both sides: more than 0 if the sender's lines come from afar */
	_Atomic int32_t clearing; /* the same: if it pays to clear them; see prefetch.h */
	_Atomic uint64_t ended; /* ENDED_*; the waits of this end also sleep on its first half, as a futex */
};

/* Of a direction that was shut down from this end: each bit is in both halves, so that both are futex words. */
#define ENDED_STOPPED ((uint64_t)1 << 32 | 1) /* this end's own waits end */
#define ENDED_OVER    ((uint64_t)2 << 32 | 2) /* for the other end: nothing follows what is in the ring */

#define GIVEN_UP ((uint64_t)2)

/* What the publisher remembers of the other side's waiter state, so that a quiet one costs one compare. */
struct notify {
	_Atomic uint32_t quiet; /* the flags that call for nothing */
	_Atomic uint64_t rung;  /* the raise that was answered, and the flags it had: raises << 8 | flags */
};

/* Of a shared end that sends: whose turn it is; see quick_lock.h. */
struct quick_lock {
	_Atomic uint32_t word;    /* futex word */
	_Atomic uint32_t awaited; /* who holds the lock waits for the word: written by it */
};

#define QUICK_LOCK_CLAIMED 0x80000000u

/* The sender's positions.  Bytes since the pipe was made; the place is the position modulo data_size. */
struct tail {
	_Atomic uint64_t tail; /* where the next record goes, or a little before: the ring is the truth */
	_Atomic uint64_t next; /* the tail; else a send is half done, or the stream has ended */
	/*
	 * What was written before it is consumed: no record reaches further than limit
	 * bytes beyond it.  The receiver's head as last read; less, and in the first lap
	 * below 0, while the ring has no memory up to there.  So one compare guards both.
	 */
	_Atomic uint64_t head_seen;
	struct notify notify;
	struct quick_lock quick_lock;
	_Atomic uint64_t
		settled; /* a hint: free space up to here was cleared in advance, or left; see prefetch.h */
	_Atomic uint64_t records; /* how many were published, without the end of the stream */
};

/*
 * How one direction fares, as one end sees it: for bufpipe_get_stats and for tools.
 * Written by who sends or who receives, where it waits anyway; nothing depends on it.
 * A holder that is killed may leave the last step of one count undone.
 */
struct meter {
	_Atomic uint64_t waits;      /* calls that found the ring full, or empty, and waited */
	_Atomic uint64_t refusals;   /* tries that found it so, and gave up */
	_Atomic uint64_t sleeps;     /* of a blocked call, in the kernel */
	_Atomic uint64_t slept;      /* nanoseconds in these */
	_Atomic uint64_t since;      /* CLOCK_MONOTONIC when the sleep began that lasts; 0: none */
	_Atomic uint64_t rings;      /* wake-ups of the other side */
	_Atomic uint64_t pieces;     /* records that go on with a long message: RECORD_MORE */
	_Atomic uint64_t high_water; /* sender: the most bytes in the ring that a look found */
	_Atomic uint32_t steps; /* sender: of clearing, counted to measure now and then; see prefetch.h */
};

#define LAYOUT_NAME 208 /* bytes of a name, with the 0 at its end */

/* Whose region this is, for tools. */
struct about {
	_Atomic uint64_t peer;  /* the inode of the other end's region, as this end says */
	char name[LAYOUT_NAME]; /* of the options */
};

struct control {
	_Alignas(LAYOUT_LINE) struct identity identity;
	_Alignas(LAYOUT_LINE) struct waiter_state send_waiter;
	_Alignas(LAYOUT_LINE) struct waiter_state recv_waiter;
	_Alignas(LAYOUT_LINE) _Atomic uint64_t head; /* everything before it has been consumed; HEAD_HELD */
	_Atomic uint64_t released;                   /* how many records, by who had the turn, */
	_Atomic uint64_t taken;                      /* and by who had only the head to move; see ring_take */
	_Alignas(LAYOUT_LINE) struct tail tail;
	_Alignas(LAYOUT_LINE) struct notify recv_notify;
	_Alignas(LAYOUT_LINE)
		pthread_mutex_t send_lock; /* shared ends: one sends, or waits for room, at a time */
	_Alignas(LAYOUT_LINE) pthread_mutex_t recv_lock;     /* shared ends: one takes messages at a time */
	_Alignas(LAYOUT_LINE) pthread_mutex_t lead_lock;     /* shared ends: one waits for messages */
	_Alignas(LAYOUT_LINE) pthread_mutex_t doorbell_lock; /* one sleeps on the socket */
	_Alignas(LAYOUT_LINE) struct meter send_meter;
	_Alignas(LAYOUT_LINE) struct meter recv_meter;
	_Alignas(LAYOUT_LINE) struct about about;
};

/*
 * In the head of a shared end: who holds recv_lock works on the record there.
 * Else anyone may consume it, by moving the head with a compare-and-swap.
 */
#define HEAD_HELD ((uint64_t)1)

/*
 * A record: an 8-byte header and the payload, 8-byte aligned.  The header is
 * the commit word: 0 until the record is published, and never 0 then.
 *
 *   bits 0-47   length of the payload
 *   bits 56-63  RECORD_* flags, never 0
 */
#define RECORD_HEADER 8
#define RECORD_LENGTH (((uint64_t)1 << 48) - 1)
#define RECORD_WHOLE  ((uint64_t)1 << 56) /* a message */
#define RECORD_FIRST \
	((uint64_t)1 << 57) /* a long message begins: its total length, 8 bytes, then its first piece */
#define RECORD_MORE ((uint64_t)1 << 58) /* the next piece; the message is whole when the total is reached */
#define RECORD_END  ((uint64_t)1 << 59) /* end of stream; no payload, no further record */

static_assert(sizeof(struct identity) <= LAYOUT_LINE, "identity is one line");
static_assert(sizeof(struct waiter_state) <= LAYOUT_LINE, "a waiter is one line");
static_assert(sizeof(struct tail) <= LAYOUT_LINE, "the tail is one line");
static_assert(sizeof(pthread_mutex_t) <= LAYOUT_LINE, "a lock is one line");
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
static_assert(sizeof(struct control) == 1152, "layout");
static_assert(offsetof(struct waiter_state, events) == 4 && offsetof(struct waiter_state, raises) == 8 &&
		      offsetof(struct waiter_state, wanted) == 16 &&
		      offsetof(struct waiter_state, cpu) == 24 &&
		      offsetof(struct waiter_state, single) == 28 &&
		      offsetof(struct waiter_state, given_up) == 32 &&
		      offsetof(struct waiter_state, afar) == 40 &&
		      offsetof(struct waiter_state, clearing) == 44 &&
		      offsetof(struct waiter_state, ended) == 48,
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
