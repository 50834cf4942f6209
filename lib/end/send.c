/* SPDX-License-Identifier: MIT */
/* Sending: by copy, gathered, in batches, in place; and long messages in fragments. */
#include "base/probe.h"
#include "end/end.h"
#include "ring/prefetch.h"

#include <limits.h>

/* The position of a gathering copy. */
struct cursor {
	const struct iovec *piece;
	size_t offset;
};

static void gather(char *to, size_t len, struct cursor *from)
{
	while (len) {
		/* NOLINTNEXTLINE(clang-analyzer-core.UndefinedBinaryOperatorResult): len is the sum of the pieces */
		size_t n = from->piece->iov_len - from->offset;

		if (n > len)
			n = len;
		copy_bytes(to, (const char *)from->piece->iov_base + from->offset, n);
		to += n;
		len -= n;
		from->offset += n;
		if (from->offset == from->piece->iov_len) {
			from->piece++;
			from->offset = 0;
		}
	}
}

static bool fits(const struct direction *out, size_t len)
{
	return len - out->shortest <= out->span;
}

/*
 * The head at which a sender wants to be woken: when half of the ring is free, so that not each
 * message wakes it.
 */
static uint64_t worth_waking(const struct sender *s, uint64_t len)
{
	uint64_t needed = sender_tail(s) + record_size(len) - s->limit;
	uint64_t half = sender_tail(s) - s->limit / 2;

	return (int64_t)(half - needed) > 0 ? half : needed;
}

/*
 * The position to ring with when no record moves the tail: for the end of the stream, or a message
 * given up.
 */
static uint64_t behind_end(const bufpipe_t *p)
{
	return sender_tail(&p->sender) + RECORD_HEADER;
}

/*
 * Called when the stream has ended or nobody is left to receive.  Puts the end into
 * the ring, so that nothing that is sent after -EPIPE is ever delivered.  Rings in
 * any case: a holder that shut this end down may have died before it was done.
 */
slow_path static void end_stream(bufpipe_t *p)
{
	if (wait_is_stopped(&p->out.wait)) {
		ring_end(&p->sender);
		wait_end(&p->out.wait, behind_end(p));
		return;
	}
	if (wait_is_over(&p->out.wait))
		ring_end(&p->sender);
	wait_notify(&p->out.wait, behind_end(p));
}

/* Whether the deadline has passed; false for a try. */
static bool is_past(int64_t deadline)
{
	return deadline != TIME_FOREVER && deadline != TIME_TRY && time_now() >= deadline;
}

/* From now on readiness means that a record of this size fits; 0: that any fits. */
static void note_refused(bufpipe_t *p, uint64_t size)
{
	atomic_store_explicit(&p->out.refused, size, memory_order_relaxed);
}

/* Called when a try found no room: -EAGAIN, -EPIPE, or 0: look again.  As record_try_again. */
static int try_again(bufpipe_t *p, size_t len)
{
	meter_add(&p->out.wait.meter->refusals, 1);
	if (wait_glance(&p->out.wait) < 0)
		return -EPIPE;
	note_refused(p, record_size(len));
	return p->arm[ARM_OUT] ? p->arm[ARM_OUT](p, false) : -EAGAIN;
}

/* Called when a try found that another holder has the turn.  As record_try_busy. */
static int try_busy(bufpipe_t *p)
{
	if (p->arm[ARM_OUT])
		p->arm[ARM_OUT](p, true);
	return -EAGAIN;
}

/* In our turn: waits for room, and points *room to it. */
static int await_room(bufpipe_t *p, void **room, size_t len, int64_t deadline)
{
	const struct sender *s = &p->sender;
	struct wait *wait = &p->out.wait;
	/*
	 * Nobody else moves the tail in our turn.  The second word ends the wait when this end is
	 * shut down.
	 */
	struct look look = { .word = s->head, .own = &wait->ours->ended, .ignore = HEAD_HELD };
	int tries = 0;
	int r = 0;

	while (!(*room = ring_reserve(s, len))) {
		r = wait_is_stopped(wait) ? -EPIPE : ring_make_room(s, len);
		/*
		 * Pairs with the fence in ring_refuse: ring_make_room may have undone it, so look
		 * at ended again.
		 */
		atomic_thread_fence(memory_order_seq_cst);
		if (wait_is_stopped(wait))
			r = -EPIPE;
		/*
		 * Look again only once if room came while we armed: a hostile receiver could
		 * repeat this for ever.
		 */
		if (r == -EAGAIN && deadline == TIME_TRY)
			r = tries++ ? -EAGAIN : try_again(p, len);
		else if (r == -EAGAIN) {
			look.value = atomic_load_explicit(&s->own->head_seen, memory_order_relaxed);
			look.wanted = worth_waking(s, len);
			/* wait_briefly does not read the clock, and the head may move in very small steps. */
			if (is_past(deadline))
				r = -ETIMEDOUT;
			else
				r = wait_until(wait, &look, deadline);
		}
		if (r < 0)
			break;
	}
	if (r == -EPIPE)
		end_stream(p);
	if (r == -EAGAIN || r == -ETIMEDOUT)
		PROBE(refused, p->socket, len, r);
	if (r != -EAGAIN)
		note_refused(p, r == -ETIMEDOUT ? record_size(len) : 0);
	return r;
}

/*
 * Called when we have published a record and find that nobody receives any more.
 * Takes the record back: -EPIPE.  0 if the last receiver took it before it left.
 */
slow_path static int withdraw(bufpipe_t *p, uint64_t tail, uint64_t len)
{
	uint64_t head;

	if (wait_is_over(&p->out.wait)) {
		/* In this order: if we die in between, no co-owner may write behind the end of the stream. */
		ring_end(&p->sender);
		ring_take_back(&p->sender, tail, len);
	}
	/*
	 * seq_cst as in ring_take_back: we see the head of a receiver that took the record before
	 * it saw the end.
	 */
	head = atomic_load_explicit(p->sender.head, memory_order_seq_cst) & ~HEAD_HELD;
	wait_notify(&p->out.wait, behind_end(p));
	return head == tail ? 0 : -EPIPE;
}

static inline int prepare_next(const bufpipe_t *p, uint64_t tail, uint64_t len)
{
	if (likely(wait_streams(&p->out.wait)))
		prefetch_next(&p->sender, tail, len);
	return 0;
}

slow_path static int publish_aloud(bufpipe_t *p, uint64_t tail, uint64_t len)
{
	return wait_ring(&p->out.wait, tail) < 0 ? withdraw(p, tail, len) : prepare_next(p, tail, len);
}

static int publish(bufpipe_t *p, uint64_t len, uint64_t flags)
{
	uint64_t tail = ring_commit(&p->sender, len, flags);

	return wait_must_ring(&p->out.wait) ? publish_aloud(p, tail, len) : prepare_next(p, tail, len);
}

static int send_whole(bufpipe_t *p, const struct iovec *pieces, size_t len, int64_t deadline)
{
	struct cursor from = { .piece = pieces };
	void *room;
	int r = await_room(p, &room, len, deadline);

	if (r < 0)
		return r;
	gather(room, len, &from);
	return publish(p, len, RECORD_WHOLE);
}

/* Tells the receiver, which may have received some fragments and wait for the next one. */
static void give_up(bufpipe_t *p, uint64_t begin)
{
	/* Release pairs with the acquire in record_given_up: the receiver sees all fragments that we sent. */
	atomic_store_explicit(&p->out.wait.ours->given_up, begin | GIVEN_UP, memory_order_release);
	wait_notify(&p->out.wait, behind_end(p));
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
		 * await_room reads no clock while there is room, and there may always be room for
		 * one more fragment.
		 */
		if (!prefix && is_past(deadline))
			return -ETIMEDOUT;
		r = await_room(p, &room, prefix + n, deadline);
		if (r < 0)
			break;
		if (prefix)
			out->begin = sender_tail(&p->sender);
		copy_bytes(room, &out->total, prefix);
		gather((char *)room + prefix, n, from);
		r = publish(p, prefix + n, prefix ? RECORD_FIRST : RECORD_MORE);
		if (r < 0)
			break;
		out->sent += n;
		if (!prefix)
			meter_add(&p->out.wait.meter->fragments, 1);
	}
	return r;
}

static int send_long(bufpipe_t *p, const struct iovec *pieces, uint64_t len, int64_t deadline)
{
	struct cursor from = { .piece = pieces };
	int r;

	p->outgoing = (struct outgoing){ .total = len };
	r = send_fragments(p, &from, len, deadline);
	if (p->outgoing.sent && p->outgoing.sent < len)
		give_up(p, p->outgoing.begin);
	return r;
}

static int check_length(const bufpipe_t *p, size_t len, bool try)
{
	if (p->out.state & DIRECTION_NONE)
		return -EBADF;
	if (fits(&p->out, len))
		return 0;
	if (p->out.shortest || try || len > LAYOUT_MAX)
		return -EMSGSIZE;
	return 0;
}

static int enter(bufpipe_t *p, int64_t deadline)
{
	int r = direction_enter(&p->out, deadline);

	return r == -EAGAIN ? try_busy(p) : r;
}

slow_path static int send_until(bufpipe_t *p, const struct iovec *pieces, size_t len, int64_t deadline)
{
	int r = check_length(p, len, deadline == TIME_TRY);

	if (r == 0)
		r = enter(p, deadline);
	if (r < 0)
		return r;
	if (fits(&p->out, len))
		r = send_whole(p, pieces, len, deadline);
	else
		r = send_long(p, pieces, len, deadline);
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
		r = publish(p, len, RECORD_WHOLE);
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
	if (likely(!p->out.state && fits(&p->out, len))) {
		room = ring_reserve(&p->sender, len);
		if (likely(room)) {
			copy_bytes(room, buf, len);
			return publish(p, len, RECORD_WHOLE);
		}
	}
	if (p->out.state == DIRECTION_SHARED && fits(&p->out, len) && !direction_is_open(&p->out)) {
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

		if ((!m->iov_base && m->iov_len) || !fits(&p->out, m->iov_len))
			break;
		if (await_room(p, &room, m->iov_len, TIME_TRY) < 0)
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
		r = enter(p, deadline);
	if (r < 0)
		return r;
	r = await_room(p, &room, len, deadline);
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

	if (!p || !direction_is_open(&p->out) || len > p->out.open_len || !fits(&p->out, len) ||
	    direction_in_parts(&p->out))
		return -EINVAL;
	r = publish(p, len, RECORD_WHOLE);
	direction_close(&p->out);
	return r;
}

int bufpipe_cancel(bufpipe_t *p)
{
	if (!p || !direction_is_open(&p->out))
		return -EINVAL;
	if (direction_in_parts(&p->out))
		give_up(p, p->outgoing.begin);
	direction_close(&p->out);
	return 0;
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
	return p->out.shortest || fits(&p->out, total) || total > LAYOUT_MAX ? -EMSGSIZE : 0;
}

/* Ends a call that sent a part, or failed to: gives the message up, or keeps the turn for the next call. */
static ssize_t leave_part(bufpipe_t *p, uint64_t before, int r)
{
	const struct outgoing *out = &p->outgoing;
	bool gave_up = r == -EAGAIN || r == -ETIMEDOUT || r == -EINTR || r == -ENOMEM;

	if (r < 0 && !gave_up && out->sent && out->sent < out->total)
		give_up(p, out->begin);
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
		r = enter(p, deadline);
		if (r < 0)
			return r;
		p->outgoing = (struct outgoing){ .total = len + after };
	}
	before = p->outgoing.sent;
	return leave_part(p, before, send_fragments(p, &from, len, deadline));
}
