/* SPDX-License-Identifier: MIT */
/*
 * Which connections a listener takes from its backlog: there must be a place and descriptors, and the policy
 * must allow it.
 */
#ifndef BUFPIPE_CONNECT_ADMIT_H
#define BUFPIPE_CONNECT_ADMIT_H

#include "connect/pending.h"

/*
 * Takes one connection from the backlog, or makes room for it, or pauses the listening
 * until there may be room.  1 if a pipe is complete, see pending_evict; 0 to go on; or
 * an error for the caller of bufpipe_accept.
 */
int admit_next(struct bufpipe_listener *listener, bufpipe_t **pipe);

#endif
