/* SPDX-License-Identifier: MIT */
/*
 * A message in place: a context manager whose 'with' gives a memoryview into
 * the ring.  Inside the block the thread has the lock of the end, so the same thread
 * must leave the block.  The memory must stay while something in Python points to
 * it, so the message is over only when its last memoryview is gone.
 */
#include "view.h"

#include "view_state.h"

static int view_getbuffer(PyObject *self, Py_buffer *buffer, int flags)
{
	struct view *view = (struct view *)self;

	buffer->obj = NULL; /* as it must be after a failure */
	if (view->state != VIEW_OPEN) {
		PyErr_SetString(PyExc_BufferError, "this view is not open");
		return -1;
	}
	if (PyBuffer_FillInfo(buffer, self, view->at, (Py_ssize_t)view->len, !view->sends, flags) < 0)
		return -1;
	view->exports++;
	return 0;
}

static void view_releasebuffer(PyObject *self, Py_buffer *buffer)
{
	struct view *view = (struct view *)self;

	(void)buffer;
	view->exports--;
	if (view->exports == 0 && view->state == VIEW_ENDING)
		view_throw_away(view);
}

/* Drops the message if the block was entered and never left. */
static void view_dealloc(PyObject *self)
{
	struct view *view = (struct view *)self;
	PyTypeObject *type = Py_TYPE(self);

	PyObject_GC_UnTrack(self);
	if (view->hold)
		view_throw_away(view);
	Py_CLEAR(view->memory);
	Py_CLEAR(view->end);
	type->tp_free(self);
	Py_DECREF(type);
}

static int view_traverse(PyObject *self, visitproc visit, void *arg)
{
	struct view *view = (struct view *)self;

	Py_VISIT(Py_TYPE(self));
	Py_VISIT(view->memory);
	Py_VISIT((PyObject *)view->end);
	return 0;
}

/* The view and its memoryview refer to each other.  An end of a class derived in Python may refer to the view. */
static int view_clear(PyObject *self)
{
	struct view *view = (struct view *)self;

	/* A view without its end cannot be entered, but it can be left, for which its hold is enough. */
	if (view->state == VIEW_NEW)
		view->state = VIEW_DONE;
	Py_CLEAR(view->memory);
	Py_CLEAR(view->end);
	return 0;
}

static size_t view_size(const struct view *view)
{
	return view->sends ? view->commit_len : view->len;
}

static PyObject *view_repr(PyObject *self)
{
	static const char *const states[] = {
		[VIEW_NEW] = "not entered", [VIEW_ENTERING] = "being entered",  [VIEW_OPEN] = "open",
		[VIEW_COPIED] = "open",     [VIEW_ENDING] = "left, but in use", [VIEW_DONE] = "left",
	};
	struct view *view = (struct view *)self;
	PyObject *name = name_of(Py_TYPE(self));
	PyObject *text;

	if (!name)
		return NULL;
	/* Nobody knows yet which message it will be. */
	if ((view->state == VIEW_NEW || view->state == VIEW_ENTERING) && !view->sends)
		text = PyUnicode_FromFormat("<%U receiving, %s, at %p>", name, states[view->state],
					    (void *)self);
	else
		text = PyUnicode_FromFormat("<%U %s %zu bytes, %s, at %p>", name,
					    view->sends ? "sending" : "receiving", view_size(view),
					    states[view->state], (void *)self);
	Py_DECREF(name);
	return text;
}

static PyObject *view_get_size(PyObject *self, void *unused)
{
	(void)unused;
	return PyLong_FromSize_t(view_size((struct view *)self));
}

static int view_set_size(PyObject *self, PyObject *value, void *unused)
{
	struct view *view = (struct view *)self;
	const struct hold *hold;
	size_t size;

	(void)unused;
	if (!view->sends || !value) {
		PyErr_SetString(PyExc_AttributeError,
				"only the size of a message that is to be sent can be set");
		return -1;
	}
	if (!args_number(value, "size", &size))
		return -1;
	/* An open view outlives the handle that it was made of. */
	hold = view->hold ? view->hold : view->end ? view->end->hold : NULL;
	if (size > view->len || (hold && hold_static(hold) && size != view->len)) {
		PyErr_Format(PyExc_ValueError, "%zu bytes were reserved", view->len);
		return -1;
	}
	view->commit_len = size;
	return 0;
}

PyDoc_STRVAR(
	view_doc,
	"A message inside the pipe's memory: a context manager that gives a memoryview of it.\n\n"
	"End.send_view() and End.recv_view() make it.  Only entering the block waits and reserves, and a\n"
	"view can be entered once.  The thread that enters the block must leave it soon, because others\n"
	"wait for it, and cannot use the same direction of the end in between.");

static PyMethodDef view_methods[] = {
	{ "__enter__", view_enter, METH_NOARGS,
	  "__enter__($self, /)\n--\n\n"
	  "Wait for the message or for room, and return the memoryview." },
	{ "__exit__", (PyCFunction)(void (*)(void))view_exit, METH_FASTCALL,
	  "__exit__($self, exc_type, exc, traceback, /)\n--\n\n"
	  "Consume or send the message." },
	{ NULL, NULL, 0, NULL },
};

static PyGetSetDef view_getset[] = {
	{ "size", view_get_size, view_set_size,
	  "How many bytes the message has.  Before it is sent, it can be set to fewer than were reserved.",
	  NULL },
	{ NULL, NULL, NULL, NULL, NULL },
};

static PyType_Slot view_slots[] = {
	{ Py_tp_doc, (void *)(uintptr_t)view_doc },
	{ Py_tp_dealloc, view_dealloc },
	{ Py_tp_repr, view_repr },
	{ Py_tp_traverse, view_traverse },
	{ Py_tp_clear, view_clear },
	{ Py_tp_methods, view_methods },
	{ Py_tp_getset, view_getset },
	{ Py_bf_getbuffer, view_getbuffer },
	{ Py_bf_releasebuffer, view_releasebuffer },
	{ 0, NULL },
};

PyType_Spec view_spec = {
	.name = "buffered_pipe.MessageView",
	.basicsize = sizeof(struct view),
	.flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
	.slots = view_slots,
};
