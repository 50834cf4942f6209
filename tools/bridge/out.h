/* SPDX-License-Identifier: MIT */
/*
 * A lane from a pipe to NATS.  out.c takes messages from the pipe and puts them
 * into frames.  A frame travels in one of two ways:
 *
 *   out_core.c    published at once; receivers grant room by what they confirm
 *   out_stream.c  kept in the journal until the stream has acknowledged it
 */
#ifndef BRIDGE_OUT_H
#define BRIDGE_OUT_H

#include "lane.h"
#include "position.h"

/*
 * A frame of several messages, or a chunk, is no longer than this.  The server reads
 * at most 64 KiB at a time, and a frame that does not come with one read is copied
 * there once more.  Measured with messages of 1 KiB, frames of 8, 16, 30 and 60 KB:
 * 4.3, 4.1, 3.8 and 4.2 us of CPU time for each, in all processes.
 */
#define OUT_BATCH ((size_t)32000)
/* A message up to this travels in one frame, a longer one in chunks. */
#define OUT_WHOLE ((size_t)256 << 10)
/* Header, length, and room to spare. */
#define OUT_FRAME (OUT_WHOLE + 256)
/* The most bytes that are published and neither confirmed nor acknowledged; and the most in the buffer of libnats. */
#define OUT_WINDOW  ((size_t)4 << 20)
#define OUT_PENDING ((size_t)256 << 10)

/* A message that travels in chunks. */
struct out_long {
	const char *data;
	char *memory; /* NULL: data is in the pipe, which has been peeked */
	size_t len;
	bool whole;    /* all of it is there */
	uint32_t sum;  /* of the chunks that were filled */
	uint32_t next; /* the chunk to publish */
	uint32_t chunks;
	uint32_t acked;
	uint64_t position;
};

struct out_mode {
	/* How much of a long message one frame holds, at most OUT_WHOLE.  In a stream each frame costs an acknowledgement. */
	size_t chunk;
	/* Allocates the memory that this mode needs. */
	bool (*init)(struct out *out);
	/* Whether another frame may be begun. */
	bool (*has_room)(const struct out *out);
	/* Room for a frame of OUT_FRAME bytes; NULL: not now. */
	char *(*begin)(struct out *out);
	/* The frame is complete. */
	void (*seal)(struct out *out);
	/* Publishes what it can of out->whole; true when all of it was published. */
	bool (*send_long)(struct out *out, int64_t now);
	/* Called from time to time: reads the answers of the server. */
	void (*tick)(struct out *out, int64_t now);
	void (*came_up)(struct out *out, int64_t now);
	bool (*is_idle)(const struct out *out);
	/* The bridge stops; NULL: nobody need know. */
	void (*leave)(struct out *out);
};

extern const struct out_mode out_by_core, out_by_stream;

struct out_peer;
struct out_sent;

struct out {
	struct port *port;
	const struct line_config *line;
	const struct bridge_config *config;
	struct state *state;
	const struct out_mode *mode;
	struct link link;
	struct ratelimit ratelimit;
	natsSubscription *answers;
	char inbox[64];

	/* The frame that grows; NULL: none. */
	char *frame;
	struct frame header;
	size_t used; /* with the header */
	struct position_map positions;
	bool empty;   /* the last look found nothing in the pipe */
	bool adopted; /* the first message of this pipe may have been taken by a predecessor */
	struct out_long whole;
	char *chunk; /* room for a chunk frame */

	/* Core. */
	char *room;
	struct out_peer *peers;
	struct out_sent *sent_frames;
	uint64_t sent_count, sent_bytes, sent_messages;
	int64_t probe_ns;  /* when to look whether to probe */
	int64_t probed_ns; /* the last probe */
	int64_t up_ns;     /* when the connection came up */

	/* Stream. */
	uint64_t next; /* the slot to publish */
	uint64_t furthest;
	uint64_t attempt;
	int64_t progress_ns;
	int64_t retry_ns; /* publish nothing before */
	bool contended;   /* others publish into the stream, too */
	bool settled;     /* it is known what a predecessor had published */
	/* Found in the thread: the stream's last message here is ours, and ends before this number. */
	bool last_known;
	uint64_t last_next;
};

/* The frame that grows becomes one to publish. */
void out_seal(struct out *out);
/* Puts a chunk of out->whole into out->chunk, in their order; returns the length of the frame. */
size_t out_fill_chunk(struct out *out, uint32_t index);
void out_subscribe(struct out *out);
void out_report(struct out *out, natsStatus status, const char *doing);
/* Asks the server, in a thread, see link.h; in stream_setup.c. */
enum link_result out_prepare_stream(struct link *link, natsConnection *nc);

#endif
