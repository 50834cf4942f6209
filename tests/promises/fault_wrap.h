/* SPDX-License-Identifier: MIT */
/*
 * Makes one system call or one allocation of the library fail. The linker redirects the calls here (--wrap).
 * Only calls of the thread that armed it count.
 */
#ifndef TESTS_FAULT_WRAP_H
#define TESTS_FAULT_WRAP_H

#include <stdbool.h>

struct fault {
	bool struck;
	int error;
	const char *name; /* the function that failed */
};

/*
 * From now on the nth call fails, with the choice-th errno that this call may have. If there are fewer calls
 * or fewer errnos, nothing fails.
 */
void fault_arm(int n, int choice);

/* As fault_arm, and further calls of the same function fail as well. */
void fault_arm_all(int n, int choice);

/* Returns the fault, and whether it struck. From now on nothing fails, until fault_resume. */
struct fault fault_disarm(void);

/* After fault_disarm: goes on counting as if it had not been called. */
void fault_resume(void);

/* How many calls of a function there were since fault_arm. */
int fault_count(const char *name);

#endif
