/* SPDX-License-Identifier: MIT */
#include "end/record.h"

int effort_spend(struct effort *e, uint64_t units)
{
	unsigned before = e->spent;

	if (units > EFFORT_A_TRY)
		units = EFFORT_A_TRY;
	e->spent += (unsigned)units;
	if (e->deadline == TIME_FOREVER || before / EFFORT_A_LOOK == e->spent / EFFORT_A_LOOK)
		return 0;
	if (e->deadline == TIME_TRY)
		return e->spent >= EFFORT_A_TRY ? -ETIMEDOUT : 0;
	return time_now() >= e->deadline ? -ETIMEDOUT : 0;
}

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

/* What to wait for: the next record; or that the head moves, or that the rest of a message is given up. */
static struct look look_for(const bufpipe_t *p, const struct partial *rest)
{
	uint64_t head = receiver_head(&p->receiver);
	struct look look = {
		.word = receiver_header(&p->receiver, head),
		.own = p->receiver.head,
		.own_value = head,
		.ignore = HEAD_HELD,
		.wanted = head + 1, /* anything behind what was consumed */
	};

	static_assert(!(GIVEN_UP & HEAD_HELD), "or the look would ignore it");
	/* In our turn the head moves for nobody else. */
	if (rest) {
		look.own = &p->in.wait.theirs->given_up;
		look.own_value = rest->given_up;
	}
	return look;
}

int record_wait(bufpipe_t *p, const struct partial *rest, int64_t deadline)
{
	struct look look;
	int r;

	/* A brief wait looks at no clock, and others may take what it saw, again and again. */
	if (deadline != TIME_FOREVER && time_now() >= deadline)
		return -ETIMEDOUT;
	look = look_for(p, rest);
	if (!(p->in.state & DIRECTION_SHARED))
		return wait_until(&p->in.wait, &look, deadline);
	/* Before the lead: to drop it would stand between a message and its answer. */
	if (wait_briefly(&p->in.wait, &look))
		return 0;
	r = lock_take(p->lead_lock, &p->lead_habit, deadline);
	if (r < 0)
		return r;
	look = look_for(p, rest); /* while we waited for the lead others may have moved the head */
	r = wait_long(&p->in.wait, &look, deadline);
	lock_drop(p->lead_lock);
	return r;
}

/* The last look comes after the answer that nobody sends any more. */
int record_try_again(bufpipe_t *p)
{
	struct record record;

	meter_add(&p->in.wait.meter->refusals, 1);
	if (wait_glance(&p->in.wait) == 0)
		return p->arm[ARM_IN] ? p->arm[ARM_IN](p, false) : -EAGAIN;
	return record_look(p, &record) == -EAGAIN ? -EPIPE : 0;
}

int record_try_busy(bufpipe_t *p)
{
	int r = p->arm[ARM_IN] ? p->arm[ARM_IN](p, true) : -EAGAIN;

	/* Whether more will come is for the holder of the turn to find out. */
	return r == -EPIPE ? -EAGAIN : r;
}
