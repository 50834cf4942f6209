/* SPDX-License-Identifier: MIT */
#include "core.h"

/* One slice without the GIL.  Leaves the hold in use. */
static int send_slice(struct hold *hold, struct use *use, const struct iovec *pieces, int n, int64_t timeout)
{
	int r;

	hold_use(hold, use);
	WITHOUT_GIL(r = bufpipe_sendv(hold->pipe, pieces, n, timeout));
	return r;
}

static int await_room(bufpipe_t *pipe, void **room, size_t len, int64_t timeout)
{
	int r = bufpipe_reserve(pipe, room, len, timeout);

	return r < 0 ? r : bufpipe_cancel(pipe);
}

/* Whether others have sent since the last call: then the next message has another place. */
static bool others_send(bufpipe_t *pipe, void **place)
{
	void *last = *place;

	return await_room(pipe, place, 0, 0) == 0 && last && *place != last;
}

/*
 * Waits for the turn and for room that only a receiver makes, so that the send
 * that follows, which cannot go in small slices, moves.  Leaves the hold in use.
 */
static int room_slice(struct hold *hold, struct use *use, void **place, int64_t timeout)
{
	void *room;
	int r;

	hold_use(hold, use);
	WITHOUT_GIL(r = await_room(hold->pipe, &room, hold->info.buffer_size / 2, timeout));
	if (r == -ETIMEDOUT && others_send(hold->pipe, place))
		r = 0; /* they take the room each time, so there is a receiver */
	return r;
}

/* How long that took in slices; -1 with an exception. */
static int64_t await_receiver(struct end *self, struct hold *hold, int64_t deadline)
{
	int64_t waited = 0;
	void *place = NULL;
	struct use use;
	int64_t slice;
	int r, failed;

	while ((slice = deadline_slice(deadline, SLICE)) != 0) {
		r = room_slice(hold, &use, &place, slice);
		failed = after_slice(self, hold, SENDING, r);
		hold_unuse(&use);
		if (failed)
			return -1;
		if (r == 0)
			return waited;
		waited += slice;
	}
	raise_timeout(SENDING);
	return -1;
}

/*
 * A message longer than the ring that is given up at the end of a slice starts
 * again from its beginning, so slices grow until one is long enough: also for a
 * receiver that comes seldom.
 */
static int send_long(struct end *self, struct hold *hold, const struct iovec *pieces, int n, int64_t deadline)
{
	int64_t most = SLICE;
	int64_t waited;
	struct use use;
	int64_t slice;
	int r, failed;

	while ((waited = await_receiver(self, hold, deadline)) >= 0) {
		if (most < waited)
			most = waited;
		slice = deadline_slice(deadline, most);
		if (slice == 0)
			continue; /* to the exception */
		r = send_slice(hold, &use, pieces, n, slice);
		failed = r == 0 ? 0 : after_slice(self, hold, SENDING, r);
		hold_unuse(&use);
		if (failed)
			return -1;
		if (r == 0)
			return 0;
		if (r == -ETIMEDOUT)
			most *= 2;
	}
	return -1;
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
	raise_timeout(SENDING);
	return -1;
}

/* The try ended with r, or was not worth making. */
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
		return send_long(self, hold, pieces, n, deadline);
	return send_short(self, hold, pieces, n, deadline);
}

/* A try that copies for long. */
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

/* The part that offset and size choose, as multiprocessing.Connection does. */
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

static PyObject *send_part(struct end *self, PyObject *buffer, PyObject *offset, PyObject *size,
			   int64_t deadline)
{
	struct iovec piece;
	Py_buffer view;
	int r = -1;

	if (PyObject_GetBuffer(buffer, &view, PyBUF_SIMPLE) < 0)
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

	/* What nearly every call is. */
	if (likely(nargs == 1 && !kwnames && PyBytes_CheckExact(args[0])))
		return send_plain(self, args[0]);
	if (!args_parse(&signature, args, nargs, kwnames, values) || args_deadline(values[3], &deadline) < 0)
		return NULL;
	return send_part(self, values[0], values[1], values[2], deadline);
}
