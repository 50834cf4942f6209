/* SPDX-License-Identifier: MIT */
#include "args.h"

#include <math.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static int find_name(const struct signature *s, PyObject *name)
{
	for (int i = 0; s->names[i]; i++) {
		if (PyUnicode_CompareWithASCIIString(name, s->names[i]) == 0)
			return i;
	}
	PyErr_Format(PyExc_TypeError, "%s() got an unexpected keyword argument '%U'", s->function, name);
	return -1;
}

bool args_parse(const struct signature *s, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames,
		PyObject **values)
{
	Py_ssize_t named = kwnames ? PyTuple_GET_SIZE(kwnames) : 0;

	if (nargs > s->positional) {
		PyErr_Format(PyExc_TypeError, "%s() takes at most %d positional arguments (%zd given)",
			     s->function, s->positional, nargs);
		return false;
	}
	for (int i = 0; s->names[i]; i++)
		values[i] = i < nargs ? args[i] : NULL;
	for (Py_ssize_t k = 0; k < named; k++) {
		int i = find_name(s, PyTuple_GET_ITEM(kwnames, k));

		if (i < 0)
			return false;
		if (values[i]) {
			PyErr_Format(PyExc_TypeError, "%s() got multiple values for argument '%s'",
				     s->function, s->names[i]);
			return false;
		}
		values[i] = args[nargs + k];
	}
	for (int i = 0; i < s->required; i++) {
		if (!values[i]) {
			PyErr_Format(PyExc_TypeError, "%s() missing required argument: '%s'", s->function,
				     s->names[i]);
			return false;
		}
	}
	return true;
}

static int64_t now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * NSEC_PER_SEC + t.tv_nsec;
}

int64_t deadline_from(int64_t timeout_ns)
{
	int64_t deadline;

	if (timeout_ns == 0)
		return DEADLINE_TRY;
	if (timeout_ns < 0 || __builtin_add_overflow(now(), timeout_ns, &deadline))
		return DEADLINE_NEVER;
	return deadline;
}

int64_t deadline_slice(int64_t deadline, int64_t most)
{
	int64_t left;

	if (deadline <= DEADLINE_TRY)
		return 0;
	if (deadline == DEADLINE_NEVER)
		return most == DEADLINE_NEVER ? -1 : most;
	left = deadline - now();
	if (left <= 0)
		return 0;
	return left < most ? left : most;
}

int args_timeout_ns(PyObject *timeout, int64_t *timeout_ns)
{
	double seconds;

	*timeout_ns = -1;
	if (!timeout || timeout == Py_None)
		return 0;
	seconds = PyFloat_AsDouble(timeout);
	if (seconds == -1.0 && PyErr_Occurred()) {
		if (PyErr_ExceptionMatches(PyExc_TypeError))
			PyErr_Format(PyExc_TypeError, "timeout must be None or a number, not %R", timeout);
		return -1;
	}
	if (isnan(seconds) || seconds < 0) {
		PyErr_Format(PyExc_ValueError, "timeout must be None or at least 0, not %R", timeout);
		return -1;
	}
	/* Rounded up: a timeout that is not 0 must not become a mere try. */
	if (seconds < 9e9)
		*timeout_ns = (int64_t)ceil(seconds * 1e9);
	return 0;
}

int args_deadline(PyObject *timeout, int64_t *deadline)
{
	int64_t timeout_ns;

	if (args_timeout_ns(timeout, &timeout_ns) < 0)
		return -1;
	*deadline = deadline_from(timeout_ns);
	return 0;
}

int args_wait_deadline(PyObject *timeout, int64_t *deadline)
{
	double seconds = timeout && timeout != Py_None ? PyFloat_AsDouble(timeout) : 0;

	if (seconds < 0 && !PyErr_Occurred()) {
		*deadline = DEADLINE_TRY;
		return 0;
	}
	PyErr_Clear(); /* args_deadline raises it again, with a better text */
	return args_deadline(timeout, deadline);
}

size_t args_memory(void)
{
	long pages = sysconf(_SC_PHYS_PAGES);

	return pages > 0 ? (size_t)pages * (size_t)sysconf(_SC_PAGESIZE) : (size_t)1 << 40;
}

bool args_size(PyObject *value, const char *name, size_t absent, size_t *size)
{
	Py_ssize_t n;

	*size = absent;
	if (!value || value == Py_None)
		return true;
	n = PyNumber_AsSsize_t(value, NULL);
	if (n == -1 && PyErr_Occurred()) {
		if (PyErr_ExceptionMatches(PyExc_TypeError))
			PyErr_Format(PyExc_TypeError, "%s must be an integer, not %R", name, value);
		return false;
	}
	if (n < 0) {
		PyErr_Format(PyExc_ValueError, "%s must not be negative, but is %R", name, value);
		return false;
	}
	*size = (size_t)n;
	return true;
}

bool args_number(PyObject *value, const char *name, size_t *size)
{
	if (value != Py_None)
		return args_size(value, name, 0, size);
	PyErr_Format(PyExc_TypeError, "%s must be an integer, not None", name);
	return false;
}

/* A buffer larger than the memory of the machine could never be filled. */
static bool is_within_reason(const struct bufpipe_options *options)
{
	size_t memory = args_memory();
	size_t size;

	if (__builtin_mul_overflow(options->object_size, options->object_count, &size))
		size = SIZE_MAX;
	if (options->buffer_size > size)
		size = options->buffer_size;
	if (options->object_size > size)
		size = options->object_size;
	if (size <= memory)
		return true;
	PyErr_Format(PyExc_ValueError,
		     "a buffer of %zu bytes is larger than the memory of this machine, which has %zu", size,
		     memory);
	return false;
}

bool args_options(struct bufpipe_options *options, PyObject *buffer_size, PyObject *object_size,
		  PyObject *object_count)
{
	*options = (struct bufpipe_options){ .flags = BUFPIPE_SHARED | BUFPIPE_INTERRUPTIBLE };
	if (!args_size(buffer_size, "buffer_size", 0, &options->buffer_size) ||
	    !args_size(object_size, "object_size", 0, &options->object_size) ||
	    !args_size(object_count, "object_count", 0, &options->object_count))
		return false;
	if (options->object_size && options->buffer_size)
		PyErr_SetString(PyExc_ValueError, "a pipe has a buffer_size or an object_size, not both");
	else if (options->object_count && !options->object_size)
		PyErr_SetString(PyExc_ValueError, "an object_count needs an object_size");
	else
		return is_within_reason(options);
	return false;
}

bool args_name(PyObject *value, struct bufpipe_options *options, PyObject **name)
{
	*name = NULL;
	if (!value || value == Py_None)
		return true;
	*name = PyUnicode_FromObject(value);
	options->name = *name ? PyUnicode_AsUTF8(*name) : NULL;
	if (options->name)
		return true;
	Py_CLEAR(*name);
	return false;
}
