/* SPDX-License-Identifier: MIT */
/* A message that carries buffers beside the pickle.  frame.c describes its format. */
#ifndef BUFFERED_PIPE_FRAME_H
#define BUFFERED_PIPE_FRAME_H

#include "handle.h"

/* Whether a message that begins with these len bytes is a frame. */
bool frame_recognise(const void *begin, size_t len);
/* Loads the object of a frame, whose buffers then point into the bytearray. */
PyObject *frame_load(struct state *state, PyObject *bytearray);
/* The size of the head of a frame with this many buffers. */
size_t frame_head_size(size_t buffers);
/* Writes the head of a frame of a pickle with so many bytes and n buffers. */
void frame_head(void *head, size_t pickled, const Py_buffer *buffers, size_t n);
/* How many bytes of padding come before a buffer that would begin at this position. */
size_t frame_padding(size_t position);

#endif
