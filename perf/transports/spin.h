/* SPDX-License-Identifier: MIT */
/* How the floors wait. */
#ifndef PERF_SPIN_H
#define PERF_SPIN_H

#include <sched.h>
#include <stdbool.h>

/*
 * On two cores: one pause between two looks.  Without it a processor loads the line
 * speculatively, and has to throw these loads away when the line changes.  This made a
 * round trip of one line 1.1 to 1.2 times as long.  On one core the other side can
 * run only if this side yields.
 */
static inline void spin_once(bool one_core)
{
	if (one_core) {
		sched_yield();
		return;
	}
#if defined(__x86_64__)
	__builtin_ia32_pause();
#elif defined(__aarch64__)
	__asm__ volatile("isb" ::: "memory");
#endif
}

#endif
