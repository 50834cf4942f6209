/* SPDX-License-Identifier: MIT */
/* bufpipe send. */
#include <errno.h>

#include "../progress.h"
#include "culprit.h"
#include "input.h"
#include "meet.h"
#include "pace.h"
#include "protocol.h"
#include "sending.h"
#include "settings.h"
#include "tee.h"

/* A pipe of the shell holds as much, so one read rarely gives more. */
#define DEFAULT_BLOCK ((size_t)64 << 10)

static int send_blocks(struct sending *sending)
{
	ssize_t got;
	void *room;
	int result;

	for (;;) {
		do
			result = bufpipe_reserve(sending->pipe, &room, sending->block, progress_tick_ns());
		while (should_repeat(result));
		if (result < 0)
			return lost_receiver(sending, result);
		got = input_read(room, pace_piece(sending->block));
		if (got <= 0) {
			bufpipe_cancel(sending->pipe);
			return got < 0 ? STATUS_FAILED : 0;
		}
		result = bufpipe_commit(sending->pipe, (size_t)got);
		if (result < 0)
			return lost_receiver(sending, result);
		progress_add((size_t)got);
		pace_spend((size_t)got);
	}
}

/* Marks the end and waits until the receiver has written everything. */
static int finish(struct sending *sending)
{
	char answer = 0;
	ssize_t result;
	int status = send_message(sending, NULL, 0);

	if (status)
		return status;
	result = bufpipe_shutdown(sending->pipe);
	if (result < 0)
		return lost_receiver(sending, (int)result);
	do
		result = bufpipe_recv(sending->pipe, &answer, sizeof(answer), progress_tick_ns());
	while (should_repeat(result));
	if (result < 0)
		return lost_receiver(sending, (int)result);
	if (answer == SAY_UNREAD)
		return STATUS_UNREAD;
	if (answer == SAY_DONE)
		return 0;
	complain("the receiver could not write everything; its message says why");
	return STATUS_PEER;
}

static int send_input(struct sending *sending, const struct settings *settings)
{
	int status = settings->lines ? send_lines(sending) : send_blocks(sending);

	/* The end is not marked, so the receiver learns that the command failed. */
	if (status == 0)
		status = input_close();
	if (status == 0)
		status = finish(sending);
	return status;
}

static int send_all(bufpipe_t *pipe, const struct settings *settings)
{
	struct sending sending = { .pipe = pipe, .block = settings->block ? settings->block : DEFAULT_BLOCK };
	struct bufpipe_info info;
	int status = tee_open(settings->tee);

	if (status == 0)
		status = input_open(settings);
	if (status || bufpipe_get_info(pipe, &info) < 0)
		return STATUS_FAILED;
	sending.buffer_size = info.buffer_size;
	if (sending.block > sending.buffer_size)
		sending.block = sending.buffer_size;
	if (settings->progress)
		progress_start(settings->size ? settings->size : input_size());
	progress_watch(pipe, true);
	pace_start(settings->rate);
	status = send_input(&sending, settings);
	progress_end();
	if (status)
		input_abandon();
	return status;
}

static int run(int argc, char **argv)
{
	struct settings settings;
	bufpipe_t *pipe;
	int status;

	if (!parse_settings(&settings, &command_send, argc, argv, &status))
		return status;
	catch_signals();
	status = meet_receiver(&pipe, &settings);
	if (status == 0) {
		status = send_all(pipe, &settings);
		bufpipe_close(pipe);
	} else if (!stop_signal()) {
		status = complain_address(&command_send, settings.address, status);
	}
	/* If everything has arrived, it is a success even if a signal came meanwhile. */
	return status != 0 && stop_signal() ? 128 + stop_signal() : status;
}

const struct command command_send = {
	.name = "send",
	.summary = "send standard input to a 'bufpipe recv'",
	.help = "usage: bufpipe send [OPTION...] ADDRESS\n\n"
		"Sends standard input to the 'bufpipe recv' at ADDRESS, and ends with status 0\n"
		"only when that has written everything.  Either may be started first.\n"
		"ADDRESS is @name (an abstract name), /path or ./path (a socket).\n\n"
		"  --exec COMMAND  send the output of COMMAND, which the shell runs\n"
		"  --tee FILE      write a copy to FILE\n"
		"  --block SIZE    send messages of up to SIZE bytes, as read (64K)\n"
		"  --lines         send each line as a message\n"
		"  --buffer SIZE   the pipe holds SIZE bytes; at most the receiver's (the receiver's)\n"
		"  --wait SECONDS  give up if no receiver comes in this time (wait for ever)\n"
		"  --any-user      let the receiver belong to any user, not only to this one or root\n"
		"  --rate-limit SIZE  send no more than SIZE bytes a second\n"
		"  --progress      show bytes, rate, time and how full the pipe is on the terminal\n"
		"  --size SIZE     how much will come, if not from a file: --progress shows how long\n"
		"                  it will take\n\n"
		"SIZE may end in K, M or G.  The exit status tells what went wrong: bufpipe(1).\n",
	.run = run,
};
