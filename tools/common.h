/* SPDX-License-Identifier: MIT */
/* What the subcommands share: arguments, messages, signals, reading and writing. */
#ifndef COMMON_H
#define COMMON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "clock.h"

/* The exit statuses beside 0.  If signal N ended the command, the status is 128 + N. */
enum {
	STATUS_FAILED = 1,  /* here: input, output, a file, a command, memory, the address */
	STATUS_USAGE = 2,   /* the arguments are wrong */
	STATUS_STUCK = 3,   /* of list --stuck: a pipe is stuck */
	STATUS_REFUSED = 4, /* somebody is there, but the two sides do not fit together */
	STATUS_PEER = 5,    /* the other side ended early; nothing of it has been written here */
	STATUS_PARTIAL = 6, /* the same, and what has been written here is only a part */
	STATUS_NOBODY = 7,  /* nobody came, or answered, in time */
	STATUS_NONE = 8,    /* of list and show: no pipe of that name, process or number can be seen */
	STATUS_UNREAD =
		141, /* nobody reads the output any more: the status of a command that SIGPIPE ended */
};

struct command {
	const char *name;
	const char *summary;
	const char *help;
	/* argv[0] is for messages, the arguments follow. */
	int (*run)(int argc, char **argv);
};

extern const struct command command_send, command_recv, command_demo, command_bridge, command_list,
	command_show, command_top;

/* Called first: opens standard descriptors that are closed, and ignores SIGPIPE. */
void prepare_process(void);

/* One line on stderr, with the name of the program before it. */
void complain(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* The same for wrong arguments, followed by where to read about them. Returns STATUS_USAGE. */
int complain_usage(const struct command *command, const char *format, ...)
	__attribute__((format(printf, 2, 3)));
/* Prints where to read about the arguments. Returns STATUS_USAGE. */
int hint(const struct command *command);

/* Prints text on stdout. Returns the status to exit with. */
int print(const char *text);

/* A plain decimal number and K, M or G (powers of 1024); 1 to 2^40. */
bool parse_size(const char *text, size_t *size);

/* From now on SIGHUP, SIGINT and SIGTERM do not kill this process: they make calls return. */
void catch_signals(void);
/* The signal that asks this process to end, or 0. */
int stop_signal(void);
/* Whether a call on an interruptible pipe that returned result must be repeated. */
bool should_repeat(ssize_t result);

/*
 * Like read(2); and like write(2), until all is written.  Errors are negative
 * errnos.  Progress is drawn meanwhile.  -EINTR only when the process must end.
 */
ssize_t read_some(int fd, void *buf, size_t size);
int write_all(int fd, const void *buf, size_t len);

#endif
