/* SPDX-License-Identifier: MIT */
/* One end, as seen by those who wait for many: is it ready, and how to be told when it becomes so. */
#ifndef BUFPIPE_POLL_READINESS_H
#define BUFPIPE_POLL_READINESS_H

#include "end/end.h"

/* Whether these events can be asked of the end: 0, -EINVAL, -EBADF. */
int readiness_check(const bufpipe_t *pipe, unsigned events);

/* Which of the events have come, by a look at the rings; BUFPIPE_HUP with the end of the stream. */
unsigned readiness_look(const bufpipe_t *pipe, unsigned events);

/* Raises the flags for the events: mode is WAITER_MANY or WAITER_FD.  Whether a fence is enough to order them. */
bool readiness_raise(bufpipe_t *pipe, unsigned events, uint32_t mode);

/* They were ordered by a membarrier. */
void readiness_ordered(bufpipe_t *pipe, unsigned events);

/* Lowers them, unless co-owners may count on them. */
void readiness_lower(bufpipe_t *pipe, unsigned events, uint32_t mode);

/* After readiness_raise and readiness_lower with WAITER_FD: if bufpipe_fd is in use, it needs to be armed again. */
void readiness_done(bufpipe_t *pipe);

/* Anything of the end that is enough to learn how long to spin, or to look at the socket. */
struct wait *readiness_any(bufpipe_t *pipe);

#endif
