/* SPDX-License-Identifier: MIT */
/*
 * A first look at bufpipe on this machine: checks every message between two
 * processes, and compares the rates with those of a Unix pipe.
 */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <bufpipe.h>

#include "common.h"

#define MS 1000000LL
/* The waits adapt first, and then the measurement begins. */
#define WARM_UP_NS  (5 * MS)
#define ROUND_NS    (45 * MS)
#define ROUNDS      5
#define MAX_MESSAGE ((size_t)64 << 10)
/* How many messages pass between two looks at the clock. */
#define CLOCK_EVERY 32

#define CHECK_MESSAGES 2000
#define CHECK_MAX_LEN  200000u
#define CHECK_SEED     0x9e3779b97f4a7c15u

/* The last message of a stream has this number. */
#define LAST UINT64_MAX

enum transport { BUFPIPE, UNIX_PIPE, TRANSPORTS };

/* One side of either transport: a pipe, or two descriptors when that is NULL. */
struct channel {
	bufpipe_t *pipe;
	int in;
	int out;
};

struct measure {
	const char *name;
	size_t len;
	bool round_trip;
};

static const struct measure measures[] = {
	{ "64 B messages", 64, false },
	{ "1 KiB messages", 1024, false },
	{ "64 KiB messages", MAX_MESSAGE, false },
	{ "round trip, 64 B", 64, true },
};

#define MEASURES (sizeof(measures) / sizeof(measures[0]))

/* A message of zeros but for its number, first and last. */
static uint64_t message[MAX_MESSAGE / sizeof(uint64_t)];

static int open_channels(struct channel channels[2], enum transport transport)
{
	/* 64 KiB of ring, like a Unix pipe: a message of that length passes in fragments through both. */
	static const struct bufpipe_options options = { .buffer_size = (64 << 10) - 16,
							.flags = BUFPIPE_DUPLEX };
	bufpipe_t *ends[2];
	int there[2], back[2];
	int result;

	if (transport == BUFPIPE) {
		result = bufpipe_create(ends, &options);
		if (result < 0)
			return result;
		channels[0] = (struct channel){ .pipe = ends[0], .in = -1, .out = -1 };
		channels[1] = (struct channel){ .pipe = ends[1], .in = -1, .out = -1 };
		return 0;
	}
	if (pipe(there) < 0)
		return -errno;
	if (pipe(back) < 0) {
		result = -errno;
		close(there[0]);
		close(there[1]);
		return result;
	}
	channels[0] = (struct channel){ .in = back[0], .out = there[1] };
	channels[1] = (struct channel){ .in = there[0], .out = back[1] };
	return 0;
}

static void close_channel(struct channel *channel)
{
	if (channel->pipe) {
		bufpipe_close(channel->pipe);
	} else {
		close(channel->in);
		close(channel->out);
	}
}

static int send_to(struct channel *channel, const void *data, size_t len)
{
	if (channel->pipe)
		return bufpipe_send(channel->pipe, data, len, -1);
	return write_all(channel->out, data, len);
}

static ssize_t receive_from(struct channel *channel, void *data, size_t len)
{
	size_t done = 0;
	ssize_t got;

	if (channel->pipe)
		return bufpipe_recv(channel->pipe, data, len, -1);
	/* A Unix pipe has no messages, so both sides must know the length. */
	while (done < len) {
		got = read_some(channel->in, (char *)data + done, len - done);
		if (got <= 0)
			return got < 0 ? got : -EPIPE;
		done += (size_t)got;
	}
	return (ssize_t)done;
}

static int send_number(struct channel *channel, size_t len, uint64_t number)
{
	message[0] = number;
	message[len / sizeof(uint64_t) - 1] = number;
	return send_to(channel, message, len);
}

static bool receive_number(struct channel *channel, size_t len, uint64_t *number)
{
	if (receive_from(channel, message, len) != (ssize_t)len)
		return false;
	*number = message[0];
	return message[len / sizeof(uint64_t) - 1] == message[0];
}

/* The other process: takes the numbers in order, and sends them back if asked. */
static bool answer(struct channel *channel, const struct measure *measure)
{
	uint64_t expected, number;

	for (expected = 0; receive_number(channel, measure->len, &number); expected++) {
		if (number == LAST)
			return true;
		if (number != expected)
			return false;
		if (measure->round_trip && send_number(channel, measure->len, number) < 0)
			return false;
	}
	return false;
}

static bool exchange(struct channel *channel, const struct measure *measure, uint64_t number)
{
	uint64_t echo = number;

	if (send_number(channel, measure->len, number) < 0)
		return false;
	return !measure->round_trip || (receive_number(channel, measure->len, &echo) && echo == number);
}

/* Nanoseconds a message, or < 0. */
static double ask(struct channel *channel, const struct measure *measure)
{
	int64_t start_ns = now_ns();
	int64_t time_ns = start_ns;
	uint64_t start_number = 0;
	uint64_t number = 0;
	bool warm = false;

	while (!warm || time_ns - start_ns < ROUND_NS) {
		do {
			if (!exchange(channel, measure, number++))
				return -1;
		} while (number % CLOCK_EVERY);
		time_ns = now_ns();
		if (!warm && time_ns - start_ns >= WARM_UP_NS) {
			warm = true;
			start_ns = time_ns;
			start_number = number;
		}
	}
	if (send_number(channel, measure->len, LAST) < 0)
		return -1;
	return (double)(time_ns - start_ns) / (double)(number - start_number);
}

/* Forks a process that holds only its side; 0 in that process. */
static pid_t fork_side(struct channel channels[2])
{
	pid_t pid;

	/* What is still buffered must not be printed twice. */
	fflush(stdout);
	pid = fork();
	if (pid < 0)
		return pid;
	close_channel(&channels[pid == 0 ? 0 : 1]);
	return pid;
}

static bool ended_well(pid_t pid)
{
	int status;

	return waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

/* One round of one transport: nanoseconds a message, or < 0 after a complaint. */
static double run_round(enum transport transport, const struct measure *measure)
{
	struct channel channels[2] = { 0 };
	double ns;
	pid_t pid;
	int result = open_channels(channels, transport);

	if (result < 0) {
		complain("cannot make a pipe: %s", strerror(-result));
		return -1;
	}
	pid = fork_side(channels);
	if (pid < 0) {
		complain("cannot fork: %s", strerror(errno));
		return -1;
	}
	if (pid == 0)
		_exit(answer(&channels[1], measure) ? 0 : STATUS_FAILED);
	ns = ask(&channels[0], measure);
	close_channel(&channels[0]);
	if (!ended_well(pid) || ns < 0) {
		complain("%s: a message was lost or wrong", measure->name);
		return -1;
	}
	return ns;
}

static uint64_t next_random(uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state;
}

/* Both sides make the same messages up: empty ones, short ones, longer ones than the pipe holds. */
static size_t make_up(uint64_t *state, uint64_t *words)
{
	size_t len = next_random(state) % ((next_random(state) & 1) ? 256 : CHECK_MAX_LEN);
	size_t i;

	for (i = 0; i < (len + 7) / 8; i++)
		words[i] = next_random(state);
	return len;
}

static bool check_side(struct channel *channel, bool sends)
{
	static uint64_t expected[CHECK_MAX_LEN / 8 + 1], received[CHECK_MAX_LEN / 8 + 1];
	uint64_t state = CHECK_SEED;
	size_t len;
	int i;

	for (i = 0; i < CHECK_MESSAGES; i++) {
		len = make_up(&state, expected);
		if (sends) {
			if (send_to(channel, expected, len) < 0)
				return false;
		} else if (receive_from(channel, received, sizeof(received)) != (ssize_t)len ||
			   memcmp(received, expected, len) != 0) {
			return false;
		}
	}
	return true;
}

/* Real messages of all lengths, every byte compared. */
static bool check(void)
{
	struct channel channels[2] = { 0 };
	bool sent;
	pid_t pid;
	int result = open_channels(channels, BUFPIPE);

	if (result < 0) {
		complain("cannot make a pipe: %s", strerror(-result));
		return false;
	}
	pid = fork_side(channels);
	if (pid < 0) {
		complain("cannot fork: %s", strerror(errno));
		return false;
	}
	if (pid == 0)
		_exit(check_side(&channels[1], false) ? 0 : STATUS_FAILED);
	sent = check_side(&channels[0], true);
	close_channel(&channels[0]);
	if (!ended_well(pid) || !sent) {
		complain("a message was lost or wrong");
		return false;
	}
	printf("%d messages of 0 to %u bytes between two processes: every byte is right.\n\n", CHECK_MESSAGES,
	       CHECK_MAX_LEN - 1);
	return true;
}

static int compare(const void *left, const void *right)
{
	double a = *(const double *)left;
	double b = *(const double *)right;

	return (a > b) - (a < b);
}

static double median(double *values)
{
	qsort(values, ROUNDS, sizeof(*values), compare);
	return values[ROUNDS / 2];
}

static void format_rate(char *text, size_t size, const struct measure *measure, double ns)
{
	char rate[32];

	if (measure->round_trip) {
		snprintf(text, size, "%.0f ns", ns);
		return;
	}
	if (ns < 1000)
		snprintf(rate, sizeof(rate), "%.2f M/s", 1e3 / ns);
	else
		snprintf(rate, sizeof(rate), "%.0f k/s", 1e6 / ns);
	snprintf(text, size, "%s  %5.2f GB/s", rate, (double)measure->len / ns);
}

/* The transports take turns, so that a busy moment of the machine meets both. */
static bool run_measure(const struct measure *measure)
{
	double ns[TRANSPORTS][ROUNDS];
	double medians[TRANSPORTS];
	char text[TRANSPORTS][64];
	int round, transport;

	for (round = 0; round < ROUNDS; round++) {
		for (transport = 0; transport < TRANSPORTS; transport++) {
			ns[transport][round] = run_round((enum transport)transport, measure);
			if (ns[transport][round] < 0)
				return false;
		}
	}
	for (transport = 0; transport < TRANSPORTS; transport++) {
		medians[transport] = median(ns[transport]);
		format_rate(text[transport], sizeof(text[transport]), measure, medians[transport]);
	}
	printf("%-18s %22s %22s %7.1fx\n", measure->name, text[BUFPIPE], text[UNIX_PIPE],
	       medians[UNIX_PIPE] / medians[BUFPIPE]);
	return true;
}

static int run(int argc, char **argv)
{
	static const struct option options[] = { { "help", no_argument, NULL, 'h' }, { 0 } };
	long cpus = sysconf(_SC_NPROCESSORS_ONLN);
	double load;
	unsigned i;

	opterr = 0;
	switch (getopt_long(argc, argv, "h", options, NULL)) {
	case -1:
		break;
	case 'h':
		return print(command_demo.help);
	default:
		return complain_usage(&command_demo, "demo has no option '%s'", argv[optind - 1]);
	}
	if (optind < argc)
		return complain_usage(&command_demo, "demo takes no argument '%s'", argv[optind]);
	if (!check())
		return STATUS_FAILED;
	printf("%-18s %22s %22s %8s\n", "", "bufpipe", "Unix pipe", "faster");
	for (i = 0; i < MEASURES; i++) {
		if (!run_measure(&measures[i]))
			return STATUS_FAILED;
	}
	printf("\nMedians of %d rounds in turns; both pipes hold 64 KiB; %ld CPUs.\n", ROUNDS, cpus);
	/* On a busy machine the two processes may have to share one CPU. */
	if (getloadavg(&load, 1) == 1 && load > (double)cpus / 2)
		printf("The machine is busy with other work (load %.1f), so the figures may be far off.\n",
		       load);
	return print("");
}

const struct command command_demo = {
	.name = "demo",
	.summary = "check and measure on this machine, in about 2 seconds",
	.help = "usage: bufpipe demo\n\n"
		"Sends messages of many lengths between two processes, compares every byte, and\n"
		"measures rates and round trips, beside those of a Unix pipe.\n",
	.run = run,
};
