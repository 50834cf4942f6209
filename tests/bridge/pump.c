/* SPDX-License-Identifier: MIT */
/*
 * The programs on both sides of a bridge.  Their messages are numbered, and the
 * number of a message determines all of its bytes.
 *
 *   pump send ADDRESS COUNT SIZE [PAUSE-US [FIRST]]
 *   pump recv ADDRESS [PAUSE-US [COUNT]]
 *   pump echo ADDRESS          sends back what it receives, over a duplex pipe
 *   pump ping ADDRESS COUNT    sends to an echo, and compares the answers
 *
 * SIZE is a number of bytes; -SIZE means random sizes from 8 to SIZE.  A message of
 * fewer than 8 bytes holds only the first bytes of its number.  The receiver then
 * expects the next number, so it cannot tell a lost message from a corrupted one.
 *
 * A sender whose pipe breaks connects again, and repeats the message that was not
 * sent.  A receiver ends at the end of the stream, or after COUNT messages, and
 * prints what it received:
 *
 *   received N first F last L missing M duplicated D reordered R corrupted C
 */
#include <bufpipe.h>
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MOST ((size_t)1 << 28)

static void fail(const char *what, long error)
{
	fprintf(stderr, "pump: %s: %s\n", what, strerror((int)-error));
	exit(1);
}

/* A small generator: the same bytes for the same number. */
static uint64_t next_word(uint64_t *seed)
{
	*seed += 0x9e3779b97f4a7c15u;
	uint64_t z = (*seed ^ *seed >> 30) * 0xbf58476d1ce4e5b9u;

	return z ^ z >> 27;
}

static size_t size_of(uint64_t number, long size)
{
	uint64_t seed = number;

	if (size >= 0)
		return (size_t)size;
	return 8 + next_word(&seed) % ((size_t)-size - 7);
}

static void fill(char *data, size_t len, uint64_t number)
{
	uint64_t seed = number;
	uint64_t word;
	size_t at;

	memcpy(data, &number, len < sizeof(number) ? len : sizeof(number));
	for (at = 8; at < len; at += 8) {
		word = next_word(&seed);
		memcpy(data + at, &word, len - at < 8 ? len - at : 8);
	}
}

/* expected: the number that a message too short to contain one should have. */
static bool is_right(const char *data, size_t len, uint64_t expected, uint64_t *number)
{
	uint64_t seed, word;

	if (len < 8) {
		*number = expected;
		return memcmp(data, &expected, len) == 0;
	}
	memcpy(number, data, sizeof(*number));
	seed = *number;
	for (size_t at = 8; at < len; at += 8) {
		word = next_word(&seed);
		if (memcmp(data + at, &word, len - at < 8 ? len - at : 8) != 0)
			return false;
	}
	return true;
}

static bufpipe_t *meet(const char *address, unsigned flags)
{
	struct bufpipe_options options = { .flags = flags };
	bufpipe_t *pipe;
	int r;

	for (int tries = 0;; tries++) {
		r = bufpipe_connect(&pipe, address, &options, 1000000000);
		if (r == 0)
			return pipe;
		if (tries == 6000)
			fail(address, r);
		usleep(10000);
	}
}

static int send_numbers(const char *address, uint64_t count, long size, unsigned pause_us, uint64_t first)
{
	bufpipe_t *pipe = meet(address, BUFPIPE_SEND);
	char *data = malloc(size < 0 ? (size_t)-size : (size_t)size + 8);
	uint64_t broken = 0;
	uint64_t number;
	size_t len;
	int r;

	for (number = first; number < first + count; number++) {
		len = size_of(number, size);
		fill(data, len, number);
		while ((r = bufpipe_send(pipe, data, len, -1)) == -EPIPE) {
			bufpipe_close(pipe);
			pipe = meet(address, BUFPIPE_SEND);
			broken++;
		}
		if (r < 0)
			fail("send", r);
		if (pause_us)
			usleep(pause_us);
	}
	bufpipe_shutdown(pipe);
	bufpipe_close(pipe);
	free(data);
	printf("sent %lu broken %lu\n", count, broken);
	return 0;
}

struct seen {
	uint64_t received, first, last, missing, duplicated, reordered, corrupted;
};

static void look(struct seen *seen, const char *data, size_t len)
{
	uint64_t number;

	if (!is_right(data, len, seen->received ? seen->last + 1 : 0, &number)) {
		seen->corrupted++;
		return;
	}
	if (seen->received++ == 0) {
		seen->first = number;
		seen->last = number;
		return;
	}
	if (number == seen->last)
		seen->duplicated++;
	else if (number < seen->last)
		seen->reordered++;
	else
		seen->missing += number - seen->last - 1;
	if (number > seen->last)
		seen->last = number;
}

static int receive_numbers(const char *address, unsigned pause_us, uint64_t count)
{
	bufpipe_t *pipe = meet(address, BUFPIPE_RECEIVE);
	struct seen seen = { 0 };
	size_t cap = 1 << 20;
	char *data = malloc(cap);
	ssize_t len;

	for (;;) {
		len = bufpipe_recv(pipe, data, cap, -1);
		if (len == -EMSGSIZE && cap < MOST) {
			cap *= 2;
			free(data);
			data = malloc(cap);
			continue;
		}
		if (len < 0)
			break;
		look(&seen, data, (size_t)len);
		if (count > 0 && seen.received == count)
			break;
		if (pause_us)
			usleep(pause_us);
	}
	if (len != -EPIPE && len < 0)
		fail("recv", len);
	bufpipe_close(pipe);
	free(data);
	printf("received %lu first %lu last %lu missing %lu duplicated %lu reordered %lu corrupted %lu\n",
	       seen.received, seen.first, seen.last, seen.missing, seen.duplicated, seen.reordered,
	       seen.corrupted);
	return 0;
}

static int echo(const char *address)
{
	bufpipe_t *pipe = meet(address, BUFPIPE_DUPLEX);
	static char data[1 << 16];
	ssize_t len;

	while ((len = bufpipe_recv(pipe, data, sizeof(data), -1)) >= 0) {
		if (bufpipe_send(pipe, data, (size_t)len, -1) < 0)
			break;
	}
	bufpipe_close(pipe);
	return 0;
}

static int ping(const char *address, uint64_t count)
{
	bufpipe_t *pipe = meet(address, BUFPIPE_DUPLEX);
	char data[256], back[256];

	for (uint64_t number = 0; number < count; number++) {
		size_t len = size_of(number, -(long)sizeof(data));

		fill(data, len, number);
		if (bufpipe_send(pipe, data, len, -1) < 0 ||
		    bufpipe_recv(pipe, back, sizeof(back), 60000000000) != (ssize_t)len ||
		    memcmp(data, back, len) != 0)
			fail("echo", -EIO);
	}
	bufpipe_shutdown(pipe);
	bufpipe_close(pipe);
	printf("echoed %lu\n", count);
	return 0;
}

int main(int argc, char **argv)
{
	unsigned long numbers[4] = { 0 };

	for (int i = 3; i < argc && i < 7; i++)
		numbers[i - 3] = (unsigned long)atol(argv[i]);
	if (argc >= 5 && strcmp(argv[1], "send") == 0)
		return send_numbers(argv[2], numbers[0], (long)numbers[1], (unsigned)numbers[2], numbers[3]);
	if (argc >= 3 && strcmp(argv[1], "recv") == 0)
		return receive_numbers(argv[2], (unsigned)numbers[0], numbers[1]);
	if (argc >= 3 && strcmp(argv[1], "echo") == 0)
		return echo(argv[2]);
	if (argc >= 4 && strcmp(argv[1], "ping") == 0)
		return ping(argv[2], numbers[0]);
	fputs("usage: pump send|recv|echo|ping ADDRESS ...\n", stderr);
	return 2;
}
