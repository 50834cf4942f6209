/* SPDX-License-Identifier: MIT */
/* The readiness of one end, for waits for many: is it ready, and how to be woken when it becomes ready. */
#ifndef BUFPIPE_POLL_READINESS_H
#define BUFPIPE_POLL_READINESS_H

#include "end/end.h"

/* Whether the end can be waited for with these events: 0, -EINVAL or -EBADF. */
int readiness_check(const bufpipe_t *pipe, unsigned events);

/* Looks at the rings, and returns which of the events are ready; BUFPIPE_HUP at the end of the stream. */
unsigned readiness_look(const bufpipe_t *pipe, unsigned events);

/*
 * Raises the flags for the events; mode is WAITER_MANY or WAITER_FD.  True if a fence is enough to
 * order them.
 */
bool readiness_raise(bufpipe_t *pipe, unsigned events, uint32_t mode);

/* wait_ordered for the events: false if a sleep must be short. */
bool readiness_ordered(bufpipe_t *pipe, unsigned events, bool issued);

/* Lowers the flags, unless co-owners may need them. */
void readiness_lower(bufpipe_t *pipe, unsigned events, uint32_t mode);

/* To be called after readiness_lower with WAITER_FD: arms bufpipe_fd again, if it is in use. */
void readiness_done(bufpipe_t *pipe);

/* The struct wait of either direction, for what both have in common: the socket, and how long to spin. */
struct wait *readiness_any(bufpipe_t *pipe);

#endif
