/* SPDX-License-Identifier: MIT */
/* bufpipe recv. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "../progress.h"
#include "culprit.h"
#include "output.h"
#include "pace.h"
#include "protocol.h"
#include "senders.h"
#include "settings.h"
#include "tee.h"

/*
 * The default size of the pipe. It lets the sender run ahead; a larger pipe would not fit into the
 * caches of the CPU.
 */
#define DEFAULT_BUFFER ((size_t)1 << 20)
/* How many messages of one sender are taken before those of another. */
#define TURN 64

/* Returned in place of an exit status: the sender has marked the end of its data. */
#define AT_THE_END (-1)

struct receiver {
	const struct settings *settings;
	struct senders senders;
	struct output output;
	uint64_t served;
	int trouble; /* the status for the first sender that was lost; 0: none */
};

/* The pipe ended or broke before the sender marked its end. Returns the status for that. */
static int lost_sender(const struct sender *sender, ssize_t error)
{
	if (stop_signal())
		return STATUS_FAILED;
	if (error == -EPIPE)
		complain("the sender ended before the end of its data");
	else
		complain("receiving: %s", bufpipe_strerror((int)error));
	return sender->bytes > 0 ? STATUS_PARTIAL : STATUS_PEER;
}

static int put(struct receiver *receiver, struct sender *sender, const void *data, size_t len)
{
	sender->bytes += len;
	return output_put(&receiver->output, data, len);
}

static void forget_long(struct sender *sender)
{
	free(sender->whole);
	sender->whole = NULL;
}

/*
 * A message longer than the ring is not in one place and must be copied.  If a call
 * gives up in its middle, the pipe keeps what was received.
 */
static int take_long(struct receiver *receiver, struct sender *sender, int64_t timeout_ns, ssize_t *error)
{
	ssize_t len;
	int status;

	if (!sender->whole) {
		len = bufpipe_next(sender->pipe, timeout_ns);
		if (len < 0) {
			*error = len;
			return 0;
		}
		sender->whole = malloc((size_t)len);
		if (!sender->whole) {
			complain("a line of %zd bytes: %s", len, strerror(ENOMEM));
			return STATUS_FAILED;
		}
		sender->whole_cap = (size_t)len;
	}
	len = bufpipe_recv(sender->pipe, sender->whole, sender->whole_cap, timeout_ns);
	if (len == -EMSGSIZE) {
		/* The sender has given up that message and begun a longer one. */
		forget_long(sender);
		return 0;
	}
	if (len < 0) {
		*error = len;
		return 0;
	}
	status = put(receiver, sender, sender->whole, (size_t)len);
	forget_long(sender);
	return len == 0 && !status ? AT_THE_END : status;
}

/*
 * Takes the next message of a sender, if there is one.  Returns 0, AT_THE_END, or a
 * status after a message.  An error of the pipe is in *error.
 */
static int take(struct receiver *receiver, struct sender *sender, int64_t timeout_ns, ssize_t *error)
{
	const void *data;
	ssize_t len;
	int status;

	*error = 0;
	if (sender->whole)
		return take_long(receiver, sender, timeout_ns, error);
	len = bufpipe_peek(sender->pipe, &data, timeout_ns);
	if (len == -EMSGSIZE)
		return take_long(receiver, sender, timeout_ns, error);
	if (len < 0) {
		*error = len;
		return 0;
	}
	status = put(receiver, sender, data, (size_t)len);
	bufpipe_release(sender->pipe);
	return len == 0 && !status ? AT_THE_END : status;
}

/* Receives everything from one sender. All that has come is written out before this process sleeps. */
static int receive_one(struct receiver *receiver, struct sender *sender)
{
	ssize_t error;
	int status;

	for (;;) {
		status = take(receiver, sender, 0, &error);
		if (error == -EAGAIN) {
			status = output_flush(&receiver->output);
			if (status)
				return status;
			do
				status = take(receiver, sender, progress_tick_ns(), &error);
			while (should_repeat(error));
		}
		if (status)
			return status;
		if (error < 0) {
			status = output_flush(&receiver->output);
			return status ? status : lost_sender(sender, error);
		}
	}
}

/* Sends the result to the sender. A failure is ignored: the sender does not wait for the result any more. */
static void answer(const struct sender *sender, int status)
{
	char word = SAY_FAILED;

	/* A process that a signal ends has not failed to write. */
	if (status != 0 && stop_signal())
		return;
	if (status == 0)
		word = SAY_DONE;
	else if (status == STATUS_UNREAD)
		word = SAY_UNREAD;
	bufpipe_send(sender->pipe, &word, sizeof(word), 0);
}

static bool is_peers_fault(int status)
{
	return status == STATUS_PEER || status == STATUS_PARTIAL;
}

/* Serves one sender, from its welcome to the result. */
static int serve(struct receiver *receiver, struct sender *sender)
{
	struct output *output = &receiver->output;
	bool own_output = !receiver->settings->keep || receiver->settings->exec;
	int status = output_open(output, receiver->settings);

	if (status == 0) {
		status = receive_one(receiver, sender);
		if (status != AT_THE_END)
			status = output_abandon(output, status);
		else
			status = own_output ? output_close(output) : output_sync(output);
	}
	if (status == 0 && !receiver->settings->keep)
		status = tee_close();
	answer(sender, status);
	return status;
}

/* Whether to go on to another sender. The status is remembered if this sender was lost. */
static bool goes_on(struct receiver *receiver, int status)
{
	const struct settings *settings = receiver->settings;

	receiver->served++;
	if (status != STATUS_UNREAD && !receiver->trouble)
		receiver->trouble = status;
	if (stop_signal() || !settings->keep)
		return false;
	/*
	 * The next sender gets another command, so it does not matter that this one failed or
	 * stopped reading.
	 */
	return status == 0 || is_peers_fault(status) || (settings->exec && !settings->merge);
}

/* Whether enough was served that it is a success if nobody else comes. */
static bool is_enough(const struct receiver *receiver, int error)
{
	return receiver->served > 0 && (error == -ETIMEDOUT || error == -EAGAIN) && !stop_signal();
}

/* Returns the status for the case that nobody has come. */
static int nobody(struct receiver *receiver, int error)
{
	if (stop_signal())
		return STATUS_FAILED;
	if (is_enough(receiver, error))
		return receiver->trouble;
	return complain_address(&command_recv, receiver->settings->address,
				error == -EAGAIN ? -ETIMEDOUT : error);
}

/* Serves one sender, or with --keep one after the other. */
static int serve_in_turn(struct receiver *receiver)
{
	struct senders *senders = &receiver->senders;
	struct sender *sender;
	int error, status;

	do {
		error = senders_wait(senders, &sender, receiver->settings->wait_ns);
		if (error < 0)
			return nobody(receiver, error);
		senders_take(senders, sender);
		/* Only one sender is served, so the address becomes free for the next pair. */
		if (!receiver->settings->keep)
			senders_no_more(senders);
		progress_watch(sender->pipe, false);
		status = serve(receiver, sender);
		progress_watch(NULL, false);
		senders_leave(senders, sender);
	} while (goes_on(receiver, status));
	return status;
}

/* Writes out what has come from one of many senders. Returns 0 to go on, or a status to end with. */
static int serve_turn(struct receiver *receiver, struct sender *sender)
{
	ssize_t error = 0;
	int status = 0;
	unsigned i;

	for (i = 0; i < TURN && status == 0 && error == 0; i++)
		status = take(receiver, sender, 0, &error);
	if (status == 0 && (error == 0 || error == -EAGAIN || error == -EINTR))
		return 0;
	if (status == AT_THE_END)
		status = output_sync(&receiver->output);
	else if (status == 0)
		status = lost_sender(sender, error);
	answer(sender, status);
	senders_leave(&receiver->senders, sender);
	return goes_on(receiver, status) ? 0 : status;
}

/* How long to wait for another sender. While senders are connected there is no limit: they may be silent. */
static int64_t patience(const struct receiver *receiver)
{
	return receiver->senders.welcomed > 0 ? -1 : receiver->settings->wait_ns;
}

/* Serves many senders at once, into one output. */
static int serve_merged(struct receiver *receiver)
{
	struct sender *sender;
	int status = output_open(&receiver->output, receiver->settings);
	int error, closed;
	unsigned i;

	while (status == 0) {
		error = senders_wait(&receiver->senders, &sender, 0);
		if (error == -EAGAIN) {
			status = output_flush(&receiver->output);
			if (status)
				break;
			error = senders_wait(&receiver->senders, &sender, patience(receiver));
		}
		if (error < 0) {
			status = nobody(receiver, error);
			if (!is_enough(receiver, error))
				break;
			closed = output_close(&receiver->output);
			return closed ? closed : status;
		}
		status = serve_turn(receiver, sender);
	}
	status = output_abandon(&receiver->output, status);
	for (i = 0; i < SENDERS; i++) {
		if (receiver->senders.list[i].welcomed)
			answer(&receiver->senders.list[i], status);
	}
	return status;
}

static int receive(struct receiver *receiver)
{
	const struct settings *settings = receiver->settings;
	size_t buffer_size = settings->buffer ? settings->buffer : DEFAULT_BUFFER;
	int status, closed;
	int error = senders_open(&receiver->senders, settings, buffer_size);

	if (error < 0)
		return stop_signal() ? STATUS_FAILED
				     : complain_address(&command_recv, settings->address, error);
	/* The file is opened only when the address is ours: another receiver may be writing to it. */
	status = tee_open(settings->tee);
	if (status == 0) {
		if (settings->progress)
			progress_start(settings->size);
		pace_start(settings->rate);
		status = settings->merge ? serve_merged(receiver) : serve_in_turn(receiver);
		progress_end();
		closed = tee_close();
		status = status ? status : closed;
	}
	senders_close(&receiver->senders);
	return status;
}

static int run(int argc, char **argv)
{
	static struct receiver receiver;
	struct settings settings;
	int status;

	if (!parse_settings(&settings, &command_recv, argc, argv, &status))
		return status;
	receiver.settings = &settings;
	catch_signals();
	status = receive(&receiver);
	/* If everything has been written, it is a success even if a signal came meanwhile. */
	return status != 0 && stop_signal() ? 128 + stop_signal() : status;
}

const struct command command_recv = {
	.name = "recv",
	.summary = "write what a 'bufpipe send' sends to standard output",
	.help = "usage: bufpipe recv [OPTION...] ADDRESS\n\n"
		"Waits at ADDRESS for one 'bufpipe send' and writes what it sends to standard\n"
		"output.  Ends with status 0 only when all of it has arrived.  Either may be\n"
		"started first.  ADDRESS is @name (an abstract name), /path or ./path (a socket),\n"
		"fd:N or systemd: (a socket that listens already).\n\n"
		"  --keep          go on for the next sender, one after the other\n"
		"  --merge         the same, with many senders at once into one output\n"
		"  --exec COMMAND  write to the standard input of COMMAND, which the shell runs;\n"
		"                  with --keep each sender gets its own\n"
		"  --tee FILE      write a copy to FILE\n"
		"  --buffer SIZE   the pipe holds SIZE bytes (1M)\n"
		"  --wait SECONDS  give up if no sender comes in this time (wait for ever)\n"
		"  --any-user      let the sender belong to any user, not only to this one or root\n"
		"  --rate-limit SIZE  write no more than SIZE bytes a second\n"
		"  --progress      show bytes, rate, time and how full the pipe is on the terminal\n"
		"  --size SIZE     how much will come: --progress shows how long it will take\n\n"
		"SIZE may end in K, M or G.  The exit status tells what went wrong: bufpipe(1).\n",
	.run = run,
};
