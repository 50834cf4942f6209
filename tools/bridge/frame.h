/* SPDX-License-Identifier: MIT */
/*
 * What one NATS message of a bridge carries: a frame.  Its header is 48 bytes,
 * little-endian; what follows depends on the kind.
 *
 *   offset  bytes  meaning
 *        0      4  "bpF1"
 *        4      1  kind
 *        5      3  zero
 *        8     16  session: the sending bridge, by a random number that is made with its state
 *       24      8  first: the number of its first message, counted from 0 in the session
 *       32      4  count: messages of a batch, chunks of a long message; of an end 1 in a stream,
 *                  where it has a number like a message, else 0
 *       36      4  index of the chunk
 *       40      4  CRC-32C of everything else in the frame, but for the bytes of a chunk
 *       44      4  ends: how many streams of the session have ended before this frame; of an end in
 *                  core mode, with it.  In a stream zero, as an end has a number there
 *
 *   BATCH   count times: length (4 bytes) and bytes of a message
 *   CHUNK   length of the whole message (8), CRC-32C of it from its beginning to the end of
 *           this chunk (4), zero (4), bytes of the chunk.  So each byte is summed once, and
 *           the sum of the last chunk is that of the whole message.
 *   END     nothing: the stream ended here
 *   PROBE   nothing: asks receivers to say that they are there
 *   LEAVE   nothing: this bridge stops; the stream has not ended, and another bridge may go on
 *
 * The number of a message never changes, even when it is published again.  So a
 * receiver knows from the numbers alone which messages it has and which are missing.
 */
#ifndef BRIDGE_FRAME_H
#define BRIDGE_FRAME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define FRAME_HEADER  48u
#define FRAME_LENGTH  4u  /* before each message of a batch */
#define FRAME_CHUNK   16u /* before the bytes of a chunk */
#define FRAME_SESSION 16u

enum frame_kind {
	FRAME_BATCH = 1,
	FRAME_CHUNKED = 2,
	FRAME_END = 3,
	FRAME_PROBE = 4,
	FRAME_LEAVE = 5,
};

struct frame {
	enum frame_kind kind;
	uint8_t session[FRAME_SESSION];
	uint64_t first;
	uint32_t count;
	uint32_t index;
	uint32_t ends;
	/* Of a chunk. */
	uint64_t whole_len;
	uint32_t sum;
	/* What follows the fixed part. */
	const char *body;
	size_t body_len;
};

/* The CRC-32C of len bytes that follow those with the sum before (0: none). */
uint32_t frame_sum(uint32_t before, const void *data, size_t len);

/*
 * Writes the header (and for a chunk the fixed part of the body) at the beginning
 * of room.  The body of body_len bytes must be there already, behind it.  Returns
 * the length of the whole frame.
 */
size_t frame_finish(char *room, const struct frame *frame);
/* Where the body of a frame of this kind begins. */
size_t frame_body(enum frame_kind kind);

enum frame_verdict {
	FRAME_OK,
	FRAME_FOREIGN, /* not of a bridge */
	FRAME_CORRUPT, /* of a bridge, but damaged or of a later version */
};

enum frame_verdict frame_read(struct frame *frame, const char *data, size_t len);

/*
 * Takes the next message from the body of a batch; false at its end.  If
 * frame_read returned FRAME_OK, the body has exactly count messages.
 */
bool frame_next(struct frame *frame, const char **data, size_t *len);

#endif
