/* SPDX-License-Identifier: MIT */
/*
 * The parent process.  It meets the programs, holds a copy of each pipe's end,
 * and of the states, and touches none of them.  So a pipe outlives the worker:
 * its program notices nothing when a worker dies, and the next one goes on.
 */
#ifndef BRIDGE_KEEPER_H
#define BRIDGE_KEEPER_H

#include "config.h"

/* Returns the status to exit with. */
int keeper_run(const struct bridge_config *config);

#endif
