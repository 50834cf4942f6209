/* SPDX-License-Identifier: MIT */
/*
 * The first process of an emulated machine that only runs test programs: those in
 * /tests that the file /programs names, two at a time.  For each program it prints
 * "START name", and when the program has ended its output and "RESULT name status
 * seconds".  A program that failed runs once more after all others, because on so slow
 * a machine a test may exceed a time limit by chance.  At the end the machine is
 * switched off.
 *
 * Overcommit of memory is strict.  If the kernel has a setting that forbids io_uring
 * (from Linux 6.6 on), nobody may use io_uring.
 */
#include <fcntl.h>
#include <net/if.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { WORKERS = 2, SECONDS = 900 };

/* A program, and the control group of all that it starts. */
struct worker {
	pid_t pid; /* or 0 */
	time_t begin;
	char name[64];
	char group[32];
	char output[32];
};

static void set(const char *path, const char *value)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);

	if (fd < 0 || write(fd, value, strlen(value)) < 0)
		printf("%s: cannot be set\n", path);
	if (fd >= 0)
		close(fd);
}

static void set_in(const struct worker *w, const char *name, const char *value)
{
	char path[64];

	snprintf(path, sizeof(path), "%s/%s", w->group, name);
	set(path, value);
}

/* A machine starts with its loopback interface down. */
static void raise_loopback(void)
{
	struct ifreq request = { .ifr_name = "lo", .ifr_flags = IFF_UP | IFF_RUNNING };
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	if (fd < 0 || ioctl(fd, SIOCSIFFLAGS, &request) < 0)
		printf("the loopback cannot be brought up\n");
	if (fd >= 0)
		close(fd);
}

static void prepare(void)
{
	static const char *const mounts[][2] = { { "proc", "/proc" },
						 { "sysfs", "/sys" },
						 { "cgroup2", "/sys/fs/cgroup" },
						 { "devtmpfs", "/dev" },
						 { "tmpfs", "/tmp" } };

	for (unsigned i = 0; i < sizeof(mounts) / sizeof(mounts[0]); i++) {
		mkdir(mounts[i][1], 0755);
		mount(mounts[i][0], mounts[i][1], mounts[i][0], 0, "");
	}
	mkdir("/dev/shm", 01777);
	mount("tmpfs", "/dev/shm", "tmpfs", 0, "");
	set("/proc/sys/vm/overcommit_memory", "2");
	set("/proc/sys/vm/overcommit_ratio", "90");
	if (access("/proc/sys/kernel/io_uring_disabled", F_OK) == 0)
		set("/proc/sys/kernel/io_uring_disabled", "2");
	set("/sys/fs/cgroup/cgroup.subtree_control", "+memory");
	raise_loopback();
	setrlimit(RLIMIT_NOFILE, &(struct rlimit){ 65536, 65536 });
	setenv("PATH", "/bin", 1);
	setenv("HOME", "/tmp", 1);
	if (access("/examples/echo-daemon", X_OK) == 0)
		setenv("ECHO_DAEMON", "/examples/echo-daemon", 1);
}

static void start(struct worker *w)
{
	char path[80];

	printf("START %s\n", w->name);
	w->begin = time(NULL);
	w->pid = fork();
	if (w->pid)
		return;
	setsid();
	set_in(w, "cgroup.procs", "0");
	if (freopen(w->output, "w", stdout))
		dup2(STDOUT_FILENO, STDERR_FILENO);
	snprintf(path, sizeof(path), "/tests/%s", w->name);
	execl(path, path, "-j1", (char *)NULL);
	_exit(127);
}

/* The programs that failed, and how many of them were repeated. */
static char failed[32][64];
static int failures;
static int repeated;

static void note_failure(const char *name)
{
	for (int i = 0; i < failures; i++) {
		if (strcmp(failed[i], name) == 0)
			return;
	}
	if (failures < 32)
		strcpy(failed[failures++], name);
}

static void finish(struct worker *w, int status)
{
	char line[512];
	FILE *output = fopen(w->output, "re");

	/* Kills the processes that the tests left behind. */
	set_in(w, "cgroup.kill", "1");
	printf("---- %s\n", w->name);
	while (output && fgets(line, sizeof(line), output))
		fputs(line, stdout);
	if (output)
		fclose(output);
	status = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
	printf("RESULT %s %d %ld\n", w->name, status, (long)(time(NULL) - w->begin));
	w->pid = 0;
	if (status)
		note_failure(w->name);
}

/* Processes whose parent has ended become children of this process, too. */
static void reap(struct worker *workers)
{
	int status = 0;
	pid_t pid = waitpid(-1, &status, WNOHANG);

	if (pid <= 0) {
		usleep(20000);
		return;
	}
	for (int i = 0; i < WORKERS; i++) {
		if (workers[i].pid == pid)
			finish(&workers[i], status);
	}
}

/* This program takes all the memory that the machine gives. */
static bool must_be_alone(const char *name)
{
	return strcmp(name, "test_memory") == 0;
}

/* The program that runs next.  "" when all have run. */
static void read_next(FILE *programs, char name[64])
{
	if (programs && fscanf(programs, "%63s", name) == 1)
		return;
	name[0] = '\0';
	if (repeated < failures)
		strcpy(name, failed[repeated++]);
}

/* Gives each idle worker a program.  Returns whether there is more to do. */
static bool go_on(struct worker *workers, FILE *programs)
{
	static char next[64];
	static bool alone;
	int running = 0;

	for (int i = 0; i < WORKERS; i++) {
		running += workers[i].pid != 0;
		if (workers[i].pid && time(NULL) - workers[i].begin > SECONDS)
			set_in(&workers[i], "cgroup.kill", "1");
	}
	for (int i = 0; i < WORKERS; i++) {
		if (!next[0])
			read_next(programs, next);
		if (!next[0] || workers[i].pid || (running && (alone || must_be_alone(next))))
			continue;
		alone = must_be_alone(next);
		strcpy(workers[i].name, next);
		start(&workers[i]);
		running++;
		next[0] = '\0';
	}
	return running > 0;
}

/* The names are in a file, because a kernel passes at most 32 arguments to init. */
int main(void)
{
	struct worker workers[WORKERS] = { 0 };
	FILE *programs;

	setvbuf(stdout, NULL, _IONBF, 0);
	prepare();
	for (int i = 0; i < WORKERS; i++) {
		snprintf(workers[i].group, sizeof(workers[i].group), "/sys/fs/cgroup/worker%d", i);
		snprintf(workers[i].output, sizeof(workers[i].output), "/tmp/output%d", i);
		mkdir(workers[i].group, 0755);
	}
	programs = fopen("/programs", "re");
	while (go_on(workers, programs))
		reap(workers);
	printf("RESULT end 0 0\n");
	sync();
	reboot(RB_POWER_OFF);
	return 0;
}
