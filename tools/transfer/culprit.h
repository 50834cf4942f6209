/* SPDX-License-Identifier: MIT */
/* Messages that name the process or file that keeps the two sides from connecting. */
#ifndef CULPRIT_H
#define CULPRIT_H

#include "../common.h"

/* An error beside those of the library: somebody listens, but has not answered in time. */
#define NO_ANSWER (-EBUSY)

/*
 * Whether a path where nobody listens holds something that is not a socket, so that
 * waiting is useless.
 */
bool path_is_no_socket(const char *address);

/*
 * Prints one line that tells why an attempt to connect failed with error, a negative
 * errno; nothing for -ECANCELED.  Returns the status to exit with.
 */
int complain_address(const struct command *command, const char *address, int error);

#endif
