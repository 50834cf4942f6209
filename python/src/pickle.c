/* SPDX-License-Identifier: MIT */
/*
 * A pickler writes an object into a sink, whose pieces are sent as one message.
 * The pickler is kept for the next object: making one costs more than pickling a
 * small dict.
 */
#include "pickle.h"

#include "frame.h"
#include "recv.h"
#include "send.h"
#include "sink.h"

#include <limits.h>
#include <string.h>
#include <sys/uio.h>

/* After a pickle of this size the pickler is freed, because it would keep a large table. */
#define LARGE_PICKLE ((size_t)64 << 10)

struct pickling {
	struct sink *sink;
	PyObject *dump;
	PyObject *clear_memo;
};

static void pickling_free(struct pickling *p)
{
	if (!p)
		return;
	Py_XDECREF(p->dump);
	Py_XDECREF(p->clear_memo);
	Py_XDECREF((PyObject *)p->sink);
	PyMem_Free(p);
}

void pickling_free_spare(struct state *state)
{
	struct pickling *spare = state->spare;

	/* First: freeing the spare may run code that asks for a spare. */
	state->spare = NULL;
	pickling_free(spare);
}

int pickling_traverse(const struct pickling *p, visitproc visit, void *arg)
{
	if (p) {
		Py_VISIT(p->dump);
		Py_VISIT(p->clear_memo);
		Py_VISIT((PyObject *)p->sink);
	}
	return 0;
}

static PyObject *make_pickler(struct state *state, struct sink *sink)
{
	PyObject *kwargs = Py_BuildValue("{sO}", "buffer_callback", (PyObject *)sink);
	PyObject *args = Py_BuildValue("(Oi)", (PyObject *)sink, 5);
	PyObject *pickler = args && kwargs ? PyObject_Call(state->pickler_class, args, kwargs) : NULL;

	Py_XDECREF(args);
	Py_XDECREF(kwargs);
	if (pickler && sink->reducers[0] &&
	    PyObject_SetAttrString(pickler, "dispatch_table", (PyObject *)sink) < 0)
		Py_CLEAR(pickler);
	return pickler;
}

static struct pickling *pickling_new(struct state *state)
{
	struct pickling *p = PyMem_Calloc(1, sizeof(*p));
	PyObject *pickler = NULL;

	if (!p) {
		PyErr_NoMemory();
		return NULL;
	}
	p->sink = (struct sink *)state->sink_type->tp_alloc(state->sink_type, 0);
	for (int i = 0; p->sink && i < 2; i++) {
		Py_XINCREF(state->reducers[i]);
		p->sink->reducers[i] = state->reducers[i];
	}
	if (p->sink)
		pickler = make_pickler(state, p->sink);
	if (pickler) {
		p->dump = PyObject_GetAttrString(pickler, "dump");
		p->clear_memo = PyObject_GetAttrString(pickler, "clear_memo");
		Py_DECREF(pickler);
	}
	if (p->dump && p->clear_memo)
		return p;
	pickling_free(p);
	return NULL;
}

/* Takes the spare away while it is used: pickling may run code that sends other objects. */
static struct pickling *pickling_take(struct state *state)
{
	struct pickling *p = state->spare;

	if (!p)
		return state_alive(state) ? pickling_new(state) : NULL;
	state->spare = NULL;
	return p;
}

static void pickling_give_back(struct state *state, struct pickling *p, bool good)
{
	good = good && !state->spare && p->sink->chunks.bytes < LARGE_PICKLE;
	sink_list_clear(&p->sink->chunks);
	sink_list_clear(&p->sink->buffers);
	/* Releasing the pieces may have run code that gave a spare back. */
	if (good && !state->spare)
		state->spare = p;
	else
		pickling_free(p);
}

/* Clears the memo too, so that the pickler keeps no reference into the object. */
static int pickling_dump(struct pickling *p, PyObject *object)
{
	PyObject *result = PyObject_CallOneArg(p->dump, object);

	if (!result)
		return -1;
	Py_DECREF(result);
	result = PyObject_CallNoArgs(p->clear_memo);
	Py_XDECREF(result);
	return result ? 0 : -1;
}

/* A message in pieces, which point into a sink. */
struct message {
	struct iovec *pieces;
	size_t n;
	size_t len;
	void *head;
	struct iovec few[16];
	char small[256];
};

static void message_free(struct message *m)
{
	if (m->pieces != m->few)
		PyMem_Free(m->pieces);
	if (m->head != m->small)
		PyMem_Free(m->head);
}

static void add_piece(struct message *m, const void *data, size_t len)
{
	if (len)
		m->pieces[m->n++] = (struct iovec){ (void *)(uintptr_t)data, len };
	m->len += len;
}

static void add_pieces(struct message *m, const struct sink *sink)
{
	static const char zeros[16];
	const struct sink_list *chunks = &sink->chunks;
	const struct sink_list *buffers = &sink->buffers;

	if (buffers->n) {
		frame_head(m->head, chunks->bytes, buffers->views, buffers->n);
		add_piece(m, m->head, frame_head_size(buffers->n));
	}
	for (size_t i = 0; i < chunks->n; i++)
		add_piece(m, chunks->views[i].buf, (size_t)chunks->views[i].len);
	for (size_t i = 0; i < buffers->n; i++) {
		add_piece(m, zeros, frame_padding(m->len));
		add_piece(m, buffers->views[i].buf, (size_t)buffers->views[i].len);
	}
}

/* The caller frees the message, even if this fails. */
static int message_make(struct message *m, const struct sink *sink)
{
	size_t most = 2 + sink->chunks.n + 2 * sink->buffers.n; /* one to spare */
	size_t head = frame_head_size(sink->buffers.n);

	m->n = 0;
	m->len = 0;
	m->pieces =
		most > sizeof(m->few) / sizeof(m->few[0]) ? PyMem_Malloc(most * sizeof(*m->pieces)) : m->few;
	m->head = head > sizeof(m->small) ? PyMem_Malloc(head) : m->small;
	if (!m->pieces || !m->head) {
		PyErr_NoMemory();
		return -1;
	}
	add_pieces(m, sink);
	return 0;
}

static PyObject *message_join(const struct message *m)
{
	PyObject *joined = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)m->len);
	char *at = joined ? PyBytes_AS_STRING(joined) : NULL;

	for (size_t i = 0; joined && i < m->n; i++) {
		memcpy(at, m->pieces[i].iov_base, m->pieces[i].iov_len);
		at += m->pieces[i].iov_len;
	}
	return joined;
}

static int message_send(const struct message *m, struct end *self, int64_t deadline)
{
	PyObject *joined;
	struct iovec whole;
	int r;

	if (m->n <= IOV_MAX)
		return handle_send(self, m->pieces, (int)m->n, m->len, deadline);
	joined = message_join(m);
	if (!joined)
		return -1;
	whole = (struct iovec){ PyBytes_AS_STRING(joined), m->len };
	r = handle_send(self, &whole, 1, m->len, deadline);
	Py_DECREF(joined);
	return r;
}

int pickle_use(struct state *state, PyObject *object, use_pickle_fn *use, void *arg)
{
	struct pickling *p = pickling_take(state);
	struct message message;
	bool pickled;
	int r = -1;

	if (!p)
		return -1;
	pickled = pickling_dump(p, object) == 0;
	if (pickled) {
		r = message_make(&message, p->sink);
		if (r == 0)
			r = use(arg, message.pieces, message.n, message.len);
		message_free(&message);
	}
	pickling_give_back(state, p, pickled);
	return r;
}

static PyObject *send_object(struct end *self, PyObject *object, int64_t deadline)
{
	struct state *state = self->state;
	struct pickling *p = pickling_take(state);
	struct message message;
	bool pickled;
	int r = -1;

	if (!p)
		return NULL;
	pickled = pickling_dump(p, object) == 0;
	if (pickled) {
		r = message_make(&message, p->sink);
		if (r == 0)
			r = message_send(&message, self, deadline);
		message_free(&message);
	}
	pickling_give_back(state, p, pickled);
	if (r < 0)
		return NULL;
	Py_RETURN_NONE;
}

/* What send() would send, as bytes. */
PyObject *handle_dump(PyObject *self, PyObject *object)
{
	struct hold *hold = handle_hold((struct end *)self);
	struct state *state = ((struct end *)self)->state;
	struct pickling *p;
	struct message message;
	PyObject *joined = NULL;
	bool pickled;

	if (!hold)
		return NULL;
	if (!hold->info.can_send)
		return raise_error(hold, SENDING, -EBADF);
	if (hold_static(hold))
		return Py_NewRef(object);
	p = pickling_take(state);
	if (!p)
		return NULL;
	pickled = pickling_dump(p, object) == 0;
	if (pickled) {
		if (message_make(&message, p->sink) == 0)
			joined = message_join(&message);
		message_free(&message);
	}
	pickling_give_back(state, p, pickled);
	return joined;
}

METHOD(handle_send_object)
{
	static const struct signature signature = { "send", 1, 1, { "obj", "timeout" } };
	int64_t deadline = DEADLINE_NEVER;
	bool alone = likely(nargs == 1 && !kwnames);
	PyObject *values[2] = { alone ? args[0] : NULL };
	struct hold *hold;

	/* This comes before the look at the handle: the timeout may be an object whose code closes this handle. */
	if (!alone && (!args_parse(&signature, args, nargs, kwnames, values) ||
		       args_deadline(values[1], &deadline) < 0))
		return NULL;
	hold = handle_hold(self);
	if (!hold)
		return NULL;
	/* This comes before the pickler runs code of the object. */
	if (!hold->info.can_send)
		return raise_error(hold, SENDING, -EBADF);
	if (!hold_static(hold))
		return send_object(self, values[0], deadline);
	return alone ? handle_send_bytes(self, args, nargs, NULL)
		     : handle_send_buffer(self, values[0], deadline);
}

/* Replaces the EOFError of a truncated pickle, which would look like the end of the stream. */
static PyObject *raise_unloadable(void)
{
	PyObject *type, *cause, *trace;
	PyObject *pickle, *text, *made;

	PyErr_Fetch(&type, &cause, &trace);
	PyErr_NormalizeException(&type, &cause, &trace);
	if (trace)
		PyException_SetTraceback(cause, trace);
	pickle = PyImport_ImportModule("pickle");
	text = pickle ? PyUnicode_FromFormat("the object cannot be loaded: %S", cause) : NULL;
	made = text ? PyObject_CallMethod(pickle, "UnpicklingError", "O", text) : NULL;
	if (made) {
		PyException_SetCause(made, Py_NewRef(cause));
		PyException_SetContext(made, Py_NewRef(cause));
		PyErr_SetObject((PyObject *)Py_TYPE(made), made);
	}
	Py_XDECREF(made);
	Py_XDECREF(text);
	Py_XDECREF(pickle);
	Py_XDECREF(trace);
	Py_DECREF(cause);
	Py_DECREF(type);
	return NULL;
}

PyObject *message_load(struct state *state, PyObject *message)
{
	PyObject *object;

	if (PyByteArray_Check(message) &&
	    frame_recognise(PyByteArray_AS_STRING(message), (size_t)PyByteArray_GET_SIZE(message)))
		object = state_alive(state) ? frame_load(state, message) : NULL;
	else
		object = state_alive(state) ? PyObject_CallOneArg(state->loads, message) : NULL;
	if (unlikely(!object) && PyErr_ExceptionMatches(PyExc_EOFError))
		return raise_unloadable();
	return object;
}

METHOD(handle_recv_object)
{
	static const struct signature signature = { "recv", 0, 0, { "timeout" } };
	int64_t deadline = DEADLINE_NEVER;
	struct hold *hold = handle_hold(self);
	PyObject *message, *object;
	PyObject *values[1];
	bool bytes;

	if (!hold)
		return NULL;
	bytes = hold_static(hold);
	if (unlikely(nargs || kwnames) && (!args_parse(&signature, args, nargs, kwnames, values) ||
					   args_deadline(values[0], &deadline) < 0))
		return NULL;
	message = handle_receive(self, deadline, bytes ? NULL : frame_recognise);
	if (!message || bytes)
		return message;
	object = message_load(self->state, message);
	Py_DECREF(message);
	return object;
}

/* The object in what _recv_now returned. */
PyObject *handle_load(PyObject *self, PyObject *message)
{
	struct hold *hold = handle_hold((struct end *)self);

	if (!hold)
		return NULL;
	if (hold_static(hold))
		return Py_NewRef(message);
	return message_load(((struct end *)self)->state, message);
}

/* For an event loop of asyncio: never blocks. */
PyObject *handle_recv_now(PyObject *self, PyObject *objects)
{
	return handle_receive((struct end *)self, DEADLINE_TRY_SHORT,
			      objects == Py_True ? frame_recognise : NULL);
}
