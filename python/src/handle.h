/* SPDX-License-Identifier: MIT */
/* A handle of an end, which is an End in Python, and the state of the module. */
#ifndef BUFFERED_PIPE_HANDLE_H
#define BUFFERED_PIPE_HANDLE_H

#include "args.h"
#include "error.h"

struct pickling;
struct view;

/* One per interpreter.  The types keep the module alive, and the module keeps these objects. */
struct state {
	PyTypeObject *end_type;
	PyTypeObject *view_type;
	PyTypeObject *sink_type;
	PyTypeObject *listener_type;
	PyTypeObject *queue_type;
	PyObject *full;     /* queue.Full */
	PyObject *empty;    /* queue.Empty */
	struct view *views; /* those that are open */
	PyObject *pickler_class;
	PyObject *loads;
	PyObject *reducers
		[2]; /* dicts from type to function; the first goes before the second; NULL before they are set */
	PyObject *name_buffers;
	struct pickling *spare; /* a pickler for the next object, or NULL */
	size_t max_message;     /* of a new end */
};

struct end {
	PyObject_HEAD struct state *state;
	struct hold *hold; /* NULL: closed */
	/* These are valid also after the handle was closed. */
	bool readable;
	bool writable;
	size_t max_message; /* limits only messages that are longer than the buffer */
};

#define METHOD(name) \
	PyObject *name(struct end *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)

/* Makes a handle of this type, and takes over the hold. */
PyObject *handle_make(PyTypeObject *type, struct state *state, struct hold *hold);
/* The same with a new hold.  Takes over the pipe. */
PyObject *handle_of_pipe(PyTypeObject *type, struct state *state, bufpipe_t *pipe);

struct state *state_of_module(PyObject *module);
/* The class, or one of its bases, must be a class of the module.  Otherwise NULL with an exception. */
struct state *state_of_class(PyObject *class);
/* Set by the module before it has a state. */
extern struct PyModuleDef *handle_module __attribute__((visibility("hidden")));

/* Returns the state; or NULL with an exception if the module was cleared, as at the end of its interpreter. */
struct state *state_alive(struct state *state);

/*
 * To be called after a slice that returned r.  Runs the signal handlers, and checks
 * whether the handle was closed meanwhile.  Returns 0 to go on, or -1 with an exception.
 */
int after_slice(struct end *self, const struct hold *hold, enum direction direction, long r);

/* The hold of an open handle; NULL with an exception if it is closed. */
static inline struct hold *handle_hold(struct end *self)
{
	if (unlikely(!self->hold))
		return raise_closed();
	/* Relaxed is enough: what another thread left a moment ago may be missed here, and the next call finds it. */
	if (unlikely(atomic_load_explicit(&stays_left, memory_order_relaxed)))
		stays_give_back();
	return self->hold;
}

#endif
