/* SPDX-License-Identifier: MIT */
/* Names under which the two processes of a measurement find each other.  Each call makes a new one. */
#ifndef PERF_NAME_H
#define PERF_NAME_H

#include <stdio.h>
#include <unistd.h>

#define NAME_MAX_LEN 64

static inline void make_name(char name[NAME_MAX_LEN], const char *kind)
{
	static unsigned count;

	snprintf(name, NAME_MAX_LEN, "bufpipe-bench-%s-%d-%u", kind, (int)getpid(), count++);
}

#endif
