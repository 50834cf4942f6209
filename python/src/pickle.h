/* SPDX-License-Identifier: MIT */
/* Sending and receiving objects. */
#ifndef BUFFERED_PIPE_PICKLE_H
#define BUFFERED_PIPE_PICKLE_H

#include "handle.h"

METHOD(handle_send_object);
METHOD(handle_recv_object);
/* The two halves of sending and of receiving an object, for asyncio. */
PyObject *handle_dump(PyObject *self, PyObject *object);
PyObject *handle_load(PyObject *self, PyObject *message);
PyObject *handle_recv_now(PyObject *self, PyObject *objects);
/* Loads the object of a message that send() made.  What follows the pickle in it is ignored. */
PyObject *message_load(struct state *state, PyObject *message);
/* Pickles the object, and gives the pieces to 'use'; there is room for one more.  -1 with an exception. */
typedef int use_pickle_fn(void *arg, struct iovec *pieces, size_t n, size_t len);
int pickle_use(struct state *state, PyObject *object, use_pickle_fn *use, void *arg);

/* To be called before the state is freed, and before its reducers change. */
void pickling_free_spare(struct state *state);
int pickling_traverse(const struct pickling *pickling, visitproc visit, void *arg);

#endif
