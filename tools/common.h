/* SPDX-License-Identifier: MIT */
/* What the subcommands share: arguments, complaints, signals, patient I/O. */
#ifndef COMMON_H
#define COMMON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include <bufpipe.h>

/* The exit statuses beside 0; a signal N that ended the command is 128 + N. */
enum {
	STATUS_FAILED = 1,
	STATUS_USAGE = 2,
	STATUS_STUCK = 3, /* of list --stuck */
};

/* What the receiver says to the sender, in messages of one byte. */
enum {
	SAY_WELCOME = 'W',
	SAY_DONE = 'D',
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

/* What the arguments of send and recv say. */
struct settings {
	const char *address;
	size_t buffer;   /* 0: not given */
	size_t block;    /* 0: not given */
	int64_t wait_ns; /* -1: for ever */
	bool lines;
	bool progress;
	bool any_user;
};

/*
 * Fills settings from the arguments.  True: go on.  False: *status is the
 * status to exit with, and what there was to say has been said.
 */
bool parse_settings(struct settings *settings, const struct command *command, int argc, char **argv,
		    int *status);

/* One line on stderr, with the name of the program before it. */
void complain(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* The same for wrong arguments, and where to read about them; STATUS_USAGE. */
int complain_usage(const struct command *command, const char *format, ...)
	__attribute__((format(printf, 2, 3)));
/*
 * The same for an attempt to meet that failed with error, a negative errno;
 * nothing for -ECANCELED.  The status to exit with.
 */
int complain_address(const struct command *command, const char *address, int error);

/* Prints text on stdout; the status to exit with. */
int print(const char *text);

/* A plain decimal number and K, M or G (powers of 1024); 1 to 2^40. */
bool parse_size(const char *text, size_t *size);

int64_t now_ns(void);

/* From here on SIGHUP, SIGINT and SIGTERM do not kill but make calls return. */
void catch_signals(void);
/* The signal that asks this process to end, or 0. */
int stop_signal(void);
/* Whether to repeat a call on an interruptible pipe that returned result. */
bool should_repeat(ssize_t result);

/*
 * As read(2), and until all is written as write(2); but with negative errnos,
 * with progress drawn meanwhile, and -EINTR only when the process shall end.
 */
ssize_t read_some(int fd, void *buf, size_t size);
int write_all(int fd, const void *buf, size_t len);

/*
 * Whether this is our own user or root.  It complains if not, unless any user is
 * welcome.  A user that has no number in our namespace is nobody we know, so the
 * number that stands for all of them is welcome to none, not even to itself.
 */
bool user_is_welcome(uid_t uid, const struct settings *settings);
/* The same for the other end. */
bool peer_is_welcome(const bufpipe_t *pipe, const struct settings *settings);

#endif
