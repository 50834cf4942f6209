/* SPDX-License-Identifier: MIT */
#include <stdio.h>
#include <string.h>

#include "common.h"

static const struct command *const commands[] = {
	&command_send, &command_recv, &command_demo, &command_bridge,
	&command_list, &command_show, &command_top,
};

#define COMMANDS (sizeof(commands) / sizeof(commands[0]))

static const struct command *find_command(const char *name)
{
	unsigned i;

	if (strcmp(name, "ls") == 0)
		name = command_list.name;
	for (i = 0; i < COMMANDS; i++) {
		if (strcmp(commands[i]->name, name) == 0)
			return commands[i];
	}
	return NULL;
}

static void write_overview(FILE *file)
{
	unsigned i;

	fputs("usage: bufpipe COMMAND [OPTION...] [ADDRESS]\n\n"
	      "Message pipes through shared memory.\n\n",
	      file);
	for (i = 0; i < COMMANDS; i++)
		fprintf(file, "  %-6s %s\n", commands[i]->name, commands[i]->summary);
	fputs("  help   explain a command: bufpipe help COMMAND\n\n"
	      "  --help (-h), --version (-V)\n",
	      file);
}

static int hint_at_overview(void)
{
	fputs("Try 'bufpipe --help'.\n", stderr);
	return STATUS_USAGE;
}

static int no_such_command(const char *name)
{
	complain("there is no command '%s'", name);
	return hint_at_overview();
}

static int help(int argc, char **argv)
{
	const struct command *command;

	if (argc > 1) {
		complain("help takes one command, not also '%s'", argv[1]);
		return hint_at_overview();
	}
	if (argc == 0 || strcmp(argv[0], "help") == 0) {
		write_overview(stdout);
		return print("");
	}
	command = find_command(argv[0]);
	if (!command)
		return no_such_command(argv[0]);
	return print(command->help);
}

static bool asks_for_version(const char *word)
{
	return strcmp(word, "--version") == 0 || strcmp(word, "-V") == 0;
}

int main(int argc, char **argv)
{
	const struct command *command;

	prepare_process();
	if (argc < 2) {
		write_overview(stderr);
		return STATUS_USAGE;
	}
	if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0)
		return help(0, NULL);
	if (strcmp(argv[1], "help") == 0)
		return help(argc - 2, argv + 2);
	if (asks_for_version(argv[1]))
		return print("bufpipe " TOOL_VERSION "\n");
	command = find_command(argv[1]);
	if (!command)
		return no_such_command(argv[1]);
	/* The bridge is a program of its own, and tells its own version. */
	if (argc == 3 && asks_for_version(argv[2]) && command != &command_bridge)
		return print("bufpipe " TOOL_VERSION "\n");
	/* getopt puts argv[0] before its messages. */
	argv[1] = argv[0];
	return command->run(argc - 1, argv + 1);
}
