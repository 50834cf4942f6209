/* SPDX-License-Identifier: MIT */
/*
 * Small messages on Unix sockets, some of them with descriptors.
 *
 * The other side may be hostile, and so may be a descriptor that it sends: to
 * close it can take for ever (see stray.h), also when the kernel does that
 * because a receive had no room for it or because a queue went with its socket.
 * Hence three rules:
 *
 *   - Where none is expected none can come, from Linux 6.16 on: see
 *     packet_forbid_rights.
 *   - On the socket of a pipe a packet is looked at before it is taken.  One
 *     with descriptors that we do not want is never taken.
 *   - Such a socket is closed with packet_close.
 */
#ifndef BUFPIPE_BASE_PACKET_H
#define BUFPIPE_BASE_PACKET_H

#include <stdbool.h>
#include <stddef.h>

#define PACKET_FDS 3

/* Sends len bytes and n descriptors.  flags are those of sendmsg. */
int packet_send(int socket, const void *bytes, size_t len, const int *fds, int n, int flags);

/*
 * Receives exactly len bytes and n descriptors (close-on-exec), in a stream
 * socket even if the bytes come one by one.  -EPIPE when the socket was closed,
 * -EMFILE when this process may have no more descriptors: the message is lost;
 * -EBADMSG for anything else than that; fds is written only on success.
 */
int packet_recv(int socket, void *bytes, size_t len, int *fds, int n, int flags);

/*
 * Looks at the next packet of a sequenced socket, which stays in the queue and
 * must have exactly len bytes and, if fd is not NULL, exactly one descriptor,
 * of a memfd.  Does not wait: -EAGAIN.  Errors as packet_recv.
 */
int packet_look(int socket, void *bytes, size_t len, int *fd);

/* Takes a packet out of the queue that was looked at and found good. */
void packet_take(int socket);

/*
 * Takes the next packet, which must have no descriptors, out of the queue and
 * forgets it.  Does not wait.  Returns its length; 0 also at the end; -EAGAIN
 * and other errors of recv.  A peer that sent descriptors is hung up on for all
 * holders of the socket: -EPROTO.
 */
int packet_discard(int socket);

/*
 * From here on a message with descriptors is refused to its sender, and no
 * credentials come; or descriptors are let through again.  A listening socket
 * hands this on to those that it accepts.  Before Linux 6.16 descriptors come
 * all the same.
 */
void packet_forbid_rights(int socket);
void packet_allow_rights(int socket);

/* Whether they are refused; then there are none in the queue either, if packet_clear has seen to that. */
bool packet_forbids_rights(int socket);

/*
 * Empties the queue after descriptors were let through for a while, before
 * anybody waits on the socket.  -EPROTO as packet_discard, or without end.
 */
int packet_clear(int socket);

/*
 * Closes the socket of a pipe without waiting for what a stranger may have left
 * in its queue.  Takes nothing out of the queue, for other holders may go on
 * using the socket; it is hung up on if descriptors are found.
 */
void packet_close(int socket);

/* The same for a copy of a socket that another process goes on with: whatever lies in the queue is that one's. */
void packet_leave(int socket);

/* Checks a descriptor that is to join two ends: a connected Unix SOCK_SEQPACKET socket, or -EBADMSG. */
int packet_check_socket(int fd);

#endif
