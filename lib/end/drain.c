/* SPDX-License-Identifier: MIT */
/* Waiting until everything that was sent has been received.  It is a wait for all of the room. */
#include "end/end.h"

#define NAP_LEAST 50000
#define NAP_MOST  10000000

/* After a shutdown, waits of this end return at once and nobody rings for them: look from time to time. */
static int nap(bufpipe_t *p, int64_t *length, int64_t deadline)
{
	struct pollfd none = { .fd = -1 };
	int64_t left = deadline == TIME_FOREVER ? NAP_MOST : deadline - time_now();
	int r;

	*length = *length ? time_sooner(2 * *length, NAP_MOST) : NAP_LEAST;
	r = left > 0 ? sys_poll(&none, time_sooner(*length, left)) : 0;
	return r == -EINTR && p->out.wait.interruptible ? r : 0;
}

/* In our turn, while something is unread. */
static int sleep_a_while(bufpipe_t *p, uint64_t head, int64_t *length, int64_t deadline)
{
	struct wait *wait = &p->out.wait;
	const struct look look = {
		.word = p->sender.head,
		.own = &wait->ours->ended,
		.value = head,
		.own_value = 0,
		.ignore = HEAD_HELD,
		.wanted = sender_tail(&p->sender),
	};
	int r;

	/* wait_briefly does not read the clock, and the head may move in very small steps. */
	if (deadline != TIME_FOREVER && time_now() >= deadline)
		return -ETIMEDOUT;
	if (wait_is_stopped(wait))
		return nap(p, length, deadline);
	r = wait_until(wait, &look, deadline);
	/* If the end was shut down meanwhile, go on: what was sent before can still be received. */
	return r == -EPIPE && wait_is_stopped(wait) ? 0 : r;
}

/* In our turn. */
static int await_empty(bufpipe_t *p, int64_t deadline)
{
	struct wait *wait = &p->out.wait;
	int64_t length = 0;
	uint64_t unread;
	uint64_t head;
	int r = 0;

	while (r == 0) {
		/*
		 * Ask this before reading the head: a peer that has left may have received
		 * everything first.
		 */
		bool gone = (deadline == TIME_TRY || wait_is_stopped(wait)) && wait_is_left(wait);

		r = ring_unread(&p->sender, &head, &unread);
		if (r < 0 || !unread)
			return r;
		if (gone || deadline == TIME_TRY)
			return gone ? -EPIPE : -EAGAIN;
		r = sleep_a_while(p, head, &length, deadline);
	}
	return r;
}

int bufpipe_drain(bufpipe_t *p, int64_t timeout_ns)
{
	int64_t deadline;
	int r;

	if (!p || !timeout_valid(timeout_ns))
		return -EINVAL;
	deadline = time_deadline(timeout_ns);
	r = direction_enter(&p->out, deadline);
	if (r < 0)
		return r;
	r = await_empty(p, deadline);
	direction_leave(&p->out);
	return r;
}
