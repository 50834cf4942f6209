/* SPDX-License-Identifier: MIT */
/* Making a view, and waiting for its message or for room. */
#include "view.h"

#include "await.h"
#include "part.h"
#include "recv.h"
#include "view_state.h"

static PyObject *view_make(struct end *end, bool sends, size_t len, int64_t timeout_ns)
{
	PyTypeObject *type = end->state->view_type;
	struct view *view = state_alive(end->state) ? (struct view *)type->tp_alloc(type, 0) : NULL;

	if (!view)
		return NULL;
	view->end = (struct end *)Py_NewRef((PyObject *)end);
	view->sends = sends;
	view->timeout_ns = timeout_ns;
	view->len = len;
	view->commit_len = len;
	return (PyObject *)view;
}

METHOD(handle_send_view)
{
	static const struct signature signature = { "send_view", 1, 0, { "size", "timeout" } };
	struct hold *hold = handle_hold(self);
	PyObject *values[2];
	int64_t timeout_ns;
	size_t len;

	if (!hold)
		return NULL;
	len = hold->info.object_size;
	if (!hold->info.can_send)
		return raise_error(hold, SENDING, -EBADF);
	if (!args_parse(&signature, args, nargs, kwnames, values) ||
	    args_timeout_ns(values[1], &timeout_ns) < 0 || !args_size(values[0], "size", len, &len))
		return NULL;
	if (!self->hold)
		return raise_closed();
	if (!hold_static(self->hold) && (!values[0] || values[0] == Py_None)) {
		PyErr_SetString(PyExc_TypeError, "send_view() missing required argument: 'size'");
		return NULL;
	}
	return view_make(self, true, len, timeout_ns);
}

METHOD(handle_recv_view)
{
	static const struct signature signature = { "recv_view", 0, 0, { "timeout" } };
	struct hold *hold = handle_hold(self);
	PyObject *values[1];
	int64_t timeout_ns;

	if (!hold)
		return NULL;
	if (!hold->info.can_recv)
		return raise_error(hold, RECEIVING, -EBADF);
	if (!args_parse(&signature, args, nargs, kwnames, values) ||
	    args_timeout_ns(values[0], &timeout_ns) < 0)
		return NULL;
	return view_make(self, false, 0, timeout_ns);
}

/* Opens the view on the message or the room.  Returns -1 with an exception if there is no memory for that. */
static int opened(struct view *view, struct hold *hold, void *at, size_t len)
{
	struct state *state = view->end->state;

	view->stay = stay_begin(hold, view->sends ? SENDING : RECEIVING);
	if (!view->stay) {
		(void)(view->sends ? bufpipe_cancel(hold->pipe) : bufpipe_unpeek(hold->pipe));
		PyErr_NoMemory();
		return -1;
	}
	view->next = state->views;
	view->at_me = &state->views;
	if (view->next)
		view->next->at_me = &view->next;
	state->views = view;
	view->state = VIEW_OPEN;
	view->hold = hold;
	view->at = at;
	view->len = len;
	view->thread = thread_number();
	view->process = this_process();
	hold_add(hold);
	return 0;
}

static PyObject *raise_unfit(const struct hold *hold, size_t len)
{
	if (hold_static(hold))
		PyErr_Format(PyExc_ValueError, "this pipe carries messages of exactly %zu bytes, not %zu",
			     hold->info.object_size, len);
	else
		PyErr_Format(PyExc_ValueError, "%zu bytes do not fit in place: the buffer has %zu", len,
			     hold->info.buffer_size);
	return NULL;
}

static int open_sending(struct view *view)
{
	int64_t deadline = deadline_from(view->timeout_ns);
	int64_t slice = 0;

	for (;;) {
		struct hold *hold = handle_hold(view->end);
		struct use use;
		int failed = 0;
		void *room;
		int r;

		if (!hold)
			return -1;
		hold_use(hold, &use);
		if (slice == 0) {
			r = bufpipe_reserve(hold->pipe, &room, view->len, 0);
		} else {
			WITHOUT_GIL(r = bufpipe_reserve(hold->pipe, &room, view->len, slice));
		}
		if (r == -EMSGSIZE) {
			raise_unfit(hold, view->len);
			failed = -1;
		} else if (r == 0) {
			failed = opened(view, hold, room, view->len);
		} else {
			failed = after_slice(view->end, hold, SENDING, r);
		}
		hold_unuse(&use);
		if (failed || r == 0)
			return failed;
		slice = deadline_slice(deadline, SLICE);
		if (slice == 0) {
			raise_timeout(end_to_name(deadline, view->end->hold), SENDING);
			return -1;
		}
	}
}

/* Receives a message that is longer than the ring, and so is nowhere in one piece. */
static int open_copied(struct view *view, int64_t deadline)
{
	PyObject *message = handle_receive(view->end, deadline, NULL);

	if (!message)
		return -1;
	view->memory = PyMemoryView_FromObject(message);
	view->len = (size_t)PyBytes_GET_SIZE(message);
	Py_DECREF(message);
	view->state = VIEW_COPIED;
	return view->memory ? 0 : -1;
}

static int open_receiving(struct view *view)
{
	int64_t deadline = deadline_from(view->timeout_ns);

	for (;;) {
		struct hold *hold = handle_hold(view->end);
		const void *at;
		ssize_t len;

		if (!hold)
			return -1;
		len = bufpipe_peek(hold->pipe, &at, 0);
		if (len >= 0)
			return opened(view, hold, (void *)(uintptr_t)at, (size_t)len);
		if (len == -EMSGSIZE || (len == -EBUSY && part_waits(hold)))
			return open_copied(view, deadline);
		if (len != -EAGAIN) {
			raise_error(hold, RECEIVING, len);
			return -1;
		}
		if (handle_await(view->end, deadline) < 0)
			return -1;
	}
}

/* There was no memory for the memoryview: makes the view one that was not entered. */
static void view_undo(struct view *view)
{
	struct hold *hold = view_close(view, true);

	if (view->sends)
		(void)bufpipe_cancel(hold->pipe);
	else
		(void)bufpipe_unpeek(hold->pipe);
	view->state = VIEW_NEW;
	hold_drop(hold);
}

PyObject *view_enter(PyObject *self, PyObject *unused)
{
	struct view *view = (struct view *)self;

	(void)unused;
	if (view->state != VIEW_NEW) {
		PyErr_SetString(PyExc_RuntimeError, "a view can be entered once");
		return NULL;
	}
	view->state = VIEW_ENTERING;
	if ((view->sends ? open_sending(view) : open_receiving(view)) < 0) {
		/* The view was not entered, so it may be entered later. */
		if (view->state == VIEW_ENTERING)
			view->state = VIEW_NEW;
		return NULL;
	}
	if (!view->memory)
		view->memory = PyMemoryView_FromObject(self);
	if (!view->memory) {
		view_undo(view);
		return NULL;
	}
	return Py_NewRef(view->memory);
}
