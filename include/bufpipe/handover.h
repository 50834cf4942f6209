/* SPDX-License-Identifier: MIT */
/*
 * Handing an end to another process over a socket.
 * A part of <bufpipe.h>, which has the rules that hold for every call.
 */
#ifndef BUFPIPE_HANDOVER_H
#define BUFPIPE_HANDOVER_H

#include <bufpipe/pipe.h>

#ifdef __cplusplus
extern "C" {
#endif

/*
 * Hand an end to another process over a connected Unix socket of any type, with
 * SCM_RIGHTS.  The process that sends the end still holds it, until it closes it.
 * Both calls block as the socket does.  The caller of recv_end closes the end that it
 * gets.  The two processes become co-owners of the end, so accept one only from a
 * process that you trust.
 *
 * Errors: -EINVAL; -EAGAIN: the socket is non-blocking and not ready; -EINTR; -EPIPE:
 *   the socket was closed; errors of sendmsg and recvmsg;
 *   send_end: -EBUSY: a reservation or a peek is open, or the beginning of a long
 *     message is kept; -EOPNOTSUPP: the end has BUFPIPE_NO_HANDOVER, or /proc was
 *     missing when it was made;
 *   recv_end: -ENOMEM, -EMFILE; -EBADMSG: what arrived is not an end (descriptors in
 *     it were closed); -EPROTONOSUPPORT: it has another layout version; -EPERM: the
 *     end has BUFPIPE_LOCKED, which is not permitted here.  After any error except one
 *     of recvmsg, what arrived is lost.
 */
int bufpipe_send_end(int socket, bufpipe_t *pipe);
int bufpipe_recv_end(int socket, bufpipe_t **pipe);

#ifdef __cplusplus
}
#endif
#endif
