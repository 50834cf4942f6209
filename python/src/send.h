/* SPDX-License-Identifier: MIT */
/* Sending bytes. */
#ifndef BUFFERED_PIPE_SEND_H
#define BUFFERED_PIPE_SEND_H

#include "handle.h"

/* Sends the n pieces, of len bytes together, as one message.  Returns 0, or -1 with an exception. */
int handle_send(struct end *self, const struct iovec *pieces, int n, size_t len, int64_t deadline);
/* Sends a bytes-like object to a static pipe. */
PyObject *handle_send_buffer(struct end *self, PyObject *buffer, int64_t deadline);
METHOD(handle_send_bytes);

#endif
