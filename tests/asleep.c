/* SPDX-License-Identifier: MIT */
#include "asleep.h"

#include <fcntl.h>

static bool read_proc(pid_t pid, pid_t tid, const char *file, char *text, size_t size)
{
	char path[64];
	ssize_t n;
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/task/%d/%s", pid, tid, file);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return false;
	n = read(fd, text, size - 1);
	close(fd);
	text[n < 0 ? 0 : n] = '\0';
	return n > 0;
}

long sleeping_call(pid_t pid, pid_t tid)
{
	char text[512];
	const char *state;
	char *end;
	long call;

	if (!pid)
		pid = getpid();
	if (!read_proc(pid, tid, "syscall", text, sizeof(text)))
		return -1;
	call = strtol(text, &end, 10);
	if (end == text)
		return -1; /* it is running */
	/*
	 * A thread that was woken but has no CPU yet still shows its system call, but no longer the state of
	 * a sleeper.
	 */
	if (!read_proc(pid, tid, "stat", text, sizeof(text)))
		return -1;
	state = strrchr(text, ')');
	return state && !strncmp(state, ") S", 3) ? call : -1;
}

static bool is_epoll(long call)
{
#ifdef SYS_epoll_wait
	if (call == SYS_epoll_wait)
		return true;
#endif
	return call == SYS_epoll_pwait;
}

static bool is_asleep(long call, enum asleep how)
{
	switch (how) {
	case ASLEEP_SOCKET:
		return call == SYS_ppoll;
	case ASLEEP_ANY:
		return call == SYS_ppoll || call == SYS_futex || call == SYS_futex_waitv || is_epoll(call);
	case ASLEEP_SET:
		return call == SYS_ppoll || is_epoll(call);
	case ASLEEP_PAUSE:
#ifdef SYS_pause
		if (call == SYS_pause)
			return true;
#endif
		return call == SYS_ppoll;
	}
	return false;
}

void wait_until_asleep(pid_t pid, pid_t tid, enum asleep how)
{
	int64_t end = clock_ns() + PLENTY;
	long call;

	while (call = sleeping_call(pid, tid), !is_asleep(call, how)) {
		if (clock_ns() >= end)
			support_fail(__FILE__, __LINE__, "thread %d never slept so; it is in call %ld", tid,
				     call);
		sleep_ns(200 * USEC);
	}
}

long sleeps_so_far(pid_t pid, pid_t tid)
{
	char text[4096];
	const char *line;

	if (!pid)
		pid = getpid();
	check(read_proc(pid, tid, "status", text, sizeof(text)));
	line = strstr(text, "\nvoluntary_ctxt_switches:");
	check(line != NULL);
	return strtol(strchr(line, ':') + 1, NULL, 10);
}
