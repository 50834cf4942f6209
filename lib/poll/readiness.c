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
	/* Relaxed: whoever then sends looks again, with the order that needs. */
	uint64_t used = sender_tail(&p->sender) -
			(atomic_load_explicit(p->sender.head, memory_order_relaxed) & ~HEAD_HELD);

	return used <= roomy(&p->sender, &p->out) ? BUFPIPE_OUT : 0;
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

void readiness_raise(bufpipe_t *p, unsigned events, uint32_t mode)
{
	if (events & BUFPIPE_IN)
		wait_raise(&p->in.wait, receiver_head(&p->receiver), mode);
	if (events & BUFPIPE_OUT)
		wait_raise(&p->out.wait, sender_tail(&p->sender) - roomy(&p->sender, &p->out), mode);
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

int readiness_crowded(const bufpipe_t *p)
{
	bool duplex = !((p->in.state | p->out.state) & DIRECTION_NONE);

	return duplex || p->ours.identity.flags & LAYOUT_SHARED ? 1 : 0;
}

void readiness_done(bufpipe_t *p)
{
	if (p->poll_fd.epoll >= 0)
		poll_fd_arm(p);
}

struct wait *readiness_any(bufpipe_t *p)
{
	return p->in.state & DIRECTION_NONE ? &p->out.wait : &p->in.wait;
}
