/* SPDX-License-Identifier: MIT */
/* The type behind Queue and JoinableQueue: both ends of a pipe, and the counts of its items. */
#include "queue.h"

#include <fcntl.h>
#include <unistd.h>

static PyObject *queue_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
	struct state *state = state_of_class((PyObject *)type);
	struct queue *self = state ? (struct queue *)type->tp_alloc(type, 0) : NULL;

	(void)args;
	(void)kwargs;
	if (self)
		self->state = state;
	return (PyObject *)self;
}

static void queue_dealloc(PyObject *object)
{
	struct queue *self = (struct queue *)object;
	PyTypeObject *type = Py_TYPE(object);

	PyObject_GC_UnTrack(object);
	tally_drop(self->tally);
	Py_XDECREF((PyObject *)self->reader);
	Py_XDECREF((PyObject *)self->writer);
	Py_XDECREF(self->kept);
	type->tp_free(object);
	Py_DECREF(type);
}

static int queue_traverse(PyObject *object, visitproc visit, void *arg)
{
	struct queue *self = (struct queue *)object;

	Py_VISIT(Py_TYPE(object));
	Py_VISIT((PyObject *)self->reader);
	Py_VISIT((PyObject *)self->writer);
	Py_VISIT(self->kept);
	return 0;
}

/* The ends stay, because calls rely on them.  A cycle through an end is broken at the end's own references. */
static int queue_clear(PyObject *object)
{
	Py_CLEAR(((struct queue *)object)->kept);
	return 0;
}

static bool is_end(const struct queue *self, PyObject *object)
{
	if (!state_alive(self->state))
		return false;
	if (PyObject_TypeCheck(object, self->state->end_type))
		return true;
	PyErr_Format(PyExc_TypeError, "an End is needed, not %R", object);
	return false;
}

static void set_up(struct queue *self, PyObject *reader, PyObject *writer, struct tally *tally)
{
	self->reader = (struct end *)Py_NewRef(reader);
	self->writer = (struct end *)Py_NewRef(writer);
	self->tally = tally;
}

/* _set_up(reader, writer, maxsize, descriptor), once.  Duplicates the descriptor, which is -1 for a new queue. */
static PyObject *queue_set_up(PyObject *object, PyObject *args)
{
	struct queue *self = (struct queue *)object;
	PyObject *reader, *writer;
	struct tally *tally;
	Py_ssize_t maxsize;
	int fd;

	if (!PyArg_ParseTuple(args, "OOni", &reader, &writer, &maxsize, &fd) || !is_end(self, reader) ||
	    !is_end(self, writer))
		return NULL;
	if (self->tally) {
		PyErr_SetString(PyExc_RuntimeError, "this queue was set up before");
		return NULL;
	}
	if (fd >= 0) {
		fd = fcntl(fd, F_DUPFD_CLOEXEC, 3);
		if (fd < 0)
			return PyErr_SetFromErrno(PyExc_OSError);
	}
	tally = tally_open(fd, maxsize > 0 ? (size_t)maxsize : 0);
	if (!tally)
		return NULL;
	set_up(self, reader, writer, tally);
	Py_RETURN_NONE;
}

/* Another handle of the queue, which is closed separately. */
static PyObject *queue_fork(PyObject *object, PyObject *unused)
{
	struct queue *self = (struct queue *)object;
	PyObject *reader, *writer;
	struct queue *made = NULL;

	(void)unused;
	if (!queue_check(self))
		return NULL;
	reader = PyObject_CallMethod((PyObject *)self->reader, "fork", NULL);
	writer = reader ? PyObject_CallMethod((PyObject *)self->writer, "fork", NULL) : NULL;
	/* In a class that is derived in Python, fork() may return anything. */
	if (writer && is_end(self, reader) && is_end(self, writer))
		made = (struct queue *)queue_new(self->state->queue_type, NULL, NULL);
	if (made) {
		tally_hold(self->tally);
		set_up(made, reader, writer, self->tally);
	}
	Py_XDECREF(reader);
	Py_XDECREF(writer);
	return (PyObject *)made;
}

static PyObject *queue_close(PyObject *object, PyObject *unused)
{
	struct queue *self = (struct queue *)object;
	PyObject *done;

	(void)unused;
	self->closed = true;
	if (!self->tally)
		Py_RETURN_NONE;
	Py_CLEAR(self->kept);
	done = PyObject_CallMethod((PyObject *)self->reader, "close", NULL);
	if (!done)
		return NULL;
	Py_DECREF(done);
	return PyObject_CallMethod((PyObject *)self->writer, "close", NULL);
}

/* Returns NULL with the exception of a closed handle if the queue is closed. */
static struct tally *open_tally(struct queue *self)
{
	if (self->tally && !self->closed)
		return self->tally;
	return raise_closed();
}

static PyObject *queue_qsize(PyObject *object, PyObject *unused)
{
	struct queue *self = (struct queue *)object;
	struct tally *tally = open_tally(self);

	(void)unused;
	if (!tally)
		return NULL;
	return PyLong_FromSize_t(tally_size(tally, queue_pipe(self->writer), queue_pipe(self->reader)) +
				 queue_kept(self));
}

static PyObject *queue_empty(PyObject *object, PyObject *unused)
{
	struct queue *self = (struct queue *)object;
	struct hold *hold = open_tally(self) ? handle_hold(self->reader) : NULL;

	(void)unused;
	return hold ? PyBool_FromLong(!queue_kept(self) && !queue_has_items(hold)) : NULL;
}

static PyObject *queue_full(PyObject *object, PyObject *unused)
{
	struct queue *self = (struct queue *)object;
	struct tally *tally = open_tally(self);
	size_t maxsize;

	(void)unused;
	if (!tally)
		return NULL;
	maxsize = tally_maxsize(tally);
	return PyBool_FromLong(
		maxsize && tally_size(tally, queue_pipe(self->writer), queue_pipe(self->reader)) >= maxsize);
}

static PyObject *queue_task_done(PyObject *object, PyObject *unused)
{
	struct queue *self = (struct queue *)object;
	struct tally *tally = open_tally(self);

	(void)unused;
	if (!tally)
		return NULL;
	if (tally_task_done(tally))
		Py_RETURN_NONE;
	PyErr_SetString(PyExc_ValueError, "task_done() called too many times");
	return NULL;
}

static PyObject *queue_unfinished(PyObject *object, PyObject *unused)
{
	struct queue *self = (struct queue *)object;
	struct tally *tally = open_tally(self);

	(void)unused;
	return tally ? PyLong_FromSize_t(tally_unfinished(tally, queue_pipe(self->writer))) : NULL;
}

/* _join(timeout): whether all tasks are done. */
static PyObject *queue_join(PyObject *object, PyObject *timeout)
{
	struct queue *self = (struct queue *)object;
	int64_t deadline, slice = 0;

	if (!queue_deadline(NULL, timeout, &deadline))
		return NULL;
	do {
		struct tally *tally = open_tally(self);
		struct hold *hold = tally ? handle_hold(self->writer) : NULL;
		struct use use;
		int failed, r;

		if (!hold)
			return NULL;
		hold_use(hold, &use);
		WITHOUT_GIL(r = tally_join(tally, hold->pipe, slice));
		failed = r < 0 ? after_slice(self->writer, hold, SENDING, r) : 0;
		hold_unuse(&use);
		if (r == 0)
			Py_RETURN_TRUE;
		if (failed)
			return NULL;
		slice = deadline_slice(deadline, SLICE);
	} while (slice != 0);
	Py_RETURN_FALSE;
}

enum field { READER, WRITER, DESCRIPTOR, MAXSIZE, CLOSED };

static PyObject *queue_field(PyObject *object, void *field)
{
	struct queue *self = (struct queue *)object;

	if ((enum field)(uintptr_t)field == CLOSED)
		return PyBool_FromLong(!self->tally || self->closed);
	if (!self->tally)
		return raise_closed();
	switch ((enum field)(uintptr_t)field) {
	case READER:
		return Py_NewRef((PyObject *)self->reader);
	case WRITER:
		return Py_NewRef((PyObject *)self->writer);
	case DESCRIPTOR:
		return PyLong_FromLong(tally_fd(self->tally));
	default:
		return PyLong_FromSize_t(tally_maxsize(self->tally));
	}
}

#include "queue_doc.h"

#define FAST(function) ((PyCFunction)(void (*)(void))(function))
#define FASTCALL       (METH_FASTCALL | METH_KEYWORDS)

static PyMethodDef queue_methods[] = {
	{ "put", FAST(queue_put), FASTCALL, doc_put },
	{ "get", FAST(queue_get), FASTCALL, doc_get },
	{ "put_nowait", queue_put_nowait, METH_O, doc_put_nowait },
	{ "get_nowait", queue_get_nowait, METH_NOARGS, doc_get_nowait },
	{ "put_many", FAST(queue_put_many), FASTCALL, doc_put_many },
	{ "get_many", FAST(queue_get_many), FASTCALL, doc_get_many },
	{ "qsize", queue_qsize, METH_NOARGS, doc_qsize },
	{ "empty", queue_empty, METH_NOARGS, doc_empty },
	{ "full", queue_full, METH_NOARGS, doc_full },
	{ "close", queue_close, METH_NOARGS, doc_close },
	{ "_task_done", queue_task_done, METH_NOARGS, NULL },
	{ "_unfinished", queue_unfinished, METH_NOARGS, NULL },
	{ "_join", queue_join, METH_O, NULL },
	{ "_get_now", queue_get_now, METH_NOARGS, NULL },
	{ "_get_more", queue_get_more, METH_VARARGS, NULL },
	{ "_put_dumped", FAST(queue_put_dumped), FASTCALL, NULL },
	{ "_fork", queue_fork, METH_NOARGS, NULL },
	{ "_set_up", queue_set_up, METH_VARARGS, NULL },
	{ NULL, NULL, 0, NULL },
};

#define GET(name, field, doc)                                 \
	{                                                     \
		name, queue_field, NULL, doc, (void *)(field) \
	}
static PyGetSetDef queue_getset[] = {
	GET("closed", CLOSED, "Whether this queue was closed in this process."),
	GET("maxsize", MAXSIZE,
	    "How many items it holds at most; 0 means as many as the buffer has room for."),
	GET("_reader", READER, "The end out of which items come."),
	GET("_writer", WRITER, "The end into which items go."),
	GET("_descriptor", DESCRIPTOR, "The descriptor of the memory with the counts."),
	{ NULL, NULL, NULL, NULL, NULL },
};

static PyType_Slot queue_slots[] = {
	{ Py_tp_doc, (void *)(uintptr_t)doc_queue },
	{ Py_tp_new, queue_new },
	{ Py_tp_dealloc, queue_dealloc },
	{ Py_tp_traverse, queue_traverse },
	{ Py_tp_clear, queue_clear },
	{ Py_tp_methods, queue_methods },
	{ Py_tp_getset, queue_getset },
	{ 0, NULL },
};

PyType_Spec queue_spec = {
	.name = "buffered_pipe._core.Queue",
	.basicsize = sizeof(struct queue),
	.flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
	.slots = queue_slots,
};
