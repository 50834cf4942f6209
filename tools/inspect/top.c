/* SPDX-License-Identifier: MIT */
/* bufpipe top: the pipes of this machine, again and again. */
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
};

static void print_ring(const struct ring_view *r)
{
	char name[LAYOUT_NAME];
	char sender[12];
	char receiver[12];
	char messages[8];
	char bytes[8];
	char state[48];

	clean_text(name, sizeof(name), r->name, sizeof(name));
	side_text(sender, sizeof(sender), &r->sender);
	side_text(receiver, sizeof(receiver), &r->receiver);
	short_number(messages, r->rates.messages);
	short_number(bytes, r->rates.bytes);
	state_text(state, sizeof(state), r);
	printf("%8ju %-7.7s %-11s %-11s %3u%% %5s %5s %3u%% %3u%% %s\n", (uintmax_t)r->sender.region->inode,
	       name, sender, receiver, percent(r->used, r->size), messages, bytes, r->rates.sender_waits,
	       r->rates.receiver_waits, state);
}

/* Lines of the terminal for pipes; in a batch all of them. */
static size_t most_rows(const struct top *top)
{
	struct winsize size;

	if (top->batch || ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) < 0 || size.ws_row < 4)
		return top->batch ? SIZE_MAX : 20;
	return size.ws_row - 3u;
}

static int print_sample(const struct top *top, const struct sample *now)
{
	size_t most = most_rows(top);
	size_t n = now->rings.n;

	if (!top->batch)
		fputs("\033[H\033[J", stdout);
	printf("%zu rings, %u processes not seen%s\n", n, now->scan->unseen,
	       top->batch ? "" : "; q quits, r f p n s sort by rate, fill, pipe, name, time");
	printf("%8s %-7s %-11s %-11s %4s %5s %5s %4s %4s %s\n", "PIPE", "NAME", "SENDER", "RECEIVER", "FILL",
	       "MSG/S", "B/S", "SW", "RW", "STATE");
	for (size_t i = 0; i < n && i < most; i++)
		print_ring(&now->rings.list[i]);
	return fflush(stdout) < 0 ? -errno : 0;
}

/* Waits for a key until the interval is over.  False: quit. */
static bool rest(struct top *top, int64_t until)
{
	struct pollfd p = { .fd = top->batch ? -1 : STDIN_FILENO, .events = POLLIN };
	int64_t left = until - now_ns();
	char key;

	while (left > 0 && !stop_signal()) {
		int r = poll(&p, 1, (int)(left / 1000000) + 1);

		if (r > 0) {
			if (read(STDIN_FILENO, &key, 1) != 1) {
				p.fd = -1;
			} else if (key == 'q' || key == 'Q') {
				return false;
			} else {
				if (key && strchr("rfpns", key))
					top->order = (enum order)key;
				return true;
			}
		}
		left = until - now_ns();
	}
	return !stop_signal();
}

static int watch(struct top *top)
{
	const struct wish any = { .patience_ns = 10 * SECOND_NS };
	struct sample before = { 0 };
	struct sample now = { 0 };
	bool more = true;
	int r = 0;

	for (long round = 1; more && r == 0; round++) {
		r = sample_take(&now, &any);
		if (r == 0 && before.scan)
			sample_compare(&now, &before);
		if (r == 0) {
			sample_sort(&now, top->order);
			r = print_sample(top, &now);
		}
		more = r == 0 && round != top->rounds && rest(top, now.scan->when + top->interval_ns);
		sample_drop(&before);
		before = now;
		now = (struct sample){ 0 };
	}
	sample_drop(&before);
	return r;
}

static int parse(struct top *top, int argc, char **argv)
{
	static const struct option known[] = { { "help", no_argument, NULL, 'h' }, { 0 } };
	int option;

	*top = (struct top){ .interval_ns = SECOND_NS, .order = BY_RATE };
	while ((option = getopt_long(argc, argv, "bn:d:h", known, NULL)) != -1) {
		char *end = NULL;
		double number = optarg ? strtod(optarg, &end) : 0;

		if (optarg && (end == optarg || *end || !(number >= 0.01 && number <= 1e6)))
			return complain_usage(&command_top, "'%s' is no number for -%c", optarg, option);
		switch (option) {
		case 'b':
			top->batch = true;
			break;
		case 'n':
			top->rounds = number < 1 ? 1 : (long)number;
			break;
		case 'd':
			top->interval_ns = (int64_t)(number * 1e9);
			break;
		case 'h':
			return print(command_top.help) ? STATUS_FAILED : -1;
		default:
			return complain_usage(&command_top, "top takes other options");
		}
	}
	if (optind < argc)
		return complain_usage(&command_top, "top takes no '%s'", argv[optind]);
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
		return complain_usage(&command_top, "standard output is no terminal: use -b");
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
		complain("%s", strerror(-r));
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
		"Keys: q quits; r, f, p, n and s sort by rate, fill, pipe, name and time of sleep.\n"
		"\n"
		"  -b          batch: one table after another, for files and other programs\n"
		"  -n COUNT    so many tables, then stop\n"
		"  -d SECONDS  the time between two\n",
	.run = run,
};
