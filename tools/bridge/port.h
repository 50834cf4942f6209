/* SPDX-License-Identifier: MIT */
/* The worker as its lanes see it: the pipe that they share, and what they may ask. Defined in worker.c, report.c. */
#ifndef BRIDGE_PORT_H
#define BRIDGE_PORT_H

#include "config.h"

#include <bufpipe.h>
#include <stdbool.h>
#include <stdint.h>

struct worker;
struct out;
struct in;

/* The near side of a line. */
struct port {
	struct worker *worker;
	const struct line_config *config;
	unsigned index;
	bufpipe_t *pipe; /* NULL: nobody is there */
	uint64_t generation;
	bool watched;
	bool hung_up;
	unsigned events;
	/* Either may be NULL. */
	struct out *out;
	struct in *in;
	bool out_over, in_over; /* that direction of this pipe has ended */
	bool ended;             /* its program had gone before the bridge was told to stop */
	bool failed;
};

/* A lane has finished its direction of the pipe. */
void port_over(struct port *port, bool outward);
/* The pipe broke, or its program left: nothing will go either way. */
void port_broke(struct port *port);
/* SIGTERM came, or the supervisor is gone: finish what has begun. */
bool worker_drains(const struct worker *worker);
/* A lane gave up, and has reported why.  When all pipes have failed, the bridge ends. */
void worker_fail(struct port *port);
/* Run the lanes of this port in the next round, without waiting. */
void worker_again(struct port *port);
/* Run them at that time, if not before. */
void worker_at(struct worker *worker, int64_t when_ns);

/* Prints one line about a lane on standard error, but the same text again only after a minute. */
struct ratelimit {
	char last[400];
	int64_t said_ns;
};
void complain_ratelimited(struct ratelimit *ratelimit, const struct line_config *line, const char *format,
			  ...) __attribute__((format(printf, 3, 4)));

#endif
