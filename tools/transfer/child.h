/* SPDX-License-Identifier: MIT */
/* A command, run by the shell, that writes our input or reads our output. */
#ifndef CHILD_H
#define CHILD_H

#include <sys/types.h>

struct child {
	const char *command;
	pid_t pid; /* 0: none */
};

/*
 * Starts command with a pipe as its descriptor end: STDIN_FILENO or
 * STDOUT_FILENO.  Returns our side of it, or a negative errno.
 */
int child_start(struct child *child, const char *command, int end);
/* Waits for its end. Returns 0, or STATUS_FAILED after a message if the command failed. */
int child_wait(struct child *child);
/*
 * Ends it with SIGTERM, closes fd, our side of the pipe, and waits for its end
 * unless a signal ends this process as well.
 */
void child_kill(struct child *child, int fd);

#endif
