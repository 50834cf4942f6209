/* SPDX-License-Identifier: MIT */
/*
 * Messages longer than the ring.  They come in parts; between two, this thread
 * has the turn.  What a call has received when it gives up stays in the hold, and
 * the next receiving call of the thread goes on with it: so an exception, or a
 * timeout, in the middle loses nothing.
 */
#ifndef BUFFERED_PIPE_PART_H
#define BUFFERED_PIPE_PART_H

#include "handle.h"

/* The longest message that an exception carries, because it is too long for the memory of the caller. */
#define TOO_SHORT_MOST ((size_t)16 << 20)
/* Sets that exception for one that is longer, and stays in the pipe.  Returns NULL. */
void *part_refuse_peeked(struct hold *hold, size_t len);

/* Whether this thread has received the beginning of a message, and no call of it is at work on that. */
bool part_waits(const struct hold *hold);

/*
 * Goes on with the message that this thread has begun, or begins the next one.
 * A new reference to bytes or a bytearray, whatever the call that began it
 * wanted; or to None: the message is in the place, which was given and has room for
 * it, and its length is in place->len.  NULL without an exception: look again.
 * A message longer than 'most' stays in the pipe: an OSError, or BufferTooShort if a place was given.
 */
struct place {
	char *data;
	size_t room;
	size_t len;
};
PyObject *part_receive(struct end *self, struct hold *hold, struct place *place, size_t most,
		       int64_t deadline, bool writable);

#endif
