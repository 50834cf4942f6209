/* SPDX-License-Identifier: MIT */
#include "end/fragments.h"

#include "end/gather.h"
#include "end/options.h"

void fragments_give_up(bufpipe_t *p)
{
	/* Release pairs with the acquire in record_given_up: the receiver sees all fragments that we sent. */
	atomic_store_explicit(&p->out.wait.ours->given_up, p->outgoing.begin | GIVEN_UP,
			      memory_order_release);
	wait_notify(&p->out.wait, room_next_position(p));
}

/* An eighth of the ring, so that several fragments are on their way at once, but not less than LEAST_SIZE. */
static uint64_t fragment_size(uint64_t limit)
{
	uint64_t size = limit / 8 & ~(uint64_t)7;

	return size > LEAST_SIZE ? size : LEAST_SIZE;
}

/*
 * In our turn: sends the next len bytes of a long message, or as many as it can
 * before the deadline.  A message longer than the ring goes in fragments.  They are small
 * compared with the ring, so that both sides work at the same time.  The first fragment
 * begins with the total length.  If a sender dies in the middle, the receiver notices
 * when the next message begins.
 */
static int send_fragments(bufpipe_t *p, struct cursor *from, uint64_t len, int64_t deadline)
{
	const uint64_t most = fragment_size(p->sender.limit);
	struct outgoing *out = &p->outgoing;
	const uint64_t end = out->sent + len;
	void *room;
	int r = 0;

	while (out->sent < end && r == 0) {
		uint64_t prefix = out->sent ? 0 : sizeof(out->total);
		uint64_t n = end - out->sent < most - prefix ? end - out->sent : most - prefix;

		/*
		 * room_await reads no clock while there is room, and there may always be room for
		 * one more fragment.
		 */
		if (!prefix && time_is_past(deadline))
			return -ETIMEDOUT;
		r = room_await(p, &room, prefix + n, deadline);
		if (r < 0)
			break;
		if (prefix)
			out->begin = sender_tail(&p->sender);
		copy_bytes(room, &out->total, prefix);
		gather((char *)room + prefix, n, from);
		r = room_publish(p, prefix + n, prefix ? RECORD_FIRST : RECORD_MORE);
		if (r < 0)
			break;
		out->sent += n;
		if (!prefix)
			meter_add(&p->out.wait.meter->fragments, 1);
	}
	return r;
}

int fragments_send(bufpipe_t *p, const struct iovec *pieces, uint64_t len, int64_t deadline)
{
	struct cursor from = { .piece = pieces };
	int r;

	p->outgoing = (struct outgoing){ .total = len };
	r = send_fragments(p, &from, len, deadline);
	if (p->outgoing.sent && p->outgoing.sent < len)
		fragments_give_up(p);
	return r;
}

/*
 * Checks that len bytes, with 'after' bytes to follow, begin a long message or continue the one
 * that has begun.
 */
static int check_part(const bufpipe_t *p, size_t len, size_t after)
{
	size_t total;

	if (!len || __builtin_add_overflow(len, after, &total))
		return -EINVAL;
	if (direction_in_parts(&p->out))
		return total == p->outgoing.total - p->outgoing.sent ? 0 : -EINVAL;
	if (p->out.state & DIRECTION_NONE)
		return -EBADF;
	return p->out.shortest || room_fits(&p->out, total) || total > LAYOUT_MAX ? -EMSGSIZE : 0;
}

/* Ends a call that sent a part, or failed to: gives the message up, or keeps the turn for the next call. */
static ssize_t leave_part(bufpipe_t *p, uint64_t before, int r)
{
	const struct outgoing *out = &p->outgoing;
	bool gave_up = r == -EAGAIN || r == -ETIMEDOUT || r == -EINTR || r == -ENOMEM;

	if (r < 0 && !gave_up && out->sent && out->sent < out->total)
		fragments_give_up(p);
	if (out->sent && out->sent < out->total && (r == 0 || gave_up))
		direction_open(&p->out, OPEN_IN_PARTS);
	else
		direction_leave(&p->out);
	return r < 0 && (!gave_up || out->sent == before) ? r : (ssize_t)(out->sent - before);
}

ssize_t bufpipe_send_part(bufpipe_t *p, const void *buf, size_t len, size_t after, int64_t timeout_ns)
{
	struct iovec piece = { .iov_base = (void *)(uintptr_t)buf, .iov_len = len };
	int64_t deadline = time_deadline(timeout_ns);
	struct cursor from = { .piece = &piece };
	uint64_t before;
	int r;

	if (!p || !buf || !timeout_valid(timeout_ns))
		return -EINVAL;
	r = check_part(p, len, after);
	if (r < 0)
		return r;
	if (direction_in_parts(&p->out)) {
		direction_resume(&p->out);
	} else {
		r = room_enter(p, deadline);
		if (r < 0)
			return r;
		p->outgoing = (struct outgoing){ .total = len + after };
	}
	before = p->outgoing.sent;
	return leave_part(p, before, send_fragments(p, &from, len, deadline));
}
