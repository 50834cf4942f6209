/* SPDX-License-Identifier: MIT */
/* The addresses of listeners: a path, an abstract name, or a socket that was passed on. */
#ifndef BUFPIPE_CONNECT_ADDRESS_H
#define BUFPIPE_CONNECT_ADDRESS_H

#include "connect/path.h"
#include "connect/sleep.h"

/* A listening socket, and the file that is removed with it. */
struct listening {
	int fd;
	bool adopted; /* passed on: other processes may use the socket too; if listening fails, it stays open */
	struct path path;
};

/* mode is that of a socket in the filesystem, 0 for the default.  Cancellation must be off in the sleeper. */
int address_listen(struct listening *listening, const char *address, unsigned mode,
		   const struct sleeper *sleeper);

/*
 * Removes the file if it is still ours, and refuses all waiting connectors, even if other
 * processes have the socket.
 */
void address_unlisten(struct listening *listening);

/* For a child of fork: closes what it has inherited, and leaves the address to the parent. */
void address_leave(struct listening *listening);

/* Undoes address_listen in a call that fails later.  A socket that was passed on stays open. */
void address_give_up(struct listening *listening);

/*
 * Returns a connected, non-blocking socket, or a negative errno.  for_listener: waits until
 * somebody listens.
 */
int address_connect(const char *address, bool for_listener, const struct sleeper *sleeper);

#endif
