/* SPDX-License-Identifier: MIT */
/*
 * The process that does the work: one loop over a set of pipes and sockets, with one
 * or two lanes for each pipe.  It may be killed at any instruction.  Then the supervisor
 * starts another one with the same pipes and states.
 */
#ifndef BRIDGE_WORKER_H
#define BRIDGE_WORKER_H

#include "config.h"
#include "state.h"

#include <bufpipe.h>

/* The notes between supervisor and worker, one packet each.  After PIPE an end follows in another packet. */
enum note_kind {
	NOTE_PIPE, /* supervisor: here is the pipe of a line */
	NOTE_GONE, /* worker: its stream is over, let go of it and find the next */
	NOTE_DONE, /* worker: the same, and with --once that was all */
};

struct note {
	uint32_t kind;
	uint32_t line;
	uint64_t generation;
};

/* What the supervisor hands to a worker that it starts. */
struct inherited {
	bufpipe_t *pipe;
	uint64_t generation;
	struct state *out;
	struct state *in;
};

/* Returns the status to exit with. */
int worker_run(const struct bridge_config *config, const struct inherited *inherited, int control);

#endif
