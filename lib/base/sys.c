/* SPDX-License-Identifier: MIT */
#include "base/sys.h"

int sys_futex_wait(const _Atomic uint32_t *word, uint32_t value, int64_t deadline)
{
	struct timespec until = time_spec(deadline);

	return (int)sys_result(syscall(SYS_futex, word, FUTEX_WAIT_BITSET, value,
				       deadline == TIME_FOREVER ? NULL : &until, NULL,
				       FUTEX_BITSET_MATCH_ANY));
}
