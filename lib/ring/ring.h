/* SPDX-License-Identifier: MIT */
/*
 * The data path.  One sender appends records, and one receiver consumes them.  No
 * call here enters the kernel, except to allocate the memory of the first lap.
 *
 *        head                      tail
 *          |                         |
 *   ... ---+--------+--------+-------+---+----------- ...
 *   free   | record | record | record| 0 |       free
 *   ... ---+--------+--------+-------+---+----------- ...
 *
 * The sender publishes a record by the store of its header.  Before that it zeroes
 * the header that will follow.  So the receiver finds 0 or a whole record at its
 * position, and never what was left there a lap ago.  Room for this one header is
 * always kept; the end of the stream is stored there.
 *
 * There is no shared index: the receiver polls the header itself, so a message
 * moves in the cache lines of its record alone.
 *
 * The ring stays consistent if a process dies at any instruction.  The receiver
 * consumes a record by one store to its head.  A sender that dies may leave a tail
 * that is too small, because it had published a record and not yet moved the tail.
 * The next sender must notice this.  The header at the tail would tell, but the
 * receiver has just polled the line of that header, so the line would travel twice:
 * once for reading and once for writing.  So before a sender publishes, it stores
 * the next value of the tail in its own line (next).  The following sender reads the
 * ring only if next differs from the tail.
 */
#ifndef BUFPIPE_RING_RING_H
#define BUFPIPE_RING_RING_H

#include "base/sys.h"
#include "memory/layout.h"

#include <stdbool.h>

struct sender {
	char *data;
	uint64_t mask;
	uint64_t limit;
	struct tail *own;
	struct waiter_state *waiter;  /* ours: hints that the receiver reads */
	struct meter *meter;          /* ours */
	const _Atomic uint64_t *head; /* written by the receiver; not trusted */
};

struct receiver {
	const char *data; /* written by the sender; not trusted */
	uint64_t mask;
	uint64_t limit;
	_Atomic uint64_t *head;
};

static inline _Atomic uint64_t *sender_header(const struct sender *s, uint64_t position)
{
	return (_Atomic uint64_t *)(void *)(s->data + (position & s->mask));
}

static inline const _Atomic uint64_t *receiver_header(const struct receiver *r, uint64_t position)
{
	return (const _Atomic uint64_t *)(const void *)(r->data + (position & r->mask));
}

static inline uint64_t sender_tail(const struct sender *s)
{
	return atomic_load_explicit(&s->own->tail, memory_order_relaxed);
}

/* A count in the line of the head, found by its offset in struct control, which spares a pointer to load. */
static inline _Atomic uint64_t *receiver_count(const struct receiver *r, size_t place)
{
	return r->head + (place - offsetof(struct control, head)) / sizeof(*r->head);
}

/*
 * Increments a count that only we write at this moment.  Relaxed: no other memory
 * depends on it.  On x86-64 this is one instruction; gcc would make three of it.
 */
static inline void count_step(_Atomic uint64_t *count)
{
#if defined(__x86_64__) && !defined(__SANITIZE_THREAD__)
	__asm__ volatile("incq %0" : "+m"(*count));
#else
	atomic_store_explicit(count, atomic_load_explicit(count, memory_order_relaxed) + 1,
			      memory_order_relaxed);
#endif
}

static inline uint64_t receiver_head(const struct receiver *r)
{
	return atomic_load_explicit(r->head, memory_order_relaxed) & ~HEAD_HELD;
}

/* Room for a record of len payload bytes.  If NULL, call ring_make_room for the reason. */
static inline void *ring_reserve(const struct sender *s, uint64_t len)
{
	uint64_t tail = sender_tail(s);
	uint64_t used = tail - atomic_load_explicit(&s->own->head_seen, memory_order_relaxed);

	if (unlikely(used + record_size(len) > s->limit))
		return NULL;
	/* A co-owner died while it published a record, or the stream has ended. */
	if (unlikely(atomic_load_explicit(&s->own->next, memory_order_relaxed) != tail))
		return NULL;
	return s->data + (tail & s->mask) + RECORD_HEADER;
}

/* Publishes what was written into the reserved room.  flags is one of RECORD_*.  Returns the new tail. */
static inline uint64_t ring_commit(const struct sender *s, uint64_t len, uint64_t flags)
{
	uint64_t tail = sender_tail(s);
	uint64_t next = tail + record_size(len);

	atomic_store_explicit(sender_header(s, next), 0, memory_order_relaxed);
	/*
	 * After the 0, which is mostly in the line of the payload; before the 0 a round trip took
	 * 8 % more.
	 */
	atomic_store_explicit(&s->own->next, next, memory_order_relaxed);
	/*
	 * Pairs with the acquire in ring_peek: a receiver that sees the header also sees
	 * the payload and the 0 behind it.  Without it the receiver could read an old
	 * payload, or take a stale word for the next header.  It also keeps the store of
	 * next before the header, so that the next sender notices if we die here.
	 */
	atomic_store_explicit(sender_header(s, tail), flags | len, memory_order_release);
	/* The tail must not come first: if we died in between, the receiver would wait at the 0 for ever. */
	atomic_signal_fence(memory_order_seq_cst);
	atomic_store_explicit(&s->own->tail, next, memory_order_relaxed);
	count_step(&s->own->records);
	return next;
}

/*
 * Completes the send of a co-owner that died, and loads the receiver's head again.
 *   0        there is room for len bytes
 *   -EAGAIN  there is no room yet, and head_seen is the head
 *   -EPIPE   this end has ended the stream
 *   -EPROTO  the receiver's head is impossible
 *   -ENOMEM  the kernel gives the ring no memory for the record; nothing has changed
 */
int ring_make_room(const struct sender *s, uint64_t len);

/*
 * Loads the receiver's head again, for a sender that has nothing to send: 0, -EPROTO if
 * the head is impossible, or -EPIPE after ring_refuse, which this does not undo.
 */
int ring_look(const struct sender *s);

/*
 * Makes ring_reserve fail, so that the next send calls ring_make_room.  The caller
 * does not hold the quick lock.  A sender that is in ring_make_room at this moment may
 * undo this, so after that, and a fence, it must check whether somebody has called
 * this.
 */
static inline void ring_refuse(const struct sender *s)
{
	const uint64_t far = (uint64_t)1 << 62;

	atomic_thread_fence(memory_order_seq_cst);
	atomic_store_explicit(&s->own->head_seen, sender_tail(s) - far, memory_order_relaxed);
}

/*
 * For bufpipe_drain, with the quick lock held: the receiver's head without
 * HEAD_HELD, and how many bytes of records are not consumed yet.  0, or -EPROTO if
 * the head is impossible.
 */
int ring_unread(const struct sender *s, uint64_t *head, uint64_t *unread);

/* Publishes the end of the stream.  Needs no room.  A second call does nothing. */
void ring_end(const struct sender *s);

/*
 * Replaces the last record, of len bytes up to tail, by the end of the stream.  A
 * receiver that is just reading the record may still receive it.
 */
void ring_take_back(const struct sender *s, uint64_t tail, uint64_t len);

/* The header at head, or 0 if there is none.  *payload is valid if ring_valid accepts the header. */
static inline uint64_t ring_peek(const struct receiver *r, const char **payload)
{
	uint64_t head = receiver_head(r);
	const char *at = r->data + (head & r->mask);

	*payload = at + RECORD_HEADER;
	/* Pairs with the release in ring_commit. */
	return atomic_load_explicit((const _Atomic uint64_t *)(const void *)at, memory_order_acquire);
}

/*
 * The header at head, or 0 if there is none, read without any lock.  The header
 * counts only if the head did not move meanwhile: otherwise the payload of a later
 * lap may be in its place.  If the head keeps moving, messages flow, and this
 * reports one.
 */
static inline uint64_t ring_glance(const struct receiver *r)
{
	enum { LOOKS = 8 };

	for (int i = 0; i < LOOKS; i++) {
		uint64_t head = receiver_head(r);
		/* Pairs with the release in ring_commit, and keeps the second load of the head after this. */
		uint64_t header = atomic_load_explicit(receiver_header(r, head), memory_order_acquire);

		if (receiver_head(r) == head)
			return header;
	}
	return RECORD_WHOLE;
}

/*
 * The bytes of records in the ring at some moment during the call, read without any
 * lock.  The head is loaded before the tail: the other order could give less than
 * there ever was.  It is loaded again afterwards: if both moved meanwhile, the
 * difference could be more than the ring holds.  If the head keeps moving, the
 * receiver makes room, and this returns 0.  The head may be ahead of the tail, when
 * a sender has published a record and not yet moved its tail: then the ring is
 * empty.  If a receiver lies about its head, the result is wrong, and nothing else.
 */
static inline uint64_t ring_used(const struct sender *s)
{
	enum { LOOKS = 8 };

	for (int i = 0; i < LOOKS; i++) {
		/* Acquire keeps the load of the tail after this.  A send loads the head again: read_head. */
		uint64_t head = atomic_load_explicit(s->head, memory_order_acquire) & ~HEAD_HELD;
		/* Acquire keeps the second load of the head after this. */
		uint64_t tail = atomic_load_explicit(&s->own->tail, memory_order_acquire);
		int64_t used = (int64_t)(tail - head);

		if ((atomic_load_explicit(s->head, memory_order_relaxed) & ~HEAD_HELD) == head)
			return used > 0 ? (uint64_t)used : 0;
	}
	return 0;
}

/* Whether the layout allows a header.  If so, its payload lies inside the mapping. */
static inline int ring_valid(const struct receiver *r, uint64_t header)
{
	uint64_t flags = header & ~RECORD_LENGTH;
	uint64_t len = header & RECORD_LENGTH;

	if (flags != RECORD_WHOLE && flags != RECORD_FIRST && flags != RECORD_MORE && flags != RECORD_END)
		return 0;
	return record_size(len) <= r->limit;
}

/* Consumes the record at head, of len payload bytes.  Returns the new head. */
static inline uint64_t ring_release(const struct receiver *r, uint64_t len)
{
	uint64_t head = atomic_load_explicit(r->head, memory_order_relaxed) + record_size(len);

	/* Pairs with the acquire in read_head: we have read the payload before its room is used again. */
	atomic_store_explicit(r->head, head, memory_order_release);
	count_step(receiver_count(r, offsetof(struct control, released)));
	return head & ~HEAD_HELD;
}

/*
 * The same without a lock, for one of several receivers that has copied the payload
 * already.  Its copy counts only if the head did not move meanwhile; if the head
 * moved, this returns 0.  A receiver that dies here has either consumed the record or
 * left it for the others.
 */
static inline int ring_take(const struct receiver *r, uint64_t head, uint64_t len)
{
	/* Release as in ring_release. */
	if (!atomic_compare_exchange_strong_explicit(r->head, &head, head + record_size(len),
						     memory_order_release, memory_order_relaxed))
		return 0;
	/*
	 * Atomic, because other receivers may count at the same time.  The line is in our cache already, so
	 * this takes 4 ns.  With a plain store, two receivers lost one count in eight; one exchange of the
	 * head and this word together would take 7 ns more.
	 */
	atomic_fetch_add_explicit(receiver_count(r, offsetof(struct control, taken)), 1,
				  memory_order_relaxed);
	return 1;
}

/* For the owner of recv_lock: keeps ring_take from consuming the record at the head. */
static inline void ring_hold(const struct receiver *r)
{
	/* Acquire keeps our reads of the record after this. */
	atomic_fetch_or_explicit(r->head, HEAD_HELD, memory_order_acquire);
}

/* Lets ring_take consume records again. */
static inline void ring_unhold(const struct receiver *r)
{
	/* Release pairs with the acquire in read_head, for a head that we have moved. */
	atomic_fetch_and_explicit(r->head, ~HEAD_HELD, memory_order_release);
}

#endif
