/* SPDX-License-Identifier: MIT */
#include "kill/stepper.h"

#include "asleep.h"
#include "sanitized.h"
#include "support.h"

#include <criterion/criterion.h>
#include <dirent.h>
#include <elf.h>
#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#ifndef SANITIZED
/*
 * Replaces the function that reads the kernel's clock page. That function starts again whenever the page
 * changes meanwhile, which under a tracer may never stop.
 */
int clock_gettime(clockid_t clock, struct timespec *now)
{
	return (int)syscall(SYS_clock_gettime, clock, now);
}
#endif

static void unpin(void)
{
	cpu_set_t all;

	memset(&all, 0xff, sizeof(all));
	sched_setaffinity(0, sizeof(all), &all);
}

pid_t fork_mortal(void)
{
	pid_t parent = getpid();
	pid_t pid = fork();

	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (getppid() != parent)
			_exit(1);
	}
	return pid;
}

static void await_stop(pid_t pid)
{
	int status;

	if (waitpid(pid, &status, WUNTRACED | __WALL) != pid || !WIFSTOPPED(status))
		trial_fail("a child did not start");
}

pid_t actor_start(void (*role)(void *), void *arg)
{
	pid_t pid = fork_mortal();

	trial_assert(pid >= 0, "fork: %s", strerror(errno));
	if (pid == 0) {
		unpin();
		role(arg);
		_exit(0);
	}
	await_stop(pid);
	return pid;
}

pid_t victim_start(void (*prepare)(void *), void (*call)(void *), void *arg)
{
	pid_t pid = fork_mortal();

	trial_assert(pid >= 0, "fork: %s", strerror(errno));
	if (pid == 0) {
		pid = getpid();
		if (prepare)
			prepare(arg);
		if (ptrace(PTRACE_TRACEME, 0, NULL, NULL) < 0)
			_exit(1);
		kill(pid, SIGSTOP);
		call(arg);
		kill(pid, SIGSTOP);
		_exit(1);
	}
	await_stop(pid);
	return pid;
}

/* The next instruction's system call with its arguments, or -1 if the instruction is none. */
struct place {
	uintptr_t ip;
	long call;
	long third;
	long fourth;
};

static struct place place_of(pid_t pid)
{
	struct user_regs_struct regs;
	struct iovec piece = { .iov_base = &regs, .iov_len = sizeof(regs) };
	struct place place = { .call = -1 };

	if (ptrace(PTRACE_GETREGSET, pid, (void *)NT_PRSTATUS, &piece) < 0)
		return place;
#if defined(__x86_64__)
	place.ip = regs.rip;
	if ((ptrace(PTRACE_PEEKTEXT, pid, (void *)place.ip, NULL) & 0xffff) == 0x050f)
		place.call = (long)regs.rax;
	place.third = (long)regs.rdx;
	place.fourth = (long)regs.r10;
#elif defined(__aarch64__)
	place.ip = regs.pc;
	if ((ptrace(PTRACE_PEEKTEXT, pid, (void *)place.ip, NULL) & 0xffffffff) == 0xd4000001)
		place.call = (long)regs.regs[8];
	place.third = (long)regs.regs[2];
	place.fourth = (long)regs.regs[3];
#elif defined(__riscv)
	place.ip = regs.pc;
	if ((ptrace(PTRACE_PEEKTEXT, pid, (void *)place.ip, NULL) & 0xffffffff) == 0x73)
		place.call = (long)regs.a7;
	place.third = (long)regs.a2;
	place.fourth = (long)regs.a3;
#endif
	return place;
}

/* Whether the system call is about to sleep until somebody else wakes it, and not merely to look. */
static bool falls_asleep(pid_t pid, const struct place *place)
{
	switch (place->call) {
#ifdef SYS_epoll_wait
	case SYS_epoll_wait:
#endif
	case SYS_epoll_pwait:
		return place->fourth != 0;
#ifdef SYS_poll
	case SYS_poll:
		return (int)place->third != 0;
#endif
	case SYS_ppoll:
		return !place->third || ptrace(PTRACE_PEEKDATA, pid, (void *)place->third, NULL) ||
		       ptrace(PTRACE_PEEKDATA, pid, (void *)(place->third + (long)sizeof(time_t)), NULL);
	case SYS_io_uring_enter:
		return place->third != 0;
	default:
		return false;
	}
}

static void step(pid_t victim, struct trial *trial, bool awake)
{
	struct place place;
	int naps = 0;
	int status;

	for (trial->steps = 0;;) {
		place = place_of(victim);
		if (trial->steps + trial->at_calls == trial->point && (!trial->at_calls || place.call >= 0))
			break;
		/* A call of futex that sleeps has a time limit; FUTEX_WAKE has none. */
		naps += place.call == SYS_futex_waitv || (place.call == SYS_futex && place.fourth);
		/* Some waits sleep on the futex several times. */
		if (awake && (naps > 2 || falls_asleep(victim, &place))) {
			trial->finished = true;
			break;
		}
		trial->steps += !trial->at_calls || place.call >= 0;
		trial_assert(ptrace(PTRACE_SINGLESTEP, victim, NULL, NULL) == 0, "ptrace: %s",
			     strerror(errno));
		trial_assert(waitpid(victim, &status, __WALL) == victim, "waitpid: %s", strerror(errno));
		trial_assert(WIFSTOPPED(status), "the victim ended by itself: status %#x", (unsigned)status);
		if (WSTOPSIG(status) == SIGSTOP) {
			trial->finished = true;
			trial->returned = true;
			break;
		}
		trial_assert(WSTOPSIG(status) == SIGTRAP, "the victim got signal %d", WSTOPSIG(status));
	}
	trial->ip = place_of(victim).ip;
}

void victim_step(pid_t victim, struct trial *trial)
{
	step(victim, trial, false);
}

void victim_step_awake(pid_t victim, struct trial *trial)
{
	step(victim, trial, true);
}

void victim_go_on(pid_t victim, const struct trial *trial)
{
	if (!trial->returned)
		trial_assert(ptrace(PTRACE_DETACH, victim, NULL, NULL) == 0, "ptrace: %s", strerror(errno));
}

void victim_kill(pid_t victim)
{
	int status;

	kill(victim, SIGKILL);
	trial_assert(waitpid(victim, &status, __WALL) == victim && WIFSIGNALED(status),
		     "the victim lives on");
}

void victim_step_and_kill(pid_t victim, struct trial *trial)
{
	victim_step(victim, trial);
	victim_kill(victim);
}

void actor_continue(pid_t child)
{
	kill(child, SIGCONT);
}

void actor_await(pid_t child, const char *who)
{
	int fd = (int)syscall(SYS_pidfd_open, child, 0);
	struct pollfd p = { .fd = fd, .events = POLLIN };
	int status;

	if (fd >= 0 && poll(&p, 1, STEPPER_PATIENCE_MS) == 0)
		trial_fail("%s hangs in system call %ld", who, sleeping_call(child, child));
	if (fd >= 0)
		close(fd);
	trial_assert(waitpid(child, &status, 0) == child && status == 0, "%s ended with status %#x", who,
		     (unsigned)status);
}

static void nap(void)
{
	nanosleep(&(struct timespec){ .tv_nsec = 50000 }, NULL);
}

static unsigned kind_of_sleep(long call)
{
	if (call == SYS_futex || call == SYS_futex_waitv)
		return SLEEP_FUTEX;
	return call == SYS_ppoll ? SLEEP_SOCKET : 0;
}

void actor_await_sleep(pid_t child, unsigned kinds)
{
	int64_t limit = clock_ns() + STEPPER_PATIENCE_MS * MSEC;
	int status = 0;
	long call;

	for (;;) {
		call = sleeping_call(child, child);
		/*
		 * On a busy machine the victim may have left the futex before we look. On the socket it
		 * stays.
		 */
		if (kind_of_sleep(call) & (kinds | SLEEP_SOCKET))
			return;
		trial_assert(waitpid(child, &status, WNOHANG) == 0,
			     "a child that should sleep ended with status %#x", (unsigned)status);
		trial_assert(clock_ns() < limit, "a child does not fall asleep but is in system call %ld",
			     call);
		nap();
	}
}

void end_actor(pid_t pid)
{
	int status;

	kill(pid, SIGKILL);
	trial_assert(waitpid(pid, &status, __WALL) == pid, "waitpid: %s", strerror(errno));
}

void flag_await(const _Atomic int *flag, const char *what)
{
	int64_t limit = clock_ns() + STEPPER_PATIENCE_MS * MSEC;

	for (int i = 0; !atomic_load(flag); i++) {
		trial_assert(clock_ns() < limit, "%s did not happen", what);
		if (i > 10)
			nap();
		else
			sched_yield();
	}
}

struct belongings belongings_count(void)
{
	struct belongings b = { 0 };
	DIR *fds = opendir("/proc/self/fd");
	FILE *maps = fopen("/proc/self/maps", "re");
	char line[512];

	while (fds && readdir(fds))
		b.fds++;
	if (fds)
		closedir(fds);
	while (maps && fgets(line, sizeof(line), maps))
		b.mappings += strstr(line, "memfd:") != NULL;
	if (maps)
		fclose(maps);
	return b;
}

static const char *obstacle(void)
{
#ifdef SANITIZED
	return "single steps through a sanitizer's runtime take too long";
#else
	pid_t pid = fork();
	int status = 0;

	if (pid == 0)
		_exit(ptrace(PTRACE_TRACEME, 0, NULL, NULL) < 0);
	if (pid < 0 || waitpid(pid, &status, 0) != pid || status)
		return "ptrace is not permitted";
	return NULL;
#endif
}

void stepper_require(void)
{
	const char *why = obstacle();

	if (why)
		cr_skip_test("%s", why);
}
