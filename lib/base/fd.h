/* SPDX-License-Identifier: MIT */
/*
 * Descriptors 0, 1 and 2 belong to the program, even while they are closed.  A
 * program that was started without them may still print, and its output would go
 * into whatever descriptor has the number.  So each descriptor that the library
 * makes or receives passes through fd_own.
 */
#ifndef BUFPIPE_BASE_FD_H
#define BUFPIPE_BASE_FD_H

#include "base/sys.h"

#define FD_FIRST 3 /* the lowest number that the library uses */

/* Moves a descriptor to a number from FD_FIRST on (close-on-exec): the new number, or a negative errno. */
int fd_move_up(int low);

/*
 * Takes the result of a system call that makes a descriptor (and errno, if the
 * result is negative).  Returns the descriptor, moved up if need be, or a negative
 * errno.
 */
static inline int fd_own(int made)
{
	if (made < 0)
		return -errno;
	return likely(made >= FD_FIRST) ? made : fd_move_up(made);
}

#endif
