/* SPDX-License-Identifier: MIT */
/*
 * The first process of a machine that runs test programs and nothing else: each
 * one in /tests that the file /programs names.  Prints
 * "RESULT name status seconds" for each, and switches the machine off.
 *
 * The machine promises no more memory than it has, and lets nobody use io_uring
 * where its kernel can be told so (from Linux 6.6 on).
 */
#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { SECONDS = 900 };

static void set(const char *path, const char *value)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);

	if (fd < 0 || write(fd, value, strlen(value)) < 0)
		printf("%s: cannot be set\n", path);
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
	setrlimit(RLIMIT_NOFILE, &(struct rlimit){ 65536, 65536 });
	setenv("PATH", "/bin", 1);
	setenv("HOME", "/tmp", 1);
	if (access("/examples/echo-daemon", X_OK) == 0)
		setenv("ECHO_DAEMON", "/examples/echo-daemon", 1);
}

static int run(const char *name)
{
	char path[256];
	time_t end = time(NULL) + SECONDS;
	int status = 0;
	pid_t pid, ended;

	snprintf(path, sizeof(path), "/tests/%s", name);
	pid = fork();
	if (pid == 0) {
		setsid();
		execl(path, path, "-j1", (char *)NULL);
		_exit(127);
	}
	/* Whatever the tests leave behind becomes ours, too. */
	while ((ended = waitpid(-1, &status, WNOHANG)) != pid) {
		if (ended <= 0)
			usleep(20000);
		if (time(NULL) > end) {
			kill(-1, SIGKILL);
			end += SECONDS;
		}
	}
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

/* The names are in a file, because a kernel passes at most 32 arguments on. */
int main(void)
{
	char program[64];
	FILE *programs;

	setvbuf(stdout, NULL, _IONBF, 0);
	prepare();
	programs = fopen("/programs", "re");
	while (programs && fscanf(programs, "%63s", program) == 1) {
		time_t begin = time(NULL);
		int status;

		printf("---- %s\n", program);
		status = run(program);
		printf("RESULT %s %d %ld\n", program, status, (long)(time(NULL) - begin));
	}
	printf("RESULT end 0 0\n");
	sync();
	reboot(RB_POWER_OFF);
	return 0;
}
