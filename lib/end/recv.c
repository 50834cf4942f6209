/* SPDX-License-Identifier: MIT */
/* Receiving: by copy, in batches, in place, in parts. */
#include "end/incoming.h"
#include "end/reassembly.h"
#include "ring/prefetch.h"

slow_path static void fetch_flow(const bufpipe_t *p, const char *payload, uint64_t len)
{
	if (wait_flows(&p->in.wait, receiver_head(&p->receiver)))
		prefetch_payload(payload, len);
}

/*
 * Called before a record is copied.  Not in a dialogue: no record follows yet, and the sender
 * needs its lines.
 */
static inline void fetch_next(const bufpipe_t *p, const char *payload, uint64_t len)
{
	if (unlikely(prefetch_reads(p->in.wait.theirs, len)))
		fetch_flow(p, payload, len);
}

/* In our turn: takes the message that the record begins. */
static ssize_t take(bufpipe_t *p, const struct record *record, char *buf, size_t cap, struct effort *effort,
		    bool *restart)
{
	if (record->flags == RECORD_WHOLE) {
		if (record->len > cap)
			return -EMSGSIZE;
		fetch_next(p, record->payload, record->len);
		copy_bytes(buf, record->payload, record->len);
		record_consume(p, record->len);
		return (ssize_t)record->len;
	}
	return reassembly_take(p, record, buf, cap, effort, restart);
}

/* The effort of a message that begins and is never complete. */
#define RESTART 64

slow_path static ssize_t recv_any(bufpipe_t *p, void *buf, size_t cap, int64_t timeout_ns)
{
	struct effort effort = { .deadline = time_deadline(timeout_ns) };
	uint64_t begin = p->in.state & DIRECTION_NONE ? 0 : receiver_head(&p->receiver);
	struct record record;
	bool restart;
	ssize_t r;

	do {
		restart = false;
		if (reassembly_in_middle(p)) {
			r = reassembly_resume(p, buf, cap, &effort, &restart);
		} else {
			r = incoming_await(p, &record, &effort);
			if (r < 0)
				return r;
			r = take(p, &record, buf, cap, &effort, &restart);
		}
		if (reassembly_in_middle(p))
			break;
		direction_leave(&p->in);
		if (restart) {
			r = effort_spend(&effort, RESTART);
			if (r == 0)
				r = incoming_glance_after_lap(p, begin);
		}
	} while (restart && r == 0);
	return r == -ETIMEDOUT ? incoming_time_is_up(p, effort.deadline) : r;
}

/* The fast path of an exclusive end.  -EAGAIN: there is no message; -EBUSY: recv_any is needed. */
static inline ssize_t take_plain(bufpipe_t *p, void *buf, size_t cap)
{
	const char *payload;
	uint64_t header = ring_peek(&p->receiver, &payload);
	uint64_t len = header - RECORD_WHOLE;

	if (unlikely(!record_whole(&p->in, header) || len > cap))
		return header ? -EBUSY : -EAGAIN;
	fetch_next(p, payload, len);
	copy_bytes(buf, payload, len);
	record_consume(p, len);
	return (ssize_t)len;
}

/*
 * A larger message is copied under the lock, so that several receivers do not all copy it, all but
 * one in vain.
 */
#define TAKE_MAX 4096

/*
 * The fast path of a shared end: copies the message, and then takes it if no other
 * receiver was quicker.  Errors as take_plain.
 */
static ssize_t take_shared(bufpipe_t *p, void *buf, size_t cap)
{
	for (bool first = true;; first = false) {
		/*
		 * Acquire pairs with the release in ring_take: we see at least what that receiver
		 * saw in the ring.
		 */
		uint64_t head = atomic_load_explicit(p->receiver.head, memory_order_acquire);
		const char *at = p->receiver.data + (head & p->receiver.mask);
		uint64_t header;
		uint64_t len;

		if (head & HEAD_HELD)
			return -EBUSY;
		/* Acquire pairs with the release in ring_commit. */
		header = atomic_load_explicit((const _Atomic uint64_t *)(const void *)at,
					      memory_order_acquire);
		len = header - RECORD_WHOLE;
		if (!record_whole(&p->in, header) || len > cap || len > TAKE_MAX)
			return header ? -EBUSY : -EAGAIN;
		/* Only the first time: a receiver that was quicker has prefetched the same lines. */
		if (first)
			fetch_next(p, at + RECORD_HEADER, len);
		copy_bytes(buf, at + RECORD_HEADER, len);
		if (ring_take(&p->receiver, head, len)) {
			wait_notify(&p->in.wait, head + record_size(len));
			return (ssize_t)len;
		}
	}
}

ssize_t bufpipe_recv(bufpipe_t *p, void *buf, size_t cap, int64_t timeout_ns)
{
	int64_t deadline = TIME_TRY;
	ssize_t r;

	if (unlikely(!p || (!buf && cap) || !timeout_valid(timeout_ns)))
		return -EINVAL;
	for (;;) {
		if (likely(!p->in.state))
			r = take_plain(p, buf, cap);
		else if (p->in.state == DIRECTION_SHARED)
			r = take_shared(p, buf, cap);
		else
			r = -EBUSY;
		if (likely(r >= 0))
			return r;
		if (r != -EAGAIN || timeout_ns == 0)
			return recv_any(p, buf, cap, timeout_ns);
		if (deadline == TIME_TRY)
			deadline = time_deadline(timeout_ns);
		r = record_wait(p, NULL, deadline);
		if (r < 0)
			return r;
	}
}

ssize_t bufpipe_next(bufpipe_t *p, int64_t timeout_ns)
{
	struct effort effort = { .deadline = time_deadline(timeout_ns) };
	struct record record;
	uint64_t len;
	int r;

	if (!p || !timeout_valid(timeout_ns))
		return -EINVAL;
	r = incoming_await(p, &record, &effort);
	if (r < 0)
		return r;
	len = record.len;
	if (record.flags == RECORD_FIRST)
		r = reassembly_total(&p->in, &record, &len);
	else if (record.flags == RECORD_MORE)
		len = p->partial.total;
	direction_leave(&p->in);
	return r < 0 ? r : (ssize_t)len;
}

/* In our turn: receives the whole messages that are there and fit.  Does not wake the sender. */
static unsigned recv_rest(bufpipe_t *p, struct iovec *messages, unsigned n)
{
	struct record record;
	unsigned got;

	for (got = 0; got < n; got++) {
		struct iovec *m = &messages[got];

		if (record_look(p, &record) < 0 || record.flags != RECORD_WHOLE)
			break;
		if (record.len > m->iov_len || (!m->iov_base && m->iov_len))
			break;
		fetch_next(p, record.payload, record.len);
		copy_bytes(m->iov_base, record.payload, record.len);
		m->iov_len = record.len;
		ring_release(&p->receiver, record.len);
	}
	return got;
}

ssize_t bufpipe_recv_many(bufpipe_t *p, struct iovec *messages, unsigned n, int64_t timeout_ns)
{
	unsigned more;
	ssize_t r;

	if (!p || !messages || !n)
		return -EINVAL;
	r = bufpipe_recv(p, messages[0].iov_base, messages[0].iov_len, timeout_ns);
	if (r < 0)
		return r;
	messages[0].iov_len = (size_t)r;
	if (n == 1 || direction_enter(&p->in, TIME_TRY) < 0)
		return 1;
	more = recv_rest(p, messages + 1, n - 1);
	if (more)
		wait_notify(&p->in.wait, receiver_head(&p->receiver));
	direction_leave(&p->in);
	return 1 + more;
}

ssize_t bufpipe_peek(bufpipe_t *p, const void **buf, int64_t timeout_ns)
{
	struct effort effort = { .deadline = time_deadline(timeout_ns) };
	struct record record;
	int r;

	if (!p || !buf || !timeout_valid(timeout_ns))
		return -EINVAL;
	r = incoming_await(p, &record, &effort);
	if (r < 0)
		return r;
	if (record.flags != RECORD_WHOLE) {
		direction_leave(&p->in);
		return -EMSGSIZE;
	}
	direction_open(&p->in, record.len);
	*buf = record.payload;
	return (ssize_t)record.len;
}

int bufpipe_release(bufpipe_t *p)
{
	if (!p || !direction_is_open(&p->in))
		return -EINVAL;
	if (reassembly_in_middle(p) || direction_in_parts(&p->in)) {
		/* Drop the beginning.  The next receiver skips the rest. */
		reassembly_drop(p);
		direction_close(&p->in);
		return 0;
	}
	/* Use the length that was checked: the sender may have changed the header since. */
	record_consume(p, p->in.open_len);
	direction_close(&p->in);
	return 0;
}

int bufpipe_unpeek(bufpipe_t *p)
{
	if (!p || !direction_is_open(&p->in) || reassembly_in_middle(p) || direction_in_parts(&p->in))
		return -EINVAL;
	direction_close(&p->in);
	return 0;
}

int bufpipe_peek_copy(const bufpipe_t *p, void *buf, size_t offset, size_t len)
{
	const struct receiver *r;

	if (!p || (!buf && len) || !direction_is_open(&p->in))
		return -EINVAL;
	if (reassembly_in_middle(p) || direction_in_parts(&p->in))
		return -EINVAL;
	if (offset > p->in.open_len || len > p->in.open_len - offset)
		return -EINVAL;
	r = &p->receiver;
	copy_bytes(buf, r->data + (receiver_head(r) & r->mask) + RECORD_HEADER + offset, len);
	return 0;
}

/* In our turn: receives the first part of the next message. */
static ssize_t take_first_part(bufpipe_t *p, const struct record *record, void *buf, size_t cap,
			       struct effort *effort)
{
	int r;

	if (record->flags == RECORD_WHOLE)
		return take(p, record, buf, cap, effort, NULL);
	if (record->flags == RECORD_MORE)
		return -EBUSY; /* an earlier bufpipe_recv has kept the beginning */
	if (!cap)
		return -EMSGSIZE;
	r = parts_begin(p, record);
	return r < 0 ? r : parts_take(p, buf, cap, effort);
}

ssize_t bufpipe_recv_part(bufpipe_t *p, void *buf, size_t cap, size_t *after, int64_t timeout_ns)
{
	struct effort effort = { .deadline = time_deadline(timeout_ns) };
	struct record record;
	ssize_t r;

	if (!p || (!buf && cap) || !after || !timeout_valid(timeout_ns))
		return -EINVAL;
	if (direction_in_parts(&p->in)) {
		direction_resume(&p->in);
		r = parts_take(p, buf, cap, &effort);
	} else if (reassembly_in_middle(p)) {
		return -EBUSY;
	} else {
		r = incoming_await(p, &record, &effort);
		if (r < 0)
			return r;
		r = take_first_part(p, &record, buf, cap, &effort);
	}
	if (r >= 0)
		*after = p->partial.total - p->partial.have;
	if (p->partial.total > p->partial.have && !p->partial.data) {
		direction_open(&p->in, OPEN_IN_PARTS);
		return r == -ETIMEDOUT ? incoming_time_is_up(p, effort.deadline) : r;
	}
	if (!p->partial.data)
		p->partial = (struct partial){ 0 };
	direction_leave(&p->in);
	return r == -ETIMEDOUT ? incoming_time_is_up(p, effort.deadline) : r;
}
