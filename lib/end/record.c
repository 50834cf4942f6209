/* SPDX-License-Identifier: MIT */
#include "end/record.h"

#include "base/probe.h"

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
		return protocol_error("header of a record");
	if (record->flags == RECORD_END)
		return -EPIPE;
	if (record->flags == RECORD_WHOLE)
		return record_whole(&p->in, header) ? 0 : protocol_error("length of a record");
	/* A static pipe has no fragments, and none is empty. */
	return p->in.shortest || !record->len ? protocol_error("fragment") : 0;
}

/*
 * The look for the next record.  It also ends when a co-owner moves the head, or, in
 * the middle of a long message (rest), when its sender gives the message up.
 */
static struct look look_for(const bufpipe_t *p, const struct partial *rest)
{
	uint64_t head = receiver_head(&p->receiver);
	struct look look = {
		.word = receiver_header(&p->receiver, head),
		.own = p->receiver.head,
		.own_value = head,
		.ignore = HEAD_HELD,
		.wanted = head + 1, /* any record after those that were consumed */
	};

	static_assert(!(GIVEN_UP & HEAD_HELD), "or the look would ignore it");
	/* We have the turn in the middle of a message, so nobody else moves the head. */
	if (rest) {
		look.own = &p->in.wait.theirs->given_up;
		look.own_value = rest->given_up;
	}
	return look;
}

/* Called without the lead when a spin was enough.  If another holder has the lead, that one does this. */
static void unfence(bufpipe_t *p)
{
	if (!wait_is_fencing(&p->in.wait) || lock_try(p->lead_lock, &p->lead_habit) < 0)
		return;
	wait_unfence(&p->in.wait);
	lock_drop(p->lead_lock, &p->lead_habit);
}

int record_wait(bufpipe_t *p, const struct partial *rest, int64_t deadline)
{
	struct look look;
	int r;

	/* wait_briefly does not read the clock, and others may take each record that it sees. */
	if (deadline != TIME_FOREVER && time_now() >= deadline)
		return -ETIMEDOUT;
	look = look_for(p, rest);
	if (!(p->in.state & DIRECTION_SHARED))
		return wait_until(&p->in.wait, &look, deadline);
	/* Before taking the lead: dropping the lock would delay the answer to a message that comes soon. */
	if (wait_briefly(&p->in.wait, &look)) {
		unfence(p);
		return 0;
	}
	r = lock_take(p->lead_lock, &p->lead_habit, deadline);
	if (r < 0)
		return r;
	look = look_for(p, rest); /* while we waited for the lead others may have moved the head */
	r = wait_long(&p->in.wait, &look, deadline);
	lock_drop(p->lead_lock, &p->lead_habit);
	return r;
}

/* If nobody sends any more, look once more: the peer may have published just before it closed. */
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

	/* Not -EPIPE: the holder that has the turn finds out whether more will come. */
	return r == -EPIPE ? -EAGAIN : r;
}
