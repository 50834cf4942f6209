/* SPDX-License-Identifier: MIT */
/*
 * Messages longer than the ring.  They come in parts, and between two parts the
 * thread keeps the turn.  What a call has received when it gives up stays in the
 * hold, and the next receiving call of the same thread goes on with it.  So an
 * exception or a timeout in the middle loses nothing.
 */
#ifndef BUFFERED_PIPE_PART_H
#define BUFFERED_PIPE_PART_H

#include "handle.h"

/* If a message is too long for the memory of the caller, BufferTooShort carries it up to this length. */
#define TOO_SHORT_MOST ((size_t)16 << 20)
/* Sets BufferTooShort for a longer message, which stays in the pipe.  Returns NULL. */
void *part_refuse_peeked(struct hold *hold, size_t len);

/* Whether this thread has received the beginning of a message, and none of its calls is receiving the rest. */
bool part_waits(const struct hold *hold);

/*
 * Goes on with the message that this thread has begun, or begins the next one.
 * Returns a new reference: to bytes or a bytearray, as the call that began the message
 * wanted; or to None, if a place was given that has room for the message.  Then the
 * message is there, and its length is in place->len.  NULL without an exception means
 * that the caller must look again.  A message longer than 'most' stays in the pipe, and
 * the exception is an OSError, or BufferTooShort if a place was given.
 */
struct place {
	char *data;
	size_t room;
	size_t len;
};
PyObject *part_receive(struct end *self, struct hold *hold, struct place *place, size_t most,
		       int64_t deadline, bool writable);

#endif
