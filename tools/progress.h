/* SPDX-License-Identifier: MIT */
/* One line on the terminal that tells how far a transfer has come. */
#ifndef PROGRESS_H
#define PROGRESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <bufpipe.h>

/*
 * size is how many bytes will come, or 0 if that is not known.  Without this call,
 * or if stderr is not a terminal, nothing is drawn.
 */
void progress_start(uint64_t size);
/* From now on the line tells how full the ring is through which this end sends, or receives; NULL: no longer. */
void progress_watch(const bufpipe_t *pipe, bool sends);
bool progress_shown(void);
/* How long a call may block before progress_draw wants to be called: -1 is for ever. */
int64_t progress_tick_ns(void);
void progress_add(size_t bytes);
/* Draws, unless it has drawn a short time ago. */
void progress_draw(void);
/* Draws for the last time, and ends the line. */
void progress_end(void);

#endif
