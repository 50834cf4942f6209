/* SPDX-License-Identifier: MIT */
/*
 * The subcommand bridge is a program of its own, so that this one does not need
 * libnats: bufpipe-bridge, beside this one or in the PATH.
 */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "bridge/help.h"
#include "common.h"

#define PROGRAM "bufpipe-bridge"

/* Finds the path of the file beside the one that runs. Returns false if it is not known. */
static bool find_beside(char *path, size_t size)
{
	ssize_t len = readlink("/proc/self/exe", path, size - 1);
	char *name;

	if (len < 0)
		return false;
	path[len] = 0;
	name = strrchr(path, '/');
	if (!name || (size_t)(name + 1 - path) + sizeof(PROGRAM) > size)
		return false;
	memcpy(name + 1, PROGRAM, sizeof(PROGRAM));
	return true;
}

static int run(int argc, char **argv)
{
	char path[PATH_MAX];

	(void)argc;
	if (find_beside(path, sizeof(path)))
		execv(path, argv);
	execvp(PROGRAM, argv);
	if (errno == ENOENT)
		complain("bridge: " PROGRAM " is not installed; on Debian it is in the package " PROGRAM
			 ", and a build makes it if it finds libnats (libnats-dev)");
	else
		complain("bridge: cannot start " PROGRAM ": %s", strerror(errno));
	return STATUS_FAILED;
}

const struct command command_bridge = {
	.name = "bridge",
	.summary = "carry a pipe to other machines, through a NATS server",
	.help = bridge_help,
	.run = run,
};
