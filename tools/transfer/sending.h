/* SPDX-License-Identifier: MIT */
/* The sending of messages to a receiver that has made us welcome. */
#ifndef SENDING_H
#define SENDING_H

#include <stddef.h>
#include <sys/uio.h>

#include <bufpipe.h>

#include "../common.h"

struct sending {
	bufpipe_t *pipe;
	size_t buffer_size;
	size_t block;
};

/* These return 0 or a status to exit with. They have printed a message, except for STATUS_UNREAD. */

/* Returns the status for a call on the pipe that failed. The receiver may have told why it ended. */
int lost_receiver(const struct sending *sending, int error);
/* One message of any length. */
int send_message(struct sending *sending, const void *data, size_t len);
/* Messages that are no longer than the pipe holds. */
int send_batch(struct sending *sending, const struct iovec *batch, unsigned n);
/* The input, each line as a message, up to its end. */
int send_lines(struct sending *sending);

#endif
