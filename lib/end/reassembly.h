/* SPDX-License-Identifier: MIT */
/* Receiving messages longer than the ring.  A call may give up in the middle of one. */
#ifndef BUFPIPE_END_REASSEMBLY_H
#define BUFPIPE_END_REASSEMBLY_H

#include "end/record.h"

/*
 * Reads the total length of a long message from its first fragment: 0 or -EPROTO.  A
 * message that fits into the ring never comes in fragments.  So a receiver that accepts
 * only such messages never waits for a second fragment.
 */
int reassembly_total(const struct direction *in, const struct record *record, uint64_t *total);

/*
 * In our turn: record begins a long message, or continues the one that was kept.
 * Returns the length of the message; -EAGAIN with *restart set if the sender gave it
 * up, or if the sender died and another message begins.
 */
ssize_t reassembly_take(bufpipe_t *pipe, const struct record *record, char *buf, size_t cap,
			struct effort *effort, bool *restart);

/*
 * Whether this thread gave up in the middle of a long message on a shared end.  Then
 * it still has the turn, because nobody else has the beginning of the message.
 */
bool reassembly_in_middle(const bufpipe_t *pipe);

/* Continues with that message.  Results as reassembly_take. */
ssize_t reassembly_resume(bufpipe_t *pipe, char *buf, size_t cap, struct effort *effort, bool *restart);

/* Drops what was kept. */
void reassembly_drop(bufpipe_t *pipe);

/* In our turn: begins to receive a long message in parts.  record is its first fragment.  0 or -EPROTO. */
int parts_begin(bufpipe_t *pipe, const struct record *record);

/*
 * In our turn: copies the next bytes of that message, at most cap, as many as come
 * before the deadline.  -ECANCELED if the sender gave it up.  After -ECANCELED, -EPIPE
 * and -EPROTO nothing of the message is kept.
 */
ssize_t parts_take(bufpipe_t *pipe, char *buf, size_t cap, struct effort *effort);

#endif
