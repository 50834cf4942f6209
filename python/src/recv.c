/* SPDX-License-Identifier: MIT */
#include "recv.h"

#include "await.h"
#include "part.h"

#include <string.h>

#define VERY_SHORT 512

static PyObject *new_object(size_t len, bool writable, char **data)
{
	PyObject *made;

	if (len > PY_SSIZE_T_MAX)
		return PyErr_NoMemory();
	if (writable) {
		made = PyByteArray_FromStringAndSize(NULL, (Py_ssize_t)len);
		*data = made ? PyByteArray_AS_STRING(made) : NULL;
	} else {
		made = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)len);
		*data = made ? PyBytes_AS_STRING(made) : NULL;
	}
	return made;
}

/* Expects that the next message is as long as this one. */
static void expect(struct hold *hold, size_t len)
{
	hold->expected = len > VERY_SHORT ? len : 0;
	if (unlikely(hold->expected > SHORT || !hold->expected))
		Py_CLEAR(hold->last);
}

/* Releases without waiting for the GIL, because another process may wait for the release. */
static void copy_and_release(struct hold *hold, char *data, const void *at, size_t len)
{
	memcpy(data, at, len);
	bufpipe_release(hold->pipe);
	hold_settle(hold);
}

static void take_copy(struct hold *hold, char *data, const void *at, size_t len)
{
	struct use use;

	if (likely(len < LONG_COPY)) {
		copy_and_release(hold, data, at, len);
		return;
	}
	hold_use(hold, &use);
	WITHOUT_GIL(copy_and_release(hold, data, at, len));
	hold_unuse(&use);
}

/* Copies the peeked message and consumes it.  If there is no memory for the copy, the message stays in the pipe. */
static PyObject *take_peeked(struct hold *hold, const void *at, size_t len, writable_fn *writable)
{
	char *data = NULL;
	PyObject *made = new_object(len, writable && writable(at, len), &data);

	if (unlikely(!made)) {
		bufpipe_unpeek(hold->pipe);
		return NULL;
	}
	expect(hold, len);
	take_copy(hold, data, at, len);
	return made;
}

/* Makes a short message the kind of object that the caller wants.  Takes over the reference. */
static PyObject *as_wanted(PyObject *bytes, writable_fn *writable)
{
	const char *data = PyBytes_AS_STRING(bytes);
	Py_ssize_t len = PyBytes_GET_SIZE(bytes);
	PyObject *made;

	if (likely(!writable || !writable(data, (size_t)len)))
		return bytes;
	made = PyByteArray_FromStringAndSize(data, len);
	Py_DECREF(bytes);
	return made;
}

/*
 * Uses the object of the previous message again, if nothing else refers to it: that is
 * faster than freeing it and making another one.  Its cached hash is cleared.
 */
static PyObject *renew(struct hold *hold)
{
	PyObject *last = hold->last;

	hold->last = NULL;
	if (!last || Py_REFCNT(last) != 1 || (size_t)PyBytes_GET_SIZE(last) != hold->expected) {
		Py_XDECREF(last);
		return PyBytes_FromStringAndSize(NULL, (Py_ssize_t)hold->expected);
	}
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"
	((PyBytesObject *)last)->ob_shash = -1;
#pragma GCC diagnostic pop
	return last;
}

/* Without the GIL if it may block. */
static ssize_t receive(struct hold *hold, void *data, size_t cap, int64_t timeout)
{
	ssize_t r;

	if (timeout == 0)
		return bufpipe_recv(hold->pipe, data, cap, 0);
	WITHOUT_GIL(r = bufpipe_recv(hold->pipe, data, cap, timeout));
	return r;
}

/* Receives into an object of the length of the last message: most programs send one length again and again. */
static ssize_t take_expected(struct hold *hold, int64_t timeout, PyObject **made)
{
	size_t expected = hold->expected;
	ssize_t len;

	*made = renew(hold);
	if (!*made)
		return -ENOMEM;
	len = receive(hold, PyBytes_AS_STRING(*made), expected, timeout);
	if (likely(len == (ssize_t)expected)) {
		Py_XSETREF(hold->last, Py_NewRef(*made));
	} else if (len < 0) {
		Py_XSETREF(hold->last, *made);
		*made = NULL;
	} else {
		_PyBytes_Resize(made, len);
	}
	return len;
}

static ssize_t take_unexpected(struct hold *hold, int64_t timeout, PyObject **made)
{
	char copy[SHORT];
	ssize_t len = receive(hold, copy, hold->take_most, timeout);

	if (likely(len >= 0))
		*made = PyBytes_FromStringAndSize(copy, len);
	return len;
}

/*
 * Receives a short message, as most are: the library takes it from a shared end without
 * a lock.  A very short one is copied twice, which costs little.  The room is never larger
 * than the buffer: with more room, the library would wait for all fragments of a long message.
 */
static inline __attribute__((always_inline)) ssize_t take_short(struct hold *hold, int64_t timeout,
								writable_fn *writable, PyObject **made)
{
	ssize_t len = -EMSGSIZE;

	if (hold->expected > SHORT)
		return -EMSGSIZE;
	if (hold->expected)
		len = take_expected(hold, timeout, made);
	if (len == -EMSGSIZE)
		len = take_unexpected(hold, timeout, made);
	if (unlikely(len < 0))
		return len;
	expect(hold, (size_t)len);
	if (likely(*made))
		*made = as_wanted(*made, writable);
	hold_settle(hold);
	return len;
}

/*
 * The same, but waits for one slice.  One call of the library waits and receives, because
 * each further look at the ring would disturb a sender that is writing.  NULL without an
 * exception means that the caller must look again.
 */
static PyObject *await_short(struct end *self, struct hold *hold, int64_t deadline, writable_fn *writable)
{
	int64_t slice = deadline_slice(deadline, SLICE);
	PyObject *made = NULL;
	struct use use;
	ssize_t len;

	if (slice == 0)
		return raise_timeout(end_to_name(deadline, hold), RECEIVING);
	hold_use(hold, &use);
	len = take_short(hold, slice, writable, &made);
	/* If a message came, it is returned, even if the handle was closed meanwhile. */
	if (len < 0 && len != -EMSGSIZE)
		after_slice(self, hold, RECEIVING, len);
	hold_unuse(&use);
	return made;
}

/*
 * Makes a long message the kind of object that this call wants: the call that began to
 * receive the message may have wanted another kind.  Takes over the reference.
 */
static PyObject *convert(PyObject *made, writable_fn *writable)
{
	PyObject *wanted;

	if (!made || made == Py_None || (PyBytes_Check(made) ? !writable : writable != NULL))
		return made;
	if (PyBytes_Check(made))
		return as_wanted(made, writable);
	wanted = PyBytes_FromStringAndSize(PyByteArray_AS_STRING(made), PyByteArray_GET_SIZE(made));
	Py_DECREF(made);
	return wanted;
}

/* Goes on after a try that returned len < 0.  Kept out of handle_receive, through which most messages pass. */
static __attribute__((noinline)) PyObject *receive_later(struct end *self, struct hold *hold, ssize_t len,
							 int64_t deadline, writable_fn *writable)
{
	PyObject *made = NULL;
	const void *at;

	for (;;) {
		if (len == -EMSGSIZE) {
			len = bufpipe_peek(hold->pipe, &at, 0);
			if (len >= 0)
				return take_peeked(hold, at, (size_t)len, writable);
		}
		if (len == -EMSGSIZE || (len == -EBUSY && part_waits(hold)))
			made = convert(
				part_receive(self, hold, NULL, self->max_message, deadline, writable != NULL),
				writable);
		else if (len != -EAGAIN)
			raise_error(hold, RECEIVING, len);
		else if (hold->expected > SHORT)
			handle_await(self, deadline);
		else
			made = await_short(self, hold, deadline, writable);
		if (made || PyErr_Occurred())
			return made;
		hold = handle_hold(self);
		if (!hold)
			return NULL;
		len = take_short(hold, 0, writable, &made);
		if (len >= 0)
			return made;
	}
}

PyObject *handle_receive(struct end *self, int64_t deadline, writable_fn *writable)
{
	struct hold *hold = handle_hold(self);
	PyObject *made = NULL;
	ssize_t len;

	if (unlikely(!hold))
		return NULL;
	len = take_short(hold, 0, writable, &made);
	if (likely(len >= 0))
		return made;
	return receive_later(self, hold, len, deadline, writable);
}

/* Like handle_receive for bytes, but looks at the length before it takes the message. */
static PyObject *receive_at_most(struct end *self, int64_t deadline, size_t most)
{
	PyObject *made = NULL;

	while (!made && !PyErr_Occurred()) {
		struct hold *hold = handle_hold(self);
		const void *at;
		ssize_t len;

		if (!hold)
			return NULL;
		len = bufpipe_peek(hold->pipe, &at, 0);
		if (len >= 0 && (size_t)len <= most)
			return take_peeked(hold, at, (size_t)len, NULL);
		if (len >= 0) {
			bufpipe_unpeek(hold->pipe);
			return PyErr_Format(PyExc_OSError,
					    "bad message length: %zd bytes came, at most %zu are allowed",
					    len, most);
		}
		if (len == -EMSGSIZE || (len == -EBUSY && part_waits(hold)))
			made = convert(part_receive(self, hold, NULL,
						    most < self->max_message ? most : self->max_message,
						    deadline, false),
				       NULL);
		else if (len != -EAGAIN)
			raise_error(hold, RECEIVING, len);
		else
			handle_await(self, deadline);
	}
	return made;
}

static __attribute__((noinline)) METHOD(recv_bytes_as_told)
{
	static const struct signature signature = { "recv_bytes", 1, 0, { "maxlength", "timeout" } };
	int64_t deadline;
	PyObject *values[2];
	size_t most;

	if (!args_parse(&signature, args, nargs, kwnames, values) || args_deadline(values[1], &deadline) < 0)
		return NULL;
	if (!values[0] || values[0] == Py_None)
		return handle_receive(self, deadline, NULL);
	if (!args_number(values[0], "maxlength", &most))
		return NULL;
	return receive_at_most(self, deadline, most);
}

METHOD(handle_recv_bytes)
{
	if (likely(nargs == 0 && !kwnames))
		return handle_receive(self, DEADLINE_NEVER, NULL);
	return recv_bytes_as_told(self, args, nargs, kwnames);
}

/* Takes the peeked message.  If it is too long, returns -1 with BufferTooShort. */
static ssize_t take_into(struct hold *hold, const void *at, size_t len, void *data, size_t cap)
{
	PyObject *message;

	if (len <= cap) {
		take_copy(hold, data, at, len);
		return (ssize_t)len;
	}
	message = len <= TOO_SHORT_MOST ? take_peeked(hold, at, len, NULL) : part_refuse_peeked(hold, len);
	if (message)
		raise_too_short(message);
	Py_XDECREF(message);
	return -1;
}

static ssize_t receive_into(struct end *self, void *data, size_t cap, int64_t deadline)
{
	struct place place = { .data = data, .room = cap };

	for (;;) {
		struct hold *hold = handle_hold(self);
		PyObject *made;
		const void *at;
		ssize_t r;

		if (!hold)
			return -1;
		r = bufpipe_peek(hold->pipe, &at, 0);
		if (r >= 0)
			return take_into(hold, at, (size_t)r, data, cap);
		if (r == -EAGAIN) {
			if (handle_await(self, deadline) < 0)
				return -1;
			continue;
		}
		if (r != -EMSGSIZE && !(r == -EBUSY && part_waits(hold))) {
			raise_error(hold, RECEIVING, r);
			return -1;
		}
		made = convert(part_receive(self, hold, &place, self->max_message, deadline, false), NULL);
		if (made == Py_None) {
			Py_DECREF(made);
			return (ssize_t)place.len;
		}
		if (made)
			raise_too_short(made);
		Py_XDECREF(made);
		if (PyErr_Occurred())
			return -1;
	}
}

/* A TypeError, as in multiprocessing and wherever Python reads into an object. */
static PyObject *raise_unwritable(PyObject *buffer)
{
	if (PyErr_ExceptionMatches(PyExc_BufferError))
		PyErr_Format(PyExc_TypeError,
			     "recv_bytes_into() needs a writable, contiguous bytes-like object, not this %s",
			     Py_TYPE(buffer)->tp_name);
	return NULL;
}

METHOD(handle_recv_bytes_into)
{
	static const struct signature signature = { "recv_bytes_into", 2, 1, { "buf", "offset", "timeout" } };
	PyObject *values[3];
	int64_t deadline;
	Py_buffer view;
	size_t offset;
	ssize_t r = -1;

	if (!args_parse(&signature, args, nargs, kwnames, values) ||
	    args_deadline(values[2], &deadline) < 0 || !args_number(values[1], "offset", &offset))
		return NULL;
	if (PyObject_GetBuffer(values[0], &view, PyBUF_WRITABLE) < 0)
		return raise_unwritable(values[0]);
	if (offset > (size_t)view.len)
		PyErr_SetString(PyExc_ValueError, "offset too large");
	else
		r = receive_into(self, (char *)view.buf + offset, (size_t)view.len - offset, deadline);
	PyBuffer_Release(&view);
	return r < 0 ? NULL : PyLong_FromSsize_t(r);
}
