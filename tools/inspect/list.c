/* SPDX-License-Identifier: MIT */
/* bufpipe list: one line for each ring. */
#include <errno.h>
#include <getopt.h>
#include <string.h>

#include "inspect.h"

#define MOST_SECONDS 1e9

struct list_options {
	struct filter filter;
	bool json;
	bool rates; /* over this time: */
	int64_t rate_ns;
	enum order order;
};

static int parse(struct list_options *o, int argc, char **argv)
{
	enum { NAME = 256, PID, STUCK, JSON, RATE, SORT };
	static const struct option known[] = {
		{ "name", required_argument, NULL, NAME },   { "pid", required_argument, NULL, PID },
		{ "stuck", optional_argument, NULL, STUCK }, { "json", no_argument, NULL, JSON },
		{ "rate", optional_argument, NULL, RATE },   { "sort", required_argument, NULL, SORT },
		{ "help", no_argument, NULL, 'h' },          { 0 },
	};
	int option;

	*o = (struct list_options){ .filter.patience_ns = 10 * SECOND_NS,
				    .rate_ns = SECOND_NS,
				    .order = BY_PIPE };
	while ((option = getopt_long(argc, argv, "h", known, NULL)) != -1) {
		switch (option) {
		case NAME:
			o->filter.name = optarg;
			break;
		case PID:
			if (!parse_pid(&o->filter.pid, optarg))
				return complain_usage(&command_list, "--pid: '%s' is not a process id",
						      optarg);
			break;
		case STUCK:
			o->filter.stuck = true;
			if (optarg && !parse_seconds(&o->filter.patience_ns, optarg, MOST_SECONDS))
				return complain_usage(&command_list,
						      "--stuck: '%s' is not a number of seconds", optarg);
			break;
		case RATE:
			o->rates = true;
			if (optarg && !parse_interval(&o->rate_ns, optarg))
				return complain_usage(&command_list, NO_INTERVAL, "--rate", optarg);
			break;
		case SORT:
			if (!parse_order(&o->order, optarg))
				return complain_usage(&command_list, NO_ORDER, optarg);
			o->rates |= o->order == BY_RATE;
			break;
		case JSON:
			o->json = true;
			break;
		case 'h':
			return print(command_list.help) ? STATUS_FAILED : -1;
		default:
			return hint(&command_list); /* getopt has complained */
		}
	}
	if (optind < argc)
		return complain_usage(&command_list, "list takes no argument '%s'", argv[optind]);
	return 0;
}

static int take(struct sample *sample, const struct list_options *o)
{
	int r = o->rates ? sample_measure(sample, &o->filter, o->rate_ns) : sample_take(sample, &o->filter);

	if (r == 0)
		sample_sort(sample, o->order);
	return r;
}

static int print_list(const struct sample *sample, const struct list_options *o)
{
	int r = 0;

	if (o->json)
		print_json(stdout, sample, o->rates);
	else
		r = print_rings(stdout, &sample->rings, o->rates ? VIEW_RATES : VIEW_LIST, SIZE_MAX);
	if (r < 0) {
		complain("%s", strerror(-r));
		return STATUS_FAILED;
	}
	return print(""); /* what standard output says */
}

static int run(int argc, char **argv)
{
	struct list_options o;
	struct sample sample;
	int status = parse(&o, argc, argv);
	int r;

	if (status)
		return status < 0 ? 0 : status;
	r = take(&sample, &o);
	if (r < 0) {
		complain("%s%s", r == -ENOMEM ? "" : "/proc: ", strerror(-r));
		return STATUS_FAILED;
	}
	status = print_list(&sample, &o);
	complain_unseen(sample.scan);
	if (!status && (o.filter.name || o.filter.pid) && !sample.rings.known)
		status = complain_none(&o.filter);
	if (!status && o.filter.stuck && sample.rings.n)
		status = STATUS_STUCK;
	sample_drop(&sample);
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
		"  --name NAME        only pipes of this name; status 8 if there is none\n"
		"  --pid PID          only pipes that this process holds; status 8 if there is none\n"
		"  --stuck[=SECONDS]  only pipes that are stuck; status 3 if there are any\n"
		"                     (full for so long, 10 if not given; a side that is stopped; or\n"
		"                     unread messages and nobody who receives)\n"
		"  --rate[=SECONDS]   measure for so long (1; at least 0.01), and show messages and\n"
		"                     bytes a second\n"
		"  --sort ORDER       pipe, name, fill, rate or time (of waiting), the largest first\n"
		"  --json             for programs; the schema is in bufpipe-list(1)\n",
	.run = run,
};
