/* SPDX-License-Identifier: MIT */
/*
 * Pipes also work under an old kernel, in a sandbox, on one CPU, and without /proc. Each test restricts a child
 * in one of these ways.
 */
#include "sandbox.h"
#include "support.h"

#include <linux/membarrier.h>
#include <sys/stat.h>

#ifndef SYS_futex_waitv
#define SYS_futex_waitv 449
#endif
#ifndef SO_PASSRIGHTS
#define SO_PASSRIGHTS 83
#endif
#define MFD_NOEXEC_SEAL_FLAG 0x8

SUITE(fallback);

struct lack {
	struct forbidden rules[4];
	int n;
	void (*also)(void);
	int late; /* only after the pipe was made */
};

static void impose(const struct lack *lack)
{
	if (lack->n)
		forbid(lack->rules, lack->n);
	if (lack->also)
		lack->also();
}

static void echo(void *arg)
{
	static char buf[100000];
	bufpipe_t *pipe = arg;
	ssize_t n;

	while ((n = bufpipe_recv(pipe, buf, sizeof(buf), PLENTY)) >= 0)
		check_eq(bufpipe_send(pipe, buf, (size_t)n, PLENTY), 0);
	check_eq(n, -EPIPE);
}

static void question_and_answer(bufpipe_t *pipe, int64_t pause)
{
	for (int i = 0; i < 300; i++) {
		say(pipe, "question");
		hear(pipe, "question");
	}
	/* Late enough for the other side to sleep, first on its futex and then on the socket. */
	for (int i = 0; i < 3; i++) {
		sleep_ns(pause);
		say(pipe, "question");
		hear(pipe, "question");
	}
}

static void stream(void *arg)
{
	char message[300];

	for (uint64_t i = 0; i < 5000; i++) {
		pattern_fill(message, i % 300, i);
		check_eq(bufpipe_send(arg, message, i % 300, PLENTY), 0);
	}
}

static void receive_stream(bufpipe_t *pipe)
{
	char message[300];

	for (uint64_t i = 0; i < 5000; i++) {
		check_eq(bufpipe_recv(pipe, message, 300, PLENTY), i % 300);
		check(pattern_holds(message, i % 300, i));
	}
}

static void use_pipes(const struct lack *lack, int64_t spin_ns, unsigned flags)
{
	struct bufpipe_options options = { .buffer_size = 1000,
					   .flags = BUFPIPE_DUPLEX | flags,
					   .spin_ns = spin_ns };
	struct child child;
	bufpipe_t *ends[2];
	char byte;

	if (!lack->late)
		impose(lack);
	pipe_open(ends, &options);
	if (lack->late)
		impose(lack);
	check_eq(bufpipe_recv(ends[0], &byte, 1, 2 * MSEC), -ETIMEDOUT);
	check_eq(bufpipe_recv(ends[0], &byte, 1, 0), -EAGAIN);
	child = child_start(echo, ends[1]);
	question_and_answer(ends[0], 40 * MSEC);
	question_and_answer(ends[0], 250 * MSEC);
	check_eq(bufpipe_shutdown(ends[0]), 0);
	child_join(&child);
	pipe_close(ends);
	pipe_open(ends, &options);
	child = child_start(stream, ends[1]);
	bufpipe_close(ends[1]);
	receive_stream(ends[0]);
	check_eq(bufpipe_recv(ends[0], &byte, 1, PLENTY), -EPIPE);
	child_join(&child);
	bufpipe_close(ends[0]);
}

/* Runs in a child of the test, because a restriction cannot be lifted again. */
static void live_with(void *arg)
{
	use_pipes(arg, 0, 0);
}

static void live_with_sleep(void *arg)
{
	use_pipes(arg, BUFPIPE_NO_SPIN, 0);
}

static void live_with_shared(void *arg)
{
	use_pipes(arg, 0, BUFPIPE_SHARED);
}

static void lacking(struct lack lack)
{
	static void (*const lives[])(void *) = { live_with, live_with_sleep, live_with_shared };

	for (lack.late = 0; lack.late < 2; lack.late++) {
		struct child children[3];

		for (int i = 0; i < 3; i++)
			children[i] = child_start(lives[i], &lack);
		for (int i = 0; i < 3; i++)
			child_join(&children[i]);
	}
}

Test(fallback, nothing_missing)
{
	lacking((struct lack){ .n = 0 });
}

Test(fallback, no_membarrier)
{
	lacking((struct lack){ .rules = { { .call = SYS_membarrier, .error = ENOSYS } }, .n = 1 });
	lacking((struct lack){ .rules = { { .call = SYS_membarrier, .error = EPERM } }, .n = 1 });
}

Test(fallback, no_futex_waitv)
{
	lacking((struct lack){ .rules = { { .call = SYS_futex_waitv, .error = ENOSYS } }, .n = 1 });
	lacking((struct lack){ .rules = { { .call = SYS_futex_waitv, .error = EPERM } }, .n = 1 });
}

Test(fallback, neither_membarrier_nor_futex_waitv)
{
	lacking((struct lack){ .rules = { { .call = SYS_membarrier, .error = ENOSYS },
					  { .call = SYS_futex_waitv, .error = ENOSYS } },
			       .n = 2 });
}

Test(fallback, no_robust_list)
{
	lacking((struct lack){ .rules = { { .call = SYS_get_robust_list, .error = ENOSYS } }, .n = 1 });
	lacking((struct lack){ .rules = { { .call = SYS_madvise, .error = EINVAL } }, .n = 1 });
}

Test(fallback, no_unknown_memfd_flags)
{
	lacking((struct lack){ .rules = { { .call = SYS_memfd_create,
					    .error = EINVAL,
					    .argument = 1,
					    .mask = MFD_NOEXEC_SEAL_FLAG } },
			       .n = 1 });
}

static void one_cpu(void)
{
	cpu_set_t allowed;
	int cpu = 0;

	check_eq(sched_getaffinity(0, sizeof(allowed), &allowed), 0);
	while (!CPU_ISSET(cpu, &allowed))
		cpu++;
	pin_to_cpu(cpu);
}

Test(fallback, one_cpu)
{
	lacking((struct lack){ .also = one_cpu });
}

/* One side is in the sandbox and the other one is not. Each must know what the other one lacks. */
struct mixed {
	struct lack lack;
	bufpipe_t *end;
};

static void echo_with(void *arg)
{
	struct mixed *mixed = arg;
	bufpipe_t *landed;
	int sockets[2];

	impose(&mixed->lack);
	/* The end is handed to this process itself, so that a sandboxed process opens it. */
	sockets_open(sockets, SOCK_STREAM);
	check_eq(bufpipe_send_end(sockets[0], mixed->end), 0);
	check_eq(bufpipe_recv_end(sockets[1], &landed), 0);
	sockets_close(sockets);
	echo(landed);
	bufpipe_close(landed);
}

Test(fallback, one_side_without_membarrier)
{
	struct mixed mixed = {
		.lack = { .rules = { { .call = SYS_membarrier, .error = ENOSYS } }, .n = 1 },
	};
	struct bufpipe_options options = { .flags = BUFPIPE_DUPLEX };

	for (int i = 0; i < 2; i++) {
		struct child child;
		bufpipe_t *ends[2];

		options.spin_ns = i ? BUFPIPE_NO_SPIN : 0;
		pipe_open(ends, &options);
		mixed.end = ends[1];
		child = child_start(echo_with, &mixed);
		question_and_answer(ends[0], 150 * MSEC);
		check_eq(bufpipe_shutdown(ends[0]), 0);
		child_join(&child);
		pipe_close(ends);
	}
}

Test(fallback, without_memfds_creation_says_so)
{
	struct forbidden rule = { .call = SYS_memfd_create, .error = ENOSYS };
	bufpipe_t *ends[2];

	forbid(&rule, 1);
	check_eq(bufpipe_create(ends, NULL), -ENOSYS);
}

/* Before Linux 6.16 the other side may always send descriptors. */
static bool descriptors_can_be_forbidden(void)
{
	int sockets[2];
	int no = 0;
	bool can;

	sockets_open(sockets, SOCK_SEQPACKET);
	can = setsockopt(sockets[0], SOL_SOCKET, SO_PASSRIGHTS, &no, sizeof(no)) == 0;
	sockets_close(sockets);
	return can;
}

/* The system calls that bufpipe(7) lists for a sandbox, and those with which a process ends. */
static void echo_in_a_jail(void *arg)
{
	/* The last group is for a kernel on which the other side may always send descriptors. */
	static const int calls[] = {
		SYS_futex,
		SYS_futex_waitv,
		SYS_membarrier,
		SYS_ppoll,
		SYS_recvfrom,
		SYS_sendto,
		SYS_sched_yield,
#ifdef SYS_poll /* not on AArch64, where glibc calls ppoll */
		SYS_poll,
#endif
		SYS_getcpu,
		SYS_clock_gettime,
		SYS_get_robust_list,
		SYS_gettid,
		SYS_mmap,
		SYS_madvise,
		SYS_munmap,
		SYS_brk,
		SYS_close,
		SYS_exit_group,
		SYS_epoll_create1,
		SYS_epoll_ctl,
		SYS_ioctl,
		SYS_epoll_pwait,
		SYS_recvmsg,
		SYS_flistxattr,
		SYS_sched_getscheduler,
		SYS_readlinkat,
		SYS_tkill,

		SYS_setsockopt,
		SYS_getsockopt,
		SYS_shutdown,
		SYS_fcntl,
		SYS_clone,
		SYS_wait4,
		SYS_rt_sigprocmask,
		SYS_prctl,
		SYS_getpid,
		SYS_getppid,
		SYS_kill,
		SYS_clock_nanosleep,
		SYS_exit,
	};
	enum { CALLS = sizeof(calls) / sizeof(calls[0]), FOR_OLDER = 13 };

	allow_only(calls, descriptors_can_be_forbidden() ? CALLS - FOR_OLDER : CALLS);
	echo(arg);
	bufpipe_close(arg);
}

static void live_in_a_jail(void)
{
	static const struct bufpipe_options kinds[] = {
		{ .buffer_size = 1000, .flags = BUFPIPE_DUPLEX },
		{ .buffer_size = 1000, .flags = BUFPIPE_DUPLEX, .spin_ns = BUFPIPE_NO_SPIN },
		{ .buffer_size = 1000, .flags = BUFPIPE_DUPLEX | BUFPIPE_SHARED },
	};
	char message[100000];

	need_jail();
	pattern_fill(message, sizeof(message), 1);
	for (int i = 0; i < 3; i++) {
		struct child child;
		bufpipe_t *ends[2];

		pipe_open(ends, &kinds[i]);
		child = child_start(echo_in_a_jail, ends[1]);
		question_and_answer(ends[0], 250 * MSEC);
		check_eq(bufpipe_send(ends[0], message, sizeof(message), PLENTY), 0);
		check_eq(bufpipe_recv(ends[0], message, sizeof(message), PLENTY), sizeof(message));
		check(pattern_holds(message, sizeof(message), 1));
		check_eq(bufpipe_shutdown(ends[0]), 0);
		child_join(&child);
		pipe_close(ends);
	}
}

Test(fallback, the_documented_system_calls_are_enough)
{
	live_in_a_jail();
}

Test(fallback, the_documented_system_calls_are_enough_before_linux_6_16)
{
	/* The mask matches SO_PASSRIGHTS, and no other option that the library uses before Linux 6.16. */
	static const struct forbidden rules[] = {
		{ .call = SYS_setsockopt, .error = ENOPROTOOPT, .argument = 2, .mask = 0x40 },
		{ .call = SYS_getsockopt, .error = ENOPROTOOPT, .argument = 2, .mask = 0x40 },
	};

	need_jail();
	forbid(rules, 2);
	check(!descriptors_can_be_forbidden());
	live_in_a_jail();
}

/* The root becomes an empty directory, so there is no /proc. */
static char jail[] = "/tmp/bufpipe-jail-XXXXXX";

static void enter_jail(void)
{
	check_eq(chroot(jail), 0);
	check_eq(chdir("/"), 0);
}

static void stay_at_home(void *arg)
{
	bufpipe_t *ends[2];
	int sockets[2];

	(void)arg;
	enter_jail();
	sockets_open(sockets, SOCK_STREAM);
	pipe_open(ends, NULL);
	say(ends[OUT], "here");
	hear(ends[IN], "here");
	check_eq(bufpipe_send_end(sockets[0], ends[IN]), -EOPNOTSUPP);
	check_eq(bufpipe_send_end(sockets[0], ends[OUT]), -EOPNOTSUPP);
	pipe_close(ends);
	sockets_close(sockets);
}

Test(fallback, no_proc)
{
	struct child child;

	if (geteuid() != 0)
		cr_skip_test("only root can hide /proc");
	check(mkdtemp(jail) != NULL);
	lacking((struct lack){ .also = enter_jail });
	child = child_start(stay_at_home, NULL);
	child_join(&child);
	check_eq(rmdir(jail), 0);
}
