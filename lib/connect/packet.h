/* SPDX-License-Identifier: MIT */
/*
 * A small message with descriptors on a Unix socket.  Whatever arrives in excess
 * is closed, never leaked.
 */
#ifndef BUFPIPE_CONNECT_PACKET_H
#define BUFPIPE_CONNECT_PACKET_H

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

/* Checks a descriptor that is to join two ends: a connected Unix SOCK_SEQPACKET socket, or -EBADMSG. */
int packet_check_socket(int fd);

#endif
