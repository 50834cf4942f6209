/* SPDX-License-Identifier: MIT */
/* The time for timeouts and rates. */
#ifndef CLOCK_H
#define CLOCK_H

#include <stdint.h>

#define SECOND_NS 1000000000LL

/* CLOCK_MONOTONIC, in nanoseconds. */
int64_t now_ns(void);
/* Sleeps this long, or until a signal handler has run. */
void sleep_ns(int64_t ns);

#endif
