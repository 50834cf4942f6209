/* SPDX-License-Identifier: MIT */
#include "base/sys.h"

static int wait_v(const _Atomic uint32_t *word, uint32_t value, const _Atomic uint32_t *other,
		  const struct timespec *until)
{
	struct futex_waitv waiters[2] = {
		{ .val = value, .uaddr = (uintptr_t)word, .flags = FUTEX_32 },
		{ .val = 0, .uaddr = (uintptr_t)other, .flags = FUTEX_32 },
	};
	int64_t r = sys_result(syscall(SYS_futex_waitv, waiters, other ? 2 : 1, 0, until, CLOCK_MONOTONIC));

	return r > 0 ? 0 : (int)r; /* the kernel returns the index of the word that was woken */
}

static int wait_plain(const _Atomic uint32_t *word, uint32_t value, const struct timespec *until)
{
	return (int)sys_result(
		syscall(SYS_futex, word, FUTEX_WAIT_BITSET, value, until, NULL, FUTEX_BITSET_MATCH_ANY));
}

int sys_futex_wait_two(const _Atomic uint32_t *word, uint32_t value, const _Atomic uint32_t *other,
		       int64_t deadline)
{
	/* Set when futex_waitv was refused, by Linux before 5.16 or by a sandbox (with any errno). */
	static atomic_bool plain_only;
	struct timespec until = time_spec(deadline);
	const struct timespec *limit = deadline == TIME_FOREVER ? NULL : &until;
	int r;

	if (!atomic_load_explicit(&plain_only, memory_order_relaxed)) {
		r = wait_v(word, value, other, limit);
		if (r >= 0 || r == -EAGAIN || r == -ETIMEDOUT || r == -EINTR)
			return r;
		/* Not a refusal: the other side has punched out the page of the word. */
		if (r == -EFAULT)
			return wait_plain(word, value, limit);
		atomic_store_explicit(&plain_only, 1, memory_order_relaxed);
	}
	return wait_plain(word, value, limit);
}

int sys_futex_wait(const _Atomic uint32_t *word, uint32_t value, int64_t deadline)
{
	return sys_futex_wait_two(word, value, NULL, deadline);
}
