/* SPDX-License-Identifier: MIT */
/*
 * What a message holds.  A program writes what it sends and reads what it has
 * received, so the benchmark does that too, with every word: where a message is
 * only carried, a transport that does not copy would seem to cost nothing.  All
 * words are the same but for the second, which may be a time, so a message that
 * is torn anywhere is found out.
 */
#ifndef PERF_PAYLOAD_H
#define PERF_PAYLOAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A word anywhere in memory. */
typedef uint64_t __attribute__((may_alias, aligned(1))) payload_word;

/* Bytes after the last whole word stay as they are. */
static inline void payload_write(void *to, size_t len, uint64_t word, uint64_t second)
{
	payload_word *words = to;
	size_t n = len / 8;

	words[0] = word;
	if (n > 1)
		words[1] = second;
	for (size_t i = 2; i < n; i++)
		words[i] = word;
}

/* False when not all words are the same. */
static inline bool payload_read(const void *from, size_t len, uint64_t *word, uint64_t *second)
{
	const payload_word *words = from;
	size_t n = len / 8;
	uint64_t sum = 0;

	for (size_t i = 2; i < n; i++)
		sum += words[i];
	*word = words[0];
	*second = n > 1 ? words[1] : words[0];
	return n < 3 || sum == *word * (n - 2);
}

#endif
