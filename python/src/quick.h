/* SPDX-License-Identifier: MIT */
/* Small objects of built-in types, pickled without a pickler. */
#ifndef BUFFERED_PIPE_QUICK_H
#define BUFFERED_PIPE_QUICK_H

#include "base.h"

/* The most bytes that quick_dump writes. */
#define QUICK_MOST ((size_t)3 + 2 + 255 + 1)

/*
 * Writes at most QUICK_MOST bytes and returns how many.  Returns 0 if the object needs a
 * pickler.  Runs no Python code.
 */
size_t quick_dump(char *to, PyObject *object);
/* Returns NULL, perhaps with an exception, if the pickle needs an unpickler. */
PyObject *quick_load(const char *from, size_t len);

#endif
