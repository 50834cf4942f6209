/* SPDX-License-Identifier: MIT */
/* The next record that begins or continues a message: skips what is left of messages that will never be complete. */
#ifndef BUFPIPE_END_INCOMING_H
#define BUFPIPE_END_INCOMING_H

#include "end/record.h"

/*
 * Waits for such a record, and has the turn when it returns 0.  It does not have the turn
 * while it sleeps, so that other receivers may take what comes.
 */
int incoming_await(bufpipe_t *pipe, struct record *record, struct effort *effort);

/* After a whole lap without a message since begin, looks whether the sender lives: 0 or -EPIPE. */
int incoming_glance(bufpipe_t *pipe, uint64_t begin);

/* The time is up, although there is more to look at: -ETIMEDOUT, or -EAGAIN for a try, and the descriptor for poll is armed. */
int incoming_give_up(bufpipe_t *pipe, int64_t deadline);

#endif
