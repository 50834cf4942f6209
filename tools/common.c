/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <getopt.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "common.h"
#include "progress.h"

#define SECOND_NS 1000000000LL
#define MAX_SIZE  ((size_t)1 << 40)
/* A year: enough for anyone who says a number, and far from overflow. */
#define MAX_WAIT_SECONDS (366.0 * 24 * 3600)

static volatile sig_atomic_t caught_signal;

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

static int hint(const struct command *command)
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

int complain_address(const struct command *command, const char *address, int error)
{
	/* A sender finds nobody in some more ways. */
	if (command == &command_send && (error == -ENOENT || error == -ECONNRESET || error == -EPIPE))
		error = -ECONNREFUSED;
	switch (error) {
	case -ECANCELED:
		break;
	case -EINVAL:
		return complain_usage(command, "'%s' is no address for %s: use @name, /path or ./path",
				      address, command->name);
	case -EADDRINUSE:
		complain("%s: somebody listens there already", address);
		break;
	case -EEXIST:
		complain("%s: what is there is no socket", address);
		break;
	case -ECONNREFUSED:
		complain("%s: nobody listens there", address);
		break;
	case -ETIMEDOUT:
		complain("%s: nobody came in time", address);
		break;
	case -EACCES:
		complain("%s: the receiver refused this user, or the path is closed to it", address);
		break;
	case -EMSGSIZE:
		complain("%s: the receiver allows less than this --buffer", address);
		break;
	case -E2BIG:
		complain("%s: the pipe of the receiver is larger than 1G; --buffer would allow it", address);
		break;
	case -EBADMSG:
	case -EPROTOTYPE:
		complain("%s: what listens there is not 'bufpipe recv'", address);
		break;
	case -EPROTONOSUPPORT:
		complain("%s: what listens there is another version of bufpipe", address);
		break;
	default:
		complain("%s: %s", address, strerror(-error));
	}
	return STATUS_FAILED;
}

int print(const char *text)
{
	/* Whoever redirects help into a full disk wants to know. */
	if (fputs(text, stdout) < 0 || fflush(stdout) < 0) {
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

	/* strtoull takes blanks and signs, which are no size. */
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

static bool parse_seconds(const char *text, int64_t *ns)
{
	double seconds;
	char *end;

	if ((*text < '0' || *text > '9') && *text != '.')
		return false;
	seconds = strtod(text, &end);
	/* The negated comparison refuses what is not a number, too. */
	if (end == text || *end || !(seconds <= MAX_WAIT_SECONDS))
		return false;
	*ns = (int64_t)(seconds * SECOND_NS);
	return true;
}

/* One option into settings; 0, or the status to exit with. */
static int parse_option(struct settings *settings, const struct command *command, int option)
{
	switch (option) {
	case 'a':
		settings->any_user = true;
		return 0;
	case 'l':
		settings->lines = true;
		return 0;
	case 'p':
		settings->progress = true;
		return 0;
	case 'b':
		if (parse_size(optarg, &settings->block))
			return 0;
		return complain_usage(command, "--block: '%s' is no size", optarg);
	case 'B':
		if (parse_size(optarg, &settings->buffer))
			return 0;
		return complain_usage(command, "--buffer: '%s' is no size", optarg);
	case 'w':
		if (parse_seconds(optarg, &settings->wait_ns))
			return 0;
		return complain_usage(command, "--wait: '%s' is no number of seconds", optarg);
	default:
		/* getopt has said what is wrong. */
		return hint(command);
	}
}

bool parse_settings(struct settings *settings, const struct command *command, int argc, char **argv,
		    int *status)
{
	/* The options of send alone, before those that recv has, too. */
	static const struct option options[] = {
		{ "block", required_argument, NULL, 'b' }, { "lines", no_argument, NULL, 'l' },
		{ "any-user", no_argument, NULL, 'a' },    { "buffer", required_argument, NULL, 'B' },
		{ "help", no_argument, NULL, 'h' },        { "progress", no_argument, NULL, 'p' },
		{ "wait", required_argument, NULL, 'w' },  { 0 },
	};
	const struct option *known = options + (command == &command_send ? 0 : 2);
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
		*status = complain_usage(command, "%s: which address?", command->name);
	else if (optind + 1 < argc)
		*status = complain_usage(command, "%s: one address only, not also '%s'", command->name,
					 argv[optind + 1]);
	else if (settings->lines && settings->block)
		*status = complain_usage(command, "--lines and --block exclude each other");
	else
		settings->address = argv[optind];
	return settings->address != NULL;
}

int64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * SECOND_NS + now.tv_nsec;
}

/*
 * A signal that arrives after a look at stop_signal and before the call that
 * sleeps would be slept over.  So an alarm repeats it until the process ends.
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
		/* nohup and the shell's & ignore some; that is their right. */
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

/* The number by which the kernel shows every user that this namespace does not know. */
static uid_t overflow_uid(void)
{
	unsigned uid = 65534;
	FILE *file = fopen("/proc/sys/kernel/overflowuid", "re");

	if (file) {
		if (fscanf(file, "%u", &uid) != 1)
			uid = 65534;
		fclose(file);
	}
	return uid;
}

bool user_is_welcome(uid_t uid, const struct settings *settings)
{
	if (settings->any_user)
		return true;
	/* Root may do anything to this process anyway. */
	if (uid == 0 || (uid == geteuid() && uid != overflow_uid()))
		return true;
	complain("%s: refused user %u; --any-user would allow it", settings->address, uid);
	return false;
}

bool peer_is_welcome(const bufpipe_t *pipe, const struct settings *settings)
{
	struct bufpipe_info info;

	return settings->any_user ||
	       (bufpipe_get_info(pipe, &info) == 0 && user_is_welcome(info.uid, settings));
}
