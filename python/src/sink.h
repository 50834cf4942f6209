/* SPDX-License-Identifier: MIT */
/* The pieces of an object that is being pickled. */
#ifndef BUFFERED_PIPE_SINK_H
#define BUFFERED_PIPE_SINK_H

#include "handle.h"

struct sink_list {
	Py_buffer *views;
	size_t n;
	size_t room;
	size_t bytes;
};

struct sink {
	PyObject_HEAD struct sink_list chunks; /* of the pickle */
	struct sink_list buffers;              /* out of band */
	PyObject *reducers[2];
};

/* Releases all pieces.  The memory of the list stays for the next object. */
void sink_list_clear(struct sink_list *list);
extern PyType_Spec sink_spec;

#endif
