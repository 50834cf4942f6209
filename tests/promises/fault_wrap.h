/* SPDX-License-Identifier: MIT */
/*
 * Makes one system call, or one allocation, of the library fail.  The linker
 * leads the calls here (--wrap); only those of the thread that armed it count.
 */
#ifndef TESTS_FAULT_WRAP_H
#define TESTS_FAULT_WRAP_H

#include <stdbool.h>

struct fault {
	bool struck;
	int error;
	const char *name; /* of what failed */
};

/*
 * From now on the nth call fails, with the choice-th errno that this call may
 * have.  It does not if there are fewer calls or fewer errnos.
 */
void fault_arm(int n, int choice);

/* As fault_arm, and further calls of the same function fail as well. */
void fault_arm_all(int n, int choice);

/* What became of it; nothing fails from now on, but see below. */
struct fault fault_disarm(void);

/* After fault_disarm: counts on from there, as if nothing had been between. */
void fault_resume(void);

/* How many calls of a function came since fault_arm. */
int fault_count(const char *name);

#endif
