/* SPDX-License-Identifier: MIT */
#include "record.h"

int record_look(const bufpipe_t *p, struct record *record)
{
	uint64_t header = ring_peek(&p->receiver, &record->payload);

	if (!header)
		return -EAGAIN;
	record->flags = header & ~RECORD_LENGTH;
	record->len = header & RECORD_LENGTH;
	if (!ring_valid(&p->receiver, header))
		return -EPROTO;
	if (record->flags == RECORD_END)
		return -EPIPE;
	if (record->flags == RECORD_WHOLE)
		return record_whole(&p->in, header) ? 0 : -EPROTO;
	return p->in.shortest || !record->len ? -EPROTO : 0; /* no pieces in a static pipe, and none empty */
}

static int wait_in_lead(bufpipe_t *p, const struct partial *rest, int64_t deadline)
{
	uint64_t head = receiver_head(&p->receiver);
	struct look look = {
		.word = receiver_header(&p->receiver, head),
		.own = p->receiver.head,
		.own_value = head,
		.ignore = HEAD_HELD,
		.wanted = head,
	};

	static_assert(!(GIVEN_UP & HEAD_HELD), "or the look would ignore it");
	/* In our turn the head moves for nobody else. */
	if (rest) {
		look.own = &p->in.wait.theirs->given_up;
		look.own_value = rest->given_up;
	}
	return wait_until(&p->in.wait, &look, deadline);
}

int record_wait(bufpipe_t *p, const struct partial *rest, int64_t deadline)
{
	int r;

	if (!(p->in.state & WAY_SHARED))
		return wait_in_lead(p, rest, deadline);
	r = lock_take(p->lead_lock, &p->lead_habit, deadline);
	if (r < 0)
		return r;
	r = wait_in_lead(p, rest, deadline);
	lock_drop(p->lead_lock);
	return r;
}

/* The last look comes after the answer that nobody sends any more. */
int record_try_again(bufpipe_t *p)
{
	struct record record;

	if (wait_glance(&p->in.wait) == 0)
		return p->door.epoll < 0 ? -EAGAIN : door_arm(p);
	return record_look(p, &record) == -EAGAIN ? -EPIPE : 0;
}
