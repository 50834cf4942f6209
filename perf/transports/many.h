/* SPDX-License-Identifier: MIT */
/* What the transports with one receiver for many pipes have in common, so that they are measured alike. */
#ifndef PERF_MANY_H
#define PERF_MANY_H

#include <stdbool.h>
#include <sys/resource.h>

/* Descriptors that a process needs in addition to one for each pipe. */
#define FDS_FOR_ELSE 64
/* How many events to ask for at once. */
#define EVENTS 64
/* Messages of a stream to take from a pipe before the next one has its turn. */
#define MOST_IN_ONE_GO 16

/* Whether the limit of descriptors allows that many pipes. */
static inline bool many_fit(unsigned pipes)
{
	struct rlimit files;

	return getrlimit(RLIMIT_NOFILE, &files) || (rlim_t)pipes + FDS_FOR_ELSE <= files.rlim_cur;
}

#endif
