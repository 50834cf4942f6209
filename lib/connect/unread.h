/* SPDX-License-Identifier: MIT */
/*
 * Connectors that were dropped before they had read the offer to them.
 *
 * The descriptor in an offer is in flight until the connector reads it or closes
 * its socket.  The kernel counts such descriptors for the user of the listener.
 * Beyond RLIMIT_NOFILE, this user cannot send descriptors any more.  So a user who
 * leaves many offers unread would keep all others out.  To prevent this, the
 * listener keeps its side of such a connection, because only then can it ask later
 * whether the offer was read.  It refuses a user with too many unread offers.
 */
#ifndef BUFPIPE_CONNECT_UNREAD_H
#define BUFPIPE_CONNECT_UNREAD_H

#include "base/sys.h"

#include <stdbool.h>
#include <sys/types.h>

/*
 * How many offers are remembered for all users.  One user alone may leave a quarter of
 * them unread.  It takes fourteen users to fill all places.  Then new users still come
 * in, but what they leave unread is not counted any more.
 */
#define UNREAD_MAX 256
/* A user may always leave so many unread: several honest clients may come at the same time. */
#define UNREAD_LEAST_SHARE 4
/* How often to look whether kept offers were read, where no new client is a reason to. */
#define UNREAD_LOOK (5 * NSEC_PER_SEC)
/* With a lower limit of descriptors, a listener has none to spare for this. */
#define UNREAD_LEAST_LIMIT 1024

struct unread {
	int n;
	int64_t next; /* when to look again, if n is not 0 */
	struct {
		int socket;
		uid_t uid;
	} at[UNREAD_MAX];
};

/* Whether the other side has not read everything that we have sent. */
bool unread_is_left(int socket);

/* Takes the socket of a connector that is dropped, after its shutdown.  If false, the caller closes it. */
bool unread_keep(struct unread *unread, int socket, uid_t uid);

/* Closes the sockets of offers that have been read, or whose reader is gone, if it is time to look. */
void unread_release(struct unread *unread, int64_t now);

/*
 * Whether this user has left too many offers unread, together with those that lie in
 * its waiting connections.  Closes the sockets of offers that have been read since, or
 * whose reader is gone.
 */
bool unread_too_many(struct unread *unread, uid_t uid, int waiting);

/* Closes all, because descriptors have run out or the listener ends.  Returns how many there were. */
int unread_forget(struct unread *unread);

#endif
