/* SPDX-License-Identifier: MIT */
#include "sending.h"

#include <errno.h>
#include <string.h>

#include "../progress.h"
#include "protocol.h"

/* Returns the result that the receiver has sent, if it has. */
static char last_word(const struct sending *sending)
{
	char word = 0;

	return bufpipe_recv(sending->pipe, &word, sizeof(word), 0) == sizeof(word) ? word : 0;
}

int lost_receiver(const struct sending *sending, int error)
{
	char word;

	if (stop_signal())
		return STATUS_FAILED;
	if (error != -EPIPE) {
		complain("sending: %s", bufpipe_strerror(error));
		return error == -EPROTO ? STATUS_PEER : STATUS_FAILED;
	}
	word = last_word(sending);
	if (word == SAY_UNREAD)
		return STATUS_UNREAD;
	if (word == SAY_FAILED)
		complain("the receiver could not write everything; its message says why");
	else
		complain("the receiver ended before it had everything");
	return STATUS_PEER;
}

/* A long message gets no timeout: after a timeout it would begin again. */
int send_message(struct sending *sending, const void *data, size_t len)
{
	int64_t timeout_ns = len > sending->buffer_size ? -1 : progress_tick_ns();
	int result;

	do
		result = bufpipe_send(sending->pipe, data, len, timeout_ns);
	while (should_repeat(result));
	if (result < 0)
		return lost_receiver(sending, result);
	progress_add(len);
	return 0;
}

int send_batch(struct sending *sending, const struct iovec *batch, unsigned n)
{
	ssize_t sent, i;

	while (n > 0) {
		do
			sent = bufpipe_send_many(sending->pipe, batch, n, progress_tick_ns());
		while (should_repeat(sent));
		if (sent < 0)
			return lost_receiver(sending, (int)sent);
		for (i = 0; i < sent; i++)
			progress_add(batch[i].iov_len);
		batch += sent;
		n -= (unsigned)sent;
	}
	return 0;
}
