/* SPDX-License-Identifier: MIT */
/* bufpipe top: the pipes of this machine, again and again. */
#include <ctype.h>
#include <errno.h>
#include <getopt.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#include "inspect.h"

struct top {
	bool batch;
	long rounds; /* 0: without end */
	int64_t interval_ns;
	enum order order;
	struct filter filter;
};

/* The first table shows the rates of this time, or of the interval if that is shorter. */
#define FIRST_NS (SECOND_NS / 5)

/* How many pipes the terminal has lines for; in a batch there is no limit. */
static size_t most_rows(const struct top *top)
{
	struct winsize size;

	if (top->batch || ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) < 0 || size.ws_row < 4)
		return top->batch ? SIZE_MAX : 20;
	return size.ws_row - 3u;
}

static int print_sample(const struct top *top, const struct sample *now)
{
	const char *keys = top->batch ? "" : "; sort: Rate Fill Pipe Name Since; Quit";
	int r;

	if (!top->batch)
		fputs("\033[H\033[J", stdout);
	printf("%zu ring%s, %u process%s not seen%s\n", now->rings.n, plural_s(now->rings.n),
	       now->scan->unseen, plural_es(now->scan->unseen), keys);
	r = print_rings(stdout, &now->rings, VIEW_TOP, most_rows(top));
	if (r < 0)
		return r;
	return fflush(stdout) < 0 ? -errno : 0;
}

/* Waits for a key until the interval is over. Returns false if the user wants to quit. */
static bool wait_for_key(struct top *top, int64_t until)
{
	struct pollfd p = { .fd = top->batch ? -1 : STDIN_FILENO, .events = POLLIN };
	int64_t left;
	char key;

	while ((left = until - now_ns()) > 0 && !stop_signal()) {
		int r = poll(&p, 1, (int)(left / 1000000) + 1);

		if (r > 0) {
			if (read(STDIN_FILENO, &key, 1) != 1) {
				p.fd = -1;
				continue;
			}
			key = (char)tolower((unsigned char)key);
			if (key == 'q')
				return false;
			if (key && strchr("rfpns", key))
				top->order = (enum order)key;
			return true;
		}
	}
	return !stop_signal();
}

static int watch(struct top *top)
{
	int64_t first_ns = top->interval_ns < FIRST_NS ? top->interval_ns : FIRST_NS;
	struct sample before;
	struct sample now;
	int r = sample_take(&before, &top->filter);
	bool more;

	if (r < 0)
		return r;
	more = wait_for_key(top, before.scan->when + first_ns);
	for (long round = 1; more && r == 0; round++) {
		r = sample_take(&now, &top->filter);
		if (r < 0)
			break;
		sample_compare(&now, &before);
		sample_sort(&now, top->order);
		r = print_sample(top, &now);
		sample_drop(&before);
		before = now;
		more = r == 0 && round != top->rounds && wait_for_key(top, now.scan->when + top->interval_ns);
	}
	sample_drop(&before);
	return r;
}

static int parse(struct top *top, int argc, char **argv)
{
	enum { NAME = 256, PID, SORT };
	static const struct option known[] = {
		{ "name", required_argument, NULL, NAME },
		{ "pid", required_argument, NULL, PID },
		{ "sort", required_argument, NULL, SORT },
		{ "help", no_argument, NULL, 'h' },
		{ 0 },
	};
	int option;

	*top = (struct top){
		.interval_ns = SECOND_NS,
		.order = BY_RATE,
		.filter.patience_ns = 10 * SECOND_NS,
	};
	while ((option = getopt_long(argc, argv, "bn:d:h", known, NULL)) != -1) {
		char *end;

		switch (option) {
		case 'b':
			top->batch = true;
			break;
		case 'n':
			top->rounds = strtol(optarg, &end, 10);
			if (*end || top->rounds < 1)
				return complain_usage(&command_top, "-n: '%s' is not a number of tables",
						      optarg);
			break;
		case 'd':
			if (!parse_interval(&top->interval_ns, optarg))
				return complain_usage(&command_top, NO_INTERVAL, "-d", optarg);
			break;
		case NAME:
			top->filter.name = optarg;
			break;
		case PID:
			if (!parse_pid(&top->filter.pid, optarg))
				return complain_usage(&command_top, "--pid: '%s' is not a process id",
						      optarg);
			break;
		case SORT:
			if (!parse_order(&top->order, optarg))
				return complain_usage(&command_top, NO_ORDER, optarg);
			break;
		case 'h':
			return print(command_top.help) ? STATUS_FAILED : -1;
		default:
			return hint(&command_top); /* getopt has complained */
		}
	}
	if (optind < argc)
		return complain_usage(&command_top, "top takes no argument '%s'", argv[optind]);
	return 0;
}

static int run(int argc, char **argv)
{
	struct termios old;
	bool keys = false;
	struct top top;
	int status = parse(&top, argc, argv);
	int r;

	if (status)
		return status < 0 ? 0 : status;
	if (!top.batch && !isatty(STDOUT_FILENO))
		return complain_usage(&command_top, "standard output is not a terminal: use -b");
	catch_signals();
	if (!top.batch && tcgetattr(STDIN_FILENO, &old) == 0) {
		struct termios raw = old;

		raw.c_lflag &= ~(tcflag_t)(ICANON | ECHO);
		keys = tcsetattr(STDIN_FILENO, TCSANOW, &raw) == 0;
	}
	r = watch(&top);
	if (keys)
		tcsetattr(STDIN_FILENO, TCSANOW, &old);
	if (r == -EPIPE)
		return STATUS_UNREAD;
	if (r < 0) {
		complain("%s%s", ferror(stdout) ? "standard output: " : "", strerror(-r));
		return STATUS_FAILED;
	}
	return stop_signal() ? 128 + stop_signal() : 0;
}

const struct command command_top = {
	.name = "top",
	.summary = "watch the pipes of this machine",
	.help = "usage: bufpipe top [OPTION...]\n"
		"\n"
		"Shows each second what goes through the pipes, as 'bufpipe list' finds them, and for\n"
		"how much of the time the sender (SW) and the receiver (RW) slept in a call.\n"
		"Keys: q quits; r, f, p, n and s sort by rate, fill, pipe, name and time of waiting.\n"
		"\n"
		"  -b            batch: one table after another, for files and other programs\n"
		"  -n COUNT      stop after COUNT tables\n"
		"  -d SECONDS    the time between two tables (1); fractions are allowed, at least 0.01\n"
		"  --name NAME   only pipes of this name\n"
		"  --pid PID     only pipes that this process holds\n"
		"  --sort ORDER  pipe, name, fill, rate (as without this) or time (of waiting)\n",
	.run = run,
};
