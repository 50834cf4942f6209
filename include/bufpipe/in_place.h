/* SPDX-License-Identifier: MIT */
/*
 * Writing and reading messages in the ring itself.
 * A part of <bufpipe.h>, which has the rules that hold for every call.
 */
#ifndef BUFPIPE_IN_PLACE_H
#define BUFPIPE_IN_PLACE_H

#include <bufpipe/pipe.h>

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#ifdef __cplusplus
extern "C" {
#endif

/*
 * Zero-copy sending.  *buf becomes room for len bytes (8-byte aligned) inside the
 * ring.  bufpipe_commit sends the message, with any length up to the reserved one (in
 * a static pipe exactly that length).  bufpipe_cancel drops it.  Until then every
 * other sending call on this end is -EBUSY.  A shared end is locked meanwhile: the
 * thread that reserved must finish, and other holders wait.
 *
 * Errors of reserve: -EINVAL, -EBADF, -EAGAIN, -ETIMEDOUT, -EINTR, -EPIPE,
 *   -EBUSY, -EPROTO, -ENOMEM; -EMSGSIZE: len is more than buffer_size, or not object_size.
 * Errors of commit and cancel: -EINVAL, also when nothing is reserved; commit:
 *   -EPIPE: nobody will receive it; the reservation has ended.
 */
int bufpipe_reserve(bufpipe_t *pipe, void **buf, size_t len, int64_t timeout_ns);
int bufpipe_commit(bufpipe_t *pipe, size_t len);
int bufpipe_cancel(bufpipe_t *pipe);

/*
 * Zero-copy receiving.  *buf points to the next message inside the ring, read-only and
 * 8-byte aligned; its length is returned.  bufpipe_release consumes the message.
 * bufpipe_unpeek leaves it as the next message.  Until one of them, every other
 * receiving call on this end is -EBUSY.  A hostile sender can still change the bytes:
 * copy them before you check them.  A shared end is locked meanwhile: the thread that
 * peeked must finish, and other holders wait.  For bufpipe_wait and sets of those holders
 * the message stays ready, so a loop around them goes on until it is released: peek at a
 * shared end for a short time only.
 *
 * Errors of peek: -EINVAL, -EBADF, -EAGAIN, -ETIMEDOUT, -EINTR, -EPIPE, -EBUSY,
 *   -EPROTO; -EMSGSIZE: the message is longer than buffer_size and comes in fragments:
 *   use bufpipe_recv.
 * Errors of release and unpeek: -EINVAL, also when nothing is peeked.
 */
ssize_t bufpipe_peek(bufpipe_t *pipe, const void **buf, int64_t timeout_ns);
int bufpipe_release(bufpipe_t *pipe);
int bufpipe_unpeek(bufpipe_t *pipe);

/*
 * Copies len bytes of the peeked message, from offset on.  It is for a peer that is
 * not trusted: such a peer can change the bytes in the ring between a check and their
 * use.  Copy whatever you decide by (lengths, types, indices), check the copy, and use
 * the copy.  Any thread that may call bufpipe_release may call this; it does not
 * block.  buf may be NULL if len is 0.
 *
 * Errors: -EINVAL: nothing is peeked, or the bytes are not all in the message.
 */
int bufpipe_peek_copy(const bufpipe_t *pipe, void *buf, size_t offset, size_t len);

#ifdef __cplusplus
}
#endif
#endif
