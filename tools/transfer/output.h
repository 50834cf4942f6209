/* SPDX-License-Identifier: MIT */
/* Where a receiver writes to: standard output or a command, and the copy of --tee. */
#ifndef OUTPUT_H
#define OUTPUT_H

#include <stddef.h>

#include "child.h"
#include "settings.h"

/*
 * Short messages are gathered here, so that one write(2) writes many.  The calls
 * return 0 or a status to exit with.  They have printed a message, except for
 * STATUS_UNREAD.
 */
struct output {
	const char *name; /* for messages */
	int fd;
	struct child child;
	size_t gathered;
	char gather[65536];
};

/* Standard output, or the command of --exec, which is started. */
int output_open(struct output *output, const struct settings *settings);
int output_put(struct output *output, const void *data, size_t len);
int output_flush(struct output *output);
/* Called when all has been put. The output stays open, but the errors that come late are collected. */
int output_sync(struct output *output);
/* Called when all has been put: closes the output, and waits for the command. */
int output_close(struct output *output);
/*
 * Called after a failure.  A command is ended by SIGTERM, which tells it that its
 * input was not complete.  If nobody reads any more because the command has failed,
 * prints that and returns STATUS_FAILED; otherwise returns the status that was given.
 */
int output_abandon(struct output *output, int status);

#endif
