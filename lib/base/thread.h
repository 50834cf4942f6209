/* SPDX-License-Identifier: MIT */
/*
 * Who this is: a number for the process, the id by which the kernel knows the
 * thread, and the list of the locks that it frees when the thread dies.  All
 * are kept, because asking costs more than a message; a child of fork, however
 * it was made, finds that what it has kept is its parent's, and asks again.
 */
#ifndef BUFPIPE_BASE_THREAD_H
#define BUFPIPE_BASE_THREAD_H

#include "base/sys.h"

#include <stddef.h>

struct thread_self {
	const _Atomic uint32_t *page; /* holds the number of this process; NULL until asked for */
	uint32_t process;             /* in which this was asked */
	uint32_t id;
	struct robust_list_head *locks; /* the C library's */
};

/* Small enough for the static block, also of a library that is loaded late. */
extern _Thread_local struct thread_self this_thread
	__attribute__((tls_model("initial-exec"), visibility("hidden")));

/* Not what it was in any process that this one was forked from. */
uint32_t thread_process(void);

/* Asks.  NULL where the kernel does not tell, or could not tell us of a fork. */
struct thread_self *thread_ask(void);

static inline struct thread_self *thread_self(void)
{
	const _Atomic uint32_t *page = this_thread.page;

	/* Relaxed: it is what this thread read there before, or what fork left to a child before its first step. */
	if (likely(page && atomic_load_explicit(page, memory_order_relaxed) == this_thread.process))
		return &this_thread;
	return thread_ask();
}

/* The thread's id, also where thread_self has none. */
uint32_t thread_id(void);

/*
 * From here to thread_release, should this thread die, the kernel looks at word:
 * where it holds our id it puts FUTEX_OWNER_DIED instead and wakes one that
 * sleeps on it; where it holds 0 it wakes one as well.  One word at a time, and
 * no robust mutex in between.
 */
static inline void thread_vouch(struct thread_self *self, const _Atomic uint32_t *word)
{
	uintptr_t entry = (uintptr_t)word - (uintptr_t)self->locks->futex_offset;

	self->locks->list_op_pending = (struct robust_list *)entry;
	/* Only the kernel reads it, for this thread: all it needs is to be stored first, and last. */
	atomic_signal_fence(memory_order_seq_cst);
}

static inline void thread_release(struct thread_self *self)
{
	atomic_signal_fence(memory_order_seq_cst);
	self->locks->list_op_pending = NULL;
}

#endif
