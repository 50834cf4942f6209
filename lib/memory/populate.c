/* SPDX-License-Identifier: MIT */
#include "memory/populate.h"

#include "base/sys.h"

#include <stdbool.h>
#include <sys/mman.h>

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif

/*
 * Has the kernel store to each page, which is its fault then: where the program
 * would get a SIGBUS the system call fails with EFAULT.  Any call that stores
 * will do; this one is the cheapest, and sandboxes allow it.  Any other error
 * is a refusal of the call, and says nothing of memory.
 */
static int touch(char *at, size_t len, size_t page)
{
	for (size_t i = 0; i < len; i += page) {
		if (syscall(SYS_getcpu, at + i, NULL, NULL) < 0 && errno == EFAULT)
			return -ENOMEM;
	}
	return 0;
}

int populate(void *at, size_t len)
{
	/* Set once the advice was unknown: before Linux 5.14, or in a sandbox. */
	static atomic_bool unknown;
	size_t page = (size_t)sysconf(_SC_PAGESIZE);
	size_t skip = -(uintptr_t)at & (page - 1);
	char *first = (char *)at + skip;

	if (len <= skip)
		return 0;
	len = (len - skip + page - 1) & ~(page - 1);
	if (!atomic_load_explicit(&unknown, memory_order_relaxed)) {
		if (madvise(first, len, MADV_POPULATE_WRITE) == 0)
			return 0;
		if (errno == EINVAL)
			atomic_store_explicit(&unknown, true, memory_order_relaxed);
	}
	/* Also after another error: it may be that of a sandbox. */
	return touch(first, len, page);
}
