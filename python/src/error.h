/* SPDX-License-Identifier: MIT */
/* Errors of the library as exceptions of Python. */
#ifndef BUFFERED_PIPE_ERROR_H
#define BUFFERED_PIPE_ERROR_H

#include "args.h"
#include "hold.h"

/* Sets the exception for a negative errno and returns NULL.  The hold may be NULL. */
void *raise_error(const struct hold *hold, enum direction direction, long error);
void *raise_closed(void);
void *raise_timeout(const struct hold *hold, enum direction direction);
/* The end that a TimeoutError names: none after a mere try, as programs try often and the text costs time. */
static inline const struct hold *end_to_name(int64_t deadline, const struct hold *hold)
{
	return deadline <= DEADLINE_TRY ? NULL : hold;
}
/* Sets an OSError, or its subclass for this error, with a text and an address, which may be NULL. */
void *raise_os(int error, const char *text, PyObject *address);
/* For options each of which is valid, but which together ask for more than the library allows. */
void *raise_too_large(void);
/* Sets BufferTooShort, which carries the message; or a text, if the message stays in the pipe. */
void *raise_too_short(PyObject *message);
/* The full name of a type: its module and its name. */
PyObject *name_of(PyTypeObject *type);

#endif
