/* SPDX-License-Identifier: MIT */
/* The arguments of send and recv. */
#ifndef SETTINGS_H
#define SETTINGS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "../common.h"

struct settings {
	const char *address;
	const char *exec; /* NULL: standard input or output */
	const char *tee;  /* NULL: none */
	size_t buffer;    /* 0: not given, also for those below */
	size_t block;
	size_t size;     /* how much will come */
	size_t rate;     /* bytes a second */
	int64_t wait_ns; /* -1: for ever */
	bool lines;
	bool keep;
	bool merge;
	bool progress;
	bool any_user;
};

/*
 * Fills settings from the arguments.  True: go on.  False: a message was printed, and
 * *status is the status to exit with.
 */
bool parse_settings(struct settings *settings, const struct command *command, int argc, char **argv,
		    int *status);

#endif
