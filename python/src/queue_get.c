/* SPDX-License-Identifier: MIT */
/* Taking items out of a queue. */
#include "queue.h"

/* How long a try waits for another consumer that is at work on the next item. */
#define BUSY_SLICE (NSEC_PER_SEC / 100)

/* Of a message without its trailer. */
static PyObject *make_message(const char *data, size_t len)
{
	if (frame_recognise(data, len))
		return PyByteArray_FromStringAndSize(data, (Py_ssize_t)len);
	return PyBytes_FromStringAndSize(data, (Py_ssize_t)len);
}

/* The object of a message.  If it cannot be loaded and 'failed' is not NULL, the message goes there. */
static PyObject *load(struct queue *self, const char *data, size_t len, PyObject **failed)
{
	PyObject *object = quick_load(data, len);
	PyObject *message;

	if (likely(object))
		return object;
	PyErr_Clear(); /* the unpickler says what is wrong with it */
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
	/* With its trailer: the unpickler ignores what follows the pickle. */
	object = message_load(self->state, message);
	if (unlikely(!object && failed))
		*failed = Py_NewRef(message);
	return object;
}

/* NULL without an exception: the time is up. */
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
 * An object, or NULL: without an exception, if the time is up.  A mere try fails when
 * another consumer is at work on the next item; 'thorough' waits for it for a moment.
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

/* What an earlier get_many took and could not load. */
static PyObject *load_left(struct queue *self)
{
	PyObject *message = self->unloaded;
	PyObject *object;

	self->unloaded = NULL;
	object = message_load(self->state, message);
	Py_DECREF(message);
	return object;
}

static PyObject *get(struct queue *self, int64_t deadline)
{
	PyObject *object;

	if (unlikely(!queue_check(self)))
		return NULL;
	if (unlikely(self->unloaded))
		return load_left(self);
	object = take(self, deadline, true, NULL);
	if (unlikely(!object) && !PyErr_Occurred() && state_alive(self->state))
		PyErr_SetNone(self->state->empty);
	return object;
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

/* Adds what is there at once.  -1 with an exception: the caller drops the list. */
static int get_more(struct queue *self, PyObject *list, size_t n)
{
	while ((size_t)PyList_GET_SIZE(list) < n) {
		PyObject *failed = NULL;
		PyObject *object = take(self, DEADLINE_TRY, false, &failed);
		int r = object ? PyList_Append(list, object) : 0;

		Py_XDECREF(object);
		if (r < 0)
			return -1;
		if (object)
			continue;
		/* The objects in the list must not be lost, so the next call raises this exception. */
		if (failed)
			Py_XSETREF(self->unloaded, failed);
		PyErr_Clear();
		break;
	}
	return 0;
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
