/* SPDX-License-Identifier: MIT */
/* Waiting for a message of one end. */
#ifndef BUFFERED_PIPE_AWAIT_H
#define BUFFERED_PIPE_AWAIT_H

#include "handle.h"

/* Waits for a message, for one slice.  With AWAIT_FAILED an exception is set. */
enum awaited { AWAIT_LOOK, AWAIT_TIME_UP, AWAIT_ENDED, AWAIT_FAILED };
enum awaited handle_await_quietly(struct end *self, int64_t deadline);
/* The same, but returns 0 if the caller must look, or -1 with an exception. */
int handle_await(struct end *self, int64_t deadline);
METHOD(handle_poll);

#endif
