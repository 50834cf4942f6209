/* SPDX-License-Identifier: MIT */
#include "error.h"

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

void *raise_timeout(enum direction direction)
{
	PyErr_SetString(PyExc_TimeoutError, direction == SENDING     ? "no room in the pipe in time"
					    : direction == RECEIVING ? "no message arrived in time"
								     : "nobody came in time");
	return NULL;
}

/* An instance at once: before 3.12 only that is a BrokenPipeError from the beginning. */
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

void *raise_error(const struct hold *hold, enum direction direction, long error)
{
	switch (-error) {
	case EPIPE:
		if (direction == RECEIVING)
			PyErr_SetString(PyExc_EOFError, "the stream has ended, and everything was received");
		else
			raise_os(EPIPE,
				 direction == SENDING ? "nobody is left to receive, or this end was shut down"
						      : "the socket was closed",
				 NULL);
		return NULL;
	case EAGAIN:
	case ETIMEDOUT:
		return raise_timeout(direction);
	case EBADF:
		return raise_os(EBADF,
				direction == SENDING     ? "this end only receives"
				: direction == RECEIVING ? "this end only sends"
							 : "this is no open descriptor",
				NULL);
	case EBUSY:
		PyErr_SetString(PyExc_RuntimeError,
				"this thread is in the middle of a message of this end: in the 'with' of a "
				"view, or something still points into one, or a signal handler has "
				"interrupted a long message");
		return NULL;
	case EPROTO:
		return raise_os(EPROTO, "the other side broke the protocol of the shared memory", NULL);
	case ENOMEM:
		return PyErr_NoMemory();
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
