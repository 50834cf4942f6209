/* SPDX-License-Identifier: MIT */
/* What a sender reads: standard input or the output of a command, with the copy of --tee. */
#ifndef INPUT_H
#define INPUT_H

#include <stdint.h>
#include <sys/types.h>

#include "settings.h"

/* Starts the command of --exec, if there is one. Returns 0, or a status after a message. */
int input_open(const struct settings *settings);
/* Returns how many bytes will come, or 0 if that is not known. */
uint64_t input_size(void);
/* Returns how many bytes were read, 0 at the end, or -1 after a message about a failure. */
ssize_t input_read(void *buf, size_t size);
/*
 * Called at the end of the input. Returns 0 if the command and the copy succeeded, or a status
 * after a message.
 */
int input_close(void);
/* Called after a failure: ends the command. */
void input_abandon(void);

#endif
