/* SPDX-License-Identifier: MIT */
/* The program bufpipe-bridge, which the subcommand bridge of bufpipe executes. */
#include <stdio.h>
#include <string.h>

#include "config.h"
#include "help.h"
#include "supervisor.h"

static int run(int argc, char **argv)
{
	struct bridge_config config;
	int status = config_parse(&config, &command_bridge, argc, argv);

	if (status != 0) {
		config_free(&config);
		return status < 0 ? 0 : status;
	}
	/* Whole lines, as several processes share the stream. */
	setvbuf(stderr, NULL, _IOLBF, BUFSIZ);
	status = supervisor_run(&config);
	config_free(&config);
	return status;
}

const struct command command_bridge = {
	.name = "bridge",
	.summary = "carry a pipe to other machines, through a NATS server",
	.help = bridge_help,
	.run = run,
};

int main(int argc, char **argv)
{
	prepare_process();
	if (argc == 2 && (strcmp(argv[1], "--version") == 0 || strcmp(argv[1], "-V") == 0))
		return print("bufpipe-bridge " TOOL_VERSION "\n");
	return run(argc, argv);
}
