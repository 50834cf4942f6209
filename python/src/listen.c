/* SPDX-License-Identifier: MIT */
/* Strangers meet at an address: the type Listener, and connect. */
#include "core.h"

#include <string.h>

struct listener {
	PyObject_HEAD struct state *state;
	bufpipe_listener_t *listener; /* NULL: closed */
	PyObject *address;
	/* Accepted while the policy raised an exception for another client: the next call returns it. */
	bufpipe_t *accepted;
	bool busy;        /* a thread is in accept */
	unsigned process; /* the process of that thread; a forked child does not have the thread */
	bool closing;     /* if a thread is in accept, that thread closes the listener */
};

/* 'r': this side receives; 'w': it sends; 'rw': both sides do both; None: what fits the other side. */
static bool mode_flags(PyObject *mode, unsigned *flags)
{
	const char *name;

	if (!mode || mode == Py_None)
		return true;
	name = PyUnicode_Check(mode) ? PyUnicode_AsUTF8(mode) : "";
	if (!name)
		return false;
	if (!strcmp(name, "r"))
		*flags |= BUFPIPE_RECEIVE;
	else if (!strcmp(name, "w"))
		*flags |= BUFPIPE_SEND;
	else if (!strcmp(name, "rw"))
		*flags |= BUFPIPE_DUPLEX;
	else {
		PyErr_Format(PyExc_ValueError, "mode must be 'r', 'w', 'rw' or None, not %R", mode);
		return false;
	}
	return true;
}

/*
 * Reads the arguments that listen and connect share: address, mode, buffer_size,
 * object_size, object_count and size_limit.  *address is a bytes object.
 */
static bool meeting(PyObject *const *values, struct bufpipe_options *options, PyObject **address)
{
	if (!args_options(options, values[2], values[3], values[4]) ||
	    !args_size(values[5], "size_limit", 0, &options->size_limit) ||
	    !mode_flags(values[1], &options->flags))
		return false;
	return PyUnicode_FSConverter(values[0], address);
}

/* What an error of listen or connect means. */
struct meaning {
	int error;
	const char *text;
};

static const struct meaning of_listen[] = {
	{ EADDRINUSE, "another listener uses this address" },
	{ EEXIST, "the file at this path is not a socket" },
	{ ENAMETOOLONG, "the address is too long for a Unix socket" },
	{ ENOTSOCK, "the descriptor is not a socket" },
	{ ESOCKTNOSUPPORT, "the descriptor is not a listening Unix socket of type SOCK_SEQPACKET" },
	{ 0, NULL },
};

static const struct meaning of_connect[] = {
	{ ENOENT, "nobody listens there" },
	{ ECONNREFUSED, "nobody listens there" },
	{ ECONNRESET, "the listener hung up" },
	{ ENAMETOOLONG, "the address is too long for a Unix socket" },
	{ EBADMSG, "the program that listens there speaks another protocol" },
	{ EPROTONOSUPPORT, "the listener uses another layout version" },
	{ EPROTOTYPE, "the listener's pipe is of another kind, direction or mode" },
	{ EMSGSIZE, "a size is larger than the listener allows" },
	{ E2BIG, "the listener's pipe is larger than this side allows" },
	{ ENOBUFS, "the listener has no descriptors or memory left" },
	{ EUSERS, "too many connections of this user wait for the listener" },
	{ EACCES, "this user may not connect there" },
	{ 0, NULL },
};

/* Whether the address has a known form; then -EINVAL has another reason.  A descriptor has at most 9 digits. */
static bool known_form(const char *address, bool listens)
{
	if (address[0] == '@')
		return address[1];
	if (listens && !strncmp(address, "systemd:", 8))
		return true;
	if (listens && !strncmp(address, "fd:", 3))
		return strlen(address) < 13 && address[3] &&
		       strspn(address + 3, "0123456789") == strlen(address + 3);
	return strchr(address, '/');
}

static PyObject *raise_meeting(const struct meaning *meanings, int error, PyObject *given, PyObject *address)
{
	bool listens = meanings == of_listen;

	if (error == EINVAL) {
		if (known_form(PyBytes_AS_STRING(address), listens))
			return raise_too_large();
		return PyErr_Format(
			PyExc_ValueError, "an address is %s, not %R",
			listens ? "'/path', './path', '@name', 'fd:N', 'systemd:' or 'systemd:NAME'"
				: "'/path', './path' or '@name'",
			given);
	}
	for (const struct meaning *m = meanings; m->text; m++) {
		if (m->error == error)
			return raise_os(error, m->text, given);
	}
	errno = error;
	return PyErr_SetFromErrnoWithFilenameObject(PyExc_OSError, given);
}

/* The type must be the base or derived from it. */
static bool check_type(struct state *state, PyObject *type, PyTypeObject *base)
{
	if (!state_alive(state))
		return false;
	if (PyType_Check(type) && PyType_IsSubtype((PyTypeObject *)type, base))
		return true;
	PyErr_Format(PyExc_TypeError, "a type derived from %s is needed, not %R", base->tp_name, type);
	return false;
}

static bool is_busy(const struct listener *self)
{
	return self->busy && self->process == this_process();
}

static void listener_shut(struct listener *self)
{
	self->closing = true;
	if (is_busy(self))
		return;
	bufpipe_listener_close(self->listener);
	self->listener = NULL;
	bufpipe_close(self->accepted);
	self->accepted = NULL;
}

static void listener_dealloc(PyObject *object)
{
	struct listener *self = (struct listener *)object;
	PyTypeObject *type = Py_TYPE(object);

	listener_shut(self);
	Py_XDECREF(self->address);
	type->tp_free(object);
	Py_DECREF(type);
}

static bool listener_open(const struct listener *self)
{
	if (self->listener && !self->closing)
		return true;
	raise_closed();
	return false;
}

/* One slice of accept. */
struct admission {
	PyObject *policy;      /* borrowed; None lets all in */
	PyThreadState *thread; /* the state of this thread while it does not have the GIL */
	PyObject *raised[3];   /* the exception of the policy */
};

/* To be called with the GIL.  Whether the policy lets the client in.  Its first exception is kept. */
static bool ask(struct admission *a, const struct bufpipe_client *client)
{
	PyObject *answer = PyObject_CallFunction(a->policy, "lllil", (long)client->pid, (long)client->uid,
						 (long)client->gid, client->pidfd, (long)client->waiting);
	int lets_in = answer ? PyObject_IsTrue(answer) : -1;

	Py_XDECREF(answer);
	if (lets_in < 0 && a->raised[0])
		PyErr_WriteUnraisable(a->policy);
	else if (lets_in < 0)
		PyErr_Fetch(&a->raised[0], &a->raised[1], &a->raised[2]);
	return lets_in > 0;
}

static int policy(void *data, const struct bufpipe_client *client)
{
	struct admission *a = data;
	bool lets_in;

	if (a->thread)
		PyEval_RestoreThread(a->thread);
	lets_in = ask(a, client);
	if (a->thread)
		a->thread = PyEval_SaveThread();
	return lets_in ? 0 : -EACCES;
}

static int accept_slice(struct listener *self, struct admission *a, bufpipe_t **pipe, int64_t slice)
{
	bool asks = a->policy != Py_None;
	int r;

	self->busy = true;
	self->process = this_process();
	bufpipe_listener_set_policy(self->listener, asks ? policy : NULL, asks ? a : NULL);
	if (slice != 0)
		a->thread = PyEval_SaveThread();
	r = bufpipe_accept(self->listener, pipe, slice);
	if (a->thread)
		PyEval_RestoreThread(a->thread);
	a->thread = NULL;
	self->busy = false;
	if (self->closing)
		listener_shut(self);
	return r;
}

/* Raises the exception of the policy.  A client that was let in meanwhile is kept for the next call. */
static PyObject *raise_of_policy(struct listener *self, struct admission *a, bufpipe_t *pipe)
{
	if (self->listener)
		self->accepted = pipe;
	else
		bufpipe_close(pipe);
	PyErr_Restore(a->raised[0], a->raised[1], a->raised[2]);
	return NULL;
}

static bufpipe_t *take_accepted(struct listener *self)
{
	bufpipe_t *pipe = self->accepted;

	self->accepted = NULL;
	return pipe;
}

/* _accept(type of the end, timeout, policy) */
static PyObject *listener_accept(PyObject *object, PyObject *const *args, Py_ssize_t nargs)
{
	struct listener *self = (struct listener *)object;
	int64_t deadline;
	int64_t slice = 0;
	int r;

	if (nargs != 3) {
		PyErr_SetString(PyExc_TypeError, "_accept() takes a type of End, a timeout and a policy");
		return NULL;
	}
	if (!check_type(self->state, args[0], self->state->end_type) || args_deadline(args[1], &deadline) < 0)
		return NULL;
	do {
		struct admission admission = { .policy = args[2] };
		bufpipe_t *pipe = NULL;

		if (!listener_open(self))
			return NULL;
		if (is_busy(self)) {
			PyErr_SetString(PyExc_RuntimeError, "another thread is in accept()");
			return NULL;
		}
		pipe = take_accepted(self);
		r = pipe ? 0 : accept_slice(self, &admission, &pipe, slice);
		if (admission.raised[0])
			return raise_of_policy(self, &admission, r == 0 ? pipe : NULL);
		if (r == 0)
			return handle_of_pipe((PyTypeObject *)args[0], self->state, pipe);
		if (r != -EAGAIN && r != -ETIMEDOUT && r != -EINTR)
			return raise_error(NULL, NEITHER, r);
		/* If a signal handler closed the listener, that is the error, even if the time is up. */
		if (PyErr_CheckSignals() < 0 || !listener_open(self))
			return NULL;
		slice = deadline_slice(deadline, SLICE);
	} while (slice != 0);
	return raise_timeout(NULL, NEITHER);
}

static PyObject *listener_fileno(PyObject *object, PyObject *unused)
{
	struct listener *self = (struct listener *)object;
	int fd;

	(void)unused;
	if (!listener_open(self))
		return NULL;
	fd = bufpipe_listener_fd(self->listener);
	return fd < 0 ? raise_error(NULL, NEITHER, fd) : PyLong_FromLong(fd);
}

static PyObject *listener_close(PyObject *self, PyObject *unused)
{
	(void)unused;
	listener_shut((struct listener *)self);
	Py_RETURN_NONE;
}

static PyObject *listener_enter(PyObject *self, PyObject *unused)
{
	(void)unused;
	return listener_open((struct listener *)self) ? Py_NewRef(self) : NULL;
}

static PyObject *listener_exit(PyObject *self, PyObject *const *args, Py_ssize_t nargs)
{
	(void)args;
	(void)nargs;
	return PyObject_CallMethod(self, "close", NULL);
}

static PyObject *listener_get_closed(PyObject *object, void *unused)
{
	struct listener *self = (struct listener *)object;

	(void)unused;
	return PyBool_FromLong(!self->listener || self->closing);
}

static PyObject *listener_get_address(PyObject *object, void *unused)
{
	PyObject *address = ((struct listener *)object)->address;

	(void)unused;
	return PyUnicode_DecodeFSDefaultAndSize(PyBytes_AS_STRING(address), PyBytes_GET_SIZE(address));
}

static PyObject *listener_repr(PyObject *object)
{
	struct listener *self = (struct listener *)object;
	bool open = self->listener && !self->closing;
	PyObject *name = name_of(Py_TYPE(object));
	PyObject *text = name ? PyUnicode_FromFormat("<%U %s%s>", name, open ? "at " : "closed, was at ",
						     PyBytes_AS_STRING(self->address))
			      : NULL;

	Py_XDECREF(name);
	return text;
}

/* The permissions of the socket file.  With None the umask decides. */
static bool permission_bits(PyObject *value, unsigned *mode)
{
	size_t bits;

	if (!value || value == Py_None)
		return true;
	if (!args_size(value, "permissions", 0, &bits))
		return false;
	*mode = (unsigned)bits;
	if (bits > 0 && bits <= 0777)
		return true;
	PyErr_Format(PyExc_ValueError, "permissions are None or from 0o1 to 0o777, not %R", value);
	return false;
}

PyObject *core_listen(PyObject *module, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
	static const struct signature signature = {
		"listen",
		2,
		2,
		{ "type", "address", "mode", "buffer_size", "object_size", "object_count", "size_limit",
		  "permissions" },
	};
	struct state *state = state_of_module(module);
	struct bufpipe_options options;
	struct listener *self;
	PyObject *values[8];
	PyObject *address;
	PyTypeObject *type;
	int r;

	if (!args_parse(&signature, args, nargs, kwnames, values) ||
	    !check_type(state, values[0], state->listener_type) || !meeting(values + 1, &options, &address))
		return NULL;
	if (!permission_bits(values[7], &options.mode)) {
		Py_DECREF(address);
		return NULL;
	}
	type = (PyTypeObject *)values[0];
	self = (struct listener *)type->tp_alloc(type, 0);
	if (!self) {
		Py_DECREF(address);
		return NULL;
	}
	self->state = state;
	self->address = address;
	r = bufpipe_listen(&self->listener, PyBytes_AS_STRING(address), &options);
	if (r == 0)
		return (PyObject *)self;
	raise_meeting(of_listen, -r, values[1], address);
	Py_DECREF((PyObject *)self);
	return NULL;
}

PyObject *core_connect(PyObject *module, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
	static const struct signature signature = {
		"connect",
		2,
		2,
		{ "type", "address", "mode", "buffer_size", "object_size", "object_count", "size_limit",
		  "wait_for_listener", "timeout" },
	};
	struct state *state = state_of_module(module);
	struct bufpipe_options options;
	int64_t deadline, left;
	PyObject *values[9];
	PyObject *address;
	PyObject *end = NULL;
	bufpipe_t *pipe;
	int waits;
	int r;

	if (!args_parse(&signature, args, nargs, kwnames, values) ||
	    !check_type(state, values[0], state->end_type) || args_deadline(values[8], &deadline) < 0)
		return NULL;
	waits = values[7] ? PyObject_IsTrue(values[7]) : 0;
	if (waits < 0 || !meeting(values + 1, &options, &address))
		return NULL;
	if (waits)
		options.flags |= BUFPIPE_WAIT_FOR_LISTENER;
	do {
		left = deadline_slice(deadline, DEADLINE_NEVER);
		WITHOUT_GIL(r = bufpipe_connect(&pipe, PyBytes_AS_STRING(address), &options, left));
	} while (r == -EINTR && PyErr_CheckSignals() == 0);
	if (r == 0)
		end = handle_of_pipe((PyTypeObject *)values[0], state, pipe);
	else if (r == -EAGAIN || r == -ETIMEDOUT)
		PyErr_SetString(PyExc_TimeoutError,
				waits ? "nobody listened and accepted in time" : "nobody accepted in time");
	else if (r != -EINTR)
		raise_meeting(of_connect, -r, values[1], address);
	Py_DECREF(address);
	return end;
}

PyDoc_STRVAR(listener_doc, "Waits at an address for other programs, in any language, to connect.\n\n"
			   "listen() makes it.  Only one thread at a time can accept.");

static PyMethodDef listener_methods[] = {
	{ "_accept", (PyCFunction)(void (*)(void))listener_accept, METH_FASTCALL, NULL },
	{ "fileno", listener_fileno, METH_NOARGS,
	  "fileno($self, /)\n--\n\n"
	  "A descriptor that is readable when accept() has something to do." },
	{ "close", listener_close, METH_NOARGS,
	  "close($self, /)\n--\n\n"
	  "Stop listening.  Clients that were not accepted yet are refused; a path is removed." },
	{ "__enter__", listener_enter, METH_NOARGS,
	  "__enter__($self, /)\n--\n\n"
	  "The listener itself." },
	{ "__exit__", (PyCFunction)(void (*)(void))listener_exit, METH_FASTCALL,
	  "__exit__($self, exc_type, exc, traceback, /)\n--\n\n"
	  "close()" },
	{ NULL, NULL, 0, NULL },
};

static PyGetSetDef listener_getset[] = {
	{ "closed", listener_get_closed, NULL, "Whether it was closed.", NULL },
	{ "address", listener_get_address, NULL, "The address at which it listens.", NULL },
	{ NULL, NULL, NULL, NULL, NULL },
};

static PyType_Slot listener_slots[] = {
	{ Py_tp_doc, (void *)(uintptr_t)listener_doc },
	{ Py_tp_dealloc, listener_dealloc },
	{ Py_tp_repr, listener_repr },
	{ Py_tp_methods, listener_methods },
	{ Py_tp_getset, listener_getset },
	{ 0, NULL },
};

PyType_Spec listener_spec = {
	.name = "buffered_pipe._core.Listener",
	.basicsize = sizeof(struct listener),
	.flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE,
	.slots = listener_slots,
};
