/* SPDX-License-Identifier: MIT */
/* Messages that name the process or file that keeps the two sides from meeting. */
#ifndef CULPRIT_H
#define CULPRIT_H

#include "../common.h"

/* An error beside those of the library: somebody listens, but has not answered in time. */
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
