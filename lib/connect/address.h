/* SPDX-License-Identifier: MIT */
/* Addresses where two strangers meet: a path, an abstract name, a socket that was passed on. */
#ifndef BUFPIPE_CONNECT_ADDRESS_H
#define BUFPIPE_CONNECT_ADDRESS_H

#include "connect/path.h"
#include "connect/sleep.h"

/* A socket that listens, and the file that must go with it. */
struct listening {
	int fd;
	bool adopted; /* passed on: the caller's until listening has succeeded, and perhaps somebody else's still */
	struct path path;
};

/* mode: of a socket in the filesystem, 0 for the default.  The sleeper must not be cancelled. */
int address_listen(struct listening *listening, const char *address, unsigned mode,
		   const struct sleeper *sleeper);

/* Removes the file if it is still ours, and refuses all who wait, also if another process has the socket, too. */
void address_unlisten(struct listening *listening);

/* In a child: closes what was inherited, and leaves the address to the parent. */
void address_leave(struct listening *listening);

/* Undoes address_listen for a call that failed; a socket that was passed on stays open. */
void address_give_up(struct listening *listening);

/* A connected, non-blocking socket, or a negative errno.  for_listener: waits until somebody listens. */
int address_connect(const char *address, bool for_listener, const struct sleeper *sleeper);

#endif
