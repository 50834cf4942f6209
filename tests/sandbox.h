/* SPDX-License-Identifier: MIT */
/* System calls that fail or kill, as in containers, and what a test needs for that. */
#ifndef TESTS_SANDBOX_H
#define TESTS_SANDBOX_H

#include "support.h"

/*
 * Makes a system call fail in this process from now on: always, or, with a mask, if an argument has one of
 * these bits.
 */
struct forbidden {
	int call;
	int error;
	unsigned argument;
	uint32_t mask;
};

void forbid(const struct forbidden *rules, int n);

/* Makes any other system call kill this process from now on. For tests that begin with need_jail. */
void allow_only(const int *calls, int n);

/* Skips the test where sanitizers or valgrind make system calls of their own. */
void need_jail(void);

/* Skips the test under valgrind, which hides the limits of descriptors from the program. */
void need_limits(void);

/* Skips the test where the library cannot leave a stranger's descriptor to a child. */
void need_stray_children(void);

#endif
