/* SPDX-License-Identifier: MIT */
/* What the floors share: how they wait. */
#ifndef PERF_SPIN_H
#define PERF_SPIN_H

#include <sched.h>
#include <stdbool.h>

/*
 * On two cores one pause between two looks: without it a processor runs ahead
 * with loads that it has to throw away when the line changes, which made a
 * round trip of one line 1.1 to 1.2 times as long.  On one core the other side
 * can only move when this one lets it run.
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
