/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common.h"
#include "progress.h"

#define MAX_SIZE ((size_t)1 << 40)

static volatile sig_atomic_t caught_signal;

/*
 * The number of a closed standard descriptor would be given to the next file that is
 * opened.  What is opened in its place fails when it is used, as the closed one would.
 */
static void occupy_standard_descriptors(void)
{
	static const int modes[] = { O_WRONLY, O_RDONLY, O_RDONLY };

	for (int fd = 0; fd < 3; fd++) {
		/* The lowest free number is this one. */
		if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", modes[fd]) != fd)
			_exit(STATUS_USAGE);
	}
}

void prepare_process(void)
{
	occupy_standard_descriptors();
	/* A reader that went away is an error to report, not a reason to die. */
	signal(SIGPIPE, SIG_IGN);
}

static void complain_va(const char *format, va_list args)
{
	progress_end();
	fputs("bufpipe: ", stderr);
	vfprintf(stderr, format, args);
	fputc('\n', stderr);
}

void complain(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	complain_va(format, args);
	va_end(args);
}

int hint(const struct command *command)
{
	fprintf(stderr, "Try 'bufpipe help %s'.\n", command->name);
	return STATUS_USAGE;
}

int complain_usage(const struct command *command, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	complain_va(format, args);
	va_end(args);
	return hint(command);
}

int print(const char *text)
{
	/* A failed write must be noticed, even when help is redirected to a full disk. */
	if (fputs(text, stdout) < 0 || fflush(stdout) < 0) {
		if (errno == EPIPE)
			return STATUS_UNREAD;
		complain("standard output: %s", strerror(errno));
		return STATUS_FAILED;
	}
	return 0;
}

bool parse_size(const char *text, size_t *size)
{
	static const char units[] = "KMG";
	unsigned long long number;
	const char *unit;
	unsigned shift = 0;
	char *end;

	/* strtoull accepts blanks and signs, which are not part of a size. */
	if (*text < '0' || *text > '9')
		return false;
	errno = 0;
	number = strtoull(text, &end, 10);
	if (errno || number == 0 || number > MAX_SIZE)
		return false;
	if (*end) {
		unit = strchr(units, *end >= 'a' ? *end - 'a' + 'A' : *end);
		if (!unit || end[1])
			return false;
		shift = 10 * (unsigned)(unit - units + 1);
	}
	if (number > MAX_SIZE >> shift)
		return false;
	*size = (size_t)number << shift;
	return true;
}

/*
 * A signal that arrives between a look at stop_signal and the call that sleeps would
 * not end the sleep.  So an alarm repeats it until the process ends.
 */
static void on_signal(int number)
{
	if (number != SIGALRM && !caught_signal)
		caught_signal = number;
	if (caught_signal)
		alarm(1);
}

void catch_signals(void)
{
	static const int numbers[] = { SIGHUP, SIGINT, SIGTERM, SIGALRM };
	struct sigaction action = { .sa_handler = on_signal };
	struct sigaction old;
	unsigned i;

	for (i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
		/* A signal that is ignored, as nohup and the & of a shell arrange it, stays ignored. */
		if (sigaction(numbers[i], NULL, &old) == 0 &&
		    (numbers[i] == SIGALRM || old.sa_handler != SIG_IGN))
			sigaction(numbers[i], &action, NULL);
	}
}

int stop_signal(void)
{
	return caught_signal;
}

bool should_repeat(ssize_t result)
{
	if (caught_signal || (result != -ETIMEDOUT && result != -EINTR))
		return false;
	progress_draw();
	return true;
}

static void wait_ready(int fd, short events)
{
	struct pollfd wanted = { .fd = fd, .events = events };
	int64_t tick_ns = progress_tick_ns();

	while (!caught_signal && poll(&wanted, 1, tick_ns < 0 ? -1 : (int)(tick_ns / 1000000)) == 0)
		progress_draw();
}

ssize_t read_some(int fd, void *buf, size_t size)
{
	ssize_t got;

	if (progress_shown())
		wait_ready(fd, POLLIN);
	while (!caught_signal) {
		got = read(fd, buf, size);
		if (got >= 0)
			return got;
		if (errno == EAGAIN)
			wait_ready(fd, POLLIN);
		else if (errno != EINTR)
			return -errno;
	}
	return -EINTR;
}

int write_all(int fd, const void *buf, size_t len)
{
	const char *next = buf;
	ssize_t written;

	while (len > 0) {
		if (progress_shown())
			wait_ready(fd, POLLOUT);
		if (caught_signal)
			return -EINTR;
		written = write(fd, next, len);
		if (written >= 0) {
			next += written;
			len -= (size_t)written;
		} else if (errno == EAGAIN) {
			wait_ready(fd, POLLOUT);
		} else if (errno != EINTR) {
			return -errno;
		}
	}
	return 0;
}
