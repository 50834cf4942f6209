/* SPDX-License-Identifier: MIT */
#include "memory/populate.h"

#include "base/sys.h"

#include <stdbool.h>
#include <sys/mman.h>

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif

/*
 * Makes the kernel store to each page.  If there is no memory, the system call
 * fails with EFAULT, where a store of the program would raise SIGBUS.  Any call that
 * stores would do; getcpu is the cheapest, and sandboxes allow it.  Any other error
 * than EFAULT is a refusal of the call, and says nothing about memory.
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
	/* Set when the kernel did not know the advice: before Linux 5.14, or in a sandbox. */
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
	/* Also after another error, because it may come from a sandbox. */
	return touch(first, len, page);
}
