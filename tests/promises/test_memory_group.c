/* SPDX-License-Identifier: MIT */
/*
 * A control group whose memory is full. The kernel kills a process of the group, unless it was told not to.
 * In that case a send ends with an error, and succeeds when there is memory again. The test makes a control
 * group of its own where that is allowed.
 */
#include "sanitized.h"
#include "support.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

enum { ROOM = 16 << 20, BUFFER = 64 << 20 };

static char group[128];
static bool second; /* version 2 of control groups */

static bool write_to(const char *directory, const char *name, const char *text)
{
	char path[256];
	bool written;
	int fd;

	snprintf(path, sizeof(path), "%s/%s", directory, name);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return false;
	written = write(fd, text, strlen(text)) == (ssize_t)strlen(text);
	close(fd);
	return written;
}

static bool limit_to(size_t bytes)
{
	const char *memory = second ? "memory.max" : "memory.limit_in_bytes";
	char text[32];

	snprintf(text, sizeof(text), "%zu", bytes);
	/*
	 * Swap must be limited as well, where there is some. In version 1 the limit of memory and swap together
	 * must not be below that of memory. So it is written before, which can raise it, and after, which can
	 * lower it.
	 */
	if (second)
		write_to(group, "memory.swap.max", "0");
	else
		write_to(group, "memory.memsw.limit_in_bytes", text);
	if (!write_to(group, memory, text))
		return false;
	if (!second)
		write_to(group, "memory.memsw.limit_in_bytes", text);
	return true;
}

static void leave(void)
{
	/* A process that has ended may stay in the group for a moment. */
	for (int i = 0; i < 5000 && group[0] && rmdir(group) < 0 && errno == EBUSY; i++)
		sleep_ns(MSEC);
}

static void enter(void)
{
	static const char *const roots[] = { "/sys/fs/cgroup/memory", "/sys/fs/cgroup" };

	support_begin();
	support_clean_up = leave;
	for (int i = 0; i < 2; i++) {
		second = i;
		snprintf(group, sizeof(group), "%s/bufpipe-test-%d", roots[i], getpid());
		if (mkdir(group, 0755) == 0 && limit_to(ROOM))
			return;
		rmdir(group);
	}
	group[0] = '\0';
}

TestSuite(memory_group, .init = enter, .timeout = 60 * SLOWER);

static void need_group(void)
{
	if (!group[0])
		cr_skip_test("no control group for memory may be made here");
}

/*
 * Shared with a child. The child answers through this memory, because a write to a pipe would take some of
 * the group's.
 */
struct hog {
	_Atomic int may_begin;
	_Atomic int full;
	_Atomic int may_go_on;
};

static struct hog *hog_make(void)
{
	struct hog *hog = mmap(NULL, sizeof(*hog), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	check(hog != MAP_FAILED);
	hog->may_begin = 0; /* now the page is there */
	return hog;
}

static void wait_for(const _Atomic int *word)
{
	int64_t end = clock_ns() + 2 * PLENTY;

	while (!*word) {
		check(clock_ns() < end);
		sleep_ns(MSEC);
	}
}

static void put_into_group(pid_t pid)
{
	char text[16];

	snprintf(text, sizeof(text), "%d", pid);
	check(write_to(group, "cgroup.procs", text));
}

static char message[50000];

/* Memory that the child will need, taken while there is some. */
static void get_ready(struct hog *hog, bufpipe_t *ends[2])
{
	wait_for(&hog->may_begin);
	check_eq(bufpipe_create(ends, &(struct bufpipe_options){ .buffer_size = BUFFER }), 0);
	pattern_fill(message, sizeof(message), 1);
	check_eq(bufpipe_send(ends[OUT], message, sizeof(message), 0), 0);
	check_eq(bufpipe_recv(ends[IN], message, sizeof(message), 0), sizeof(message));
}

static void fill_the_group(void *arg)
{
	struct hog *hog = arg;
	bufpipe_t *ends[2];
	int sent = 0;
	int r;

	get_ready(hog, ends);
	while ((r = bufpipe_send(ends[OUT], message, sizeof(message), 0)) == 0)
		sent++;
	hog->full = 1;
	wait_for(&hog->may_go_on);
	check_eq(r, -ENOMEM);
	check(sent > 10 && sent < ROOM / (int)sizeof(message));
	check_eq(bufpipe_send(ends[OUT], message, sizeof(message), 0), 0);
	for (int i = 0; i <= sent; i++) {
		check_eq(bufpipe_recv(ends[IN], message, sizeof(message), 0), sizeof(message));
		check(pattern_holds(message, sizeof(message), 1));
	}
	check_eq(bufpipe_recv(ends[IN], message, sizeof(message), 0), -EAGAIN);
	pipe_close(ends);
}

/* Tells the kernel not to kill this process when the group is full. Returns false if that is not allowed. */
static bool spare(pid_t pid)
{
	char path[64];

	if (!second)
		return write_to(group, "memory.oom_control", "1");
	snprintf(path, sizeof(path), "/proc/%d", pid);
	return write_to(path, "oom_score_adj", "-1000");
}

Test(memory_group, a_send_fails_when_it_is_full_and_nobody_is_killed)
{
	struct child child;
	struct hog *hog;

#ifdef SANITIZED
	cr_skip_test("a sanitizer takes memory of the group for itself, and then waits for ever");
#endif
	need_group();
	hog = hog_make();
	child = child_start(fill_the_group, hog);
	if (!spare(child.pid)) {
		child_kill(&child);
		leave();
		cr_skip_test("processes may not be kept from being killed here");
	}
	put_into_group(child.pid);
	hog->may_begin = 1;
	wait_for(&hog->full);
	check(limit_to(4 * ROOM));
	hog->may_go_on = 1;
	child_join(&child);
}

static void fill_until_killed(void *arg)
{
	bufpipe_t *ends[2];

	get_ready(arg, ends);
	while (bufpipe_send(ends[OUT], message, sizeof(message), 0) == 0)
		;
}

/* The kernel kills the process as it would any program. There must be no SIGBUS. */
Test(memory_group, the_kernel_kills_without_a_bus_error_when_it_is_full)
{
	struct child child;
	struct hog *hog;
	int status;

	need_group();
	hog = hog_make();
	child = child_start(fill_until_killed, hog);
	put_into_group(child.pid);
	hog->may_begin = 1;
	check_eq(waitpid(child.pid, &status, 0), child.pid);
	close(child.report);
	check(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}
