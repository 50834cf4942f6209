/* SPDX-License-Identifier: MIT */
#include "end/room.h"

#include "base/probe.h"

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
 * Called when the stream has ended or nobody is left to receive.  Puts the end into
 * the ring, so that nothing that is sent after -EPIPE is ever delivered.  Rings in
 * any case: a holder that shut this end down may have died before it was done.
 */
slow_path static void end_stream(bufpipe_t *p)
{
	if (wait_is_stopped(&p->out.wait)) {
		ring_end(&p->sender);
		wait_end(&p->out.wait, room_next_position(p));
		return;
	}
	if (wait_is_over(&p->out.wait))
		ring_end(&p->sender);
	wait_notify(&p->out.wait, room_next_position(p));
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

int room_enter(bufpipe_t *p, int64_t deadline)
{
	int r = direction_enter(&p->out, deadline);

	/* Its result does not matter: the holder that has the turn finds out whether anybody still receives. */
	if (r == -EAGAIN && p->arm[ARM_OUT])
		p->arm[ARM_OUT](p, true);
	return r;
}

int room_await(bufpipe_t *p, void **room, size_t len, int64_t deadline)
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
			if (time_is_past(deadline))
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
	wait_notify(&p->out.wait, room_next_position(p));
	return head == tail ? 0 : -EPIPE;
}

int room_publish_aloud(bufpipe_t *p, uint64_t tail, uint64_t len)
{
	return wait_ring(&p->out.wait, tail) < 0 ? withdraw(p, tail, len) : room_prepare_next(p, tail, len);
}
