/* SPDX-License-Identifier: MIT */
/* The next record that begins or continues a message: skips what is left of messages that will never be complete. */
#ifndef BUFPIPE_END_INCOMING_H
#define BUFPIPE_END_INCOMING_H

#include "end/record.h"

/*
 * Waits for a record that begins or continues a message, and has the turn when it returns 0.
 * It does not have the turn while it sleeps, so that other receivers may take what comes.
 * -EAGAIN for a try; -ETIMEDOUT, -EINTR; -EPIPE at the end of the stream; -EPROTO; or an
 * error of direction_enter.
 */
int incoming_await(bufpipe_t *pipe, struct record *record, struct effort *effort);

/* After a whole lap without a message since begin, looks whether the sender lives: 0 or -EPIPE. */
int incoming_glance_after_lap(bufpipe_t *pipe, uint64_t begin);

/*
 * Called when the time is up although there is more to look at: -ETIMEDOUT, or -EAGAIN for a
 * try, which arms the descriptor for poll.
 */
int incoming_time_is_up(bufpipe_t *pipe, int64_t deadline);

#endif
