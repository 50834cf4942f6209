/* SPDX-License-Identifier: MIT */
/*
 * The protocol of send and recv, over a duplex pipe.  The receiver says that
 * the sender is welcome: a connection may have been made just before it stopped
 * to listen.  Then the sender's messages carry the bytes; an empty one marks
 * the end.  At last the receiver, once it has written everything out, says so.
 * Thus each side can tell an orderly end from a death, which the end of the
 * pipe alone does not say.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "common.h"
#include "progress.h"

#define SECOND_NS 1000000000LL
/* What a pipe of the shell holds: more is rarely there to be read at once. */
#define DEFAULT_BLOCK ((size_t)64 << 10)
#define BATCH         64u
/* What the receiver may choose, unless --buffer says more. */
#define LARGEST_BUFFER ((size_t)1 << 30)

struct sender {
	bufpipe_t *pipe;
	size_t buffer_size;
	size_t block;
};

/* The input of --lines: bytes read and not yet sent. */
struct lines {
	char *data;
	size_t cap;
	size_t start;   /* the first line that is not sent */
	size_t scanned; /* up to here there is no newline after start */
	size_t end;
};

static int lost_receiver(int error)
{
	if (stop_signal())
		return -1;
	if (error == -EPIPE)
		complain("the receiver ended before it had everything");
	else
		complain("sending: %s", strerror(-error));
	return -1;
}

static int bad_input(ssize_t error)
{
	if (!stop_signal())
		complain("standard input: %s", strerror((int)-error));
	return -1;
}

static int send_blocks(struct sender *sender)
{
	ssize_t got;
	void *room;
	int result;

	for (;;) {
		do
			result = bufpipe_reserve(sender->pipe, &room, sender->block, progress_tick_ns());
		while (should_repeat(result));
		if (result < 0)
			return lost_receiver(result);
		got = read_some(STDIN_FILENO, room, sender->block);
		if (got <= 0) {
			bufpipe_cancel(sender->pipe);
			return got < 0 ? bad_input(got) : 0;
		}
		result = bufpipe_commit(sender->pipe, (size_t)got);
		if (result < 0)
			return lost_receiver(result);
		progress_add((size_t)got);
	}
}

/*
 * One message of any length.  A long one must not be given a time: it would
 * begin anew each time.
 */
static int send_message(struct sender *sender, const void *data, size_t len)
{
	int64_t timeout_ns = len > sender->buffer_size ? -1 : progress_tick_ns();
	int result;

	do
		result = bufpipe_send(sender->pipe, data, len, timeout_ns);
	while (should_repeat(result));
	if (result < 0)
		return lost_receiver(result);
	progress_add(len);
	return 0;
}

static int send_batch(struct sender *sender, const struct iovec *batch, unsigned n)
{
	ssize_t sent, i;

	while (n > 0) {
		do
			sent = bufpipe_send_many(sender->pipe, batch, n, progress_tick_ns());
		while (should_repeat(sent));
		if (sent < 0)
			return lost_receiver((int)sent);
		for (i = 0; i < sent; i++)
			progress_add(batch[i].iov_len);
		batch += sent;
		n -= (unsigned)sent;
	}
	return 0;
}

/* Takes the next whole line; false: there is none, all has been scanned. */
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
static int send_whole_lines(struct sender *sender, struct lines *lines)
{
	struct iovec batch[BATCH];
	unsigned n = 0;
	struct iovec line;

	while (take_line(lines, &line)) {
		bool is_long = line.iov_len > sender->buffer_size;

		if (!is_long)
			batch[n++] = line;
		if (n == BATCH || (is_long && n > 0)) {
			if (send_batch(sender, batch, n) < 0)
				return -1;
			n = 0;
		}
		if (is_long && send_message(sender, line.iov_base, line.iov_len) < 0)
			return -1;
	}
	return send_batch(sender, batch, n);
}

/* Makes room to read more behind what is there; false without memory. */
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
	cap = lines->cap ? 2 * lines->cap : 2 * DEFAULT_BLOCK;
	data = realloc(lines->data, cap);
	if (!data)
		return false;
	lines->data = data;
	lines->cap = cap;
	return true;
}

static int read_and_send_lines(struct sender *sender, struct lines *lines)
{
	ssize_t got;

	for (;;) {
		if (!make_room(lines)) {
			complain("a line of more than %zu bytes: %s", lines->cap, strerror(ENOMEM));
			return -1;
		}
		got = read_some(STDIN_FILENO, lines->data + lines->end, lines->cap - lines->end);
		if (got < 0)
			return bad_input(got);
		if (got == 0)
			break;
		lines->end += (size_t)got;
		if (send_whole_lines(sender, lines) < 0)
			return -1;
	}
	/* A last line without a newline; an empty message would be the end. */
	if (lines->end == lines->start)
		return 0;
	return send_message(sender, lines->data + lines->start, lines->end - lines->start);
}

static int send_lines(struct sender *sender)
{
	struct lines lines = { 0 };
	int result = read_and_send_lines(sender, &lines);

	free(lines.data);
	return result;
}

/* Marks the end and waits until the receiver has written everything. */
static int finish(struct sender *sender)
{
	char answer = 0;
	ssize_t result;

	if (send_message(sender, NULL, 0) < 0)
		return -1;
	result = bufpipe_shutdown(sender->pipe);
	if (result < 0)
		return lost_receiver((int)result);
	do
		result = bufpipe_recv(sender->pipe, &answer, sizeof(answer), progress_tick_ns());
	while (should_repeat(result));
	if (result == sizeof(answer) && answer == SAY_DONE)
		return 0;
	return lost_receiver(result < 0 ? (int)result : -EPROTO);
}

/* Nobody listens yet, or the one who did took another sender. */
static bool may_come_later(int error)
{
	return error == -ENOENT || error == -ECONNREFUSED || error == -ECONNRESET || error == -EPIPE ||
	       error == -EAGAIN || error == -EINTR || error == -ETIMEDOUT;
}

static void sleep_ns(int64_t ns)
{
	struct timespec time = { .tv_sec = ns / SECOND_NS, .tv_nsec = ns % SECOND_NS };

	nanosleep(&time, NULL);
}

static int64_t time_left(int64_t deadline_ns)
{
	int64_t left_ns;

	if (deadline_ns == INT64_MAX)
		return -1;
	left_ns = deadline_ns - now_ns();
	return left_ns > 0 ? left_ns : 0;
}

/* Waits for the receiver to accept; -ECANCELED: we do not like each other, and that has been said. */
static int await_welcome(bufpipe_t *pipe, const struct settings *settings, int64_t timeout_ns)
{
	char answer = 0;
	ssize_t result;

	if (!peer_is_welcome(pipe, settings))
		return -ECANCELED;
	do
		result = bufpipe_recv(pipe, &answer, sizeof(answer), timeout_ns);
	while (result == -EINTR && !stop_signal());
	if (result < 0)
		return (int)result;
	return answer == SAY_WELCOME ? 0 : -EBADMSG;
}

/* One attempt. */
static int meet(bufpipe_t **pipe, const struct settings *settings, int64_t timeout_ns)
{
	struct bufpipe_options options = {
		.buffer_size = settings->buffer,
		.flags = BUFPIPE_DUPLEX | BUFPIPE_INTERRUPTIBLE,
		.name = "bufpipe-send",
		.size_limit = settings->buffer > LARGEST_BUFFER ? settings->buffer : LARGEST_BUFFER,
	};
	int result = bufpipe_connect(pipe, settings->address, &options, timeout_ns);

	if (result < 0)
		return result;
	result = await_welcome(*pipe, settings, timeout_ns);
	if (result < 0)
		bufpipe_close(*pipe);
	return result;
}

/* Tries until a receiver is there, the time is up or a signal says stop. */
static int meet_patiently(bufpipe_t **pipe, const struct settings *settings)
{
	int64_t deadline_ns = settings->wait_ns < 0 ? INT64_MAX : now_ns() + settings->wait_ns;
	int64_t pause_ns = SECOND_NS / 100;
	int64_t left_ns;
	int result;

	for (;;) {
		/* A receiver that listens needs some time to answer even if the user gave none. */
		left_ns = time_left(deadline_ns);
		result = meet(pipe, settings, left_ns >= 0 && left_ns < SECOND_NS ? SECOND_NS : left_ns);
		if (result == 0 || stop_signal() || !may_come_later(result))
			return result;
		left_ns = time_left(deadline_ns);
		if (left_ns == 0)
			return settings->wait_ns > 0 ? -ETIMEDOUT : result;
		sleep_ns(left_ns > 0 && left_ns < pause_ns ? left_ns : pause_ns);
		/* Soon at first, for scripts; then rarely, for those who wait for long. */
		if (pause_ns < SECOND_NS / 4)
			pause_ns += pause_ns / 2;
	}
}

static int send_all(bufpipe_t *pipe, const struct settings *settings)
{
	struct sender sender = { .pipe = pipe, .block = settings->block ? settings->block : DEFAULT_BLOCK };
	struct bufpipe_info info;
	int result;

	if (bufpipe_get_info(pipe, &info) < 0)
		return -1;
	sender.buffer_size = info.buffer_size;
	if (sender.block > sender.buffer_size)
		sender.block = sender.buffer_size;
	if (settings->progress)
		progress_start();
	result = settings->lines ? send_lines(&sender) : send_blocks(&sender);
	if (result == 0)
		result = finish(&sender);
	progress_end();
	return result;
}

static int run(int argc, char **argv)
{
	struct settings settings;
	bufpipe_t *pipe;
	int result;

	if (!parse_settings(&settings, &command_send, argc, argv, &result))
		return result;
	catch_signals();
	result = meet_patiently(&pipe, &settings);
	if (result == 0) {
		result = send_all(pipe, &settings) < 0 ? STATUS_FAILED : 0;
		bufpipe_close(pipe);
	} else if (!stop_signal()) {
		result = complain_address(&command_send, settings.address, result);
	}
	/* What has arrived in full is a success even if a signal came meanwhile. */
	return result != 0 && stop_signal() ? 128 + stop_signal() : result;
}

const struct command command_send = {
	.name = "send",
	.summary = "send standard input to a 'bufpipe recv'",
	.help = "usage: bufpipe send [OPTION...] ADDRESS\n\n"
		"Sends standard input to the 'bufpipe recv' at ADDRESS, and ends with status 0\n"
		"only when that has written everything.  Either may be started first.\n"
		"ADDRESS is @name (an abstract name), /path or ./path (a socket).\n\n"
		"  --block SIZE   send messages of up to SIZE bytes, as read (64K)\n"
		"  --lines        send each line as a message\n"
		"  --buffer SIZE  the pipe holds SIZE bytes; at most the receiver's (the receiver's)\n"
		"  --wait SECONDS give up when no receiver is there so long (wait for ever)\n"
		"  --any-user     let the receiver belong to any user, not only to this one or root\n"
		"  --progress     show bytes, rate and time on the terminal\n\n"
		"SIZE may end in K, M or G.\n",
	.run = run,
};
