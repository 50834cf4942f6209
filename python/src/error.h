/* SPDX-License-Identifier: MIT */
/* What an error is in Python. */
#ifndef BUFFERED_PIPE_ERROR_H
#define BUFFERED_PIPE_ERROR_H

#include "hold.h"

/* Sets the exception for a negative errno and returns NULL.  The hold may be NULL. */
void *raise_error(const struct hold *hold, enum direction direction, long error);
void *raise_closed(void);
void *raise_timeout(enum direction direction);
/* An OSError, or what that is for this error, with a text; at an address, or NULL. */
void *raise_os(int error, const char *text, PyObject *address);
/* For options that the library calls invalid, when each on its own is none. */
void *raise_too_large(void);
/* A message is too long for where it shall go: it is in the exception, or a text if it stays in the pipe. */
void *raise_too_short(PyObject *message);
/* What a type is called where it is imported from. */
PyObject *name_of(PyTypeObject *type);

#endif
