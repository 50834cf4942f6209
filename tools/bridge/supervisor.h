/* SPDX-License-Identifier: MIT */
/*
 * The parent process.  It makes the pipes to the programs.  It holds a copy of each
 * pipe's end and of the states, and does not touch them.  So a pipe outlives the
 * worker: when a worker dies, the next one continues, and the program notices nothing.
 */
#ifndef BRIDGE_SUPERVISOR_H
#define BRIDGE_SUPERVISOR_H

#include "config.h"

/* Returns the status to exit with. */
int supervisor_run(const struct bridge_config *config);

#endif
