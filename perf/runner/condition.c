/* SPDX-License-Identifier: MIT */
/*
 * What the machine is like during a measurement: how many other programs want
 * the same CPUs, and how much CPU time the measured processes may use.
 *
 * The busy programs are processes of nice 0 that compute without end; each CPU
 * of the pair has the same number of them.  The limit is that of a separate control
 * group, which holds only the measured processes.  A process of this program, the
 * watcher, removes the group however the runner ends.  Only the measured processes get
 * the priority: busy programs stay at nice 0.
 */
#include "bench.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define GROUP_MAX 512
#define FILE_MAX  (GROUP_MAX + 32)
#define PERIOD_US 100000

static pid_t busy[MAX_BUSY * 2];
static int busy_count;
static char group[GROUP_MAX]; /* "" without a limit that was ever asked for */
static bool is_v1;
static bool is_limited;
static enum priority priority;

static int write_file(const char *name, const char *text)
{
	char path[FILE_MAX];
	ssize_t n;
	int fd, err;

	snprintf(path, sizeof(path), "%s/%s", group, name);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	n = write(fd, text, strlen(text));
	err = n < 0 ? -errno : 0;
	close(fd);
	return err;
}

static bool has_file(const char *name)
{
	char path[FILE_MAX];

	snprintf(path, sizeof(path), "%s/%s", group, name);
	return access(path, W_OK) == 0;
}

/* Whether a list like "rw,cpu,cpuacct" has the word in it. */
static bool has_word(const char *list, const char *word)
{
	size_t len = strlen(word);

	for (const char *at = list; at; at = strchr(at, ',')) {
		at += *at == ',';
		if (strncmp(at, word, len) == 0 && (at[len] == '\0' || at[len] == ','))
			return true;
	}
	return false;
}

/* Where the hierarchy with the cpu controller is mounted. */
static int find_mount(char mount[GROUP_MAX], bool v1)
{
	FILE *file = fopen("/proc/self/mounts", "re");
	char line[2048], where[GROUP_MAX], type[32], flags[512];
	int err = -ENOENT;

	while (file && err && fgets(line, sizeof(line), file)) {
		if (sscanf(line, "%*s %255s %31s %511s", where, type, flags) != 3)
			continue;
		if (strcmp(type, v1 ? "cgroup" : "cgroup2") != 0 || (v1 && !has_word(flags, "cpu")))
			continue;
		snprintf(mount, GROUP_MAX, "%s", where);
		err = 0;
	}
	if (file)
		fclose(file);
	return err;
}

/* This process's own place in the hierarchy: "4:cpu,cpuacct:/place" or "0::/place". */
static int find_place(char place[GROUP_MAX], bool v1)
{
	FILE *file = fopen("/proc/self/cgroup", "re");
	char line[1024], *controllers, *path;
	int err = -ENOENT;

	while (file && err && fgets(line, sizeof(line), file)) {
		line[strcspn(line, "\n")] = '\0';
		controllers = strchr(line, ':');
		path = controllers ? strchr(controllers + 1, ':') : NULL;
		if (!path)
			continue;
		*path++ = '\0';
		controllers++;
		if (v1 ? !has_word(controllers, "cpu") : *controllers != '\0')
			continue;
		snprintf(place, GROUP_MAX, "%s", strcmp(path, "/") == 0 ? "" : path);
		err = 0;
	}
	if (file)
		fclose(file);
	return err;
}

/* Makes the group below this directory; it has to have the cpu controller. */
static int make_group_in(const char *parent)
{
	const char *file = is_v1 ? "cpu.cfs_quota_us" : "cpu.max";
	char name[64];
	int err;

	/* Is refused in a group that has processes; then an ancestor may do. */
	snprintf(group, sizeof(group), "%.400s", parent);
	if (!is_v1)
		write_file("cgroup.subtree_control", "+cpu");
	snprintf(name, sizeof(name), "/bufpipe-bench.%d", (int)getpid());
	strcat(group, name);
	if (mkdir(group, 0755))
		return -errno;
	if (has_file(file))
		return 0;
	err = errno == ENOENT ? -EOPNOTSUPP : -errno;
	rmdir(group);
	return err;
}

/* Outlives the runner, and removes the group when the processes in it are gone. */
static _Noreturn void keep(int runner)
{
	const struct timespec moment = { .tv_nsec = 10000000 };
	char byte;

	signal(SIGINT, SIG_IGN);
	signal(SIGTERM, SIG_IGN);
	signal(SIGHUP, SIG_IGN);
	while (read(runner, &byte, 1) < 0 && errno == EINTR)
		;
	for (int i = 0; i < 1000 && rmdir(group) && errno == EBUSY; i++)
		nanosleep(&moment, NULL);
	_exit(0);
}

/* The watcher reads the end of the file when the runner and its workers, which hold the other end, are gone. */
static int start_watcher(void)
{
	int runner[2], err;
	pid_t pid;

	if (pipe2(runner, O_CLOEXEC))
		return -errno;
	fflush(NULL);
	pid = fork();
	err = pid < 0 ? -errno : 0;
	if (pid == 0) {
		close(runner[1]);
		keep(runner[0]);
	}
	close(runner[0]);
	return err;
}

static int make_group(void)
{
	char mount[GROUP_MAX], place[GROUP_MAX], parent[2 * GROUP_MAX], *slash;
	int err;

	is_v1 = find_mount(mount, true) == 0;
	err = is_v1 ? 0 : find_mount(mount, false);
	if (!err)
		err = find_place(place, is_v1);
	if (err)
		return err;
	for (;;) {
		snprintf(parent, sizeof(parent), "%s%s", mount, place);
		err = make_group_in(parent);
		slash = strrchr(place, '/');
		if (!err || !slash)
			break;
		*slash = '\0';
	}
	if (!err)
		err = start_watcher();
	if (err)
		group[0] = '\0';
	return err;
}

static int limit(int percent)
{
	char text[64];
	int quota = percent * (PERIOD_US / 100), err;

	if (!group[0]) {
		err = make_group();
		if (err)
			return err;
	}
	if (!is_v1) {
		snprintf(text, sizeof(text), "%d %d", quota, PERIOD_US);
		return write_file("cpu.max", text);
	}
	snprintf(text, sizeof(text), "%d", PERIOD_US);
	err = write_file("cpu.cfs_period_us", text);
	snprintf(text, sizeof(text), "%d", quota);
	return err ? err : write_file("cpu.cfs_quota_us", text);
}

static _Noreturn void compute(int cpu)
{
	cpus_pin(cpu);
	for (;;)
		__asm__ volatile("");
}

static int start_busy(int count, const struct cpus *cpus)
{
	int places = cpus->pair[0] == cpus->pair[1] ? 1 : 2;

	for (int i = 0; i < count * places; i++) {
		pid_t pid = worker_fork();

		if (pid == 0)
			compute(cpus->pair[i % places]);
		if (pid < 0)
			return -errno;
		busy[busy_count++] = pid;
	}
	return 0;
}

void condition_leave(void)
{
	for (int i = 0; i < busy_count; i++)
		kill(busy[i], SIGKILL);
	for (int i = 0; i < busy_count; i++)
		waitpid(busy[i], NULL, 0);
	busy_count = 0;
	is_limited = false;
	priority = PRIORITY_NORMAL;
}

/* -EPERM where this program may give nobody a real-time priority; it tries that with its own. */
static int try_real_time(void)
{
	const struct sched_param one = { .sched_priority = 1 }, none = { .sched_priority = 0 };

	if (sched_setscheduler(0, SCHED_FIFO, &one) || sched_setscheduler(0, SCHED_OTHER, &none))
		return -EPERM;
	return 0;
}

int condition_enter(const struct condition *condition, const struct cpus *cpus)
{
	int err = needs_real_time(condition->priority) ? try_real_time() : 0;

	if (!err && condition->throttle)
		err = limit(condition->throttle);
	if (err)
		return err;
	is_limited = condition->throttle;
	priority = condition->priority;
	err = start_busy(condition->busy, cpus);
	if (err)
		condition_leave();
	return err;
}

static int change_priority(enum side side)
{
	const struct sched_param one = { .sched_priority = 1 };
	bool is_lead = side == SIDE_LEAD;

	if (priority == PRIORITY_FIFO_BOTH || priority == (is_lead ? PRIORITY_FIFO_LEAD : PRIORITY_FIFO_ECHO))
		return sched_setscheduler(0, SCHED_FIFO, &one) ? -errno : 0;
	if (priority == (is_lead ? PRIORITY_NICE_LEAD : PRIORITY_NICE_ECHO))
		return setpriority(PRIO_PROCESS, 0, 19) ? -errno : 0;
	return 0;
}

int condition_join(enum side side)
{
	int err = is_limited ? write_file("cgroup.procs", "0") : 0;

	return err ? err : change_priority(side);
}

/* The kernel's sum over the CPUs: two that stand still for a second count for two. */
uint64_t condition_throttled_ns(void)
{
	unsigned long long number, sum = 0;
	char path[FILE_MAX], line[128];
	FILE *file;

	if (!is_limited)
		return 0;
	snprintf(path, sizeof(path), "%s/cpu.stat", group);
	file = fopen(path, "re");
	while (file && fgets(line, sizeof(line), file)) {
		if (sscanf(line, "throttled_time %llu", &number) == 1)
			sum = number;
		else if (sscanf(line, "throttled_usec %llu", &number) == 1)
			sum = number * 1000;
	}
	if (file)
		fclose(file);
	return sum;
}
