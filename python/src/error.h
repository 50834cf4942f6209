/* SPDX-License-Identifier: MIT */
/* What an error is in Python. */
#ifndef BUFFERED_PIPE_ERROR_H
#define BUFFERED_PIPE_ERROR_H

#include "args.h"
#include "hold.h"

/* Sets the exception for a negative errno and returns NULL.  The hold may be NULL. */
void *raise_error(const struct hold *hold, enum direction direction, long error);
void *raise_closed(void);
void *raise_timeout(const struct hold *hold, enum direction direction);
/* The end that a TimeoutError names.  That of a mere try names none: programs try often, and it costs time. */
static inline const struct hold *end_to_name(int64_t deadline, const struct hold *hold)
{
	return deadline <= DEADLINE_TRY ? NULL : hold;
}
/* An OSError, or what that is for this error, with a text; at an address, or NULL. */
void *raise_os(int error, const char *text, PyObject *address);
/* The library refuses options each of which is valid on its own: together they ask for too much. */
void *raise_too_large(void);
/* BufferTooShort.  It carries the message; or a text, if the message stays in the pipe. */
void *raise_too_short(PyObject *message);
/* The full name of a type: its module and its name. */
PyObject *name_of(PyTypeObject *type);

#endif
