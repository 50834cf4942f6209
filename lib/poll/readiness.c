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

/* How much may be in the ring when there is said to be room: a quarter is free, and one message fits. */
static uint64_t roomy(const struct sender *s, const struct direction *out)
{
	uint64_t quarter = s->limit - s->limit / 4;
	uint64_t one = s->limit - record_size(out->shortest);

	return quarter < one ? quarter : one;
}

static unsigned look_in(const bufpipe_t *p)
{
	uint64_t header = ring_glance(&p->receiver);

	if (!header)
		return 0;
	return header & RECORD_END ? BUFPIPE_IN | BUFPIPE_HUP : BUFPIPE_IN;
}

static unsigned look_out(const bufpipe_t *p)
{
	return ring_used(&p->sender) <= roomy(&p->sender, &p->out) ? BUFPIPE_OUT : 0;
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

bool readiness_raise(bufpipe_t *p, unsigned events, uint32_t mode)
{
	bool fenced = true;

	if (events & BUFPIPE_IN)
		fenced &= wait_raise(&p->in.wait, receiver_head(&p->receiver), mode);
	if (events & BUFPIPE_OUT)
		fenced &=
			wait_raise(&p->out.wait, sender_tail(&p->sender) - roomy(&p->sender, &p->out), mode);
	return fenced;
}

void readiness_ordered(bufpipe_t *p, unsigned events)
{
	if (events & BUFPIPE_IN)
		wait_ordered(&p->in.wait);
	if (events & BUFPIPE_OUT)
		wait_ordered(&p->out.wait);
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
	if (p->arm)
		p->arm(p, false);
}

struct wait *readiness_any(bufpipe_t *p)
{
	return p->in.state & DIRECTION_NONE ? &p->out.wait : &p->in.wait;
}
