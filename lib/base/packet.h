/* SPDX-License-Identifier: MIT */
/*
 * Small messages on Unix sockets, some of them with descriptors.
 *
 * The other side may be hostile, and so may each descriptor that it sends: closing
 * one can take for ever (see stray.h).  The kernel itself closes a descriptor when a
 * receive has no room for it, or when a socket is closed with a packet in its queue.
 * Hence three rules:
 *
 *   - Where no descriptor is expected, the kernel refuses them (from Linux 6.16
 *     on): see packet_forbid_rights.
 *   - On the socket of a pipe, a packet is peeked at before it is taken.  A packet
 *     with unwanted descriptors is never taken.
 *   - The socket of a pipe is closed with packet_close.
 */
#ifndef BUFPIPE_BASE_PACKET_H
#define BUFPIPE_BASE_PACKET_H

#include <stdbool.h>
#include <stddef.h>

#define PACKET_FDS 3

/* Sends len bytes and n descriptors.  flags are those of sendmsg. */
int packet_send(int socket, const void *bytes, size_t len, const int *fds, int n, int flags);

/*
 * Receives exactly len bytes and n descriptors (close-on-exec).  On a stream
 * socket the bytes may come one by one.  fds is written only on success.
 *   -EPIPE    the socket was closed
 *   -EMFILE   this process has too many descriptors open; the message is lost
 *   -EBADMSG  anything else arrived
 */
int packet_recv(int socket, void *bytes, size_t len, int *fds, int n, int flags);

/*
 * Peeks at the next packet of a SOCK_SEQPACKET socket, which stays in the queue.
 * It must have exactly len bytes and, if fd is not NULL, exactly one descriptor,
 * a memfd.  Does not wait: -EAGAIN.  Other errors are those of packet_recv.
 */
int packet_look(int socket, void *bytes, size_t len, int *fd);

/* Takes a packet out of the queue that packet_look has accepted. */
void packet_take(int socket);

/*
 * Takes the next packet out of the queue and forgets it.  Does not wait.  Returns
 * its length (0 also at the end of the stream), -EAGAIN, or another error of recv.
 * If the packet has descriptors, shuts the socket down for all its holders and
 * returns -EPROTO.
 */
int packet_discard(int socket);

/*
 * Makes the kernel refuse messages with descriptors to their sender, and switches
 * credentials off; or allows descriptors again.  A connection inherits this from its
 * listening socket.  Before Linux 6.16 the kernel lets descriptors through anyway.
 */
void packet_forbid_rights(int socket);
void packet_allow_rights(int socket);

/* Whether descriptors are refused.  After packet_clear the queue then holds none either. */
bool packet_forbids_rights(int socket);

/*
 * Empties the queue after descriptors were allowed for a while, before anybody
 * waits on the socket.  -EPROTO as packet_discard, or if the queue never empties.
 */
int packet_clear(int socket);

/*
 * Closes the socket of a pipe, without waiting for the close of a descriptor that
 * a stranger may have left in its queue.  Takes nothing out of the queue, because
 * other holders may still use the socket.  If descriptors are in the queue, shuts
 * the socket down.
 */
void packet_close(int socket);

/* The same for a copy of a socket that another process keeps using: the queue belongs to that process. */
void packet_leave(int socket);

/* Checks a descriptor that is to join two ends: 0 if it is a Unix SOCK_SEQPACKET socket, else -EBADMSG. */
int packet_check_socket(int fd);

#endif
