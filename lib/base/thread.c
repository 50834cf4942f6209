/* SPDX-License-Identifier: MIT */
#include "base/thread.h"

#include <stdbool.h>
#include <sys/mman.h>

_Thread_local struct thread_self this_thread;

/*
 * A page that the kernel clears in each child of fork, or NULL if the kernel cannot do so.  The
 * answer stays: if a page came later, this process would take itself for a child.
 */
static _Atomic uint32_t *wiped_page(void)
{
	static _Atomic(_Atomic uint32_t *) made;
	static _Atomic uint32_t refused; /* stands for: there is none */
	_Atomic uint32_t *page = atomic_load_explicit(&made, memory_order_acquire);
	_Atomic uint32_t *first = NULL;
	size_t size = (size_t)sysconf(_SC_PAGESIZE);

	if (likely(page))
		return page == &refused ? NULL : page;
	page = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (page == MAP_FAILED) {
		page = &refused;
	} else if (madvise(page, size, MADV_WIPEONFORK) < 0) {
		munmap(page, size);
		page = &refused;
	}
	/* Pairs with the acquire above.  If two threads come at once, the answer of the first one counts. */
	if (!atomic_compare_exchange_strong_explicit(&made, &first, page, memory_order_acq_rel,
						     memory_order_acquire)) {
		if (page != &refused)
			munmap(page, size);
		page = first;
	}
	return page == &refused ? NULL : page;
}

uint32_t thread_process(void)
{
	/* fork does not clear this: a child goes on counting from the number of its parent. */
	static _Atomic uint32_t numbers;
	_Atomic uint32_t *page = wiped_page();
	uint32_t number = 0;
	uint32_t next;

	if (!page)
		return (uint32_t)getpid();
	/* Relaxed: no other memory depends on the number. */
	number = atomic_load_explicit(page, memory_order_relaxed);
	if (likely(number))
		return number;
	next = atomic_fetch_add_explicit(&numbers, 1, memory_order_relaxed) + 1;
	if (atomic_compare_exchange_strong_explicit(page, &number, next, memory_order_relaxed,
						    memory_order_relaxed))
		return next;
	return number;
}

slow_path struct thread_self *thread_ask(void)
{
	/* Remembered, because a refused call costs as much as one that succeeds. */
	static atomic_bool refused;
	_Atomic uint32_t *page;
	size_t len;

	if (atomic_load_explicit(&refused, memory_order_relaxed))
		return NULL;
	page = wiped_page();
	if (!page || syscall(SYS_get_robust_list, 0, &this_thread.locks, &len) < 0 || !this_thread.locks) {
		atomic_store_explicit(&refused, true, memory_order_relaxed);
		return NULL;
	}
	this_thread.id = (uint32_t)syscall(SYS_gettid);
	this_thread.process = thread_process();
	this_thread.page = page;
	return &this_thread;
}

uint32_t thread_id(void)
{
	/* Asked once for each thread and process, where thread_self returns NULL. */
	static _Thread_local struct {
		uint32_t process;
		uint32_t id;
	} asked;
	const struct thread_self *self = thread_self();
	uint32_t process;

	if (likely(self))
		return self->id;
	process = thread_process();
	if (asked.process != process)
		asked.id = (uint32_t)syscall(SYS_gettid);
	asked.process = process;
	return asked.id;
}
