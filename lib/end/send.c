/* SPDX-License-Identifier: MIT */
/* Sending: by copy, gathered, in batches, in place. */
#include "end/fragments.h"
#include "end/gather.h"

#include <limits.h>

static int send_whole(bufpipe_t *p, const struct iovec *pieces, size_t len, int64_t deadline)
{
	struct cursor from = { .piece = pieces };
	void *room;
	int r = room_await(p, &room, len, deadline);

	if (r < 0)
		return r;
	gather(room, len, &from);
	return room_publish(p, len, RECORD_WHOLE);
}

static int check_length(const bufpipe_t *p, size_t len, bool try)
{
	if (p->out.state & DIRECTION_NONE)
		return -EBADF;
	if (room_fits(&p->out, len))
		return 0;
	if (p->out.shortest || try || len > LAYOUT_MAX)
		return -EMSGSIZE;
	return 0;
}

slow_path static int send_until(bufpipe_t *p, const struct iovec *pieces, size_t len, int64_t deadline)
{
	int r = check_length(p, len, deadline == TIME_TRY);

	if (r == 0)
		r = room_enter(p, deadline);
	if (r < 0)
		return r;
	if (room_fits(&p->out, len))
		r = send_whole(p, pieces, len, deadline);
	else
		r = fragments_send(p, pieces, len, deadline);
	direction_leave(&p->out);
	return r;
}

/* With the quick lock, which it releases: sends, or -EBUSY if there is no room. */
static int send_in_turn(bufpipe_t *p, const void *buf, size_t len)
{
	void *room = ring_reserve(&p->sender, len);
	int r = -EBUSY;

	if (likely(room)) {
		copy_bytes(room, buf, len);
		r = room_publish(p, len, RECORD_WHOLE);
	}
	quick_lock_release(p->out.quick_lock, p->out.wait.fence);
	return r;
}

/* Called when another holder has the quick lock. */
slow_path static int send_contended(bufpipe_t *p, const void *buf, size_t len, int64_t timeout_ns)
{
	struct iovec piece = { .iov_base = (void *)(uintptr_t)buf, .iov_len = len };
	int64_t deadline = time_deadline(timeout_ns);
	int r = -EBUSY;

	if (quick_lock_retry(p->out.quick_lock, deadline))
		r = send_in_turn(p, buf, len);
	return r == -EBUSY ? send_until(p, &piece, len, deadline) : r;
}

int bufpipe_send(bufpipe_t *p, const void *buf, size_t len, int64_t timeout_ns)
{
	void *room;

	if (unlikely(!p || (!buf && len) || !timeout_valid(timeout_ns)))
		return -EINVAL;
	if (likely(!p->out.state && room_fits(&p->out, len))) {
		room = ring_reserve(&p->sender, len);
		if (likely(room)) {
			copy_bytes(room, buf, len);
			return room_publish(p, len, RECORD_WHOLE);
		}
	}
	if (p->out.state == DIRECTION_SHARED && room_fits(&p->out, len) && !direction_is_open(&p->out)) {
		int r;

		if (unlikely(!quick_lock_try(p->out.quick_lock)))
			return send_contended(p, buf, len, timeout_ns);
		r = send_in_turn(p, buf, len);
		if (likely(r != -EBUSY))
			return r;
	}
	return send_until(p, &(struct iovec){ .iov_base = (void *)(uintptr_t)buf, .iov_len = len }, len,
			  time_deadline(timeout_ns));
}

int bufpipe_sendv(bufpipe_t *p, const struct iovec *pieces, int n, int64_t timeout_ns)
{
	size_t len = 0;

	if (!p || n < 0 || n > IOV_MAX || (!pieces && n) || !timeout_valid(timeout_ns))
		return -EINVAL;
	for (int i = 0; i < n; i++) {
		if (!pieces[i].iov_base && pieces[i].iov_len)
			return -EINVAL;
		if (__builtin_add_overflow(len, pieces[i].iov_len, &len))
			return -EINVAL;
	}
	return send_until(p, pieces, len, time_deadline(timeout_ns));
}

/* In our turn: sends the messages for which there is room.  Does not wake the receiver. */
static unsigned send_rest(bufpipe_t *p, const struct iovec *messages, unsigned n)
{
	unsigned sent;

	for (sent = 0; sent < n; sent++) {
		const struct iovec *m = &messages[sent];
		void *room = NULL;
		uint64_t tail;

		if ((!m->iov_base && m->iov_len) || !room_fits(&p->out, m->iov_len))
			break;
		if (room_await(p, &room, m->iov_len, TIME_TRY) < 0)
			break;
		copy_bytes(room, m->iov_base, m->iov_len);
		tail = ring_commit(&p->sender, m->iov_len, RECORD_WHOLE);
		/* Prefetch without asking wait_streams: a batch is not a dialogue. */
		prefetch_next(&p->sender, tail, m->iov_len);
	}
	return sent;
}

ssize_t bufpipe_send_many(bufpipe_t *p, const struct iovec *messages, unsigned n, int64_t timeout_ns)
{
	unsigned more;
	int r;

	if (!p || !messages || !n)
		return -EINVAL;
	r = bufpipe_send(p, messages[0].iov_base, messages[0].iov_len, timeout_ns);
	if (r < 0)
		return r;
	if (n == 1 || direction_enter(&p->out, TIME_TRY) < 0)
		return 1;
	more = send_rest(p, messages + 1, n - 1);
	if (more)
		wait_notify(&p->out.wait, sender_tail(&p->sender));
	direction_leave(&p->out);
	return 1 + more;
}

int bufpipe_reserve(bufpipe_t *p, void **buf, size_t len, int64_t timeout_ns)
{
	int64_t deadline = time_deadline(timeout_ns);
	void *room;
	int r;

	if (!p || !buf || !timeout_valid(timeout_ns))
		return -EINVAL;
	r = check_length(p, len, true);
	if (r == 0)
		r = room_enter(p, deadline);
	if (r < 0)
		return r;
	r = room_await(p, &room, len, deadline);
	if (r < 0) {
		direction_leave(&p->out);
		return r;
	}
	direction_open(&p->out, len);
	*buf = room;
	return 0;
}

int bufpipe_commit(bufpipe_t *p, size_t len)
{
	int r;

	if (!p || !direction_is_open(&p->out) || len > p->out.open_len || !room_fits(&p->out, len) ||
	    direction_in_parts(&p->out))
		return -EINVAL;
	r = room_publish(p, len, RECORD_WHOLE);
	direction_close(&p->out);
	return r;
}

int bufpipe_cancel(bufpipe_t *p)
{
	if (!p || !direction_is_open(&p->out))
		return -EINVAL;
	if (direction_in_parts(&p->out))
		fragments_give_up(p);
	direction_close(&p->out);
	return 0;
}
