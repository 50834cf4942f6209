/* SPDX-License-Identifier: MIT */
#include "queue.h"

/* set_reducers(special, common): the dicts in which the pickler looks up types. */
static PyObject *core_set_reducers(PyObject *module, PyObject *args)
{
	struct state *state = state_of_module(module);
	PyObject *tables[2];

	if (!PyArg_ParseTuple(args, "O!O!", &PyDict_Type, &tables[0], &PyDict_Type, &tables[1]))
		return NULL;
	for (int i = 0; i < 2; i++)
		Py_XSETREF(state->reducers[i], Py_NewRef(tables[i]));
	pickling_free_spare(state);
	Py_RETURN_NONE;
}

static PyMethodDef core_methods[] = {
	{ "wait_ends", (PyCFunction)(void (*)(void))core_wait, METH_FASTCALL | METH_KEYWORDS, NULL },
	{ "seconds", core_seconds, METH_O, NULL },
	{ "connect", (PyCFunction)(void (*)(void))core_connect, METH_FASTCALL | METH_KEYWORDS, NULL },
	{ "listen", (PyCFunction)(void (*)(void))core_listen, METH_FASTCALL | METH_KEYWORDS, NULL },
	{ "leave_views_behind", core_leave_views_behind, METH_NOARGS, NULL },
	{ "set_reducers", core_set_reducers, METH_VARARGS, NULL },
	{ NULL, NULL, 0, NULL },
};

static PyTypeObject *make_type(PyObject *module, PyType_Spec *spec, bool public)
{
	PyTypeObject *type = (PyTypeObject *)PyType_FromModuleAndSpec(module, spec, NULL);

	if (type && public && PyModule_AddType(module, type) < 0)
		Py_CLEAR(type);
	return type;
}

/* Only functions that know the state make objects of this type; a call of the type would not know the state. */
static void make_by_hand_only(PyTypeObject *type)
{
	if (type)
		type->tp_new = NULL;
}

static int core_exec(PyObject *module)
{
	struct state *state = state_of_module(module);
	PyObject *pickle;
	int r = hold_watch();

	if (r < 0) {
		raise_error(NULL, NEITHER, r);
		return -1;
	}
	if (PyModule_AddStringConstant(module, "__version__", VERSION) < 0)
		return -1;
	state->end_type = make_type(module, &handle_spec, true);
	state->view_type = make_type(module, &view_spec, true);
	state->sink_type = make_type(module, &sink_spec, false);
	state->listener_type = make_type(module, &listener_spec, true);
	state->queue_type = make_type(module, &queue_spec, true);
	make_by_hand_only(state->end_type);
	make_by_hand_only(state->view_type);
	make_by_hand_only(state->sink_type);
	make_by_hand_only(state->listener_type);
	if (!state->end_type || !state->view_type || !state->sink_type || !state->listener_type ||
	    !state->queue_type)
		return -1;
	/* The default limit of a message.  A longer one is more likely an attempt to use up all memory. */
	state->max_message = args_memory() / 2;
	state->name_buffers = PyUnicode_InternFromString("buffers");
	if (!queue_exceptions(state))
		return -1;
	pickle = PyImport_ImportModule("pickle");
	if (pickle) {
		state->pickler_class = PyObject_GetAttrString(pickle, "Pickler");
		state->loads = PyObject_GetAttrString(pickle, "loads");
		Py_DECREF(pickle);
	}
	return state->pickler_class && state->loads && state->name_buffers ? 0 : -1;
}

static int core_traverse(PyObject *module, visitproc visit, void *arg)
{
	struct state *state = state_of_module(module);

	Py_VISIT(state->end_type);
	Py_VISIT(state->view_type);
	Py_VISIT(state->sink_type);
	Py_VISIT(state->listener_type);
	Py_VISIT(state->queue_type);
	Py_VISIT(state->full);
	Py_VISIT(state->empty);
	Py_VISIT(state->pickler_class);
	Py_VISIT(state->loads);
	Py_VISIT(state->reducers[0]);
	Py_VISIT(state->reducers[1]);
	return pickling_traverse(state->spare, visit, arg);
}

static int core_clear(PyObject *module)
{
	struct state *state = state_of_module(module);

	views_forget(state);
	pickling_free_spare(state);
	Py_CLEAR(state->end_type);
	Py_CLEAR(state->view_type);
	Py_CLEAR(state->sink_type);
	Py_CLEAR(state->listener_type);
	Py_CLEAR(state->queue_type);
	Py_CLEAR(state->full);
	Py_CLEAR(state->empty);
	Py_CLEAR(state->pickler_class);
	Py_CLEAR(state->loads);
	Py_CLEAR(state->reducers[0]);
	Py_CLEAR(state->reducers[1]);
	Py_CLEAR(state->name_buffers);
	return 0;
}

static void core_free(void *module)
{
	core_clear(module);
}

static PyModuleDef_Slot core_slots[] = {
	{ Py_mod_exec, core_exec },
#ifdef Py_mod_multiple_interpreters
	{ Py_mod_multiple_interpreters, Py_MOD_PER_INTERPRETER_GIL_SUPPORTED },
#endif
	{ 0, NULL },
};

static struct PyModuleDef core_module = {
	PyModuleDef_HEAD_INIT,
	.m_name = "buffered_pipe._core",
	.m_doc = "The part of buffered_pipe that is written in C.",
	.m_size = sizeof(struct state),
	.m_methods = core_methods,
	.m_slots = core_slots,
	.m_traverse = core_traverse,
	.m_clear = core_clear,
	.m_free = core_free,
};

PyMODINIT_FUNC PyInit__core(void);
PyMODINIT_FUNC PyInit__core(void)
{
	handle_module = &core_module;
	return PyModuleDef_Init(&core_module);
}
