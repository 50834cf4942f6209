/* SPDX-License-Identifier: MIT */
/* One end, as seen by those who wait for many: is it ready, and how to be told when it becomes so. */
#ifndef BUFPIPE_WATCH_H
#define BUFPIPE_WATCH_H

#include "end.h"

/* Whether these events can be asked of the end: 0, -EINVAL, -EBADF. */
int watch_check(const bufpipe_t *pipe, unsigned events);

/* Which of the events have come, by a look at the rings; BUFPIPE_HUP with the end of the stream. */
unsigned watch_look(const bufpipe_t *pipe, unsigned events);

/* Raises the flags for the events: mode is BELL_WATCH or BELL_FD. */
void watch_raise(bufpipe_t *pipe, unsigned events, uint32_t mode);

/* Lowers them, unless co-owners may count on them. */
void watch_lower(bufpipe_t *pipe, unsigned events, uint32_t mode);

/* Anything of the end that is enough to issue a membarrier or to look at the socket. */
struct wait *watch_any(bufpipe_t *pipe);

static inline int is_shared(const bufpipe_t *pipe)
{
	return pipe->ours.identity.flags & LAYOUT_SHARED ? 1 : 0;
}

#endif
