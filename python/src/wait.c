/* SPDX-License-Identifier: MIT */
/* Waiting for many ends at once: those that receive wait for a message, the others for room. */
#include "core.h"

struct crowd {
	unsigned long number;         /* each crowd has another one */
	struct bufpipe_pollfd *pipes; /* one for each hold */
	struct use *uses;             /* one for each hold */
	unsigned *entry;              /* one for each object: the index of its hold */
	Py_ssize_t n;
	unsigned count;
};

static void crowd_free(struct crowd *c)
{
	for (unsigned i = 0; i < c->count; i++)
		hold_unuse(&c->uses[i]);
	PyMem_Free(c->pipes);
	PyMem_Free(c->uses);
	PyMem_Free(c->entry);
}

/* The index of a hold.  Two handles of one end share an entry. */
static unsigned entry_of(struct crowd *c, struct hold *hold)
{
	if (hold->crowd == c->number)
		return hold->entry;
	hold->crowd = c->number;
	hold->entry = c->count;
	hold_use(hold, &c->uses[c->count]);
	c->pipes[c->count].pipe = hold->pipe;
	c->pipes[c->count].events = hold->info.can_recv ? BUFPIPE_IN : BUFPIPE_OUT;
	return c->count++;
}

static bool crowd_fill(struct crowd *c, struct state *state, PyObject *list)
{
	static _Atomic unsigned long crowds;

	/* Relaxed is enough: the number must only be new.  No Python code runs until all objects have their entry. */
	c->number = atomic_fetch_add_explicit(&crowds, 1, memory_order_relaxed) + 1;
	c->n = PyList_GET_SIZE(list);
	c->pipes = PyMem_Calloc((size_t)c->n + 1, sizeof(*c->pipes));
	c->uses = PyMem_Calloc((size_t)c->n + 1, sizeof(*c->uses));
	c->entry = PyMem_Calloc((size_t)c->n + 1, sizeof(*c->entry));
	if (!c->pipes || !c->uses || !c->entry) {
		PyErr_NoMemory();
		return false;
	}
	for (Py_ssize_t i = 0; i < c->n; i++) {
		PyObject *object = PyList_GET_ITEM(list, i);
		struct hold *hold;

		if (!PyObject_TypeCheck(object, state->end_type)) {
			PyErr_Format(PyExc_TypeError, "an End is needed, not %R", object);
			return false;
		}
		hold = handle_hold((struct end *)object);
		if (!hold)
			return false;
		c->entry[i] = entry_of(c, hold);
	}
	return true;
}

/* To be called after a slice: another thread or a signal handler may have closed an end. */
static int crowd_check(const struct crowd *c, PyObject *list)
{
	if (PyErr_CheckSignals() < 0)
		return -1;
	for (Py_ssize_t i = 0; i < c->n; i++) {
		if (((struct end *)PyList_GET_ITEM(list, i))->hold != c->uses[c->entry[i]].hold) {
			raise_closed();
			return -1;
		}
	}
	return 0;
}

/* Returns how many are ready, 0 when the time is up, or -1 with an exception. */
static int crowd_wait(struct crowd *c, PyObject *list, int64_t deadline)
{
	int r = bufpipe_wait(c->pipes, c->count, 0);
	int64_t slice;

	while ((r == 0 || r == -EINTR) && (slice = deadline_slice(deadline, SLICE)) != 0) {
		WITHOUT_GIL(r = bufpipe_wait(c->pipes, c->count, slice));
		if (crowd_check(c, list) < 0)
			return -1;
	}
	if (r == -EINTR)
		return 0;
	if (r < 0)
		raise_error(NULL, RECEIVING, r);
	return r < 0 ? -1 : r;
}

static PyObject *crowd_ready(const struct crowd *c, PyObject *list)
{
	PyObject *ready = PyList_New(0);

	for (Py_ssize_t i = 0; ready && i < c->n; i++) {
		if (c->pipes[c->entry[i]].revents && PyList_Append(ready, PyList_GET_ITEM(list, i)) < 0)
			Py_CLEAR(ready);
	}
	return ready;
}

PyObject *core_seconds(PyObject *module, PyObject *timeout)
{
	int64_t deadline, left;

	(void)module;
	if (args_wait_deadline(timeout, &deadline) < 0)
		return NULL;
	left = deadline_slice(deadline, DEADLINE_NEVER);
	if (left < 0)
		Py_RETURN_NONE;
	return PyFloat_FromDouble((double)left / 1e9);
}

PyObject *core_wait(PyObject *module, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
	static const struct signature signature = { "wait_ends", 2, 1, { "ends", "timeout" } };
	struct state *state = state_of_module(module);
	struct crowd c = { 0 };
	PyObject *ready = NULL;
	PyObject *values[2];
	int64_t deadline;
	PyObject *list;

	if (!args_parse(&signature, args, nargs, kwnames, values) ||
	    args_wait_deadline(values[1], &deadline) < 0)
		return NULL;
	list = state_alive(state) ? PySequence_List(values[0]) : NULL;
	if (!list)
		return NULL;
	if (crowd_fill(&c, state, list) && crowd_wait(&c, list, deadline) >= 0)
		ready = crowd_ready(&c, list);
	crowd_free(&c);
	Py_DECREF(list);
	return ready;
}
