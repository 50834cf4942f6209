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

int record_wait(bufpipe_t *p, int64_t deadline)
{
	struct look look;
	int r = 0;

	if (p->in.state & WAY_SHARED)
		r = lock_take(p->lead_lock, &p->lead_habit, deadline);
	if (r < 0)
		return r;
	look.own = p->receiver.head;
	look.own_value = receiver_head(&p->receiver);
	look.word = receiver_header(&p->receiver, look.own_value);
	look.value = 0;
	look.ignore = HEAD_HELD;
	look.wanted = look.own_value;
	r = wait_until(&p->in.wait, &look, deadline);
	if (p->in.state & WAY_SHARED)
		lock_drop(p->lead_lock);
	return r;
}

/* The last look comes after the answer that nobody sends any more. */
int record_give_up(bufpipe_t *p)
{
	struct record record;

	if (wait_glance(&p->in.wait) == 0)
		return p->door.epoll < 0 ? -EAGAIN : door_arm(p);
	return record_look(p, &record) == -EAGAIN ? -EPIPE : 0;
}

int record_await(bufpipe_t *p, struct record *record, int64_t deadline)
{
	int r;

	while ((r = record_look(p, record)) == -EAGAIN) {
		r = deadline == TIME_TRY ? record_give_up(p) : record_wait(p, deadline);
		if (r < 0)
			return r;
	}
	return r;
}
