/* SPDX-License-Identifier: MIT */
#include "send.h"

/* One slice without the GIL.  Leaves the hold in use. */
static int send_slice(struct hold *hold, struct use *use, const struct iovec *pieces, int n, int64_t timeout)
{
	int r;

	hold_use(hold, use);
	WITHOUT_GIL(r = bufpipe_sendv(hold->pipe, pieces, n, timeout));
	return r;
}

/* How much of the pieces of a long message was sent. */
struct cursor {
	const struct iovec *piece;
	size_t offset;
	size_t left; /* of the message */
};

static void advance(struct cursor *at, size_t n)
{
	at->left -= n;
	at->offset += n;
	while (at->left && at->offset == at->piece->iov_len) {
		at->piece++;
		at->offset = 0;
	}
}

/* Sends the rest of the message, or gives the message up with an exception. */
static int send_parts(struct end *self, struct hold *hold, struct cursor *at, int64_t deadline)
{
	size_t len = at->left;
	unsigned process = this_process();
	int failed = 0;

	while (at->left && !failed) {
		int64_t slice = deadline_slice(deadline, SLICE);
		size_t n = at->piece->iov_len - at->offset;
		ssize_t r = -ETIMEDOUT;

		if (slice == 0) {
			raise_timeout(end_to_name(deadline, hold), SENDING);
			failed = -1;
			break;
		}
		WITHOUT_GIL(r = bufpipe_send_part(hold->pipe, (char *)at->piece->iov_base + at->offset, n,
						  at->left - n, slice));
		if (r > 0)
			advance(at, (size_t)r);
		if (at->left)
			failed = after_slice(self, hold, SENDING, r < 0 ? r : -EINTR);
		if (!failed && process != this_process()) {
			PyErr_SetString(PyExc_RuntimeError,
					"the rest of this message belongs to the parent process");
			failed = -1;
		}
	}
	if (failed && at->left < len && process == this_process())
		(void)bufpipe_cancel(hold->pipe);
	return failed;
}

/*
 * Sends a message longer than the ring in parts.  Between two parts this thread keeps
 * its turn and checks for signals.  If it gives up, the receiver gets nothing of the message.
 */
static int send_long(struct end *self, struct hold *hold, const struct iovec *pieces, size_t len,
		     int64_t deadline)
{
	struct cursor at = { .piece = pieces, .left = len };
	struct use use;
	int r;

	advance(&at, 0); /* skips pieces without bytes */
	hold_use(hold, &use);
	r = send_parts(self, hold, &at, deadline);
	hold_unuse(&use);
	return r;
}

static int send_short(struct end *self, struct hold *hold, const struct iovec *pieces, int n,
		      int64_t deadline)
{
	struct use use;
	int64_t slice;
	int r, failed;

	while ((slice = deadline_slice(deadline, SLICE)) != 0) {
		r = send_slice(hold, &use, pieces, n, slice);
		failed = r == 0 ? 0 : after_slice(self, hold, SENDING, r);
		hold_unuse(&use);
		if (failed)
			return -1;
		if (r == 0)
			return 0;
	}
	raise_timeout(end_to_name(deadline, hold), SENDING);
	return -1;
}

/* r is what a try returned; or -EAGAIN without a try, for a message that takes long to copy. */
static int send_blocking(struct end *self, struct hold *hold, const struct iovec *pieces, int n, size_t len,
			 int64_t deadline, int r)
{
	bool too_long = !hold_static(hold) && len > hold->info.buffer_size;

	if (hold_static(hold) && len != hold->info.object_size) {
		PyErr_Format(PyExc_ValueError, "this pipe carries messages of exactly %zu bytes, not %zu",
			     hold->info.object_size, len);
		return -1;
	}
	if (r == -EMSGSIZE && too_long && deadline == DEADLINE_TRY) {
		PyErr_Format(
			PyExc_ValueError,
			"a message of %zu bytes is longer than the buffer of %zu, and so needs a timeout "
			"above 0",
			len, hold->info.buffer_size);
		return -1;
	}
	if (r != -EAGAIN && !(r == -EMSGSIZE && too_long)) {
		raise_error(hold, SENDING, r);
		return -1;
	}
	if (too_long)
		return send_long(self, hold, pieces, len, deadline);
	return send_short(self, hold, pieces, n, deadline);
}

/* A try of a message that takes long to copy. */
static int send_long_try(struct end *self, struct hold *hold, const struct iovec *pieces, int n, size_t len)
{
	struct use use;
	int r = send_slice(hold, &use, pieces, n, 0);

	if (r < 0)
		r = send_blocking(self, hold, pieces, n, len, DEADLINE_TRY, r);
	hold_unuse(&use);
	return r;
}

int handle_send(struct end *self, const struct iovec *pieces, int n, size_t len, int64_t deadline)
{
	struct hold *hold = handle_hold(self);
	int r = -EAGAIN;

	if (!hold)
		return -1;
	if (likely(len < LONG_COPY)) {
		r = bufpipe_sendv(hold->pipe, pieces, n, 0);
		if (likely(r == 0))
			return 0;
	} else if (deadline == DEADLINE_TRY) {
		return send_long_try(self, hold, pieces, n, len);
	}
	return send_blocking(self, hold, pieces, n, len, deadline, r);
}

/* Narrows the piece to the part that offset and size choose, with the errors of multiprocessing.Connection. */
static bool choose_part(struct iovec *piece, PyObject *offset, PyObject *size)
{
	size_t from;
	size_t n;

	if (!args_number(offset, "offset", &from))
		return false;
	if (from > piece->iov_len) {
		PyErr_SetString(PyExc_ValueError, "buffer length < offset");
		return false;
	}
	n = piece->iov_len - from;
	if (size && size != Py_None && !args_number(size, "size", &n))
		return false;
	if (n > piece->iov_len - from) {
		PyErr_SetString(PyExc_ValueError, "buffer length < offset + size");
		return false;
	}
	piece->iov_base = (char *)piece->iov_base + from;
	piece->iov_len = n;
	return true;
}

/*
 * Gets the bytes of the object in C order.  If they have another order in memory, as in
 * a Fortran array, the view is one of a copy, as in multiprocessing.  Returns 0, or -1
 * with an exception.
 */
static int get_bytes(PyObject *buffer, Py_buffer *view)
{
	PyObject *memory, *copy;
	int r;

	if (PyObject_GetBuffer(buffer, view, PyBUF_SIMPLE) == 0)
		return 0;
	if (!PyErr_ExceptionMatches(PyExc_BufferError) && !PyErr_ExceptionMatches(PyExc_ValueError))
		return -1;
	PyErr_Clear();
	memory = PyMemoryView_FromObject(buffer);
	copy = memory ? PyBytes_FromObject(memory) : NULL;
	r = copy ? PyObject_GetBuffer(copy, view, PyBUF_SIMPLE) : -1;
	Py_XDECREF(copy);
	Py_XDECREF(memory);
	return r;
}

static PyObject *send_part(struct end *self, PyObject *buffer, PyObject *offset, PyObject *size,
			   int64_t deadline)
{
	struct iovec piece;
	Py_buffer view;
	int r = -1;

	if (get_bytes(buffer, &view) < 0)
		return NULL;
	piece = (struct iovec){ view.buf, (size_t)view.len };
	if (choose_part(&piece, offset, size))
		r = handle_send(self, &piece, 1, piece.iov_len, deadline);
	PyBuffer_Release(&view);
	if (r < 0)
		return NULL;
	Py_RETURN_NONE;
}

PyObject *handle_send_buffer(struct end *self, PyObject *buffer, int64_t deadline)
{
	return send_part(self, buffer, NULL, NULL, deadline);
}

static PyObject *send_plain(struct end *self, PyObject *bytes)
{
	struct iovec piece = { PyBytes_AS_STRING(bytes), (size_t)PyBytes_GET_SIZE(bytes) };
	struct hold *hold = handle_hold(self);
	int r = -EAGAIN;

	if (!hold)
		return NULL;
	if (likely(piece.iov_len < LONG_COPY)) {
		r = bufpipe_send(hold->pipe, piece.iov_base, piece.iov_len, 0);
		if (likely(r == 0))
			Py_RETURN_NONE;
	}
	if (send_blocking(self, hold, &piece, 1, piece.iov_len, DEADLINE_NEVER, r) < 0)
		return NULL;
	Py_RETURN_NONE;
}

METHOD(handle_send_bytes)
{
	static const struct signature signature = {
		"send_bytes", 3, 1, { "buf", "offset", "size", "timeout" }
	};
	PyObject *values[4];
	int64_t deadline;

	/* Nearly all calls are like this. */
	if (likely(nargs == 1 && !kwnames && PyBytes_CheckExact(args[0])))
		return send_plain(self, args[0]);
	if (!args_parse(&signature, args, nargs, kwnames, values) || args_deadline(values[3], &deadline) < 0)
		return NULL;
	return send_part(self, values[0], values[1], values[2], deadline);
}
