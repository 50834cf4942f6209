/* SPDX-License-Identifier: MIT */
/*
 * Connectors that were dropped while the offer to them lay unread in their socket.
 *
 * The descriptor in that offer stays in flight until its reader reads it or
 * closes its socket.  The kernel counts such descriptors against the listener's
 * user, and beyond RLIMIT_NOFILE it lets that user send no more.  So a user who
 * leaves many offers unread would keep all others out.  The listener therefore
 * keeps its side of such a connection, which is the only way to ask later
 * whether the offer is still there, and refuses a user with too many of them.
 */
#ifndef BUFPIPE_CONNECT_UNREAD_H
#define BUFPIPE_CONNECT_UNREAD_H

#include <stdbool.h>
#include <sys/types.h>

/* So many offers may one user leave unread, and so many are remembered of all users. */
#define UNREAD_OF_USER 64
#define UNREAD_MAX     256
/* A listener whose limit of descriptors is lower has none to spare for this. */
#define UNREAD_LEAST_LIMIT 1024

struct unread {
	int n;
	struct {
		int socket;
		uid_t uid;
	} at[UNREAD_MAX];
};

/* Takes the socket of a connector that is dropped, which was hung up on; false: the caller closes it. */
bool unread_keep(struct unread *unread, int socket, uid_t uid);

/*
 * Whether this user has left too many offers unread.  Closes all that have been read
 * meanwhile, or whose reader is gone.
 */
bool unread_too_many(struct unread *unread, uid_t uid);

/* Closes all: descriptors have run out, or the listener ends.  How many there were. */
int unread_forget(struct unread *unread);

#endif
