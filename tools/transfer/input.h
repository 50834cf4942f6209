/* SPDX-License-Identifier: MIT */
/* What a sender reads: standard input or the output of a command, with the copy of --tee. */
#ifndef INPUT_H
#define INPUT_H

#include <stdint.h>
#include <sys/types.h>

#include "settings.h"

/* Starts the command of --exec, if there is one; 0, or a status, which has been said. */
int input_open(const struct settings *settings);
/* How many bytes will come; 0: not known. */
uint64_t input_size(void);
/* The bytes read; 0 at the end; -1 after a failure, which has been said. */
ssize_t input_read(void *buf, size_t size);
/* At the end: whether the command and the copy are well; 0, or a status, which has been said. */
int input_close(void);
/* After a failure: ends the command. */
void input_abandon(void);

#endif
