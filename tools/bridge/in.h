/* SPDX-License-Identifier: MIT */
/*
 * A lane from NATS to a pipe.  in.c puts messages into the pipe.  They come from
 * one of two sources:
 *
 *   in_core.c    a subscription; confirms, so that senders do not run ahead
 *   in_stream.c  a durable consumer of a stream, which is asked for more
 */
#ifndef BRIDGE_IN_H
#define BRIDGE_IN_H

#include "lane.h"
#include "position.h"

/* A long message that comes in chunks. */
struct in_whole {
	char *data; /* NULL: none is on its way */
	size_t len, have;
	uint32_t sum, count, next;
	uint64_t number;
};

/* What the sender of this session wants to be told.  Not kept over a restart. */
struct in_sender {
	char reply[100];
	uint64_t bytes, messages; /* delivered, and not yet confirmed */
	int64_t heard_ns;
	int64_t confirmed_ns;
	struct in_whole whole;
};

struct in_sending;

struct in_mode {
	bool (*init)(struct in *in);
	/* There is a connection, or a pipe, that was not there before; or not any more. */
	void (*open)(struct in *in);
	void (*close)(struct in *in);
	/* Called from time to time. */
	void (*tick)(struct in *in, int64_t now);
	/* Whether this is a status of the server, and no message; if so, it has been handled. */
	bool (*is_status)(struct in *in, natsMsg *msg);
	/* The current frame has been handled completely. */
	void (*done)(struct in *in, natsMsg *msg);
};

extern const struct in_mode in_by_core, in_by_stream;

struct in {
	struct port *port;
	const struct line_config *line;
	const struct bridge_config *config;
	struct state *state;
	const struct in_mode *mode;
	struct link link;
	struct ratelimit ratelimit;
	natsSubscription *messages; /* NULL: closed */
	bool opened;
	int64_t left_ns; /* when the last program left */
	int64_t opened_ns;

	/* The current frame. */
	natsMsg *msg;
	struct frame frame;
	bool foreign;
	bool in_session; /* the frame's session was looked up: session is its index */
	unsigned session;
	uint64_t number;  /* of the next message in it */
	uint64_t left;    /* while draining: how many frames are still taken */
	const char *data; /* that message; NULL: to be taken from the frame */
	size_t len;

	/* Room in the pipe for a long message of which not all chunks have come; NULL: there is none. */
	char *room;
	unsigned room_session;
	struct in_sending *sending; /* a thread that sends a message longer than the pipe's buffer */
	bool blocked;
	bool unsettled; /* a predecessor may have died over a message for this pipe */
	struct position_map positions;
	size_t buffer_size; /* of the pipe: a longer message goes in pieces */

	struct in_sender *senders; /* as many as sessions */
	char name[80];             /* how confirmations call us, or the queue */
	char member[20];           /* and us alone */
	char inbox[64];

	/* Stream. */
	bool workqueue;    /* the server removes what is acknowledged, one by one */
	uint64_t asked[2]; /* how many messages the two latest requests still bring */
	unsigned request;
	int64_t asked_ns;
	int64_t still_ns;
	uint64_t base_time; /* --rate original: the stream's clock when ours was base_ns */
	int64_t base_ns;
	char **acks; /* of chunks that are acknowledged with the last one */
	size_t n_acks;
	char consumer[80];
};

/* Whether numbers that are missing mean a loss: not where several share the messages. */
static inline bool in_counts_losses(const struct in *in)
{
	return !in->line->nats.queue;
}

enum link_result in_prepare_stream(struct link *link, natsConnection *nc);
/* The stream's number and time of a message, from its reply subject. */
bool in_stream_place(natsMsg *msg, uint64_t *sequence, uint64_t *time_ns);

/* in_frame.c: looks at the frame that came, in->msg. */
enum in_verdict {
	IN_GOES_ON,
	IN_ENDS,         /* the pipe's stream ends with this frame */
	IN_ENDED_BEFORE, /* it ended before this frame, which is for the next pipe */
};
enum in_verdict in_begin_frame(struct in *in);
/*
 * For a pipe whose stream some senders have ended and others have not: ends the stream if these others have
 * left or are silent.  Returns whether it did.
 */
bool in_end_late(struct in *in, int64_t now);
/* Its next message: in->data and in->len; false: there is none. */
bool in_next_message(struct in *in);

/* in_deliver.c: puts one message into the pipe.  0: done; -EAGAIN: not yet; -EPIPE: the program left. */
int in_deliver(struct in *in, const char *data, size_t len);
/* Room in the pipe for a long message, of which in_deliver then need not make a copy; NULL: not now. */
char *in_reserve(struct in *in, size_t len);
/* What a predecessor left: 0 when it is known; else as in_deliver. */
int in_settle(struct in *in);
/* Waits for the thread that sends a long message. */
void in_join(struct in *in);
/* Drops the long message of the session of the current frame. */
void in_forget_whole(struct in *in);

#endif
