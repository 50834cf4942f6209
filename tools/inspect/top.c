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

enum order { BY_RATE = 'r', BY_FILL = 'f', BY_PIPE = 'p' };

struct top {
	bool batch;
	long rounds; /* 0: without end */
	int64_t interval_ns;
	enum order order;
};

/* A scan and what was found in it. */
struct sample {
	struct scan *scan;
	struct rings rings;
};

/* What a ring did since the last look. */
struct row {
	const struct ring_view *ring;
	uint64_t messages; /* a second */
	uint64_t bytes;
	unsigned sender_waits; /* per cent of the time asleep */
	unsigned receiver_waits;
};

static void sample_drop(struct sample *s)
{
	if (!s->scan)
		return;
	rings_free(&s->rings);
	scan_free(s->scan);
	*s = (struct sample){ 0 };
}

static int sample_take(struct sample *s)
{
	const struct wish any = { .patience_ns = 10 * SECOND_NS };
	int r = scan_pipes(&s->scan);

	if (r < 0)
		return r;
	r = rings_find(&s->rings, s->scan, &any);
	if (r < 0) {
		scan_free(s->scan);
		s->scan = NULL;
	}
	return r;
}

static int compare_pipes(const void *a, const void *b)
{
	ino_t x = ((const struct ring_view *)a)->sender.region->inode;
	ino_t y = ((const struct ring_view *)b)->sender.region->inode;

	return x < y ? -1 : x > y;
}

static uint64_t rate(uint64_t now, uint64_t before, int64_t ns)
{
	/* A number that went back is a lie, or of another pipe with this inode. */
	return now > before && ns > 0 ? (uint64_t)((double)(now - before) * 1e9 / (double)ns) : 0;
}

static unsigned share(const struct side *now, const struct side *before, int64_t ns)
{
	if (ns <= 0 || now->asleep >= ns)
		return now->asleep ? 100 : 0;
	return now->slept > before->slept ? percent(now->slept - before->slept, (uint64_t)ns) : 0;
}

static struct row make_row(const struct ring_view *ring, const struct sample *before, int64_t ns)
{
	const struct ring_view *old = NULL;
	struct row row = { .ring = ring };

	if (before->scan)
		old = bsearch(ring, before->rings.list, before->rings.n, sizeof(*old), compare_pipes);
	if (!old)
		return row;
	row.messages = rate(ring->sender.messages, old->sender.messages, ns);
	row.bytes = rate(ring->sender.bytes, old->sender.bytes, ns);
	row.sender_waits = share(&ring->sender, &old->sender, ns);
	row.receiver_waits = share(&ring->receiver, &old->receiver, ns);
	return row;
}

static int compare_rates(const void *a, const void *b)
{
	const struct row *x = a;
	const struct row *y = b;

	return x->messages < y->messages   ? 1
	       : x->messages > y->messages ? -1
					   : compare_pipes(x->ring, y->ring);
}

static int compare_fills(const void *a, const void *b)
{
	const struct row *x = a;
	const struct row *y = b;
	unsigned p = percent(x->ring->used, x->ring->size);
	unsigned q = percent(y->ring->used, y->ring->size);

	return p < q ? 1 : p > q ? -1 : compare_pipes(x->ring, y->ring);
}

static void print_row(const struct row *row)
{
	const struct ring_view *r = row->ring;
	char name[LAYOUT_NAME];
	char sender[12];
	char receiver[12];
	char messages[8];
	char bytes[8];
	char state[48];

	clean_text(name, sizeof(name), r->name, sizeof(name));
	side_text(sender, sizeof(sender), &r->sender);
	side_text(receiver, sizeof(receiver), &r->receiver);
	short_number(messages, row->messages);
	short_number(bytes, row->bytes);
	state_text(state, sizeof(state), r);
	printf("%8ju %-7.7s %-11s %-11s %3u%% %5s %5s %3u%% %3u%% %s\n", (uintmax_t)r->sender.region->inode,
	       name, sender, receiver, percent(r->used, r->size), messages, bytes, row->sender_waits,
	       row->receiver_waits, state);
}

/* Lines of the terminal for pipes; in a batch all of them. */
static size_t most_rows(const struct top *top)
{
	struct winsize size;

	if (top->batch || ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) < 0 || size.ws_row < 4)
		return top->batch ? SIZE_MAX : 20;
	return size.ws_row - 3u;
}

static int print_sample(const struct top *top, const struct sample *now, const struct sample *before)
{
	int64_t ns = before->scan ? now->scan->when - before->scan->when : 0;
	struct row *rows = calloc(now->rings.n + 1, sizeof(*rows));
	size_t most = most_rows(top);
	size_t n = now->rings.n;

	if (!rows)
		return -ENOMEM;
	for (size_t i = 0; i < n; i++)
		rows[i] = make_row(&now->rings.list[i], before, ns);
	if (top->order != BY_PIPE)
		qsort(rows, n, sizeof(*rows), top->order == BY_RATE ? compare_rates : compare_fills);
	if (!top->batch)
		fputs("\033[H\033[J", stdout);
	printf("%zu rings, %u processes not seen%s\n", n, now->scan->unseen,
	       top->batch ? "" : "; q quits, r f p sort by rate, fill, pipe");
	printf("%8s %-7s %-11s %-11s %4s %5s %5s %4s %4s %s\n", "PIPE", "NAME", "SENDER", "RECEIVER", "FILL",
	       "MSG/S", "B/S", "SW", "RW", "STATE");
	for (size_t i = 0; i < n && i < most; i++)
		print_row(&rows[i]);
	free(rows);
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
				if (key == BY_RATE || key == BY_FILL || key == BY_PIPE)
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
	struct sample before = { 0 };
	struct sample now = { 0 };
	bool more = true;
	int r = 0;

	for (long round = 1; more && r == 0; round++) {
		r = sample_take(&now);
		if (r == 0)
			r = print_sample(top, &now, &before);
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
		"Keys: q quits; r, f and p sort by rate, fill and pipe.\n"
		"\n"
		"  -b          batch: one table after another, for files and other programs\n"
		"  -n COUNT    so many tables, then stop\n"
		"  -d SECONDS  the time between two\n",
	.run = run,
};
