/* SPDX-License-Identifier: MIT */
#include "meet.h"

#include <errno.h>

#include "../welcome.h"
#include "culprit.h"
#include "protocol.h"

/* The largest pipe that the receiver may choose, unless --buffer allows a larger one. */
#define LARGEST_BUFFER ((size_t)1 << 30)

/* Whether nobody listens yet, or the receiver has taken another sender and stopped listening. */
static bool may_come_later(int error)
{
	return error == -ENOENT || error == -ECONNREFUSED || error == -ECONNRESET || error == -EPIPE ||
	       error == -EAGAIN || error == -EINTR || error == -ETIMEDOUT;
}

static int64_t time_left(int64_t deadline_ns)
{
	int64_t left_ns;

	if (deadline_ns == INT64_MAX)
		return -1;
	left_ns = deadline_ns - now_ns();
	return left_ns > 0 ? left_ns : 0;
}

/*
 * Waits for the welcome of the receiver. Returns -ECANCELED if this side refuses the user of the receiver; then it
 * has printed a message.
 */
static int await_welcome(bufpipe_t *pipe, const struct settings *settings, int64_t timeout_ns)
{
	char word = SAY_HELLO;
	char answer = 0;
	ssize_t result;

	if (!peer_is_welcome(pipe, settings->address, settings->any_user))
		return -ECANCELED;
	/* The receiver ignores a client that leaves before it has sent anything. */
	result = bufpipe_send(pipe, &word, sizeof(word), 0);
	if (result < 0)
		return (int)result;
	do
		result = bufpipe_recv(pipe, &answer, sizeof(answer), timeout_ns);
	while (result == -EINTR && !stop_signal());
	if (result < 0)
		return (int)result;
	if (answer == SAY_REFUSED)
		return -EACCES;
	return answer == SAY_WELCOME ? 0 : -EBADMSG;
}

/* Makes one attempt to meet the receiver. */
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

/* Tries until a receiver is there, the time is up, or a signal asks this process to end. */
int meet_receiver(bufpipe_t **pipe, const struct settings *settings)
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
		if (path_is_no_socket(settings->address))
			return -EEXIST;
		left_ns = time_left(deadline_ns);
		if (left_ns == 0 && (result == -ETIMEDOUT || result == -EAGAIN))
			return NO_ANSWER;
		if (left_ns == 0)
			return settings->wait_ns > 0 ? -ETIMEDOUT : result;
		sleep_ns(left_ns > 0 && left_ns < pause_ns ? left_ns : pause_ns);
		/*
		 * Scripts start both sides at once, so try again soon at first. A long wait should
		 * cost little, so try rarely later.
		 */
		if (pause_ns < SECOND_NS / 4)
			pause_ns += pause_ns / 2;
	}
}
