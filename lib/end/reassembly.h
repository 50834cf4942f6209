/* SPDX-License-Identifier: MIT */
/* Messages longer than the ring, in the middle of which a call may give up. */
#ifndef BUFPIPE_END_REASSEMBLY_H
#define BUFPIPE_END_REASSEMBLY_H

#include "end/record.h"

/*
 * The total that a long message announces in its first piece, or -EPROTO.  What
 * fits into the ring as a whole never comes in pieces: so a receiver with no
 * more room than that never has to wait for a second one.
 */
int reassembly_total(const struct direction *in, const struct record *record, uint64_t *total);

/*
 * In our turn, with a piece before us that begins a message, or goes on with
 * the one that was kept: its length; -EAGAIN with *restart when the sender has
 * given it up, or died and another has begun.
 */
ssize_t reassembly_take(bufpipe_t *pipe, const struct record *record, char *buf, size_t cap,
			struct effort *effort, bool *restart);

/*
 * Whether this thread gave up in the middle of a long message on a shared end:
 * then it still has the turn, for nobody else has the beginning.
 */
bool reassembly_in_middle(const bufpipe_t *pipe);

/* It goes on. */
ssize_t reassembly_resume(bufpipe_t *pipe, char *buf, size_t cap, struct effort *effort, bool *restart);

/* Drops what was kept. */
void reassembly_drop(bufpipe_t *pipe);

/* In our turn, with the first piece of a long message before us, that goes on in parts: 0 or -EPROTO. */
int parts_begin(bufpipe_t *pipe, const struct record *record);

/*
 * In our turn: the next bytes of that message, at most cap, as many as come
 * in time.  -ECANCELED: the sender has given it up.  After that, and
 * after -EPIPE and -EPROTO, it is dropped.
 */
ssize_t parts_take(bufpipe_t *pipe, char *buf, size_t cap, struct effort *effort);

#endif
