/* SPDX-License-Identifier: MIT */
#include "sandbox.h"

#include "sanitized.h"

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/prctl.h>

static void install_filter(const struct sock_fprog *program)
{
	check_eq(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
	check_eq(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, program), 0);
}

void forbid(const struct forbidden *rules, int n)
{
	struct sock_filter code[64];
	struct sock_fprog program = { .filter = code };
	unsigned short at = 0;

	check(n <= 10);
	for (int i = 0; i < n; i++) {
		unsigned refuse = SECCOMP_RET_ERRNO | (unsigned)rules[i].error;
		unsigned argument = (unsigned)offsetof(struct seccomp_data, args) + 8 * rules[i].argument;
		bool masked = rules[i].mask != 0;

		code[at++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS,
							  offsetof(struct seccomp_data, nr));
		code[at++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned)rules[i].call,
							  0, masked ? 3 : 1);
		if (masked) {
			code[at++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, argument);
			code[at++] =
				(struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, rules[i].mask, 0, 1);
		}
		code[at++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, refuse);
	}
	code[at++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
	program.len = at;
	install_filter(&program);
}

void allow_only(const int *calls, int n)
{
	struct sock_filter code[112];
	struct sock_fprog program = { .filter = code };
	unsigned short at = 0;

	check(n <= 54);
	code[at++] =
		(struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr));
	for (int i = 0; i < n; i++) {
		code[at++] =
			(struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned)calls[i], 0, 1);
		code[at++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
	}
	code[at++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS);
	program.len = at;
	install_filter(&program);
}

static bool in_valgrind(void)
{
	const char *preloaded = getenv("LD_PRELOAD");

	return preloaded && strstr(preloaded, "vgpreload");
}

void need_jail(void)
{
#ifdef SANITIZED
	cr_skip_test("a sanitizer makes system calls of its own");
#endif
	if (in_valgrind())
		cr_skip_test("valgrind makes system calls of its own");
}

void need_limits(void)
{
	if (in_valgrind())
		cr_skip_test("valgrind does not tell the kernel of limits");
}

void need_stray_children(void)
{
	if (in_valgrind())
		cr_skip_test("valgrind knows no child that shares memory and goes its own way");
}
