/* SPDX-License-Identifier: MIT */
#include "settings.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/sysinfo.h>

/* A year: long enough for everybody, and far from overflow. */
#define MAX_WAIT_SECONDS (366.0 * 24 * 3600)

static bool parse_seconds(const char *text, int64_t *ns)
{
	double seconds;
	char *end;

	if ((*text < '0' || *text > '9') && *text != '.')
		return false;
	seconds = strtod(text, &end);
	/* The negated comparison refuses NaN, too. */
	if (end == text || *end || !(seconds <= MAX_WAIT_SECONDS))
		return false;
	*ns = (int64_t)(seconds * SECOND_NS);
	return true;
}

/* The most memory that a pipe can have: that of the machine, or of the container. */
static size_t memory_of_machine(void)
{
	struct sysinfo machine;
	size_t memory = SIZE_MAX;
	unsigned long long limit;
	FILE *file;

	if (sysinfo(&machine) == 0)
		memory = (size_t)machine.totalram * machine.mem_unit;
	file = fopen("/sys/fs/cgroup/memory.max", "re");
	if (file) {
		/* The file says "max" where there is no limit. */
		if (fscanf(file, "%llu", &limit) == 1 && limit < memory)
			memory = (size_t)limit;
		fclose(file);
	}
	return memory;
}

static int set_size(size_t *size, const struct command *command, const char *option)
{
	if (parse_size(optarg, size))
		return 0;
	return complain_usage(command, "--%s: '%s' is not a size from 1 to 1024G, such as 64K", option,
			      optarg);
}

static int set_buffer(struct settings *settings, const struct command *command)
{
	size_t memory = memory_of_machine();
	int status = set_size(&settings->buffer, command, "buffer");

	if (status || settings->buffer <= memory)
		return status;
	return complain_usage(command, "--buffer: %s is more than the memory of this machine, %zuM", optarg,
			      memory >> 20);
}

/* Puts one option into settings. Returns 0, or the status to exit with. */
static int parse_option(struct settings *settings, const struct command *command, int option)
{
	switch (option) {
	case 'a':
		settings->any_user = true;
		return 0;
	case 'k':
		settings->keep = true;
		return 0;
	case 'l':
		settings->lines = true;
		return 0;
	case 'm':
		/* A stream that is merged from many senders has no end to mark. */
		settings->merge = true;
		settings->keep = true;
		return 0;
	case 'p':
		settings->progress = true;
		return 0;
	case 'x':
		settings->exec = optarg;
		return 0;
	case 't':
		settings->tee = optarg;
		return 0;
	case 'b':
		return set_size(&settings->block, command, "block");
	case 's':
		return set_size(&settings->size, command, "size");
	case 'r':
		return set_size(&settings->rate, command, "rate-limit");
	case 'B':
		return set_buffer(settings, command);
	case 'w':
		if (parse_seconds(optarg, &settings->wait_ns))
			return 0;
		return complain_usage(command, "--wait: '%s' is not a number of seconds", optarg);
	default:
		/* getopt has printed a message. */
		return hint(command);
	}
}

/* clang-format off */
/* The options of both commands. */
#define COMMON_OPTIONS \
	{ "any-user", no_argument, NULL, 'a' }, \
	{ "buffer", required_argument, NULL, 'B' }, \
	{ "exec", required_argument, NULL, 'x' }, \
	{ "help", no_argument, NULL, 'h' }, \
	{ "progress", no_argument, NULL, 'p' }, \
	{ "rate-limit", required_argument, NULL, 'r' }, \
	{ "size", required_argument, NULL, 's' }, \
	{ "tee", required_argument, NULL, 't' }, \
	{ "wait", required_argument, NULL, 'w' }
/* clang-format on */

bool parse_settings(struct settings *settings, const struct command *command, int argc, char **argv,
		    int *status)
{
	static const struct option of_send[] = {
		{ "block", required_argument, NULL, 'b' },
		{ "lines", no_argument, NULL, 'l' },
		COMMON_OPTIONS,
		{ 0 },
	};
	static const struct option of_recv[] = {
		{ "keep", no_argument, NULL, 'k' },
		{ "merge", no_argument, NULL, 'm' },
		COMMON_OPTIONS,
		{ 0 },
	};
	const struct option *known = command == &command_send ? of_send : of_recv;
	int option;

	*settings = (struct settings){ .wait_ns = -1 };
	while ((option = getopt_long(argc, argv, "h", known, NULL)) != -1) {
		if (option == 'h') {
			*status = print(command->help);
			return false;
		}
		*status = parse_option(settings, command, option);
		if (*status)
			return false;
	}
	if (optind == argc)
		*status = complain_usage(command, "%s needs an address", command->name);
	else if (optind + 1 < argc)
		*status = complain_usage(command, "%s takes one address, not also '%s'", command->name,
					 argv[optind + 1]);
	else if (settings->lines && settings->block)
		*status = complain_usage(command, "--lines and --block exclude each other");
	else
		settings->address = argv[optind];
	return settings->address != NULL;
}
