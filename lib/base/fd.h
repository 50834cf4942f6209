/* SPDX-License-Identifier: MIT */
/*
 * Descriptors 0, 1 and 2 belong to the program, also while they are closed.  A
 * program that was started without them may still print: into whatever has got
 * the number.  So each descriptor that the library makes or receives goes
 * through here.
 */
#ifndef BUFPIPE_BASE_FD_H
#define BUFPIPE_BASE_FD_H

#include "base/sys.h"

#define FD_FIRST 3 /* the lowest one that may be ours */

/* Moves a low descriptor up, with close-on-exec, and frees its number: the new one or a negative errno. */
int fd_move_up(int low);

/*
 * What a system call gave that makes a descriptor, and errno if that is
 * negative: the same descriptor, another in its place, or a negative errno.
 */
static inline int fd_own(int made)
{
	if (made < 0)
		return -errno;
	return likely(made >= FD_FIRST) ? made : fd_move_up(made);
}

#endif
