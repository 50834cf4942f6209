/* SPDX-License-Identifier: MIT */
/* What the files of the queue share. */
#ifndef BUFFERED_PIPE_QUEUE_H
#define BUFFERED_PIPE_QUEUE_H

#include "core.h"
#include "queue_count.h"
#include "quick.h"

extern PyType_Spec queue_spec;

/* Finds queue.Full and queue.Empty. */
bool queue_exceptions(struct state *state);

/* What Python calls _core.Queue. */
struct queue {
	PyObject_HEAD struct state *state;
	struct end *reader;
	struct end *writer;
	struct tally *tally; /* NULL until _set_up() */
	PyObject *kept;      /* a list of what was taken and not returned, see queue_get.c; or NULL */
	unsigned process;    /* the process that took it */
	bool closed;
};

/* Returns false with an exception if the queue is closed. */
bool queue_check(struct queue *self);
/* Returns NULL without an exception if the handle is closed. */
bufpipe_t *queue_pipe(const struct end *end);
/* Whether this call raised the exception, and not a signal handler, whose exception has a traceback. */
bool exception_is_ours(PyObject *type);
/* How many items this process has taken and not returned. */
size_t queue_kept(struct queue *self);
/* Whether there is an item or the end of the stream, even if another consumer is taking it at this moment. */
bool queue_has_items(struct hold *hold);
/* Reads the arguments block and timeout, as the queues of multiprocessing have them. */
bool queue_deadline(PyObject *block, PyObject *timeout, int64_t *deadline);

#define QUEUE_METHOD(name) \
	PyObject *name(PyObject *object, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
QUEUE_METHOD(queue_put);
QUEUE_METHOD(queue_put_many);
QUEUE_METHOD(queue_get);
QUEUE_METHOD(queue_get_many);
PyObject *queue_put_nowait(PyObject *object, PyObject *item);
PyObject *queue_get_nowait(PyObject *object, PyObject *unused);
/* For asyncio: puts what End._dump gave.  BlockingIOError if that is longer than the buffer and may not wait. */
QUEUE_METHOD(queue_put_dumped);
/* For asyncio: BlockingIOError if a part of a message longer than the buffer has come, and the rest will soon. */
PyObject *queue_get_now(PyObject *object, PyObject *unused);
/* _get_more(list, count): adds objects that are there already, until the list has 'count'. */
PyObject *queue_get_more(PyObject *object, PyObject *args);

#endif
