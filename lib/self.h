/* SPDX-License-Identifier: MIT */
/*
 * What the kernel knows this thread by: its id, and the list of the locks that
 * are to be freed when it dies.  Kept, because asking costs more than a message.
 */
#ifndef BUFPIPE_SELF_H
#define BUFPIPE_SELF_H

#include "sys.h"

#include <stddef.h>

struct self {
	const _Atomic uint32_t *valid; /* NULL until asked for; points to 0 in a child that fork made since */
	struct robust_list_head *locks; /* the C library's */
	uint32_t id;
};

/* Its address names the thread, too.  Small enough for the static block, also of a library loaded late. */
extern _Thread_local struct self this_thread __attribute__((tls_model("initial-exec"), visibility("hidden")));

/* Asks.  NULL where it cannot be known, or not be known again after fork. */
struct self *self_ask(void);

static inline struct self *self_get(void)
{
	/* Relaxed: it is this thread's own store, or what the kernel left to a child before its first step. */
	if (likely(this_thread.valid && atomic_load_explicit(this_thread.valid, memory_order_relaxed)))
		return &this_thread;
	return self_ask();
}

/*
 * From here to self_release, should this thread die, the kernel looks at word:
 * where it holds our id it puts FUTEX_OWNER_DIED instead and wakes one that
 * sleeps on it; where it holds 0 it wakes one as well.  One word at a time, and
 * no robust mutex in between.
 */
static inline void self_vouch(struct self *self, const _Atomic uint32_t *word)
{
	uintptr_t entry = (uintptr_t)word - (uintptr_t)self->locks->futex_offset;

	self->locks->list_op_pending = (struct robust_list *)entry;
	/* Only the kernel reads it, for this thread: all it needs is to be stored first, and last. */
	atomic_signal_fence(memory_order_seq_cst);
}

static inline void self_release(struct self *self)
{
	atomic_signal_fence(memory_order_seq_cst);
	self->locks->list_op_pending = NULL;
}

#endif
