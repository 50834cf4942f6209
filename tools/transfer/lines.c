/* SPDX-License-Identifier: MIT */
/* send --lines: the input in messages of a line. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "input.h"
#include "pace.h"
#include "sending.h"

/* How much is read at once in the beginning. */
#define FIRST_CAP ((size_t)128 << 10)
#define BATCH     64u

/* Bytes read and not yet sent. */
struct lines {
	char *data;
	size_t cap;
	size_t start;   /* the first line that is not sent */
	size_t scanned; /* up to here there is no newline after start */
	size_t end;
};

/* Takes the next whole line. Returns false if there is none in what has been read. */
static bool take_line(struct lines *lines, struct iovec *line)
{
	char *newline = memchr(lines->data + lines->scanned, '\n', lines->end - lines->scanned);

	if (!newline) {
		lines->scanned = lines->end;
		return false;
	}
	line->iov_base = lines->data + lines->start;
	line->iov_len = (size_t)(newline + 1 - lines->data) - lines->start;
	lines->start += line->iov_len;
	lines->scanned = lines->start;
	return true;
}

/* Sends all whole lines that have been read. */
static int send_whole_lines(struct sending *sending, struct lines *lines)
{
	struct iovec batch[BATCH];
	struct iovec line;
	unsigned n = 0;
	int status;

	while (take_line(lines, &line)) {
		bool is_long = line.iov_len > sending->buffer_size;

		if (!is_long)
			batch[n++] = line;
		if (n == BATCH || (is_long && n > 0)) {
			status = send_batch(sending, batch, n);
			if (status)
				return status;
			n = 0;
		}
		if (is_long) {
			status = send_message(sending, line.iov_base, line.iov_len);
			if (status)
				return status;
		}
	}
	return send_batch(sending, batch, n);
}

/* Makes room to read more behind the unsent bytes. Returns false if there is no memory. */
static bool make_room(struct lines *lines)
{
	size_t cap;
	char *data;

	if (lines->start > 0) {
		memmove(lines->data, lines->data + lines->start, lines->end - lines->start);
		lines->scanned -= lines->start;
		lines->end -= lines->start;
		lines->start = 0;
	}
	if (lines->end < lines->cap)
		return true;
	cap = lines->cap ? 2 * lines->cap : FIRST_CAP;
	data = realloc(lines->data, cap);
	if (!data)
		return false;
	lines->data = data;
	lines->cap = cap;
	return true;
}

static int read_and_send(struct sending *sending, struct lines *lines)
{
	ssize_t got;
	int status;

	for (;;) {
		if (!make_room(lines)) {
			complain("a line of more than %zu bytes: %s", lines->cap, strerror(ENOMEM));
			return STATUS_FAILED;
		}
		got = input_read(lines->data + lines->end, pace_piece(lines->cap - lines->end));
		if (got < 0)
			return STATUS_FAILED;
		if (got == 0)
			break;
		lines->end += (size_t)got;
		status = send_whole_lines(sending, lines);
		if (status)
			return status;
		pace_spend((size_t)got);
	}
	/*
	 * The last line may lack its newline. If nothing is left, nothing is sent: an empty message
	 * would mark the end.
	 */
	if (lines->end == lines->start)
		return 0;
	return send_message(sending, lines->data + lines->start, lines->end - lines->start);
}

int send_lines(struct sending *sending)
{
	struct lines lines = { 0 };
	int status = read_and_send(sending, &lines);

	free(lines.data);
	return status;
}
