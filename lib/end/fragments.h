/* SPDX-License-Identifier: MIT */
/* Sending messages longer than the ring, in fragments.  end/reassembly.h puts them together again. */
#ifndef BUFPIPE_END_FRAGMENTS_H
#define BUFPIPE_END_FRAGMENTS_H

#include "end/room.h"

/* In our turn: sends a message that does not fit into the ring.  Results as room_await and room_publish. */
int fragments_send(bufpipe_t *pipe, const struct iovec *pieces, uint64_t len, int64_t deadline);

/* In our turn: tells the receiver, which may wait for the next fragment, that it will not come. */
void fragments_give_up(bufpipe_t *pipe);

#endif
