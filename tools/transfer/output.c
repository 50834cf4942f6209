/* SPDX-License-Identifier: MIT */
#include "output.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "../progress.h"
#include "pace.h"
#include "tee.h"

/* Messages from this size on are written from where they are, without a copy. */
#define DIRECT 8192u

static int failed(const struct output *output, int error)
{
	if (error == EPIPE)
		return STATUS_UNREAD;
	if (!stop_signal())
		complain("%s: %s", output->name, strerror(error));
	return STATUS_FAILED;
}

int output_open(struct output *output, const struct settings *settings)
{
	output->gathered = 0;
	output->child.pid = 0;
	output->fd = STDOUT_FILENO;
	output->name = "standard output";
	if (!settings->exec)
		return 0;
	output->name = settings->exec;
	output->fd = child_start(&output->child, settings->exec, STDIN_FILENO);
	return output->fd < 0 ? failed(output, -output->fd) : 0;
}

static int write_out(struct output *output, const char *data, size_t len)
{
	size_t piece;
	int result;

	for (; len > 0; data += piece, len -= piece) {
		piece = pace_piece(len);
		result = write_all(output->fd, data, piece);
		if (result < 0)
			return failed(output, -result);
		result = tee_write(data, piece);
		if (result)
			return result;
		progress_add(piece);
		pace_spend(piece);
	}
	return 0;
}

int output_flush(struct output *output)
{
	size_t len = output->gathered;

	output->gathered = 0;
	return write_out(output, output->gather, len);
}

int output_put(struct output *output, const void *data, size_t len)
{
	int status;

	if (len > sizeof(output->gather) - output->gathered || len >= DIRECT) {
		status = output_flush(output);
		if (status)
			return status;
	}
	if (len >= DIRECT)
		return write_out(output, data, len);
	memcpy(output->gather + output->gathered, data, len);
	output->gathered += len;
	return 0;
}

int output_sync(struct output *output)
{
	int status = output_flush(output);
	int copy;

	if (status)
		return status;
	/*
	 * Some filesystems report only at a close that there was no room. Closing a copy of the descriptor is
	 * enough for that. If there is no descriptor for a copy, a later call of this function or the last
	 * close reports it.
	 */
	copy = dup(output->fd);
	return copy >= 0 && close(copy) < 0 ? failed(output, errno) : 0;
}

int output_close(struct output *output)
{
	int status = output_flush(output);

	if (status)
		return output_abandon(output, status);
	/* Some filesystems report only at the close that there was no room. */
	if (close(output->fd) < 0)
		return output_abandon(output, failed(output, errno));
	return child_wait(&output->child);
}

int output_abandon(struct output *output, int status)
{
	if (!output->child.pid)
		return status;
	if (status == STATUS_UNREAD) {
		close(output->fd);
		return child_wait(&output->child) ? STATUS_FAILED : STATUS_UNREAD;
	}
	child_kill(&output->child, output->fd);
	return status;
}
