/* SPDX-License-Identifier: MIT */
/* Making a pipe, and the handles of its two ends. */
#include "core.h"

/* Adds to the flags what the arguments of _pair() ask for.  Returns false with an exception. */
static bool pair_flags(PyObject *duplex, PyObject *handover, unsigned *flags)
{
	int r = duplex ? PyObject_IsTrue(duplex) : 0;

	if (r < 0)
		return false;
	if (r)
		*flags |= BUFPIPE_DUPLEX;
	r = handover ? PyObject_IsTrue(handover) : 1;
	if (r < 0)
		return false;
	if (!r)
		*flags |= BUFPIPE_NO_HANDOVER;
	return true;
}

/* Makes the handles of both ends, and takes over the pipes. */
static PyObject *pair_of_pipes(PyTypeObject *type, struct state *state, bufpipe_t *const *pipes,
			       PyObject *name, size_t max_message)
{
	PyObject *ends[2] = { handle_of_pipe(type, state, pipes[0]), NULL };

	if (!ends[0]) {
		bufpipe_close(pipes[1]);
		return NULL;
	}
	ends[1] = handle_of_pipe(type, state, pipes[1]);
	if (!ends[1]) {
		Py_DECREF(ends[0]);
		return NULL;
	}
	for (int i = 0; i < 2; i++) {
		struct end *end = (struct end *)ends[i];

		end->max_message = max_message;
		Py_XINCREF(name);
		end->hold->name = name;
	}
	return Py_BuildValue("(NN)", ends[0], ends[1]);
}

PyObject *handle_pair(PyObject *class, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
	static const struct signature signature = {
		"_pair",
		0,
		0,
		{ "buffer_size", "object_size", "object_count", "duplex", "name", "max_message", "handover" },
	};
	struct state *state = state_of_class(class);
	struct bufpipe_options options;
	PyObject *pair = NULL;
	bufpipe_t *pipes[2];
	size_t max_message;
	PyObject *values[7];
	PyObject *name;
	int r;

	if (!state || !state_alive(state) || !args_parse(&signature, args, nargs, kwnames, values) ||
	    !args_options(&options, values[0], values[1], values[2]) ||
	    !args_size(values[5], "max_message", state->max_message, &max_message) ||
	    !pair_flags(values[3], values[6], &options.flags) || !args_name(values[4], &options, &name))
		return NULL;
	r = bufpipe_create(pipes, &options);
	if (r == 0)
		pair = pair_of_pipes((PyTypeObject *)class, state, pipes, name, max_message);
	else if (r == -EINVAL)
		raise_too_large();
	else
		raise_error(NULL, NEITHER, r);
	Py_XDECREF(name);
	return pair;
}
