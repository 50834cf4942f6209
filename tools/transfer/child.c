/* SPDX-License-Identifier: MIT */
#include "child.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../common.h"

extern char **environ;

/*
 * The shell gets the descriptor theirs under the number end. It also gets the signal settings with which
 * this process began, SIGPIPE included.
 */
static int spawn(struct child *child, int theirs, int end)
{
	char *const argv[] = { (char *)(uintptr_t) "sh", (char *)(uintptr_t) "-c",
			       (char *)(uintptr_t)child->command, NULL };
	posix_spawn_file_actions_t actions;
	posix_spawnattr_t attributes;
	sigset_t defaults;
	int error;

	sigemptyset(&defaults);
	sigaddset(&defaults, SIGPIPE);
	posix_spawn_file_actions_init(&actions);
	posix_spawnattr_init(&attributes);
	error = posix_spawn_file_actions_adddup2(&actions, theirs, end);
	if (!error)
		error = posix_spawnattr_setsigdefault(&attributes, &defaults);
	if (!error)
		error = posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGDEF);
	if (!error)
		error = posix_spawn(&child->pid, "/bin/sh", &actions, &attributes, argv, environ);
	posix_spawnattr_destroy(&attributes);
	posix_spawn_file_actions_destroy(&actions);
	return -error;
}

int child_start(struct child *child, const char *command, int end)
{
	int ends[2];
	int theirs = end == STDIN_FILENO ? 0 : 1;
	int error;

	if (pipe2(ends, O_CLOEXEC) < 0)
		return -errno;
	child->command = command;
	error = spawn(child, ends[theirs], end);
	close(ends[theirs]);
	if (error == 0)
		return ends[!theirs];
	child->pid = 0;
	close(ends[!theirs]);
	return error;
}

/* Returns the wait status of the command, or -1 when a signal asks this process to end. */
static int await(struct child *child)
{
	int status = 0;
	pid_t ended;

	do
		ended = stop_signal() ? -1 : waitpid(child->pid, &status, 0);
	while (ended < 0 && errno == EINTR && !stop_signal());
	child->pid = 0;
	return ended < 0 ? -1 : status;
}

static int report_end(const struct child *child, int status)
{
	if (status == 0)
		return 0;
	if (status == -1)
		return STATUS_FAILED;
	if (WIFSIGNALED(status))
		complain("'%s' was ended by signal %d", child->command, WTERMSIG(status));
	else
		complain("'%s' ended with status %d", child->command, WEXITSTATUS(status));
	return STATUS_FAILED;
}

int child_wait(struct child *child)
{
	return child->pid ? report_end(child, await(child)) : 0;
}

void child_kill(struct child *child, int fd)
{
	if (!child->pid)
		return;
	/* The signal comes first: the command must not take the end of its input for the end of the data. */
	kill(child->pid, SIGTERM);
	/* A command that is stopped would not notice the signal. */
	kill(child->pid, SIGCONT);
	close(fd);
	await(child);
}
