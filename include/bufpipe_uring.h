/* SPDX-License-Identifier: MIT */
/*
 * Pipes in an io_uring of your own, beside its sockets, files and timers.
 *
 * Each call fills one submission entry; you set its user_data and submit it.
 * Its completion, whatever the result, means: look at the pipe again with tries
 * (timeout 0) until -EAGAIN, then prepare the next one.  No wake-up is lost in
 * between: a call that finds the pipe ready prepares a no-op, which completes
 * at once.  To stop waiting, cancel the request by its user_data; do that, or
 * let it complete, before you close the end: or its answer comes later, and one
 * for a hang-up holds the socket, so that the other side does not see you leave.
 *
 * While a request is out, no other call waits on the same direction of the end,
 * and it is in no set, unless it is a shared end.
 *
 * The header itself needs nothing of liburing.
 *
 * examples/echo-daemon.c is a complete server: pipes, a Unix socket, a timer and
 * signals in one ring.
 *
 * Errors: -EINVAL; -ENOSYS: io_uring is forbidden here, or the kernel is older than 6.7;
 *   wait, wait_room: -EBADF: the end does not go that way.  The entry is not filled then.
 */
#ifndef BUFPIPE_URING_PUBLIC_H
#define BUFPIPE_URING_PUBLIC_H

#include <bufpipe.h>

struct io_uring_sqe; /* of <liburing.h> or <linux/io_uring.h> */

#ifdef __cplusplus
extern "C" {
#endif

/* A message, or the end of the stream, is there. */
int bufpipe_prep_wait(struct io_uring_sqe *sqe, bufpipe_t *pipe);

/* There is room, as BUFPIPE_OUT says it. */
int bufpipe_prep_wait_room(struct io_uring_sqe *sqe, bufpipe_t *pipe);

/*
 * The other side is gone.  Needed beside the others: a peer that is killed rings no
 * more.  Completes once; what it had sent is still there to be received.
 */
int bufpipe_prep_wait_hup(struct io_uring_sqe *sqe, bufpipe_t *pipe);

#ifdef __cplusplus
}
#endif
#endif
