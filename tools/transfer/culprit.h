/* SPDX-License-Identifier: MIT */
/* Who is to blame when two do not meet. */
#ifndef CULPRIT_H
#define CULPRIT_H

#include "../common.h"

/* Beside the errors of the library: somebody listens, and has not answered in time. */
#define NO_ANSWER (-EBUSY)

/*
 * Whether a path, where nobody was met, holds something that is no socket, so
 * that to wait is in vain.
 */
bool path_is_no_socket(const char *address);

/*
 * One line that tells why an attempt to meet failed with error, a negative
 * errno; nothing for -ECANCELED.  The status to exit with.
 */
int complain_address(const struct command *command, const char *address, int error);

#endif
