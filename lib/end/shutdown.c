/* SPDX-License-Identifier: MIT */
/* Ending a direction while the end stays open. */
#include "end/room.h"

#include <sys/socket.h>

/*
 * Ends sending: first stops the waits of this end and its co-owners, then puts the end into the
 * ring, in order.
 */
static int end_out(bufpipe_t *pipe, int64_t timeout_ns)
{
	struct direction *out = &pipe->out;
	int r;

	if (direction_is_open(out))
		return -EBUSY;
	wait_stop(&out->wait);
	ring_refuse(&pipe->sender);
	/*
	 * Wakes a sender that sleeps on the socket.  A one-way end needs the socket for nothing
	 * else any more.
	 */
	if (pipe->in.state & DIRECTION_NONE && wait_is_on_bell(&out->wait))
		shutdown(pipe->socket, SHUT_RD);
	r = direction_enter(out, time_deadline(timeout_ns));
	if (r < 0) {
		/*
		 * Another holder has the turn, most often with a reservation open.  A send that slept
		 * in its turn has woken, and may have ended.
		 */
		wait_restart(&out->wait);
		return r;
	}
	ring_end(&pipe->sender);
	wait_end(&out->wait, room_next_position(pipe));
	direction_leave(out);
	return 0;
}

/* Ends receiving.  What is in the ring can still be received.  All holders of both ends find the hang-up. */
static void end_in(bufpipe_t *pipe)
{
	/* This comes first: if the process dies after it, all others still notice. */
	shutdown(pipe->socket, SHUT_RDWR);
	wait_stop(&pipe->in.wait);
	wait_end(&pipe->in.wait, receiver_head(&pipe->receiver));
	wait_leave(&pipe->in.wait);
}

static int end_directions(bufpipe_t *pipe, bool both, int64_t timeout_ns)
{
	bool sends = !(pipe->out.state & DIRECTION_NONE);
	int r = 0;

	if (sends)
		r = end_out(pipe, timeout_ns);
	if (r == 0 && (both || !sends) && !(pipe->in.state & DIRECTION_NONE))
		end_in(pipe);
	/* Wake the waiters of this process that sleep on the socket: its set and its descriptors. */
	if (pipe->poke_set)
		pipe->poke_set(pipe);
	for (int i = ARM_IN; i <= ARM_OUT; i++) {
		if (pipe->arm[i])
			pipe->arm[i](pipe, false);
	}
	return r;
}

int bufpipe_shutdown_within(bufpipe_t *pipe, int64_t timeout_ns)
{
	if (!pipe || !timeout_valid(timeout_ns))
		return -EINVAL;
	return end_directions(pipe, false, timeout_ns);
}

int bufpipe_stop(bufpipe_t *pipe)
{
	return pipe ? end_directions(pipe, true, -1) : -EINVAL;
}

int bufpipe_shutdown(bufpipe_t *pipe)
{
	return bufpipe_shutdown_within(pipe, -1);
}
