/* SPDX-License-Identifier: MIT */
/*
 * Waiting for a few pipes, and the descriptors of one for other event loops.
 * A part of <bufpipe.h>, which has the rules that hold for every call.
 */
#ifndef BUFPIPE_WAIT_H
#define BUFPIPE_WAIT_H

#include <bufpipe/pipe.h>

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/*
 * Events, as bits.  BUFPIPE_HUP is always reported when the other side is gone.  An end
 * of the stream is reported only if BUFPIPE_IN is asked for.  A receiving call after
 * BUFPIPE_IN may still find -EAGAIN: another holder was quicker, or the sender gave up
 * a long message of which only the beginning was there.
 */
enum {
	/* A receiving call has something to return: a message, or the end of the stream. */
	BUFPIPE_IN = 1 << 0,
	/*
	 * The message that was refused last, because there was no room, would fit now.  If
	 * none was refused, or one that had to wait was sent since then: a quarter of the
	 * ring is free, or one object fits.  Of a shared end, each process has its own last
	 * refusal, and another holder may take the room first.
	 */
	BUFPIPE_OUT = 1 << 1,
	BUFPIPE_HUP = 1 << 2,
};

/*
 * Waits until at least one of n pipes is ready, like poll(2).  Sets each revents.
 * Ignores entries whose pipe is NULL.  Returns how many are ready, or 0 if the time is
 * up (also with timeout 0).  An end must not appear twice for the same event.  Unless
 * it is shared, no other call may wait for it at the same time.
 *
 * Errors: -EINVAL, also when no entry has a pipe; -EINTR: any entry is interruptible;
 *   -ENOMEM; -EBADF: an entry asks for a direction that its end does not have.
 */
struct bufpipe_pollfd {
	bufpipe_t *pipe;
	short events;
	short revents;
};

int bufpipe_wait(struct bufpipe_pollfd *pipes, unsigned n, int64_t timeout_ns);

/*
 * A descriptor for epoll, poll, select and the event loops above them.  It is readable
 * while there is BUFPIPE_IN.  It stops being readable when a receiving try (timeout 0)
 * ends in -EAGAIN.  So take one message per wake-up, or all until -EAGAIN: both work.
 * Only poll it: never read it or close it, because it belongs to the end.  Later calls
 * return the same descriptor.  From the first call on the end has two more
 * descriptors, a shared end three.
 *
 * Each process that holds a shared end calls this itself, the first time while none of
 * its other threads uses the end.  A child that calls it after
 * fork gets a descriptor of its own.  A message makes the descriptors of all holders
 * readable, and holders that come too late find -EAGAIN.  While another holder is
 * receiving the next message, the descriptor becomes readable every 20 ms, because
 * that holder may put the message back.  Apart from that, it is never readable without
 * a reason.
 *
 * If a holder of the other end is killed in the few instructions between sending
 * and ringing, and other holders of that end live on, the message is reported only
 * with the next one.  If a program cannot accept that, it sets a timer and tries.
 *
 * Errors: -EINVAL; -EBADF: the end does not receive; -EMFILE, -ENFILE, -ENOMEM; -ENOSPC:
 *   fs.epoll.max_user_watches.
 */
int bufpipe_fd(bufpipe_t *pipe);

/*
 * The same for BUFPIPE_OUT: readable when there is room, or when nobody will receive
 * any more.  It stops being readable when a sending try (timeout 0) ends in -EAGAIN.
 * On a duplex end, arriving messages make it readable too; then a try finds -EAGAIN.
 * The same happens if several holders of a shared end wait for different sizes, and the
 * smallest of them fits.
 * When another process ends the sending of this end, it becomes readable as well;
 * of a duplex end only after bufpipe_stop there, and not after bufpipe_shutdown.
 *
 * Errors: -EINVAL; -EBADF: the end does not send; -EMFILE, -ENFILE, -ENOMEM; -ENOSPC:
 *   fs.epoll.max_user_watches.
 */
int bufpipe_room_fd(bufpipe_t *pipe);

#ifdef __cplusplus
}
#endif
#endif
