/* SPDX-License-Identifier: MIT */
/* Limits a transfer to a number of bytes a second. */
#ifndef PACE_H
#define PACE_H

#include <stddef.h>

/* 0: no limit, which is also the default. */
void pace_start(size_t bytes_per_second);
/* How many of len bytes to move at once, so that the flow is even. */
size_t pace_piece(size_t len);
/* Sleeps for as long as these bytes take, or until a signal asks this process to end. */
void pace_spend(size_t bytes);

#endif
