/* SPDX-License-Identifier: MIT */
/* What every file needs: Python, the library, and a few macros. */
#ifndef BUFFERED_PIPE_BASE_H
#define BUFFERED_PIPE_BASE_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <bufpipe.h>

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>

#if PY_VERSION_HEX < 0x030a0000
static inline PyObject *base_new_ref(PyObject *object)
{
	Py_INCREF(object);
	return object;
}
#define Py_NewRef base_new_ref
#endif

#define likely(x)   __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)

/* Executes one statement without the GIL, so that other threads of Python run meanwhile. */
#define WITHOUT_GIL(statement)                               \
	do {                                                 \
		PyThreadState *state_ = PyEval_SaveThread(); \
		statement;                                   \
		PyEval_RestoreThread(state_);                \
	} while (0)

#define NSEC_PER_SEC 1000000000ll
/* A call that blocks checks this often for signals, and whether its handle was closed. */
#define SLICE (NSEC_PER_SEC / 5)
/* A copy of this many bytes or more is made without the GIL. */
#define LONG_COPY ((size_t)256 << 10)

enum direction { SENDING, RECEIVING, NEITHER };

#endif
