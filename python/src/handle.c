/* SPDX-License-Identifier: MIT */
#include "handle.h"

struct PyModuleDef *handle_module;

struct state *state_of_module(PyObject *module)
{
	return PyModule_GetState(module);
}

struct state *state_of_class(PyObject *class)
{
	PyObject *module = NULL;

	/* A class that was derived in Python does not belong to the module, but one of its bases does. */
	for (PyTypeObject *type = (PyTypeObject *)class; type && !module; type = type->tp_base) {
		module = PyType_GetModule(type);
		if (module && PyModule_GetDef(module) != handle_module)
			module = NULL;
		PyErr_Clear();
	}
	if (module)
		return PyModule_GetState(module);
	PyErr_SetString(PyExc_TypeError, "this class is not derived from a class of buffered_pipe");
	return NULL;
}

struct state *state_alive(struct state *state)
{
	if (likely(state->end_type))
		return state;
	PyErr_SetString(PyExc_RuntimeError,
			"the module buffered_pipe is gone, at the end of the interpreter");
	return NULL;
}

PyObject *handle_make(PyTypeObject *type, struct state *state, struct hold *hold)
{
	struct end *self;

	if (!hold)
		return NULL;
	self = (struct end *)type->tp_alloc(type, 0);
	if (!self) {
		hold_drop(hold);
		return NULL;
	}
	self->state = state;
	self->hold = hold;
	self->readable = hold->info.can_recv;
	self->writable = hold->info.can_send;
	self->max_message = state->max_message;
	return (PyObject *)self;
}

PyObject *handle_of_pipe(PyTypeObject *type, struct state *state, bufpipe_t *pipe)
{
	struct hold *hold;
	int r = hold_new(&hold, pipe);

	if (r == 0)
		return handle_make(type, state, hold);
	if (r != -EPERM)
		return raise_error(NULL, NEITHER, r);
	PyErr_SetString(PyExc_ValueError,
			"this end was made without BUFPIPE_SHARED, and the threads of Python would share it");
	return NULL;
}

int after_slice(struct end *self, const struct hold *hold, enum direction direction, long r)
{
	if (r < 0 && r != -EAGAIN && r != -ETIMEDOUT && r != -EINTR) {
		raise_error(hold, direction, r);
		return -1;
	}
	if (r < 0 && PyErr_CheckSignals() < 0)
		return -1;
	/* Another thread, or the signal's handler, may have closed it. */
	if (self->hold != hold) {
		raise_closed();
		return -1;
	}
	return 0;
}
