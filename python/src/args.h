/* SPDX-License-Identifier: MIT */
/* Arguments and timeouts. */
#ifndef BUFFERED_PIPE_ARGS_H
#define BUFFERED_PIPE_ARGS_H

#include "base.h"

/* An absolute time on CLOCK_MONOTONIC, or one of these. */
#define DEADLINE_TRY   0
#define DEADLINE_NEVER INT64_MAX
/*
 * A try, like DEADLINE_TRY.  But if it has received a part of a message longer than
 * the ring, it raises BlockingIOError, and the caller should call again soon.
 */
#define DEADLINE_TRY_SHORT (-1)

/*
 * Stores a borrowed reference to each argument in values, or NULL if it was not given.
 * Returns false with an exception.
 */
struct signature {
	const char *function;
	int positional; /* how many may be given by position */
	int required;
	const char *names[10];
};
bool args_parse(const struct signature *signature, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames,
		PyObject **values);

/* The timeout is in seconds; None and NULL mean for ever.  Returns 0, or -1 with an exception. */
int args_deadline(PyObject *timeout, int64_t *deadline);
/* The same, but a negative timeout is 0, as in the waiting calls of multiprocessing. */
int args_wait_deadline(PyObject *timeout, int64_t *deadline);
int args_timeout_ns(PyObject *timeout, int64_t *timeout_ns);
/*
 * False with an exception if the value is negative or no integer.  Without a value
 * the size is 'absent'.  A value that is too large becomes the largest size.
 */
bool args_size(PyObject *value, const char *name, size_t absent, size_t *size);
/* The same, but without a value the size is 0, and None is a TypeError. */
bool args_number(PyObject *value, const char *name, size_t *size);

/* How many bytes of memory the machine has. */
size_t args_memory(void);

/* Sets the options of a pipe from keyword values.  Returns false with an exception. */
bool args_options(struct bufpipe_options *options, PyObject *buffer_size, PyObject *object_size,
		  PyObject *object_count);

/*
 * The name of a pipe; false with an exception.  *name is a new reference, NULL without
 * a name, and must live as long as the options.  It is a plain str: an object of a
 * derived class could run code whenever the name is shown.
 */
bool args_name(PyObject *value, struct bufpipe_options *options, PyObject **name);

int64_t deadline_from(int64_t timeout_ns);
/*
 * The time that is left, at most 'most'; 0 when the time is up.  -1, to wait for ever, only
 * if 'most' is DEADLINE_NEVER too.
 */
int64_t deadline_slice(int64_t deadline, int64_t most);

#endif
