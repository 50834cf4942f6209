/* SPDX-License-Identifier: MIT */
/* The type End: a handle of one end of a pipe. */
#include "core.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

static void handle_shut(struct end *self)
{
	struct hold *hold = self->hold;

	self->hold = NULL;
	if (hold)
		hold_drop(hold);
}

static void handle_dealloc(PyObject *self)
{
	PyTypeObject *type = Py_TYPE(self);

	handle_shut((struct end *)self);
	type->tp_free(self);
	Py_DECREF(type);
}

static PyObject *handle_close(PyObject *self, PyObject *unused)
{
	(void)unused;
	handle_shut((struct end *)self);
	Py_RETURN_NONE;
}

static PyObject *handle_enter(PyObject *self, PyObject *unused)
{
	(void)unused;
	return handle_hold((struct end *)self) ? Py_NewRef(self) : NULL;
}

static PyObject *handle_exit(PyObject *self, PyObject *const *args, Py_ssize_t nargs)
{
	(void)args;
	(void)nargs;
	/* The method of the class, which may do more. */
	return PyObject_CallMethod(self, "close", NULL);
}

static PyObject *handle_register(PyObject *self, PyObject *unused)
{
	(void)unused;
	if (!handle_hold((struct end *)self))
		return NULL;
	Py_RETURN_NONE;
}

static PyObject *handle_fork(PyObject *object, PyObject *unused)
{
	struct end *self = (struct end *)object;
	struct hold *hold = handle_hold(self);
	PyObject *made;

	(void)unused;
	if (!hold)
		return NULL;
	hold_add(hold);
	made = handle_make(Py_TYPE(object), self->state, hold);
	if (made)
		((struct end *)made)->max_message = self->max_message;
	return made;
}

static METHOD(handle_shutdown)
{
	static const struct signature signature = { "shutdown", 0, 0, { "timeout" } };
	PyObject *values[1];
	int64_t deadline, slice = 0;
	int r, failed;

	if (!args_parse(&signature, args, nargs, kwnames, values) || args_deadline(values[0], &deadline) < 0)
		return NULL;
	do {
		struct hold *hold = handle_hold(self);
		struct use use;

		if (!hold)
			return NULL;
		hold_use(hold, &use);
		WITHOUT_GIL(r = bufpipe_shutdown_within(hold->pipe, slice));
		failed = r < 0 ? after_slice(self, hold, SENDING, r) : 0;
		hold_unuse(&use);
		if (r == 0)
			Py_RETURN_NONE;
		slice = deadline_slice(deadline, SLICE);
	} while (!failed && slice != 0);
	if (!failed)
		PyErr_SetString(PyExc_TimeoutError, "another sender did not finish in time");
	return NULL;
}

/* To be called right before each use of the descriptor, because other code may have closed the socket. */
static int socket_of(PyObject *socket)
{
	return PyObject_AsFileDescriptor(socket);
}

/* The descriptor of a Python socket with a timeout does not block; the socket object has the timeout. */
static int socket_deadline(PyObject *socket, int64_t *deadline)
{
	PyObject *timeout = PyObject_HasAttrString(socket, "gettimeout")
				    ? PyObject_CallMethod(socket, "gettimeout", NULL)
				    : PyLong_FromLong(0);
	int r = timeout ? args_deadline(timeout, deadline) : -1;

	Py_XDECREF(timeout);
	return r;
}

/* To be called after a call on the socket returned r.  Returns 0 to call again, or -1 with an exception. */
static int socket_await(int fd, int events, int64_t deadline, int r)
{
	struct pollfd wanted = { .fd = fd, .events = (short)events };
	int64_t slice;

	while (r == -EAGAIN && (slice = deadline_slice(deadline, SLICE)) != 0) {
		WITHOUT_GIL(r = poll(&wanted, 1, (int)(slice / 1000000) + 1));
		r = r == 0 ? -EAGAIN : r < 0 && errno != EINTR ? -errno : -EINTR;
		if (r == -EAGAIN && PyErr_CheckSignals() < 0)
			return -1;
	}
	if (r == -EINTR)
		return PyErr_CheckSignals();
	raise_error(NULL, NEITHER, r);
	return -1;
}

static PyObject *handle_send_to(PyObject *object, PyObject *socket)
{
	struct end *self = (struct end *)object;
	int64_t deadline;
	int r, fd;

	if (socket_deadline(socket, &deadline) < 0)
		return NULL;
	do {
		struct hold *hold;
		struct use use;

		fd = socket_of(socket);
		hold = fd < 0 ? NULL : handle_hold(self);
		if (!hold)
			return NULL;
		hold_use(hold, &use);
		WITHOUT_GIL(r = bufpipe_send_end(fd, hold->pipe));
		hold_unuse(&use);
		if (r == 0)
			Py_RETURN_NONE;
	} while (socket_await(fd, POLLOUT, deadline, r) == 0);
	return NULL;
}

/*
 * Descriptors 0, 1 and 2 belong to the program, even while they are closed.  Returns fd or
 * a duplicate above 2; or -1, and then fd is closed.
 */
static int move_up(int fd)
{
	int moved, error;

	if (fd > STDERR_FILENO)
		return fd;
	moved = fcntl(fd, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
	error = errno;
	close(fd);
	errno = error;
	return moved;
}

/* Makes a socket in which the end waits to be received.  The socket keeps the end alive until then. */
static PyObject *handle_parcel(PyObject *object, PyObject *unused)
{
	struct hold *hold = handle_hold((struct end *)object);
	int sockets[2];
	int r;

	(void)unused;
	if (!hold)
		return NULL;
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sockets) < 0)
		return PyErr_SetFromErrno(PyExc_OSError);
	sockets[1] = move_up(sockets[1]);
	if (sockets[1] < 0) {
		PyErr_SetFromErrno(PyExc_OSError);
		close(sockets[0]);
		return NULL;
	}
	r = bufpipe_send_end(sockets[0], hold->pipe);
	close(sockets[0]);
	if (r == 0)
		return PyLong_FromLong(sockets[1]);
	close(sockets[1]);
	return raise_error(hold, NEITHER, r);
}

static PyObject *handle_take(PyObject *class, PyObject *socket)
{
	struct state *state = state_of_class(class);
	int64_t deadline;
	bufpipe_t *pipe;
	int r, fd;

	if (!state || socket_deadline(socket, &deadline) < 0)
		return NULL;
	do {
		fd = socket_of(socket);
		if (fd < 0)
			return NULL;
		WITHOUT_GIL(r = bufpipe_recv_end(fd, &pipe));
		if (r == 0)
			return handle_of_pipe((PyTypeObject *)class, state, pipe);
	} while (socket_await(fd, POLLIN, deadline, r) == 0);
	return NULL;
}

static PyObject *handle_reduce(PyObject *self, PyObject *unused)
{
	(void)unused;
	PyErr_Format(PyExc_TypeError,
		     "%s objects can be pickled only by multiprocessing, for arguments of a Process and its "
		     "queues "
		     "and pipes, and by other picklers while a process is being spawned",
		     Py_TYPE(self)->tp_name);
	return NULL;
}

static PyObject *handle_fileno(PyObject *object, PyObject *unused)
{
	struct hold *hold = handle_hold((struct end *)object);
	int fd;

	(void)unused;
	if (!hold)
		return NULL;
	fd = bufpipe_fd(hold->pipe);
	if (fd < 0)
		return raise_error(hold, RECEIVING, fd);
	hold->fd = fd;
	return PyLong_FromLong(fd);
}

static PyObject *handle_get_closed(PyObject *self, void *unused)
{
	(void)unused;
	return PyBool_FromLong(!((struct end *)self)->hold);
}

/* Of a closed handle as well, as in multiprocessing. */
static PyObject *handle_get_direction(PyObject *object, void *sends)
{
	struct end *self = (struct end *)object;

	if (self->hold)
		(void)handle_hold(self);
	return PyBool_FromLong(sends ? self->writable : self->readable);
}

enum field { BUFFER_SIZE, OBJECT_SIZE, OBJECT_COUNT, PEER };

static PyObject *handle_get(PyObject *self, void *field)
{
	struct hold *hold = handle_hold((struct end *)self);

	if (!hold)
		return NULL;
	switch ((enum field)(uintptr_t)field) {
	case BUFFER_SIZE:
		return PyLong_FromSize_t(hold->info.buffer_size);
	case OBJECT_SIZE:
		return PyLong_FromSize_t(hold->info.object_size);
	case OBJECT_COUNT:
		return PyLong_FromSize_t(hold->info.object_count);
	case PEER:
		return Py_BuildValue("(lll)", (long)hold->info.pid, (long)hold->info.uid,
				     (long)hold->info.gid);
	}
	Py_RETURN_NONE;
}

static PyObject *handle_get_max(PyObject *self, void *unused)
{
	(void)unused;
	return PyLong_FromSize_t(((struct end *)self)->max_message);
}

static int handle_set_max(PyObject *self, PyObject *value, void *unused)
{
	size_t most;

	(void)unused;
	if (!value) {
		PyErr_SetString(PyExc_AttributeError, "max_message cannot be deleted");
		return -1;
	}
	if (!args_number(value, "max_message", &most))
		return -1;
	((struct end *)self)->max_message = most;
	return 0;
}

static PyObject *handle_get_name(PyObject *object, void *unused)
{
	struct hold *hold = handle_hold((struct end *)object);

	(void)unused;
	if (!hold)
		return NULL;
	return Py_NewRef(hold->name ? hold->name : Py_None);
}

static int handle_set_name(PyObject *object, PyObject *value, void *unused)
{
	struct hold *hold = handle_hold((struct end *)object);

	(void)unused;
	if (!hold)
		return -1;
	if (value && value != Py_None && !PyUnicode_CheckExact(value)) {
		PyErr_Format(PyExc_TypeError, "name must be a str or None, not %R", value);
		return -1;
	}
	Py_XSETREF(hold->name, value && value != Py_None ? Py_NewRef(value) : NULL);
	return 0;
}

static PyObject *hold_repr(const struct hold *hold, PyObject *type, void *at)
{
	struct bufpipe_info info;
	PyObject *size, *name, *text;
	const char *direction;

	if (!hold || bufpipe_get_info(hold->pipe, &info) < 0)
		return PyUnicode_FromFormat("<%U closed at %p>", type, at);
	direction = !info.can_send ? "receiving" : info.can_recv ? "duplex" : "sending";
	name = hold->name ? PyUnicode_FromFormat(" %R", hold->name) : PyUnicode_FromString("");
	size = hold_static(hold)
		       ? PyUnicode_FromFormat("%zu objects of %zu bytes", info.object_count, info.object_size)
		       : PyUnicode_FromFormat("buffer of %zu bytes", info.buffer_size);
	text = name && size ? PyUnicode_FromFormat("<%U%U %s, %U, %zu bytes in use, peer %ld, at %p>", type,
						   name, direction, size, info.used, (long)info.pid, at)
			    : NULL;
	Py_XDECREF(name);
	Py_XDECREF(size);
	return text;
}

static PyObject *handle_repr(PyObject *object)
{
	PyObject *name = name_of(Py_TYPE(object));
	PyObject *text = name ? hold_repr(((struct end *)object)->hold, name, object) : NULL;

	Py_XDECREF(name);
	return text;
}

#include "end_doc.h"

#define FAST(function) ((PyCFunction)(void (*)(void))(function))
#define FASTCALL       (METH_FASTCALL | METH_KEYWORDS)

static PyMethodDef handle_methods[] = {
	{ "send", FAST(handle_send_object), FASTCALL, doc_send },
	{ "recv", FAST(handle_recv_object), FASTCALL, doc_recv },
	{ "send_bytes", FAST(handle_send_bytes), FASTCALL, doc_send_bytes },
	{ "recv_bytes", FAST(handle_recv_bytes), FASTCALL, doc_recv_bytes },
	{ "recv_bytes_into", FAST(handle_recv_bytes_into), FASTCALL, doc_recv_bytes_into },
	{ "send_view", FAST(handle_send_view), FASTCALL, doc_send_view },
	{ "recv_view", FAST(handle_recv_view), FASTCALL, doc_recv_view },
	{ "poll", FAST(handle_poll), FASTCALL, doc_poll },
	{ "fileno", handle_fileno, METH_NOARGS, doc_fileno },
	{ "close", handle_close, METH_NOARGS, doc_close },
	{ "shutdown", FAST(handle_shutdown), FASTCALL, doc_shutdown },
	{ "register", handle_register, METH_NOARGS, doc_register },
	{ "fork", handle_fork, METH_NOARGS, doc_fork },
	{ "send_to", handle_send_to, METH_O, doc_send_to },
	{ "recv_from", handle_take, METH_O | METH_CLASS, doc_recv_from },
	{ "_stats", handle_stats, METH_NOARGS, NULL },
	{ "_recv_now", handle_recv_now, METH_O, NULL },
	{ "_dump", handle_dump, METH_O, NULL },
	{ "_load", handle_load, METH_O, NULL },
	{ "_fork", handle_fork, METH_NOARGS, NULL },
	{ "_parcel", handle_parcel, METH_NOARGS, NULL },
	{ "_pair", FAST(handle_pair), FASTCALL | METH_CLASS, NULL },
	{ "__enter__", handle_enter, METH_NOARGS, doc_enter },
	{ "__exit__", FAST(handle_exit), METH_FASTCALL, doc_exit },
	{ "__reduce__", handle_reduce, METH_NOARGS, doc_reduce },
	{ NULL, NULL, 0, NULL },
};

#define GET(name, field, doc)                                \
	{                                                    \
		name, handle_get, NULL, doc, (void *)(field) \
	}
static PyGetSetDef handle_getset[] = {
	{ "closed", handle_get_closed, NULL, "Whether this handle was closed.", NULL },
	{ "readable", handle_get_direction, NULL, "Whether this end receives.", NULL },
	{ "writable", handle_get_direction, NULL, "Whether this end sends.", (void *)true },
	GET("buffer_size", BUFFER_SIZE, "How many bytes the pipe holds; 0 in a static one."),
	GET("object_size", OBJECT_SIZE, "The length of every message of a static pipe; 0 in a generic one."),
	GET("object_count", OBJECT_COUNT, "How many messages a static pipe holds; 0 in a generic one."),
	GET("peer", PEER,
	    "(pid, uid, gid) of the process that made the other end, or after connect() of the one that\n"
	    "called listen(), as the kernel saw them."),
	{ "max_message", handle_get_max, handle_set_max,
	  "The length of the longest message that this handle receives.\n\n"
	  "A longer one raises OSError, and stays in the pipe.  One of up to buffer_size bytes is always "
	  "received.",
	  NULL },
	{ "name", handle_get_name, handle_set_name,
	  "The name that the pipe was given when it was made, or None.  repr() shows it.  It may be changed.",
	  NULL },
	{ NULL, NULL, NULL, NULL, NULL },
};

static PyType_Slot handle_slots[] = {
	{ Py_tp_doc, (void *)(uintptr_t)doc_end },
	{ Py_tp_dealloc, handle_dealloc },
	{ Py_tp_repr, handle_repr },
	{ Py_tp_methods, handle_methods },
	{ Py_tp_getset, handle_getset },
	{ 0, NULL },
};

PyType_Spec handle_spec = {
	.name = "buffered_pipe._core.End",
	.basicsize = sizeof(struct end),
	.flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE,
	.slots = handle_slots,
};
