/* SPDX-License-Identifier: MIT */
/*
 * A message of send() is a pickle, as in multiprocessing.  If the pickle leaves
 * buffers out of band, the message is a frame instead:
 *
 *   8 bytes   FRAME_MAGIC; no pickle begins with its first byte
 *   8         length of the pickle
 *   8         number of buffers
 *   8 each    length of a buffer
 *   ...       the pickle
 *   ...       each buffer, at a multiple of 16
 *
 * The receiver keeps the frame in one bytearray, and the objects that it loads point into it.
 */
#include "frame.h"

#include <string.h>

#define FRAME_MAGIC 0x706675622d797000ull /* "\0py-bufp" */
#define FRAME_ALIGN 16

struct head {
	uint64_t magic;
	uint64_t pickled;
	uint64_t buffers;
};

size_t frame_padding(size_t position)
{
	return -position & (FRAME_ALIGN - 1);
}

size_t frame_head_size(size_t buffers)
{
	return sizeof(struct head) + buffers * sizeof(uint64_t);
}

void frame_head(void *to, size_t pickled, const Py_buffer *buffers, size_t n)
{
	struct head head = { FRAME_MAGIC, pickled, n };
	char *lengths = (char *)to + sizeof(head);

	memcpy(to, &head, sizeof(head));
	for (size_t i = 0; i < n; i++) {
		uint64_t len = (uint64_t)buffers[i].len;

		memcpy(lengths + i * sizeof(len), &len, sizeof(len));
	}
}

bool frame_recognise(const void *begin, size_t len)
{
	uint64_t magic;

	if (len < sizeof(struct head))
		return false;
	memcpy(&magic, begin, sizeof(magic));
	return magic == FRAME_MAGIC;
}

static PyObject *slice(PyObject *whole, size_t begin, size_t len)
{
	PyObject *from = PyLong_FromSize_t(begin);
	PyObject *to = PyLong_FromSize_t(begin + len);
	PyObject *range = from && to ? PySlice_New(from, to, NULL) : NULL;
	PyObject *part = range ? PyObject_GetItem(whole, range) : NULL;

	Py_XDECREF(range);
	Py_XDECREF(to);
	Py_XDECREF(from);
	return part;
}

/* The buffers, as a list of memoryviews; NULL, without an exception if the frame is damaged. */
static PyObject *buffers_of(PyObject *whole, const struct head *head)
{
	const Py_buffer *view = PyMemoryView_GET_BUFFER(whole);
	size_t at = frame_head_size(head->buffers) + head->pickled;
	PyObject *list = PyList_New(0);

	for (size_t i = 0; list && i < head->buffers; i++) {
		PyObject *part = NULL;
		uint64_t len;

		memcpy(&len, (char *)view->buf + frame_head_size(i), sizeof(len));
		at += frame_padding(at);
		if (at <= (size_t)view->len && len <= (size_t)view->len - at)
			part = slice(whole, at, len);
		at += len;
		if (!part || PyList_Append(list, part) < 0)
			Py_CLEAR(list);
		Py_XDECREF(part);
	}
	return list;
}

static PyObject *load_parts(struct state *state, PyObject *whole)
{
	const Py_buffer *view = PyMemoryView_GET_BUFFER(whole);
	PyObject *names = NULL, *loaded = NULL;
	PyObject *args[2] = { NULL, NULL };
	size_t room = (size_t)view->len - sizeof(struct head);
	struct head head;

	memcpy(&head, view->buf, sizeof(head));
	if (head.buffers <= room / sizeof(uint64_t) &&
	    head.pickled <= room - head.buffers * sizeof(uint64_t)) {
		args[0] = slice(whole, frame_head_size(head.buffers), head.pickled);
		args[1] = args[0] ? buffers_of(whole, &head) : NULL;
		names = args[1] ? PyTuple_Pack(1, state->name_buffers) : NULL;
	}
	if (names)
		loaded = PyObject_Vectorcall(state->loads, args, 1, names);
	else if (!PyErr_Occurred())
		PyErr_SetString(PyExc_ValueError, "the message is a damaged frame of pickle and buffers");
	Py_XDECREF(names);
	Py_XDECREF(args[1]);
	Py_XDECREF(args[0]);
	return loaded;
}

PyObject *frame_load(struct state *state, PyObject *bytearray)
{
	PyObject *whole = PyMemoryView_FromObject(bytearray);
	PyObject *loaded = whole ? load_parts(state, whole) : NULL;

	Py_XDECREF(whole);
	return loaded;
}
