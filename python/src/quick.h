/* SPDX-License-Identifier: MIT */
/* Small objects of built-in types, pickled without a pickler. */
#ifndef BUFFERED_PIPE_QUICK_H
#define BUFFERED_PIPE_QUICK_H

#include "base.h"

/* The most bytes that quick_dump writes. */
#define QUICK_MOST ((size_t)3 + 2 + 255 + 1)

/* Writes at most QUICK_MOST bytes and returns how many; 0: this object needs a pickler.  Runs no code of Python. */
size_t quick_dump(char *to, PyObject *object);
/* NULL, perhaps with an exception: this needs an unpickler. */
PyObject *quick_load(const char *from, size_t len);

#endif
