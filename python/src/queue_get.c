/* SPDX-License-Identifier: MIT */
/* Taking items out of a queue. */
#include "queue.h"

/* How long a try waits for another consumer that is at work on the next item. */
#define BUSY_SLICE (NSEC_PER_SEC / 100)

/* Makes the object that is loaded from, of a message without its trailer. */
static PyObject *make_message(const char *data, size_t len)
{
	if (frame_recognise(data, len))
		return PyByteArray_FromStringAndSize(data, (Py_ssize_t)len);
	return PyBytes_FromStringAndSize(data, (Py_ssize_t)len);
}

/* Loads the object of a message.  If it cannot be loaded and 'failed' is not NULL, *failed becomes the message. */
static PyObject *load(struct queue *self, const char *data, size_t len, PyObject **failed)
{
	PyObject *object = quick_load(data, len);
	PyObject *message;

	if (likely(object))
		return object;
	PyErr_Clear(); /* if the message is damaged, the unpickler raises the right exception */
	message = make_message(data, len);
	object = message ? message_load(self->state, message) : NULL;
	if (unlikely(!object && message && failed))
		*failed = Py_NewRef(message);
	Py_XDECREF(message);
	return object;
}

static PyObject *note_and_load(struct queue *self, PyObject *message, PyObject **failed)
{
	PyObject *object;

	if (PyByteArray_Check(message))
		(void)tally_took(self->tally, PyByteArray_AS_STRING(message),
				 (size_t)PyByteArray_GET_SIZE(message));
	else
		(void)tally_took(self->tally, PyBytes_AS_STRING(message), (size_t)PyBytes_GET_SIZE(message));
	/* The trailer may stay, because the unpickler ignores what follows the pickle. */
	object = message_load(self->state, message);
	if (unlikely(!object && failed))
		*failed = Py_NewRef(message);
	return object;
}

/* Returns NULL without an exception when the time is up. */
static PyObject *take_large(struct queue *self, int64_t deadline, PyObject **failed)
{
	PyObject *message = handle_receive(self->reader, deadline, frame_recognise);
	PyObject *object;

	if (!message) {
		if (exception_is_ours(PyExc_TimeoutError))
			PyErr_Clear();
		return NULL;
	}
	object = note_and_load(self, message, failed);
	Py_DECREF(message);
	return object;
}

/* One slice, without the GIL.  Leaves the hold in use. */
static ssize_t wait_and_take(struct hold *hold, struct use *use, char *copy, int64_t slice)
{
	ssize_t len;

	hold_use(hold, use);
	WITHOUT_GIL(len = bufpipe_recv(hold->pipe, copy, hold->take_most, slice));
	return len;
}

static bool is_for_later(ssize_t r)
{
	return r == -EAGAIN || r == -ETIMEDOUT || r == -EINTR;
}

bool queue_has_items(struct hold *hold)
{
	struct bufpipe_pollfd wanted = { hold->pipe, BUFPIPE_IN, 0 };
	int r;

	do
		r = bufpipe_wait(&wanted, 1, 0);
	while (r == -EINTR);
	return r > 0;
}

/*
 * Takes an object.  Returns NULL without an exception when the time is up.  A mere try
 * fails while another consumer is taking the next item; with 'thorough' it waits for that
 * consumer for a moment.
 */
static PyObject *take(struct queue *self, int64_t deadline, bool thorough, PyObject **failed)
{
	char copy[SHORT];

	for (;;) {
		struct hold *hold = handle_hold(self->reader);
		int64_t slice = 0;
		struct use use;
		ssize_t len;

		if (unlikely(!hold))
			return NULL;
		len = bufpipe_recv(hold->pipe, copy, hold->take_most, 0);
		if (len == -EAGAIN) {
			slice = deadline_slice(deadline, SLICE);
			if (slice == 0 && !(thorough && queue_has_items(hold)))
				return NULL;
			if (slice == 0)
				slice = BUSY_SLICE;
			thorough = false;
			len = wait_and_take(hold, &use, copy, slice);
		}
		if (likely(len >= 0))
			hold_settle(hold);
		else if (self->closed)
			(void)queue_check(self);
		else if (slice && len != -EMSGSIZE)
			after_slice(self->reader, hold, RECEIVING, len);
		else if (!slice && len != -EMSGSIZE && !(len == -EBUSY && part_waits(hold)))
			raise_error(hold, RECEIVING, len);
		if (slice)
			hold_unuse(&use);
		if (likely(len >= 0))
			return load(self, copy, tally_took(self->tally, copy, (size_t)len), failed);
		if (PyErr_Occurred())
			return NULL;
		if (!is_for_later(len))
			return take_large(self, deadline, failed);
	}
}

/*
 * What was taken and could not be returned is kept for the next call of this process.  An
 * entry of the list is a message that is not loaded yet, or a tuple with an object.
 */
size_t queue_kept(struct queue *self)
{
	/* A forked child has not taken them. */
	if (self->kept && self->process != this_process())
		Py_CLEAR(self->kept);
	return self->kept ? (size_t)PyList_GET_SIZE(self->kept) : 0;
}

static PyObject *take_kept(struct queue *self, PyObject **failed)
{
	PyObject *entry = Py_NewRef(PyList_GET_ITEM(self->kept, 0));
	PyObject *object = NULL;

	if (PyList_GET_SIZE(self->kept) == 1)
		Py_CLEAR(self->kept);
	else if (PyList_SetSlice(self->kept, 0, 1, NULL) < 0)
		goto out;
	if (PyTuple_Check(entry))
		object = Py_NewRef(PyTuple_GET_ITEM(entry, 0));
	else
		object = message_load(self->state, entry);
	if (!object)
		*failed = Py_NewRef(entry);
out:
	Py_DECREF(entry);
	return object;
}

static int append(PyObject *list, PyObject *entry)
{
	int r = entry ? PyList_Append(list, entry) : -1;

	Py_XDECREF(entry);
	return r;
}

/*
 * Keeps the objects and the message, before what is kept already.  The exception stays
 * set.  If there is no memory, they are lost.
 */
static void keep(struct queue *self, PyObject *objects, PyObject *message)
{
	PyObject *type, *value, *trace;
	PyObject *entries;
	int r = 0;

	PyErr_Fetch(&type, &value, &trace);
	entries = PyList_New(0);
	for (Py_ssize_t i = 0; entries && objects && r == 0 && i < PyList_GET_SIZE(objects); i++)
		r = append(entries, PyTuple_Pack(1, PyList_GET_ITEM(objects, i)));
	if (entries && message && r == 0)
		(void)PyList_Append(entries, message);
	if (entries && queue_kept(self))
		(void)PyList_SetSlice(self->kept, 0, 0, entries);
	else if (entries && PyList_GET_SIZE(entries))
		self->kept = Py_NewRef(entries);
	self->process = this_process();
	Py_XDECREF(entries);
	PyErr_Restore(type, value, trace);
}

/*
 * Whether a signal handler raised the exception.  While an object is being loaded, its own
 * code may raise any Exception.  So only an exception of another kind, such as
 * KeyboardInterrupt, is taken for that of a handler.
 */
static bool was_interrupted(bool loading)
{
	PyObject *type = PyErr_Occurred();

	if (!type)
		return false;
	return loading ? !PyErr_ExceptionMatches(PyExc_Exception) : !exception_is_ours(type);
}

static PyObject *take_next(struct queue *self, int64_t deadline, bool thorough, PyObject **failed)
{
	return unlikely(self->kept && queue_kept(self)) ? take_kept(self, failed)
							: take(self, deadline, thorough, failed);
}

static PyObject *get(struct queue *self, int64_t deadline)
{
	PyObject *failed = NULL;
	PyObject *object;

	if (unlikely(!queue_check(self)))
		return NULL;
	object = take_next(self, deadline, true, &failed);
	if (likely(object))
		return object;
	if (failed && was_interrupted(true))
		keep(self, NULL, failed);
	Py_XDECREF(failed);
	if (!PyErr_Occurred() && state_alive(self->state))
		PyErr_SetNone(self->state->empty);
	return NULL;
}

QUEUE_METHOD(queue_get)
{
	static const struct signature signature = { "get", 2, 0, { "block", "timeout" } };
	int64_t deadline = DEADLINE_NEVER;
	PyObject *values[2];

	if (unlikely(nargs || kwnames) && (!args_parse(&signature, args, nargs, kwnames, values) ||
					   !queue_deadline(values[0], values[1], &deadline)))
		return NULL;
	return get((struct queue *)object, deadline);
}

PyObject *queue_get_nowait(PyObject *object, PyObject *unused)
{
	(void)unused;
	return get((struct queue *)object, DEADLINE_TRY);
}

PyObject *queue_get_now(PyObject *object, PyObject *unused)
{
	(void)unused;
	return get((struct queue *)object, DEADLINE_TRY_SHORT);
}

/*
 * Adds objects that are there already.  The objects of the list must not be lost.  So if
 * the next one cannot be loaded, its message is kept, and the next call raises the
 * exception.  If a signal handler raises, everything is kept, and this returns -1.
 */
static int get_more(struct queue *self, PyObject *list, size_t n)
{
	while ((size_t)PyList_GET_SIZE(list) < n) {
		PyObject *failed = NULL;
		PyObject *object = take_next(self, DEADLINE_TRY, false, &failed);
		bool interrupted = !object && was_interrupted(failed != NULL);
		int r = object ? PyList_Append(list, object) : 0;

		if (interrupted)
			keep(self, list, failed);
		else if (failed)
			keep(self, NULL, failed);
		Py_XDECREF(failed);
		Py_XDECREF(object);
		if (r < 0 || interrupted)
			return -1;
		if (!object) {
			PyErr_Clear();
			break;
		}
	}
	return 0;
}

PyObject *queue_get_more(PyObject *object, PyObject *args)
{
	PyObject *list;
	Py_ssize_t n;

	if (!PyArg_ParseTuple(args, "O!n", &PyList_Type, &list, &n) || !queue_check((struct queue *)object))
		return NULL;
	if (get_more((struct queue *)object, list, n > 0 ? (size_t)n : 0) < 0)
		return NULL;
	return Py_NewRef(list);
}

QUEUE_METHOD(queue_get_many)
{
	static const struct signature signature = { "get_many", 3, 1, { "count", "block", "timeout" } };
	struct queue *self = (struct queue *)object;
	PyObject *first, *list;
	PyObject *values[3];
	int64_t deadline;
	size_t n;

	if (!args_parse(&signature, args, nargs, kwnames, values) || !args_number(values[0], "count", &n) ||
	    !queue_deadline(values[1], values[2], &deadline))
		return NULL;
	if (n == 0)
		return PyList_New(0);
	first = get(self, deadline);
	if (!first)
		return NULL;
	list = PyList_New(1);
	if (!list) {
		Py_DECREF(first);
		return NULL;
	}
	PyList_SET_ITEM(list, 0, first);
	if (get_more(self, list, n) == 0)
		return list;
	Py_DECREF(list);
	return NULL;
}
