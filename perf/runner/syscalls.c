/* SPDX-License-Identifier: MIT */
/*
 * How many system calls a process makes, as the kernel's own trace point counts
 * them.  Counting makes each call slower, and those of everybody else, so it is
 * done in a round of its own in which nothing else is measured.
 */
#include "bench.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/perf_event.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define TRACING "/sys/kernel/tracing"

static int counter = -1; /* of this process, where it is counted */

static uint64_t read_id(void)
{
	FILE *file = fopen(TRACING "/events/raw_syscalls/sys_enter/id", "re");
	unsigned long long id = 0;

	if (file && fscanf(file, "%llu", &id) != 1)
		id = 0;
	if (file)
		fclose(file);
	return id;
}

/* The files of tracing are often not mounted; a process may mount them for itself alone. */
static uint64_t read_id_elsewhere(void)
{
	uint64_t id = 0;
	int answer[2];
	pid_t pid;

	if (pipe2(answer, O_CLOEXEC))
		return 0;
	pid = worker_fork();
	if (pid == 0) {
		if (unshare(CLONE_NEWNS) == 0 && mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0 &&
		    mount("tracefs", TRACING, "tracefs", 0, NULL) == 0)
			id = read_id();
		_exit(write(answer[1], &id, sizeof(id)) != sizeof(id));
	}
	close(answer[1]);
	if (pid < 0 || read(answer[0], &id, sizeof(id)) != sizeof(id))
		id = 0;
	close(answer[0]);
	if (pid > 0)
		waitpid(pid, NULL, 0);
	return id;
}

uint64_t syscalls_find(void)
{
	uint64_t id = read_id();

	return id ? id : read_id_elsewhere();
}

/* All threads that are started from here on are counted too. */
int syscalls_count(uint64_t id)
{
	struct perf_event_attr event = {
		.type = PERF_TYPE_TRACEPOINT,
		.size = sizeof(event),
		.config = id,
		.inherit = 1,
	};

	counter = (int)syscall(SYS_perf_event_open, &event, 0, -1, -1, PERF_FLAG_FD_CLOEXEC);
	return counter < 0 ? -errno : 0;
}

uint64_t syscalls_so_far(void)
{
	uint64_t count;

	if (counter < 0 || read(counter, &count, sizeof(count)) != sizeof(count))
		return 0;
	return count;
}
