/* SPDX-License-Identifier: MIT */
#include "error.h"

#include <stdio.h>
#include <sys/resource.h>
#include <unistd.h>

PyObject *name_of(PyTypeObject *type)
{
	PyObject *module = PyObject_GetAttrString((PyObject *)type, "__module__");
	PyObject *name = module ? PyObject_GetAttrString((PyObject *)type, "__qualname__") : NULL;
	PyObject *full = name ? PyUnicode_FromFormat("%S.%S", module, name) : NULL;

	Py_XDECREF(module);
	Py_XDECREF(name);
	return full;
}

void *raise_closed(void)
{
	PyErr_SetString(PyExc_OSError, "handle is closed");
	return NULL;
}

/* Makes the instance: before Python 3.12 only an instance has the right subclass, such as BrokenPipeError. */
void *raise_os(int error, const char *text, PyObject *address)
{
	PyObject *made = address ? PyObject_CallFunction(PyExc_OSError, "isO", error, text, address)
				 : PyObject_CallFunction(PyExc_OSError, "is", error, text);

	if (made) {
		PyErr_SetObject((PyObject *)Py_TYPE(made), made);
		Py_DECREF(made);
	}
	return NULL;
}

void *raise_too_large(void)
{
	PyErr_SetString(PyExc_ValueError, "a pipe cannot be that large: 2^40 bytes are the most");
	return NULL;
}

/* The same exception as multiprocessing has, with the message as its argument. */
void *raise_too_short(PyObject *message)
{
	PyObject *context = PyImport_ImportModule("multiprocessing.context");
	PyObject *type = context ? PyObject_GetAttrString(context, "BufferTooShort") : NULL;

	if (type)
		PyErr_SetObject(type, message);
	Py_XDECREF(type);
	Py_XDECREF(context);
	return NULL;
}

/* The text, followed by the name and the process of the end; the text alone if there is no hold. */
static PyObject *explain(const char *text, const struct hold *hold)
{
	if (!hold)
		return PyUnicode_FromString(text);
	if (!hold->name)
		return PyUnicode_FromFormat("%s (process %ld, whose peer was made by %ld)", text,
					    (long)getpid(), (long)hold->info.pid);
	return PyUnicode_FromFormat("%s (%R in process %ld, whose peer was made by %ld)", text, hold->name,
				    (long)getpid(), (long)hold->info.pid);
}

void *raise_timeout(const struct hold *hold, enum direction direction)
{
	PyObject *text = explain(direction == SENDING     ? "no room in the pipe in time"
				 : direction == RECEIVING ? "no message arrived in time"
							  : "nobody came in time",
				 hold);

	if (text)
		PyErr_SetObject(PyExc_TimeoutError, text);
	Py_XDECREF(text);
	return NULL;
}

static void *raise_ended(const struct hold *hold, enum direction direction)
{
	PyObject *text =
		explain(direction == RECEIVING ? "the stream has ended, and everything was received"
			: direction == SENDING ? "nobody is left to receive, or this end was shut down"
					       : "the socket was closed",
			hold);

	if (text && direction == RECEIVING)
		PyErr_SetObject(PyExc_EOFError, text);
	else if (text)
		raise_os(EPIPE, PyUnicode_AsUTF8(text), NULL);
	Py_XDECREF(text);
	return NULL;
}

/* There were not enough descriptors. */
static void *raise_exhausted(int error)
{
	struct rlimit limit = { 0 };
	char text[200];

	(void)getrlimit(RLIMIT_NOFILE, &limit);
	snprintf(text, sizeof(text),
		 error == EMFILE ? "too few descriptors: a pipe takes six here, two with handover=False, and "
				   "fileno() three more; "
				   "this process may have %llu (ulimit -n, resource.RLIMIT_NOFILE)"
				 : "too few descriptors in the whole system (sysctl fs.file-max)",
		 (unsigned long long)limit.rlim_cur);
	return raise_os(error, text, NULL);
}

void *raise_error(const struct hold *hold, enum direction direction, long error)
{
	PyObject *text;

	switch (-error) {
	case EPIPE:
		return raise_ended(hold, direction);
	case EMFILE:
	case ENFILE:
		return raise_exhausted((int)-error);
	case EOPNOTSUPP:
		return raise_os(EOPNOTSUPP, "this end was made with handover=False, and stays in its process",
				NULL);
	case EAGAIN:
	case ETIMEDOUT:
		return raise_timeout(NULL, direction);
	case EBADF:
		return raise_os(EBADF,
				direction == SENDING     ? "this end only receives"
				: direction == RECEIVING ? "this end only sends"
							 : "this is not an open descriptor",
				NULL);
	case EBUSY:
		PyErr_SetString(PyExc_RuntimeError,
				"this thread is in the middle of a message of this end: in the 'with' of a "
				"view, or something still points into one, or a signal handler has "
				"interrupted a long message");
		return NULL;
	case EPROTO:
		text = explain("the other side broke the protocol of the shared memory", hold);
		if (text)
			raise_os(EPROTO, PyUnicode_AsUTF8(text), NULL);
		Py_XDECREF(text);
		return NULL;
	case ENOMEM:
		PyErr_SetString(PyExc_MemoryError,
				"no memory, or more mappings than the sysctl vm.max_map_count allows");
		return NULL;
	case EMSGSIZE:
		if (hold && hold_static(hold))
			PyErr_Format(PyExc_ValueError, "this pipe carries messages of exactly %zu bytes",
				     hold->info.object_size);
		else
			raise_os(EMSGSIZE, "bad message length", NULL);
		return NULL;
	default:
		errno = (int)-error;
		return PyErr_SetFromErrno(PyExc_OSError);
	}
}
