/* SPDX-License-Identifier: MIT */
/*
 * The data path.  One sender appends records, one receiver consumes them, and
 * no call here enters the kernel, but for the memory of the first lap.
 *
 *        head                      tail
 *          |                         |
 *   ... ---+--------+--------+-------+---+----------- ...
 *   free   | record | record | record| 0 |       free
 *   ... ---+--------+--------+-------+---+----------- ...
 *
 * A record is published by the store of its header.  Before that, the header
 * that will follow it is zeroed: so at its position the receiver finds 0 or a
 * whole record, never what was left there a lap ago.  Room for that one header
 * is always kept, and the end of the stream goes into it.
 *
 * The receiver needs no head index of the sender: it polls the header itself,
 * so a message moves in the cache lines of its record alone.
 *
 * Whoever dies at any instruction leaves a good ring.  The sender's tail may lag
 * behind a record that it published.  The header at the tail tells, but its line
 * is the receiver's, which has just polled it, and would have to come twice: to be
 * read, and to be written.  So a sender first stores in its own line where the tail
 * will be next, and only who finds another than the tail there reads the ring.  The
 * receiver's head is one store.
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
	struct waiter_state *waiter;  /* ours: hints, which the receiver sees */
	struct meter *meter;          /* ours */
	const _Atomic uint64_t *head; /* the receiver's; not trusted */
};

struct receiver {
	const char *data; /* the sender's; not trusted */
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

/* A count in the line of the head, by its place in the control page: a pointer of its own would be one more to load. */
static inline _Atomic uint64_t *receiver_count(const struct receiver *r, size_t place)
{
	return r->head + (place - offsetof(struct control, head)) / sizeof(*r->head);
}

/*
 * Of a count that we alone write now.  Relaxed: it says nothing of other memory.
 * For x86-64 in one instruction: gcc would make three of it, for each message.
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

/* Room for a record of len payload bytes, or NULL: then ring_make_room tells why. */
static inline void *ring_reserve(const struct sender *s, uint64_t len)
{
	uint64_t tail = sender_tail(s);
	uint64_t used = tail - atomic_load_explicit(&s->own->head_seen, memory_order_relaxed);

	if (unlikely(used + record_size(len) > s->limit))
		return NULL;
	/* Half done: a co-owner died while it published, or the stream has ended. */
	if (unlikely(atomic_load_explicit(&s->own->next, memory_order_relaxed) != tail))
		return NULL;
	return s->data + (tail & s->mask) + RECORD_HEADER;
}

/* Publishes what was written into the room: flags is one of RECORD_*.  Returns the new tail. */
static inline uint64_t ring_commit(const struct sender *s, uint64_t len, uint64_t flags)
{
	uint64_t tail = sender_tail(s);
	uint64_t next = tail + record_size(len);

	atomic_store_explicit(sender_header(s, next), 0, memory_order_relaxed);
	/* Behind the 0, which mostly is in the line of the payload: between them it made a round trip 8 % longer. */
	atomic_store_explicit(&s->own->next, next, memory_order_relaxed);
	/*
	 * Pairs with the acquire in ring_peek: who sees the header sees the payload
	 * and the 0 behind it.  Without it the receiver could read an old payload,
	 * or take a stale word for the next header.  It also keeps the store of next
	 * before the header, for who follows us if we die here.
	 */
	atomic_store_explicit(sender_header(s, tail), flags | len, memory_order_release);
	/* The tail must not be first: should we die in between, the receiver would wait at 0 for ever. */
	atomic_signal_fence(memory_order_seq_cst);
	atomic_store_explicit(&s->own->tail, next, memory_order_relaxed);
	count_step(&s->own->records);
	return next;
}

/*
 * Finishes what is half done and takes a fresh look at the head.
 * 0: there is room for len bytes; -EAGAIN: not yet, and head_seen is the head;
 * -EPIPE: this end has ended the stream; -EPROTO: the receiver's head is
 * impossible; -ENOMEM: the ring has no memory for it, and nothing is changed.
 */
int ring_make_room(const struct sender *s, uint64_t len);

/* A fresh look at the receiver's head: 0, or -EPROTO if it is impossible. */
int ring_look(const struct sender *s);

/*
 * From now on nothing fits: the next sender comes to ring_make_room.  Not in our
 * turn: a sender that is just looking at the head may undo it, so after that it must
 * look, behind a fence, whether this was called.
 */
static inline void ring_refuse(const struct sender *s)
{
	const uint64_t far = (uint64_t)1 << 62;

	atomic_thread_fence(memory_order_seq_cst);
	atomic_store_explicit(&s->own->head_seen, sender_tail(s) - far, memory_order_relaxed);
}

/*
 * For bufpipe_drain, in the turn: what has been sent and not consumed, and the
 * receiver's head, with HEAD_HELD masked.  0, or -EPROTO if that is impossible.
 */
int ring_unread(const struct sender *s, uint64_t *head, uint64_t *unread);

/* The end of the stream; a second call does nothing.  Needs no room. */
void ring_end(const struct sender *s);

/* The same before the last record, of len bytes up to tail.  Who is just reading that may still go on. */
void ring_take_back(const struct sender *s, uint64_t tail, uint64_t len);

/* The header at head: 0 when there is nothing.  *payload is where its payload is, if ring_check accepts it. */
static inline uint64_t ring_peek(const struct receiver *r, const char **payload)
{
	uint64_t head = receiver_head(r);
	const char *at = r->data + (head & r->mask);

	*payload = at + RECORD_HEADER;
	/* Pairs with the release in ring_commit. */
	return atomic_load_explicit((const _Atomic uint64_t *)(const void *)at, memory_order_acquire);
}

/*
 * A look without the turn: the header at head, or 0 when there is nothing.  It
 * counts only if the head has not moved meanwhile: else its place may hold the
 * payload of a later lap.  A head that keeps moving means that messages flow:
 * then this says that there is one.
 */
static inline uint64_t ring_glance(const struct receiver *r)
{
	enum { LOOKS = 8 };

	for (int i = 0; i < LOOKS; i++) {
		uint64_t head = receiver_head(r);
		/* Acquire pairs with the release in ring_commit, and keeps the second look at the head behind this. */
		uint64_t header = atomic_load_explicit(receiver_header(r, head), memory_order_acquire);

		if (receiver_head(r) == head)
			return header;
	}
	return RECORD_WHOLE;
}

/*
 * The bytes in the ring at some moment during the call, without the turn.  The
 * head first, and again: in the other order this could be less than there ever
 * was, and when both move meanwhile more than the ring holds.  A head that keeps
 * moving makes room: then this says that there is.  The head may be in front of the
 * tail, as the sender has published a record and not moved its tail yet: then the
 * ring is empty.  A receiver that lies about its head gets a wrong answer for it.
 */
static inline uint64_t ring_used(const struct sender *s)
{
	enum { LOOKS = 8 };

	for (int i = 0; i < LOOKS; i++) {
		/* Acquire: the tail is read behind it.  Whoever then sends looks again, with the order that needs. */
		uint64_t head = atomic_load_explicit(s->head, memory_order_acquire) & ~HEAD_HELD;
		/* Acquire: keeps the second look at the head behind this. */
		uint64_t tail = atomic_load_explicit(&s->own->tail, memory_order_acquire);
		int64_t used = (int64_t)(tail - head);

		if ((atomic_load_explicit(s->head, memory_order_relaxed) & ~HEAD_HELD) == head)
			return used > 0 ? (uint64_t)used : 0;
	}
	return 0;
}

/* Whether a header is one that the layout allows: then the payload lies inside the mapping. */
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

	/* Pairs with the acquire in ring_look: our reads of the payload come before its room is used again. */
	atomic_store_explicit(r->head, head, memory_order_release);
	count_step(receiver_count(r, offsetof(struct control, released)));
	return head & ~HEAD_HELD;
}

/*
 * The same for one of several receivers without a lock: it has copied the payload
 * already, and what it copied counts only if the head has not moved meanwhile.
 * So who dies here has consumed the record or has not.
 */
static inline int ring_take(const struct receiver *r, uint64_t head, uint64_t len)
{
	/* Release as in ring_release. */
	if (!atomic_compare_exchange_strong_explicit(r->head, &head, head + record_size(len),
						     memory_order_release, memory_order_relaxed))
		return 0;
	/* Others may count at the same time.  The line is ours since the exchange. */
	atomic_fetch_add_explicit(receiver_count(r, offsetof(struct control, taken)), 1,
				  memory_order_relaxed);
	return 1;
}

/* Keeps ring_take out, for the holder of the lock; and lets it in again. */
static inline void ring_hold(const struct receiver *r)
{
	/* Acquire: what we read of the record comes after. */
	atomic_fetch_or_explicit(r->head, HEAD_HELD, memory_order_acquire);
}

static inline void ring_unhold(const struct receiver *r)
{
	/* Release, for a head that we have moved. */
	atomic_fetch_and_explicit(r->head, ~HEAD_HELD, memory_order_release);
}

#endif
