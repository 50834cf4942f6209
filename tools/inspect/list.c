/* SPDX-License-Identifier: MIT */
/* bufpipe list: one line for each ring. */
#include <errno.h>
#include <getopt.h>
#include <stdlib.h>
#include <string.h>

#include "inspect.h"

struct list_options {
	struct wish wish;
	bool json;
};

static int parse(struct list_options *o, int argc, char **argv)
{
	enum { NAME = 256, PID, STUCK, JSON };
	static const struct option known[] = {
		{ "name", required_argument, NULL, NAME },   { "pid", required_argument, NULL, PID },
		{ "stuck", optional_argument, NULL, STUCK }, { "json", no_argument, NULL, JSON },
		{ "help", no_argument, NULL, 'h' },          { 0 },
	};
	int option;

	*o = (struct list_options){ .wish.patience_ns = 10 * SECOND_NS };
	while ((option = getopt_long(argc, argv, "h", known, NULL)) != -1) {
		char *end = NULL;
		long number = 0;

		if (optarg && option != NAME) {
			number = strtol(optarg, &end, 10);
			if (end == optarg || *end || number < 0 || number > 1000000000)
				return complain_usage(&command_list, "'%s' is no number for --%s", optarg,
						      option == PID ? "pid" : "stuck");
		}
		switch (option) {
		case NAME:
			o->wish.name = optarg;
			break;
		case PID:
			o->wish.pid = (pid_t)number;
			break;
		case STUCK:
			o->wish.stuck = true;
			if (optarg)
				o->wish.patience_ns = number * SECOND_NS;
			break;
		case JSON:
			o->json = true;
			break;
		case 'h':
			return print(command_list.help) ? STATUS_FAILED : -1;
		default:
			return complain_usage(&command_list, "list takes other options");
		}
	}
	if (optind < argc)
		return complain_usage(&command_list, "list takes no '%s'", argv[optind]);
	return 0;
}

static void print_line(const struct ring_view *r)
{
	unsigned full = percent(r->used, r->size);
	char name[LAYOUT_NAME];
	char sender[15];
	char receiver[15];
	char messages[8];
	char state[48];
	char bar[6];

	clean_text(name, sizeof(name), r->name, sizeof(name));
	side_text(sender, sizeof(sender), &r->sender);
	side_text(receiver, sizeof(receiver), &r->receiver);
	short_number(messages, r->sender.messages);
	state_text(state, sizeof(state), r);
	bar_text(bar, 5, full);
	printf("%8ju %-9.9s %-14s %-14s %3u%% %s %4s %s\n", (uintmax_t)r->sender.region->inode, name, sender,
	       receiver, full, bar, messages, state);
}

static void print_table(const struct rings *rings)
{
	printf("%8s %-9s %-14s %-14s %-10s %4s %s\n", "PIPE", "NAME", "SENDER", "RECEIVER", "FILL", "MSGS",
	       "STATE");
	for (size_t i = 0; i < rings->n; i++)
		print_line(&rings->list[i]);
}

static int run(int argc, char **argv)
{
	struct list_options o;
	struct rings rings;
	struct scan *scan;
	int status = parse(&o, argc, argv);
	int r;

	if (status)
		return status < 0 ? 0 : status;
	r = scan_pipes(&scan);
	if (r < 0) {
		complain("/proc: %s", strerror(-r));
		return STATUS_FAILED;
	}
	r = rings_find(&rings, scan, &o.wish);
	if (r < 0) {
		complain("%s", strerror(-r));
		scan_free(scan);
		return STATUS_FAILED;
	}
	if (o.json)
		print_json(stdout, scan, &rings);
	else
		print_table(&rings);
	status = print(""); /* what standard output says */
	complain_unseen(scan);
	if (!status && o.wish.stuck && rings.n)
		status = STATUS_STUCK;
	rings_free(&rings);
	scan_free(scan);
	return status;
}

const struct command command_list = {
	.name = "list",
	.summary = "show the pipes of this machine",
	.help = "usage: bufpipe list [OPTION...]\n"
		"\n"
		"Shows the pipes that this user may see, one line for each direction; also 'ls'.\n"
		"It looks at /proc and at the pipes' memory, and disturbs nobody.\n"
		"\n"
		"  --name NAME        those of this name\n"
		"  --pid PID          those that this process holds\n"
		"  --stuck[=SECONDS]  those that are stuck: full for so long (10), a side that is\n"
		"                     stopped, or unread messages and no receiver; status 3 if any\n"
		"  --json             for programs; the schema is in bufpipe(1)\n",
	.run = run,
};
