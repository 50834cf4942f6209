/* SPDX-License-Identifier: MIT */
/*
 * Sending messages longer than buffer_size, in fragments, which end/reassembly.h puts together
 * again.  bufpipe_send_part is in fragments.c too.
 */
#ifndef BUFPIPE_END_FRAGMENTS_H
#define BUFPIPE_END_FRAGMENTS_H

#include "end/room.h"

/*
 * In our turn: sends such a message, or gives it up if it fails after the first fragment.
 * Results as room_await and room_publish.
 */
int fragments_send(bufpipe_t *pipe, const struct iovec *pieces, uint64_t len, int64_t deadline);

/* In our turn: tells the receiver, which may wait for the next fragment, that it will not come. */
void fragments_give_up(bufpipe_t *pipe);

#endif
