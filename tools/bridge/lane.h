/* SPDX-License-Identifier: MIT */
/*
 * The two kinds of lane, as the worker's loop sees them.
 *
 *   out   pipe -> frames -> NATS       in   NATS -> frames -> pipe
 *
 * A run does all that can be done without waiting, up to a limit.  If it wants to
 * run again without an event, it calls worker_again or worker_at.
 */
#ifndef BRIDGE_LANE_H
#define BRIDGE_LANE_H

#include "link.h"
#include "port.h"
#include "state.h"

struct out *out_new(struct port *port, const struct bridge_config *config, struct state *state, int wake);
void out_run(struct out *out, int64_t now);
/* Whether a message in the pipe would be taken now.  If so, the set waits for one. */
bool out_wants(const struct out *out);
struct link *out_link(struct out *out);
/* Whether nothing of it is in transit any more. */
bool out_is_idle(const struct out *out);
/* Called when there is another pipe, or none. */
void out_port_changed(struct out *out);
/* Ends its connection; threads of libnats may use it until nats_CloseAndWait, and only then it may be freed. */
void out_close(struct out *out);
void out_free(struct out *out);

struct in *in_new(struct port *port, const struct bridge_config *config, struct state *state, int wake);
void in_run(struct in *in, int64_t now);
/* Whether it waits for room in the pipe. */
bool in_wants(const struct in *in);
/* Whether a thread of its own is sending into the pipe, which nobody else may use for that then. */
bool in_is_sending(const struct in *in);
/* Called before the pipe is closed: cancels a reservation that it has in the pipe. */
void in_leave_room(struct in *in);
struct link *in_link(struct in *in);
bool in_is_idle(const struct in *in);
void in_port_changed(struct in *in);
void in_close(struct in *in);
void in_free(struct in *in);

const struct state_counts *out_counts(const struct out *out);
const struct state_counts *in_counts(const struct in *in);

#endif
