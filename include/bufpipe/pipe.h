/* SPDX-License-Identifier: MIT */
/*
 * The life of a pipe: creating, ending and closing it.
 * A part of <bufpipe.h>, which has the rules that hold for every call.
 */
#ifndef BUFPIPE_PIPE_H
#define BUFPIPE_PIPE_H

#include <bufpipe/options.h>

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct bufpipe bufpipe_t;

/*
 * Creates a pipe: ends[0] receives and ends[1] sends; with BUFPIPE_DUPLEX each
 * does both.  The caller owns both ends and closes them.  NULL options are the
 * defaults.  On failure ends is not written.
 *
 * The memory for the beginning of the ring (with BUFPIPE_PREFAULT for all of it) is
 * allocated here.  The rest is allocated when the first lap comes to it.
 *
 * Errors: -EINVAL, -EMFILE, -ENFILE, -ENOMEM; -EFBIG: the ring is larger than
 *   RLIMIT_FSIZE; -EPERM: BUFPIPE_LOCKED is not permitted; -ENOSYS: no memfds.
 */
int bufpipe_create(bufpipe_t *ends[2], const struct bufpipe_options *options);

/*
 * Ends the stream from this end, in order, for all who hold it.  The other side
 * receives what was sent and then -EPIPE; a further send here is -EPIPE.  A duplex
 * end can still receive.  On an end that only receives, sends of the other side get
 * -EPIPE, and what has arrived can still be received here.  If a message is being
 * received at the moment when its send finds the shutdown, the send gets -EPIPE and
 * the message may still be delivered; if it is only peeked, it may be gone.
 *
 * Any thread may call this at any time.  It wakes all calls that are blocked in this
 * direction of this end, in this process and others: sends, receives, and waits for
 * many pipes.  They return -EPIPE at once; receivers first get what is there.
 * (Within 100 ms for a call that is just going to sleep and does not get the CPU for
 * 16 ms, and for a wait for many pipes that is just going to sleep; within 200 ms in
 * bufpipe_wait for room; within 5 seconds for a set without io_uring in another process
 * that waits for room on a duplex end, after bufpipe_shutdown.)  On an exclusive end, a
 * send that another thread has begun may be delivered or not.
 *
 * Needs no room and does not wait for the other side.  On a shared end that sends, it
 * waits for a holder that has a reservation open.  A second call does nothing.
 *
 * Errors: -EINVAL; -EBUSY: this thread has a reservation or a message in parts open.
 *   On an exclusive end this is so if any thread has one open.
 */
int bufpipe_shutdown(bufpipe_t *pipe);

/*
 * The same with a timeout.  If it gives up, a send that was blocked may have got -EPIPE
 * already, so call it again.
 *
 * Errors: those of bufpipe_shutdown; -EAGAIN, -ETIMEDOUT: another holder has a
 *   reservation open, or is still inside a sending call.
 */
int bufpipe_shutdown_within(bufpipe_t *pipe, int64_t timeout_ns);

/*
 * The same in both directions: all calls that are blocked on this end wake, and the
 * other side finds this end gone.  Use it to stop a thread that receives from a duplex
 * end.
 *
 * Errors: those of bufpipe_shutdown.
 */
int bufpipe_stop(bufpipe_t *pipe);

/*
 * Closes the end in this process.  The pipe ends when the last process that holds the
 * end has closed it.  An open reservation is cancelled; a peeked message stays unread.
 * The pointer is invalid afterwards.  NULL is ignored.  When the last holder of a
 * receiving end closes it, unread messages are lost.
 */
void bufpipe_close(bufpipe_t *pipe);

#ifdef __cplusplus
}
#endif
#endif
