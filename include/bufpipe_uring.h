/* SPDX-License-Identifier: MIT */
/*
 * Waiting for pipes in an io_uring of your own, together with sockets, files and timers.
 *
 * Each call fills in one submission entry.  You set its user_data and submit it.  When
 * it completes, whatever the result, try to receive or send (timeout 0) until -EAGAIN,
 * and then prepare the next entry.  No wake-up is lost in between: if a call finds the
 * pipe ready, it prepares a no-op, which completes at once.
 *
 * To stop waiting, cancel the request by its user_data.  Before you close the end,
 * cancel the request or let it complete.  Otherwise its completion comes later, and a
 * request for a hang-up keeps the socket open, so the other side does not see that you
 * have closed.
 *
 * While a request is pending, no other call may wait on the same direction of the end,
 * and the end must not be in a set, unless it is shared.
 *
 * This header needs nothing from liburing.
 *
 * examples/echo-daemon.c is a complete server: pipes, a Unix socket, a timer and
 * signals in one ring.
 *
 * Errors: -EINVAL; -ENOSYS: io_uring is forbidden here, or the kernel is older than 6.7;
 *   wait, wait_room: -EBADF: the end does not have this direction.  After an error the
 *   entry is not filled in.
 */
#ifndef BUFPIPE_URING_PUBLIC_H
#define BUFPIPE_URING_PUBLIC_H

#include <bufpipe.h>

struct io_uring_sqe; /* of <liburing.h> or <linux/io_uring.h> */

#ifdef __cplusplus
extern "C" {
#endif

/* Completes when a message, or the end of the stream, is there. */
int bufpipe_prep_wait(struct io_uring_sqe *sqe, bufpipe_t *pipe);

/*
 * Completes when there is room, as defined for BUFPIPE_OUT.  If several holders of a shared
 * end wait for different sizes, it may complete when the smallest of them fits.
 */
int bufpipe_prep_wait_room(struct io_uring_sqe *sqe, bufpipe_t *pipe);

/*
 * Completes when the other side is gone.  The other requests do not notice this, because
 * a killed peer does not ring.  What it had sent can still be received.
 */
int bufpipe_prep_wait_hup(struct io_uring_sqe *sqe, bufpipe_t *pipe);

#ifdef __cplusplus
}
#endif
#endif
