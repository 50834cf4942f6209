/* SPDX-License-Identifier: MIT */
/* What all calls of a queue need: the check whether it is open, timeouts and exceptions. */
#include "queue.h"

bool queue_exceptions(struct state *state)
{
	PyObject *module = PyImport_ImportModule("queue");

	if (!module)
		return false;
	state->full = PyObject_GetAttrString(module, "Full");
	state->empty = PyObject_GetAttrString(module, "Empty");
	Py_DECREF(module);
	return state->full && state->empty;
}

bool queue_check(struct queue *self)
{
	if (likely(self->tally && !self->closed))
		return true;
	PyErr_Format(PyExc_ValueError, "Queue %R is closed", (PyObject *)self);
	return false;
}

bufpipe_t *queue_pipe(const struct end *end)
{
	return end->hold ? end->hold->pipe : NULL;
}

bool exception_is_ours(PyObject *type)
{
	PyObject *found, *value, *trace;
	bool ours;

	if (!PyErr_ExceptionMatches(type))
		return false;
	PyErr_Fetch(&found, &value, &trace);
	ours = !trace;
	PyErr_Restore(found, value, trace);
	return ours;
}

static bool is_negative(PyObject *timeout)
{
	double seconds = PyFloat_Check(timeout) || PyLong_Check(timeout) ? PyFloat_AsDouble(timeout) : 0;

	PyErr_Clear();
	return seconds < 0;
}

bool queue_deadline(PyObject *block, PyObject *timeout, int64_t *deadline)
{
	int blocks = block ? PyObject_IsTrue(block) : 1;

	*deadline = DEADLINE_TRY;
	if (blocks < 0)
		return false;
	if (!blocks || (timeout && is_negative(timeout)))
		return true;
	return args_deadline(timeout, deadline) == 0;
}
