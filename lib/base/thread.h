/* SPDX-License-Identifier: MIT */
/*
 * The identity of the calling thread: a number for its process, its kernel thread
 * id, and its robust list, which holds the locks that the kernel frees when the
 * thread dies.  They are cached per thread, because a system call costs more than a
 * message.  A child of fork notices that the cached values are those of its parent,
 * and asks again; this also holds for a child that was made by a bare clone.
 */
#ifndef BUFPIPE_BASE_THREAD_H
#define BUFPIPE_BASE_THREAD_H

#include "base/sys.h"

#include <stddef.h>

struct thread_self {
	const _Atomic uint32_t *page; /* holds the number of this process; NULL until thread_ask was called */
	uint32_t process;             /* the process that called it */
	uint32_t id;
	struct robust_list_head *locks; /* of the C library */
};

/* initial-exec: this is small enough for the static TLS block, even if the library is loaded by dlopen. */
extern _Thread_local struct thread_self this_thread
	__attribute__((tls_model("initial-exec"), visibility("hidden")));

/* A number for this process that differs from those of all processes from which it was forked. */
uint32_t thread_process(void);

/* Fills this_thread.  NULL if the kernel gives no robust list, or no page that fork clears. */
struct thread_self *thread_ask(void);

static inline struct thread_self *thread_self(void)
{
	const _Atomic uint32_t *page = this_thread.page;

	/* Relaxed: this thread has read the number before, or fork cleared it before the child began. */
	if (likely(page && atomic_load_explicit(page, memory_order_relaxed) == this_thread.process))
		return &this_thread;
	return thread_ask();
}

/* The kernel id of this thread, even if thread_self returns NULL. */
uint32_t thread_id(void);

/*
 * Puts word under the care of the kernel until thread_release.  If this thread dies
 * in between, the kernel looks at word: if it holds our id, the kernel replaces the
 * id by FUTEX_OWNER_DIED and wakes one sleeper; if it holds 0, the kernel wakes one
 * sleeper as well.  Only one word at a time, and no robust mutex may be taken in
 * between, because both use list_op_pending.
 */
static inline void thread_vouch(struct thread_self *self, const _Atomic uint32_t *word)
{
	uintptr_t entry = (uintptr_t)word - (uintptr_t)self->locks->futex_offset;

	self->locks->list_op_pending = (struct robust_list *)entry;
	/* Only the kernel reads it, after this thread has stopped.  So program order is all that it needs. */
	atomic_signal_fence(memory_order_seq_cst);
}

static inline void thread_release(struct thread_self *self)
{
	atomic_signal_fence(memory_order_seq_cst);
	self->locks->list_op_pending = NULL;
}

#endif
