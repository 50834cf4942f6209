/* SPDX-License-Identifier: MIT */
/* Stands in for the subcommand where the command was built without libnats. */
#include "../common.h"

static int run(int argc, char **argv)
{
	(void)argc;
	(void)argv;
	complain("bridge: this bufpipe was built without libnats; install libnats-dev and build it again");
	return STATUS_FAILED;
}

const struct command command_bridge = {
	.name = "bridge",
	.summary = "carry a pipe to other machines (not in this build)",
	.help = "bufpipe bridge: this bufpipe was built without libnats.\n"
		"Install libnats-dev (Debian, Ubuntu) and build it again with -Dbridge=enabled.\n",
	.run = run,
};
