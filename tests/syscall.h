/* SPDX-License-Identifier: MIT */
/* For a test program that replaces syscall(2) of the C library, and passes each call on. */
#ifndef TESTS_SYSCALL_H
#define TESTS_SYSCALL_H

#include <dlfcn.h>
#include <stdarg.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <unistd.h>

/*
 * Calls the function of the C library. A caller may have passed fewer than six arguments. The others are then
 * whatever lies in their places, which the kernel ignores, and of which AddressSanitizer must not complain.
 */
__attribute__((no_sanitize("address"))) static inline long syscall_pass_on(long number, va_list list)
{
	typedef long call_type(long, ...);
	call_type *real = (call_type *)(uintptr_t)dlsym(RTLD_NEXT, "syscall");
	long a[6];

	for (int i = 0; i < 6; i++)
		a[i] = va_arg(list, long);
	return real(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}

#endif
