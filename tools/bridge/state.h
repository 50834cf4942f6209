/* SPDX-License-Identifier: MIT */
/*
 * What a lane (one direction of one pipe) must know after its process was killed.
 * It is in shared memory: in a file, or in an anonymous file that the parent process
 * keeps.  Only the worker writes it.  A SIGKILL comes between two stores, so a later
 * worker sees a prefix of the stores in program order.  STATE_SET keeps the compiler
 * from changing that order.
 *
 * Nothing is flushed to the disk, so the order does not hold when the power
 * fails; see state_open and settle_with_stream.
 */
#ifndef BRIDGE_STATE_H
#define BRIDGE_STATE_H

#include <stdbool.h>
#include <stdint.h>

#include "frame.h"

/* Release: a worker that sees this store, after the death of the last one, sees all stores before it.  Pairs with the fork. */
#define STATE_SET(where, value) __atomic_store_n(&(where), value, __ATOMIC_RELEASE)

#define STATE_SESSIONS 64u
#define STATE_SLOTS    256u
/* Space for frames that are not yet acknowledged. */
#define STATE_JOURNAL ((size_t)8 << 20)

/* Which message of which pipe: generation counts the pipes of a line, at random for each parent process. */
struct state_mark {
	uint64_t generation;
	uint64_t position;
};

/* A mark with this position stands for the end of the stream. */
#define STATE_MARK_END (UINT64_MAX - 1)

struct state_counts {
	uint64_t messages;
	uint64_t bytes;
	uint64_t lost;       /* never came: seen by their numbers */
	uint64_t duplicates; /* came again, and were not delivered again */
	uint64_t doubts;     /* may have been delivered twice, or not at all */
	uint64_t corrupt;    /* frames that were damaged, or that cannot be put together here */
	uint64_t retries;    /* frames that were published again */
	uint64_t ends;
};

/* A frame in the journal. */
struct state_slot {
	uint64_t first; /* number of its first message */
	uint64_t count;
	uint64_t offset;
	uint64_t len; /* 0: it still grows */
	uint64_t kind;
};

/* From a pipe to NATS. */
struct state_out {
	uint8_t session[FRAME_SESSION];
	/*
	 * How many messages have been taken.  The mark of a message is stored before
	 * the message is counted here, and the message is released from the pipe after
	 * that.  So if the next message in the pipe has the mark that was counted last,
	 * it has been taken already.
	 */
	uint64_t taken;
	struct state_mark marks[2]; /* of message n in marks[n % 2] */
	/* Slots acked <= n < sealed are to be published; slot sealed grows, if it has begun. */
	uint64_t acked;
	uint64_t sealed;
	uint64_t begun; /* sealed, or sealed + 1 */
	/* A message longer than the pipe's buffer is being received: its length. */
	uint64_t receiving;
	/* Core: how many streams have ended, and what of that, and of taken, nobody need confirm any more. */
	uint64_t ends;
	uint64_t settled_taken;
	uint64_t settled_ends;
};

/* A sending bridge that was heard, as a receiving one knows it. */
struct state_session {
	uint8_t id[FRAME_SESSION];
	uint64_t next; /* the number of the next message to deliver */
	uint64_t used; /* a counter that grows: the smallest is forgotten first */
	uint64_t
		open; /* the generation of the pipe that has a part of its stream, which has not ended; 0: none */
	uint64_t ends; /* how many of its streams have ended: see frame.h */
	uint64_t away; /* nobody listened to it for a while: streams may have ended that nobody missed */
};

/* From NATS to a pipe. */
struct state_in {
	struct state_session sessions[STATE_SESSIONS];
	uint64_t clock;
	/*
	 * The message that is being delivered.  First the place where it will be is
	 * stored, and then its session, which makes the intent valid.  Then the message is
	 * committed, and then the next number of the session is stored.
	 */
	struct state_mark intent;
	uint64_t intent_number;
	uint64_t intent_session; /* index + 1; 0: none */
	uint64_t generation;     /* of the latest pipe */
	int64_t there_ns; /* core: when senders last had a reason to expect that we listen; 0: they were told that we do not */
	/* The pipe for which one sender has ended its stream, while others that have a part in it have not. */
	uint64_t end_waits;
	/* The first message of the stream that has not been dealt with; 0: not known. */
	uint64_t stream_next;
	uint8_t consumer[8]; /* makes the name of the durable consumer */
};

struct state {
	uint64_t magic;
	uint64_t version;
	struct state_counts counts;
	struct state_out out;
	struct state_in in;
	struct state_slot slots[STATE_SLOTS];
	_Alignas(4096) char journal[];
};

/*
 * Maps the state in the file at path, which is made if it is not there; NULL:
 * in memory, and new.  *why tells what failed, if it does; -EWOULDBLOCK: another bridge
 * has it.  The file stays locked as long as any process that has it lives.
 */
int state_open(struct state **state, const char *path, bool with_journal, const char **why);

void state_random(void *room, size_t len);

#endif
