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
	bool rates; /* over this time: */
	int64_t rate_ns;
	enum order order;
};

static bool parse_order(enum order *order, const char *word)
{
	static const struct {
		const char *word;
		enum order order;
	} orders[] = {
		{ "pipe", BY_PIPE }, { "name", BY_NAME },  { "fill", BY_FILL },
		{ "rate", BY_RATE }, { "time", BY_SINCE },
	};

	for (unsigned i = 0; i < sizeof(orders) / sizeof(orders[0]); i++) {
		/* NOLINTNEXTLINE(clang-analyzer-core.NonNullParamChecker): --sort has an argument */
		if (strcmp(word, orders[i].word) == 0) {
			*order = orders[i].order;
			return true;
		}
	}
	return false;
}

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

	*o = (struct list_options){ .wish.patience_ns = 10 * SECOND_NS,
				    .rate_ns = SECOND_NS,
				    .order = BY_PIPE };
	while ((option = getopt_long(argc, argv, "h", known, NULL)) != -1) {
		char *end = NULL;
		long number = 0;

		if (optarg && option != NAME && option != SORT) {
			number = strtol(optarg, &end, 10);
			if (end == optarg || *end || number < 0 || number > 1000000000)
				return complain_usage(&command_list, "'%s' is no number for --%s", optarg,
						      known[option - NAME].name);
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
		case RATE:
			o->rates = true;
			if (optarg)
				o->rate_ns = number * SECOND_NS;
			break;
		case SORT:
			if (!parse_order(&o->order, optarg))
				return complain_usage(
					&command_list,
					"--sort: '%s' is none of pipe, name, fill, rate and time", optarg);
			o->rates |= o->order == BY_RATE;
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

/* The part of a line between the receiver and the state: how many messages so far, or how many a second. */
static void flow_text(char *text, size_t size, const struct ring_view *r, bool rates)
{
	unsigned full = percent(r->used, r->size);
	char messages[8];
	char bytes[8];
	char bar[4];

	short_number(messages, rates ? r->rates.messages : r->sender.messages);
	short_number(bytes, r->rates.bytes);
	bar_text(bar, 3, full);
	if (rates)
		snprintf(text, size, "%3u%% %5s %5s", full, messages, bytes);
	else
		snprintf(text, size, "%3u%% %s %5s", full, bar, messages);
}

static void print_line(const struct ring_view *r, bool rates)
{
	char name[LAYOUT_NAME];
	char sender[14];
	char receiver[14];
	char flow[32];
	char state[48];

	clean_text(name, sizeof(name), r->name, sizeof(name));
	side_text(sender, sizeof(sender), &r->sender);
	side_text(receiver, sizeof(receiver), &r->receiver);
	flow_text(flow, sizeof(flow), r, rates);
	state_text(state, sizeof(state), r);
	printf("%8ju %-7.7s %-7s %-13s %-13s %s %s\n", (uintmax_t)r->sender.region->inode, name,
	       r->is_static ? "static" : "generic", sender, receiver, flow, state);
}

static void print_table(const struct rings *rings, bool rates)
{
	printf("%8s %-7s %-7s %-13s %-13s %-*s %5s %s\n", "PIPE", "NAME", "KIND", "SENDER", "RECEIVER",
	       rates ? 10 : 8, rates ? "FILL MSG/S" : "FILL", rates ? "B/S" : "MSGS", "STATE");
	for (size_t i = 0; i < rings->n; i++)
		print_line(&rings->list[i], rates);
}

/* Fills in the rates, which takes their time. */
static int measure(struct sample *now, const struct list_options *o)
{
	struct sample before = *now;
	int r;

	sleep_ns(o->rate_ns);
	r = sample_take(now, &o->wish);
	if (r == 0)
		sample_compare(now, &before);
	sample_drop(&before);
	return r;
}

static int look(struct sample *sample, const struct list_options *o)
{
	struct wish first = o->wish;
	int r;

	/* What is stuck at the end counts. */
	first.stuck &= !o->rates;
	r = sample_take(sample, &first);
	if (r == 0 && o->rates)
		r = measure(sample, o);
	if (r == 0)
		sample_sort(sample, o->order);
	return r;
}

static int run(int argc, char **argv)
{
	struct list_options o;
	struct sample sample;
	int status = parse(&o, argc, argv);
	int r;

	if (status)
		return status < 0 ? 0 : status;
	r = look(&sample, &o);
	if (r < 0) {
		complain("%s%s", r == -ENOMEM ? "" : "/proc: ", strerror(-r));
		return STATUS_FAILED;
	}
	if (o.json)
		print_json(stdout, &sample, o.rates);
	else
		print_table(&sample.rings, o.rates);
	status = print(""); /* what standard output says */
	complain_unseen(sample.scan);
	if (!status && o.wish.stuck && sample.rings.n)
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
		"  --name NAME        those of this name\n"
		"  --pid PID          those that this process holds\n"
		"  --stuck[=SECONDS]  those that are stuck; status 3 if there are any\n"
		"                     (full for so long, 10 if not given; a side that is stopped; or\n"
		"                     unread messages and nobody who receives)\n"
		"  --rate[=SECONDS]   measure for so long (1), and show messages and bytes a second\n"
		"  --sort ORDER       pipe, name, fill, rate or time (of waiting), the largest first\n"
		"  --json             for programs; the schema is in bufpipe(1)\n",
	.run = run,
};
