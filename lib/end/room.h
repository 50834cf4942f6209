/* SPDX-License-Identifier: MIT */
/* Room for the next record of a sending end: take the turn, wait for room, publish. */
#ifndef BUFPIPE_END_ROOM_H
#define BUFPIPE_END_ROOM_H

#include "end/end.h"
#include "ring/prefetch.h"

/* Whether a message of this length goes in one record. */
static inline bool room_fits(const struct direction *out, size_t len)
{
	return len - out->shortest <= out->span;
}

/*
 * Takes the turn; results as direction_enter.  If a try finds that another holder has it,
 * it arms the descriptor for poll.
 */
int room_enter(bufpipe_t *pipe, int64_t deadline);

/*
 * In our turn: waits for room, and points *room to it.  0; -EAGAIN for a try; -ETIMEDOUT,
 * -EINTR; -ENOMEM if the memory of the ring is refused; -EPIPE, and the stream has ended.
 */
int room_await(bufpipe_t *pipe, void **room, size_t len, int64_t deadline);

/*
 * The position that the next record would lead to: to ring with when no record moves the tail, because the
 * stream has ended or a message was given up.
 */
static inline uint64_t room_next_position(const bufpipe_t *p)
{
	return sender_tail(&p->sender) + RECORD_HEADER;
}

static inline int room_prepare_next(const bufpipe_t *p, uint64_t tail, uint64_t len)
{
	if (likely(wait_streams(&p->out.wait)))
		prefetch_next(&p->sender, tail, len);
	return 0;
}

/* For room_publish: wakes the receiver, or finds that nobody is left to receive.  tail is where the record begins. */
slow_path int room_publish_aloud(bufpipe_t *pipe, uint64_t tail, uint64_t len);

/*
 * In our turn: publishes the record that was written to the room.  0; -EPIPE if nobody
 * is left to receive it, and the stream has ended.
 */
static inline int room_publish(bufpipe_t *p, uint64_t len, uint64_t flags)
{
	uint64_t tail = ring_commit(&p->sender, len, flags);

	return wait_must_ring(&p->out.wait) ? room_publish_aloud(p, tail, len)
					    : room_prepare_next(p, tail, len);
}

#endif
