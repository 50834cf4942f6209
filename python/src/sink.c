/* SPDX-License-Identifier: MIT */
/*
 * What a pickler writes into.  It keeps the pieces as they come, so that a large
 * bytes object or a buffer goes from where it is into the ring.
 */
#include "sink.h"

/* Smaller buffers become part of the pickle: copying them is faster than listing them. */
#define SMALL_BUFFER 1024

static Py_buffer *sink_list_grow(struct sink_list *list)
{
	if (list->n == list->room) {
		size_t room = list->room ? 2 * list->room : 8;
		Py_buffer *views = PyMem_Realloc(list->views, room * sizeof(*views));

		if (!views) {
			PyErr_NoMemory();
			return NULL;
		}
		list->views = views;
		list->room = room;
	}
	return &list->views[list->n];
}

void sink_list_clear(struct sink_list *list)
{
	while (list->n)
		PyBuffer_Release(&list->views[--list->n]);
	list->bytes = 0;
}

static int sink_list_add(struct sink_list *list, PyObject *object, int flags)
{
	Py_buffer *view = sink_list_grow(list);

	if (!view || PyObject_GetBuffer(object, view, flags) < 0)
		return -1;
	list->n++;
	list->bytes += (size_t)view->len;
	return 0;
}

static PyObject *sink_write(PyObject *self, PyObject *data)
{
	struct sink *sink = (struct sink *)self;

	if (sink_list_add(&sink->chunks, data, PyBUF_SIMPLE) < 0)
		return NULL;
	return PyLong_FromSsize_t(sink->chunks.views[sink->chunks.n - 1].len);
}

/* The buffer callback: true leaves a buffer in the pickle. */
static PyObject *sink_call(PyObject *self, PyObject *args, PyObject *kwargs)
{
	struct sink_list *buffers = &((struct sink *)self)->buffers;
	Py_buffer *view;
	PyObject *buffer;

	if (kwargs && PyDict_GET_SIZE(kwargs)) {
		PyErr_SetString(PyExc_TypeError, "this takes no keyword arguments");
		return NULL;
	}
	if (!PyArg_ParseTuple(args, "O", &buffer))
		return NULL;
	if (sink_list_add(buffers, buffer, PyBUF_FULL_RO) < 0)
		return NULL;
	view = &buffers->views[buffers->n - 1];
	if (view->len >= SMALL_BUFFER && PyBuffer_IsContiguous(view, 'A'))
		Py_RETURN_FALSE;
	buffers->bytes -= (size_t)view->len;
	buffers->n--;
	PyBuffer_Release(view);
	Py_RETURN_TRUE;
}

/* The sink is the dispatch table of the pickler as well.  It looks up what is registered now. */
static PyObject *sink_subscript(PyObject *self, PyObject *type)
{
	struct sink *sink = (struct sink *)self;

	for (int i = 0; i < 2; i++) {
		PyObject *found = sink->reducers[i] ? PyDict_GetItemWithError(sink->reducers[i], type) : NULL;

		if (found)
			return Py_NewRef(found);
		if (PyErr_Occurred())
			return NULL;
	}
	PyErr_SetObject(PyExc_KeyError, type);
	return NULL;
}

static void sink_dealloc(PyObject *self)
{
	struct sink *sink = (struct sink *)self;
	PyTypeObject *type = Py_TYPE(self);

	PyObject_GC_UnTrack(self);
	sink_list_clear(&sink->chunks);
	sink_list_clear(&sink->buffers);
	PyMem_Free(sink->chunks.views);
	PyMem_Free(sink->buffers.views);
	Py_XDECREF(sink->reducers[0]);
	Py_XDECREF(sink->reducers[1]);
	type->tp_free(self);
	Py_DECREF(type);
}

/* The pieces are not visited: the sink lets go of them at the end of each pickle. */
static int sink_traverse(PyObject *self, visitproc visit, void *arg)
{
	struct sink *sink = (struct sink *)self;

	Py_VISIT(Py_TYPE(self));
	Py_VISIT(sink->reducers[0]);
	Py_VISIT(sink->reducers[1]);
	return 0;
}

/* Breaks circles: the pickler refers to the sink, and the reducers lead to all modules. */
static int sink_clear(PyObject *self)
{
	struct sink *sink = (struct sink *)self;

	Py_CLEAR(sink->reducers[0]);
	Py_CLEAR(sink->reducers[1]);
	return 0;
}

static PyMethodDef sink_methods[] = { { "write", sink_write, METH_O, NULL }, { NULL, NULL, 0, NULL } };

static PyType_Slot sink_slots[] = {
	{ Py_tp_dealloc, sink_dealloc },
	{ Py_tp_traverse, sink_traverse },
	{ Py_tp_clear, sink_clear },
	{ Py_tp_call, sink_call },
	{ Py_mp_subscript, sink_subscript },
	{ Py_tp_methods, sink_methods },
	{ 0, NULL },
};

PyType_Spec sink_spec = {
	.name = "buffered_pipe._core.Sink",
	.basicsize = sizeof(struct sink),
	.flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
	.slots = sink_slots,
};
