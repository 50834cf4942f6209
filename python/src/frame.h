/* SPDX-License-Identifier: MIT */
/* A message that carries buffers beside the pickle. */
#ifndef BUFFERED_PIPE_FRAME_H
#define BUFFERED_PIPE_FRAME_H

#include "handle.h"

bool frame_recognise(const void *begin, size_t len);
PyObject *frame_load(struct state *state, PyObject *bytearray);
size_t frame_head_size(size_t buffers);
void frame_head(void *head, size_t pickled, const Py_buffer *buffers, size_t n);
size_t frame_padding(size_t position);

#endif
