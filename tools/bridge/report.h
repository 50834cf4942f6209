/* SPDX-License-Identifier: MIT */
/* The lines on stderr that tell how the lanes of a bridge do; grumble, in port.h, is there for their errors. */
#ifndef BRIDGE_REPORT_H
#define BRIDGE_REPORT_H

#include "config.h"
#include "state.h"

/* Prints the counts of one lane; way is "sent" or "received". */
void report_lane(const struct line_config *line, const char *way, const struct state_counts *c);

/* The sum of all counts. It grows whenever anything happens. */
uint64_t report_sum(const struct state_counts *c);

#endif
