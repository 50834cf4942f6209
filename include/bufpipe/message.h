/* SPDX-License-Identifier: MIT */
/*
 * Sending and receiving messages: whole, in parts, and in batches.
 * A part of <bufpipe.h>, which has the rules that hold for every call.
 */
#ifndef BUFPIPE_MESSAGE_H
#define BUFPIPE_MESSAGE_H

#include <bufpipe/pipe.h>

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

#ifdef __cplusplus
extern "C" {
#endif

/*
 * Sends len bytes as one message; buf may be NULL if len is 0.  Blocks while
 * the pipe is full.  A message longer than buffer_size streams through in
 * fragments, so it needs a receiver at the same time.  If the time is up in its middle,
 * the receiver never sees any of it.
 *
 * Errors: -EINVAL, -EBADF, -EAGAIN, -ETIMEDOUT, -EINTR, -EPIPE, -EBUSY, -EPROTO;
 *   -ENOMEM: in the first lap the ring needs memory, and the system has none;
 *   -EMSGSIZE: the pipe is static and len is not object_size; it is a try (timeout 0)
 *   and len is more than buffer_size; or len is more than 2^40.
 */
int bufpipe_send(bufpipe_t *pipe, const void *buf, size_t len, int64_t timeout_ns);

/* The same, for a message gathered from n pieces (at most 1024). */
int bufpipe_sendv(bufpipe_t *pipe, const struct iovec *pieces, int n, int64_t timeout_ns);

/*
 * Sends a message longer than buffer_size in parts.  It is for programs that do other
 * work in between, or do not have all of the message in memory.  Sends the next len
 * bytes, after which 'after' more bytes will follow.  Returns how many of the len
 * bytes it has sent: fewer than len if the time is up or a signal came.  The first
 * call begins the message.  In each further call, len + after must equal what is left
 * of the message.  The receiver sees no difference.
 *
 * From the first part to the last, other sending calls of the thread are -EBUSY, and
 * other holders of a shared end wait, as with an open reservation.  bufpipe_cancel
 * gives the message up; then the receiver never sees any of it.
 *
 * Errors: those of bufpipe_send, if nothing was sent.  -EINVAL also: len is 0, or
 *   len + after is not what is left.  -EMSGSIZE: len + after is at most buffer_size, or
 *   the pipe is static (use bufpipe_send); or it is more than 2^40.  After -EPIPE and
 *   -EPROTO, which come even if a part of the len bytes was sent, the message has
 *   ended; after other errors it can continue.
 */
ssize_t bufpipe_send_part(bufpipe_t *pipe, const void *buf, size_t len, size_t after, int64_t timeout_ns);

/*
 * Receives one message of at most cap bytes into buf; returns its length (0 is
 * a legal length in a generic pipe).  buf may be NULL if cap is 0.
 *
 * Errors: -EINVAL, -EBADF, -EAGAIN, -ETIMEDOUT, -EINTR, -EPIPE, -EBUSY, -EPROTO;
 *   -EMSGSIZE: the message is longer than cap; it stays in place;
 *   -ENOMEM: the message is longer than the ring, and there is no memory to keep its
 *   beginning if this call gives up; it stays in place.
 *
 * If a call gives up in the middle of a message longer than the ring, it keeps what it
 * has received, and a later call continues.  This takes as much memory as the message,
 * and the call that completes or drops it about 0.5 ms for each MiB of it;
 * bufpipe_recv_part needs none.
 *
 * On a shared end the beginning cannot be kept for other holders.  So the call does
 * not give up at its timeout, as long as the sender needs at most 1 second plus 1
 * second for each 16 MiB; if the sender is slower, the message is dropped.  With
 * BUFPIPE_INTERRUPTIBLE the call does give up, and the thread keeps its turn: its next
 * bufpipe_recv continues with that message, or bufpipe_release drops it.  Until then
 * other receiving calls of the thread are -EBUSY, and other holders wait, as with an
 * open peek.
 */
ssize_t bufpipe_recv(bufpipe_t *pipe, void *buf, size_t cap, int64_t timeout_ns);

/*
 * Receives a message longer than buffer_size in parts.  It is for programs that do not
 * want to allocate as much as the sender announces, or do other work in between.
 * Receives the next bytes of the message, at most cap, and returns their number.
 * *after becomes the number of bytes that are still to come; the message is complete
 * when it is 0.  Waits until cap bytes, or all, are there.  If the time is up or a
 * signal came, it returns what it has.  With timeout 0 it returns what is there, but
 * not always all of it.  A message of up to buffer_size bytes comes whole, as with
 * bufpipe_recv.
 *
 * From the first part to the last, other receiving calls of the thread are -EBUSY, and
 * other holders of a shared end wait, as with an open peek.  bufpipe_release drops the
 * rest.
 *
 * Errors: those of bufpipe_recv except -ENOMEM, if nothing was received; the message
 *   can continue.  -EMSGSIZE also: the message is longer than buffer_size, and cap is 0.
 *   -ECANCELED, -EPIPE, -EPROTO in the middle: the rest will not come, and what was
 *   received is not a complete message.  The next call begins with the next message.
 *   -EBUSY also: an earlier bufpipe_recv has kept the beginning of this message.
 */
ssize_t bufpipe_recv_part(bufpipe_t *pipe, void *buf, size_t cap, size_t *after, int64_t timeout_ns);

/*
 * Returns the length of the next message, which stays in place.  Waits for a message
 * as bufpipe_recv does.  The message may be longer than the ring; then its sender may
 * still give it up before it is received.
 *
 * The sender chooses the length, so limit what you allocate for it.
 *
 * Errors: those of bufpipe_recv except -EMSGSIZE and -ENOMEM.
 */
ssize_t bufpipe_next(bufpipe_t *pipe, int64_t timeout_ns);

/*
 * Send or receive up to n messages (n > 0), and return how many they did, at least
 * one.  They wait only for the first.  In send_many each iovec is one message.  In
 * recv_many each iov_len is a capacity and becomes the length that was received.  An
 * error after the first message is returned by the next call.
 *
 * Errors, for the first message: send_many: those of bufpipe_send; recv_many: those
 *   of bufpipe_recv.
 */
ssize_t bufpipe_send_many(bufpipe_t *pipe, const struct iovec *messages, unsigned n, int64_t timeout_ns);
ssize_t bufpipe_recv_many(bufpipe_t *pipe, struct iovec *messages, unsigned n, int64_t timeout_ns);

#ifdef __cplusplus
}
#endif
#endif
