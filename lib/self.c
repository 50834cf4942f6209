/* SPDX-License-Identifier: MIT */
#include "self.h"

#include <sys/mman.h>

_Thread_local struct self this_thread;

/*
 * A page that a child finds wiped, however it was forked: the id that its one
 * thread has kept is its parent's.  No handler of fork is needed for that.
 */
static _Atomic uint32_t *wiped_page(void)
{
	static _Atomic(_Atomic uint32_t *) made;
	_Atomic uint32_t *page = atomic_load_explicit(&made, memory_order_acquire);
	_Atomic uint32_t *other = NULL;
	size_t size = (size_t)sysconf(_SC_PAGESIZE);

	if (page)
		return page;
	page = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (page == MAP_FAILED)
		return NULL;
	/* Release, for the thread that is told of it; one of two that come at once gives way. */
	if (madvise(page, size, MADV_WIPEONFORK) == 0 &&
	    atomic_compare_exchange_strong_explicit(&made, &other, page, memory_order_acq_rel,
						    memory_order_acquire))
		return page;
	munmap(page, size);
	return other;
}

slow_path struct self *self_ask(void)
{
	_Atomic uint32_t *valid = wiped_page();
	size_t len;

	if (!valid)
		return NULL;
	if (syscall(SYS_get_robust_list, 0, &this_thread.locks, &len) < 0 || !this_thread.locks)
		return NULL;
	this_thread.id = (uint32_t)syscall(SYS_gettid);
	this_thread.valid = valid;
	atomic_store_explicit(valid, 1, memory_order_relaxed);
	return &this_thread;
}
