/* SPDX-License-Identifier: MIT */
/*
 * Descriptors that somebody else chose.
 *
 * Whoever receives a descriptor must close it, and the close may sleep for as
 * long as its maker likes: a TCP socket with SO_LINGER, a file in FUSE.  The
 * same holds for a Unix socket in whose queue such a descriptor lies.  So
 * descriptors that we did not ask for are closed by a child process that shares
 * nothing with us but memory and the table of descriptors.
 *
 * At most STRAY_MOST of these children exist at once.  A child lives for as
 * long as its close takes, and is reaped when the next one is made.
 */
#ifndef BUFPIPE_BASE_STRAY_H
#define BUFPIPE_BASE_STRAY_H

#include <stdbool.h>

#define STRAY_MOST 32

enum stray_kind {
	STRAY_MEMORY, /* a memfd: none of its system calls sleeps for its maker */
	STRAY_SOCKET,
	STRAY_OTHER,
};

/* What a descriptor is, asked by calls that cannot sleep whatever it is. */
enum stray_kind stray_kind(int fd);

/*
 * Whether a memfd has more extended attributes than security modules give it: a
 * million of them, which seals do not forbid, take the last close most of a second.
 */
bool stray_is_laden(int fd);

/*
 * Closes a descriptor without ever waiting for it.  Where no child can be made,
 * and while STRAY_MOST of them are stuck, the descriptor stays open until one
 * can.  May be called by any thread.
 */
void stray_close(int fd);

#endif
