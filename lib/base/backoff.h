/* SPDX-License-Identifier: MIT */
/* What to do between two looks at a word that another thread is about to change. */
#ifndef BUFPIPE_BASE_BACKOFF_H
#define BUFPIPE_BASE_BACKOFF_H

#include "base/sys.h"

#include <stdbool.h>

/* For an instant: it costs the thread that shares this core, and the bus, less than a look. */
static inline void cpu_relax(void)
{
#if defined(__x86_64__)
	__builtin_ia32_pause();
#elif defined(__aarch64__)
	__asm__ volatile("isb" ::: "memory");
#else
	atomic_signal_fence(memory_order_seq_cst);
#endif
}

/*
 * For longer, in favour of a co-owner that has to finish something; with it the
 * CPU, if there is time.  False when the time is up; of a try it never is.
 */
bool backoff_yield(int64_t deadline);

#endif
