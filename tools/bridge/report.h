/* SPDX-License-Identifier: MIT */
/* The lines on stderr that report the counts of the lanes. Their errors go through complain_ratelimited, in port.h. */
#ifndef BRIDGE_REPORT_H
#define BRIDGE_REPORT_H

#include "config.h"
#include "state.h"

/* Prints the counts of one lane; direction is "sent" or "received". */
void report_lane(const struct line_config *line, const char *direction, const struct state_counts *c);

/* The sum of all counts. It grows whenever anything happens. */
uint64_t report_sum(const struct state_counts *c);

#endif
