/* SPDX-License-Identifier: MIT */
/* Waiting for a message of one end. */
#ifndef BUFFERED_PIPE_AWAIT_H
#define BUFFERED_PIPE_AWAIT_H

#include "handle.h"

/* A slice of waiting for a message.  AWAIT_FAILED: with an exception. */
enum awaited { AWAIT_LOOK, AWAIT_TIME_UP, AWAIT_ENDED, AWAIT_FAILED };
enum awaited handle_await_quietly(struct end *self, int64_t deadline);
/* The same: 0 to look, or -1 with an exception. */
int handle_await(struct end *self, int64_t deadline);
METHOD(handle_poll);

#endif
