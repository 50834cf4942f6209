/* SPDX-License-Identifier: MIT */
/*
 * What the targets of libFuzzer share.  An input is a program: each byte that is
 * taken from it chooses a step or a number.  Where the input ends, zeros follow.
 */
#ifndef TESTS_FUZZ_INPUT_H
#define TESTS_FUZZ_INPUT_H

#include "bufpipe.h"
#include "end/end.h"

#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct input {
	const uint8_t *data;
	size_t left;
};

static inline uint64_t take(struct input *in, size_t bytes)
{
	uint64_t value = 0;

	if (bytes > in->left)
		bytes = in->left;
	memcpy(&value, in->data, bytes);
	in->data += bytes;
	in->left -= bytes;
	return value;
}

/* A number at which something changes, or any number. */
static inline uint64_t number(struct input *in)
{
	uint64_t kind = take(in, 1);
	uint64_t power = (uint64_t)1 << kind % 64;

	switch (kind / 64) {
	case 0:
		return power;
	case 1:
		return power - 1;
	case 2:
		return 0 - power;
	default:
		return take(in, 8);
	}
}

/* Says what went wrong, and aborts. */
void fuzz_fail(const char *what, long long result) __attribute__((noreturn));

/* For a call with a timeout of at most some milliseconds: how long it takes, without the time in which it waits for a CPU. */
struct stopwatch {
	int64_t begin;
	int64_t queued;
};

struct stopwatch stopwatch_start(void);
/* Fails if much more than the timeout has passed. */
void stopwatch_stop(const struct stopwatch *watch, const char *call, int64_t timeout);

#endif
