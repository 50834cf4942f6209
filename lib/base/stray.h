/* SPDX-License-Identifier: MIT */
/*
 * Closing descriptors that somebody else chose.
 *
 * A process that receives a descriptor must close it, and the close may sleep for
 * as long as the sender of the descriptor likes.  Examples are a TCP socket with
 * SO_LINGER, a file in FUSE, and a Unix socket that has such a descriptor in its
 * queue.  So descriptors that we did not ask for are closed by a child process,
 * which shares only memory and the table of descriptors with us.
 *
 * At most STRAY_MOST of these children exist at once.  A child lives for as
 * long as its close takes.  It is reaped when the next one is made.
 */
#ifndef BUFPIPE_BASE_STRAY_H
#define BUFPIPE_BASE_STRAY_H

#include <stdbool.h>

#define STRAY_MOST 32

enum stray_kind {
	STRAY_MEMORY, /* a memfd: its maker cannot make a system call on it sleep */
	STRAY_SOCKET,
	STRAY_OTHER,
};

/* The kind of a descriptor.  Uses only calls that never sleep, whatever the descriptor is. */
enum stray_kind stray_kind(int fd);

/*
 * Whether a memfd has more extended attributes than security modules give it.  Seals
 * do not forbid them, and the last close of a memfd with a million attributes takes
 * most of a second.
 */
bool stray_is_laden(int fd);

/*
 * Closes a descriptor without ever waiting for it.  While no child can be made, or
 * STRAY_MOST of them are stuck, the descriptor stays open; a later call closes it.
 * Any thread may call this.
 */
void stray_close(int fd);

#endif
