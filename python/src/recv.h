/* SPDX-License-Identifier: MIT */
/* Receiving bytes. */
#ifndef BUFFERED_PIPE_RECV_H
#define BUFFERED_PIPE_RECV_H

#include "handle.h"

/*
 * Receives a message into a new object: bytes, or a bytearray if 'writable' says
 * so of its first bytes (NULL: never).
 */
typedef bool writable_fn(const void *begin, size_t len);
PyObject *handle_receive(struct end *self, int64_t deadline, writable_fn *writable);
METHOD(handle_recv_bytes);
METHOD(handle_recv_bytes_into);

#endif
