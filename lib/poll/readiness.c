/* SPDX-License-Identifier: MIT */
#include "poll/readiness.h"

int readiness_check(const bufpipe_t *p, unsigned events)
{
	if (events & ~(unsigned)(BUFPIPE_IN | BUFPIPE_OUT | BUFPIPE_HUP))
		return -EINVAL;
	if ((events & BUFPIPE_IN && p->in.state & DIRECTION_NONE) ||
	    (events & BUFPIPE_OUT && p->out.state & DIRECTION_NONE))
		return -EBADF;
	return 0;
}

/*
 * There is room if at most this many bytes are in the ring.  Then the record that was
 * refused last fits; or, if none was refused, a quarter is free and one object fits.
 */
static uint64_t roomy(const bufpipe_t *p)
{
	uint64_t limit = p->ours.identity.limit;
	uint64_t refused = atomic_load_explicit(&p->out.refused, memory_order_relaxed);
	uint64_t quarter = limit - limit / 4;
	uint64_t one = limit - record_size(p->out.shortest);

	if (refused)
		return refused < limit ? limit - refused : 0;
	return quarter < one ? quarter : one;
}

static unsigned look_in(const bufpipe_t *p)
{
	uint64_t header = ring_glance(&p->receiver);

	if (!header)
		return wait_is_stopped(&p->in.wait) ? BUFPIPE_IN | BUFPIPE_HUP : 0;
	return header & RECORD_END ? BUFPIPE_IN | BUFPIPE_HUP : BUFPIPE_IN;
}

static unsigned look_out(const bufpipe_t *p)
{
	if (wait_is_stopped(&p->out.wait))
		return BUFPIPE_OUT | BUFPIPE_HUP;
	return ring_used(&p->sender) <= roomy(p) ? BUFPIPE_OUT : 0;
}

unsigned readiness_look(const bufpipe_t *p, unsigned events)
{
	unsigned ready = 0;

	if (events & BUFPIPE_IN)
		ready |= look_in(p);
	if (events & BUFPIPE_OUT)
		ready |= look_out(p);
	return ready;
}

/* The head at which what was refused fits. */
static uint64_t wanted_room(const bufpipe_t *p)
{
	return sender_tail(&p->sender) - roomy(p);
}

bool readiness_raise(bufpipe_t *p, unsigned events, uint32_t mode)
{
	bool fenced = true;

	if (events & BUFPIPE_IN)
		fenced &= wait_raise(&p->in.wait, receiver_head(&p->receiver) + 1, mode);
	if (events & BUFPIPE_OUT)
		fenced &= wait_raise(&p->out.wait, wanted_room(p), mode);
	return fenced;
}

bool readiness_ordered(bufpipe_t *p, unsigned events, bool issued)
{
	bool ordered = true;

	if (events & BUFPIPE_IN)
		ordered &= wait_ordered(&p->in.wait, issued);
	if (events & BUFPIPE_OUT)
		ordered &= wait_ordered(&p->out.wait, issued);
	return ordered;
}

void readiness_lower(bufpipe_t *p, unsigned events, uint32_t mode)
{
	if (p->ours.identity.flags & LAYOUT_SHARED)
		return;
	if (events & BUFPIPE_IN)
		wait_lower(&p->in.wait, mode);
	if (events & BUFPIPE_OUT)
		wait_lower(&p->out.wait, mode);
}

void readiness_done(bufpipe_t *p)
{
	for (int i = ARM_IN; i <= ARM_OUT; i++) {
		if (p->arm[i])
			p->arm[i](p, false);
	}
}

struct wait *readiness_any(bufpipe_t *p)
{
	return p->in.state & DIRECTION_NONE ? &p->out.wait : &p->in.wait;
}
