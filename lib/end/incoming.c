/* SPDX-License-Identifier: MIT */
#include "end/incoming.h"

#include "end/reassembly.h"

int incoming_glance_after_lap(bufpipe_t *p, uint64_t begin)
{
	if (receiver_head(&p->receiver) - begin <= p->receiver.limit)
		return 0;
	return wait_glance(&p->in.wait) < 0 ? -EPIPE : 0;
}

/*
 * Whether the long message at begin will never be complete, because it was given up
 * or because something else follows.  missing is the number of bytes that should
 * follow from the position 'at' on.  A hostile sender can rewrite its ring and make us
 * walk along it again and again.  So each record counts as effort, and when there
 * was too much of it, the answer is no.
 */
static bool is_lost(const bufpipe_t *p, uint64_t begin, uint64_t at, uint64_t missing, struct effort *effort)
{
	const struct receiver *r = &p->receiver;
	uint64_t end = receiver_head(r) + r->limit;
	/* Load this before the headers, so that we see every fragment that was sent before the give-up. */
	bool given_up = record_given_up(p) == (begin | GIVEN_UP);

	while (at < end) {
		/* Acquire pairs with the release in ring_commit. */
		uint64_t header = atomic_load_explicit(receiver_header(r, at), memory_order_acquire);
		uint64_t len = header & RECORD_LENGTH;

		if (!header)
			return given_up;
		if (header != (RECORD_MORE | len) || !len || !ring_valid(r, header))
			return true;
		if (len >= missing || effort_spend(effort, 1) < 0)
			return false;
		missing -= len;
		at += record_size(len);
	}
	return false;
}

/* Whether the rest of the kept message, which should be at head, will never come. */
static bool kept_is_lost(const bufpipe_t *p, struct effort *effort)
{
	const struct partial *kept = &p->partial;

	return is_lost(p, kept->begin, receiver_head(&p->receiver), kept->total - kept->have, effort);
}

/*
 * Whether a record belongs to a message that will never be complete: its sender gave
 * it up or died, or we did not keep its beginning.
 */
static bool is_stray(const bufpipe_t *p, const struct record *record, struct effort *effort)
{
	uint64_t head = receiver_head(&p->receiver);
	uint64_t total;

	if (record->flags == RECORD_MORE)
		return !(p->in.state & DIRECTION_PARTIAL) || kept_is_lost(p, effort);
	if (record->flags != RECORD_FIRST || reassembly_total(&p->in, record, &total) < 0)
		return false;
	return is_lost(p, head, head + record_size(record->len), total - (record->len - sizeof(total)),
		       effort);
}

static int skip_strays(bufpipe_t *p, struct record *record, struct effort *effort)
{
	uint64_t begin = receiver_head(&p->receiver);
	int r = record_look(p, record);

	while (r == 0 && is_stray(p, record, effort)) {
		reassembly_drop(p);
		record_consume(p, record->len);
		if (record->flags == RECORD_MORE)
			meter_add(&p->in.wait.meter->fragments, 1);
		r = effort_spend(effort, 1);
		if (r == 0)
			r = incoming_glance_after_lap(p, begin);
		if (r == 0)
			r = record_look(p, record);
	}
	if (r == -EAGAIN && p->in.state & DIRECTION_PARTIAL && kept_is_lost(p, effort))
		reassembly_drop(p);
	return r;
}

int incoming_time_is_up(bufpipe_t *p, int64_t deadline)
{
	if (deadline != TIME_TRY)
		return -ETIMEDOUT;
	/* Arm, so that the owner of bufpipe_fd comes again. */
	if (p->arm[ARM_IN])
		p->arm[ARM_IN](p, false);
	return -EAGAIN;
}

int incoming_await(bufpipe_t *p, struct record *record, struct effort *effort)
{
	int64_t deadline = effort->deadline;
	int r;

	for (;;) {
		r = direction_enter(&p->in, deadline);
		if (r == -EAGAIN)
			r = record_try_busy(p);
		if (r < 0)
			return r;
		/*
		 * A co-owner moved the head, or a thread died: the rest of the message that we
		 * kept is gone.
		 */
		if (p->partial.total &&
		    (p->in.state & DIRECTION_SHARED || p->partial.at != receiver_head(&p->receiver)))
			reassembly_drop(p);
		r = skip_strays(p, record, effort);
		if (r == 0) {
			if (record->flags != RECORD_MORE)
				reassembly_drop(p); /* the sender gave up the message that we kept */
			return 0;
		}
		direction_leave(&p->in);
		if (r == -EAGAIN)
			r = deadline == TIME_TRY ? record_try_again(p) : record_wait(p, NULL, deadline);
		/* Each look may find nothing although we were woken, so it counts as effort. */
		if (r == 0)
			r = effort_spend(effort, EFFORT_IN_VAIN);
		if (r < 0)
			return r == -ETIMEDOUT ? incoming_time_is_up(p, deadline) : r;
	}
}
