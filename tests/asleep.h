/* SPDX-License-Identifier: MIT */
/* Whether and how another thread sleeps, so that no test has to guess at times. */
#ifndef TESTS_ASLEEP_H
#define TESTS_ASLEEP_H

#include "support.h"

/* How a thread sleeps, as seen from outside. */
enum asleep {
	ASLEEP_SOCKET, /* in poll, where a blocked call goes after some 100 ms; only the other side can wake it there */
	ASLEEP_ANY,   /* on a futex or in poll, perhaps only for a moment */
	ASLEEP_SET,   /* in a set, for many pipes at once */
	ASLEEP_PAUSE, /* in pause, until a signal arrives */
};

/*
 * The system call in which a thread of a process (0: of this one) sleeps. -1 if it does not sleep, or has
 * been woken.
 */
long sleeping_call(pid_t pid, pid_t tid);

/* Waits until a thread of a process (0: of this one) sleeps in this way. Fails if it never does. */
void wait_until_asleep(pid_t pid, pid_t tid, enum asleep how);

/* The number of voluntary context switches so far. */
long sleeps_so_far(pid_t pid, pid_t tid);

#endif
