/* SPDX-License-Identifier: MIT */
/*
 * A message in place: a context manager whose 'with' gives a memoryview into
 * the ring.  The library holds the lock of the end for this time, so the same
 * thread must leave the block; and the memory must not go while something in
 * Python points to it, so the message ends with the last view of it.
 */
#include "view.h"

#include "await.h"
#include "part.h"
#include "recv.h"

enum view_state {
	VIEW_NEW,
	VIEW_ENTERING, /* a thread waits for the message, or for room */
	VIEW_OPEN,
	VIEW_COPIED, /* the message was longer than the ring */
	VIEW_ENDING, /* left, but something still points into it */
	VIEW_DONE,
};

struct view {
	PyObject_HEAD struct end *end;
	struct hold *hold; /* held while open, as by a handle: also in a child something may point there */
	struct stay *stay; /* while it has a hold: the lock of the thread that entered */
	bool sends;
	enum view_state state;
	int64_t timeout_ns;
	void *at;
	size_t len;
	size_t commit_len;
	size_t exports;
	unsigned long thread;
	unsigned process;
	PyObject *memory; /* the memoryview that was given out */
	/* While it has a hold: among the views of the interpreter that have one. */
	struct view *next;
	struct view **at_me;
};

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

/* -1 with an exception: for want of memory it is not open after all. */
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

/* The hold is the caller's now, and so is the lock, if this is the thread that has entered. */
static struct hold *closed(struct view *view, bool given_back)
{
	struct hold *hold = view->hold;

	if (given_back)
		stay_end(view->stay);
	else
		stay_leave(view->stay);
	view->state = VIEW_DONE;
	view->hold = NULL;
	view->stay = NULL;
	*view->at_me = view->next;
	if (view->next)
		view->next->at_me = view->at_me;
	return hold;
}

void views_forget(struct state *state)
{
	while (state->views) {
		struct view *view = state->views;

		state->views = view->next;
		view->next = NULL;
		view->at_me = &view->next;
	}
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
			raise_timeout(SENDING);
			return -1;
		}
	}
}

/* A message that is longer than the ring cannot be seen in place. */
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

/* Only the thread that has entered a view can leave it, and not its child. */
static bool is_owner(const struct view *view)
{
	return view->process == this_process() && view->thread == thread_number();
}

static int check_owner(const struct view *view)
{
	if (is_owner(view))
		return 0;
	PyErr_SetString(PyExc_RuntimeError, view->process != this_process()
						    ? "the view of this message belongs to the parent process"
						    : "a view must be left by the thread that entered it");
	return -1;
}

/* Ends what the library has open, of the owner. */
static int view_end(struct view *view, bool commit)
{
	struct hold *hold = closed(view, true);
	int r = 0;

	if (!view->sends) {
		r = bufpipe_release(hold->pipe);
		hold_settle(hold);
	} else {
		r = commit ? bufpipe_commit(hold->pipe, view->commit_len) : bufpipe_cancel(hold->pipe);
		/* Of the errors only that one ends the reservation, and nobody else ever would. */
		if (commit && r < 0 && r != -EPIPE)
			(void)bufpipe_cancel(hold->pipe);
	}
	if (r < 0)
		raise_error(hold, SENDING, r);
	hold_drop(hold);
	return r < 0 ? -1 : 0;
}

/*
 * Nobody will leave the view.  In another thread than its owner's it cannot be
 * ended: that is left to the owner's next call, or to its end.
 */
static void view_throw_away(struct view *view)
{
	PyObject *type, *value, *trace;

	PyErr_Fetch(&type, &value, &trace);
	if (is_owner(view)) {
		/* Not with the view itself, which may be on its way to be freed. */
		if (view_end(view, false) < 0)
			PyErr_WriteUnraisable((PyObject *)view->end);
	} else {
		hold_drop(closed(view, false));
	}
	PyErr_Restore(type, value, trace);
}

/*
 * The thread of this view is not in this process, so nobody will ever leave it.
 * It keeps the end only while something still points into the message: the
 * memoryview that was given out does not after this.
 */
static void view_leave_behind(struct view *view)
{
	PyObject *released;

	Py_INCREF((PyObject *)view);
	released = view->memory ? PyObject_CallMethod(view->memory, "release", NULL) : NULL;
	if (!released)
		PyErr_Clear(); /* something was exported from it: that is counted */
	Py_XDECREF(released);
	if (view->exports)
		view->state = VIEW_ENDING;
	else
		hold_drop(closed(view, false));
	Py_DECREF((PyObject *)view);
}

static struct view *next_to_leave(const struct state *state)
{
	unsigned long thread = thread_number();

	for (struct view *view = state->views; view; view = view->next) {
		if (view->state == VIEW_OPEN && view->thread != thread)
			return view;
	}
	return NULL;
}

PyObject *core_leave_views_behind(PyObject *module, PyObject *unused)
{
	struct view *view;

	(void)unused;
	/* From the beginning each time: what goes with a view may run code that ends others. */
	while ((view = next_to_leave(state_of_module(module))))
		view_leave_behind(view);
	Py_RETURN_NONE;
}

/* For want of memory it was not entered after all. */
static void view_undo(struct view *view)
{
	struct hold *hold = closed(view, true);

	if (view->sends)
		(void)bufpipe_cancel(hold->pipe);
	else
		(void)bufpipe_unpeek(hold->pipe);
	view->state = VIEW_NEW;
	hold_drop(hold);
}

static PyObject *view_enter(PyObject *self, PyObject *unused)
{
	struct view *view = (struct view *)self;

	(void)unused;
	if (view->state != VIEW_NEW) {
		PyErr_SetString(PyExc_RuntimeError, "a view can be entered once");
		return NULL;
	}
	view->state = VIEW_ENTERING;
	if ((view->sends ? open_sending(view) : open_receiving(view)) < 0) {
		/* After a timeout it may be entered again. */
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

static PyObject *view_exit(PyObject *self, PyObject *const *args, Py_ssize_t nargs)
{
	struct view *view = (struct view *)self;
	bool failed = nargs > 0 && args[0] != Py_None;
	PyObject *memory = view->memory;
	PyObject *released;

	if (view->state == VIEW_COPIED) {
		view->state = VIEW_DONE;
		Py_CLEAR(view->memory);
		Py_RETURN_NONE;
	}
	/* Without a memoryview it is being opened, or collected. */
	if (view->state != VIEW_OPEN || !memory) {
		PyErr_SetString(PyExc_RuntimeError, "this view is not open");
		return NULL;
	}
	if (check_owner(view) < 0)
		return NULL;
	/* Before the memoryview is released, which would end the message if nothing else points there. */
	view->exports++;
	view->memory = NULL;
	released = PyObject_CallMethod(memory, "release", NULL);
	if (!released)
		PyErr_Clear(); /* something was exported from it: that is counted */
	Py_XDECREF(released);
	Py_DECREF(memory);
	if (--view->exports) {
		view->state = VIEW_ENDING;
		if (failed)
			Py_RETURN_NONE;
		PyErr_SetString(PyExc_BufferError,
				view->sends
					? "not sent: something still points into the message"
					: "something still points into the message; the pipe waits for it");
		return NULL;
	}
	if (view_end(view, !failed) < 0)
		return NULL;
	Py_RETURN_NONE;
}

static int view_getbuffer(PyObject *self, Py_buffer *buffer, int flags)
{
	struct view *view = (struct view *)self;

	buffer->obj = NULL; /* as it must be after a failure */
	if (view->state != VIEW_OPEN) {
		PyErr_SetString(PyExc_BufferError, "this view is not open");
		return -1;
	}
	if (PyBuffer_FillInfo(buffer, self, view->at, (Py_ssize_t)view->len, !view->sends, flags) < 0)
		return -1;
	view->exports++;
	return 0;
}

static void view_releasebuffer(PyObject *self, Py_buffer *buffer)
{
	struct view *view = (struct view *)self;

	(void)buffer;
	view->exports--;
	if (view->exports == 0 && view->state == VIEW_ENDING)
		view_throw_away(view);
}

/* 'with' was entered and never left. */
static void view_dealloc(PyObject *self)
{
	struct view *view = (struct view *)self;
	PyTypeObject *type = Py_TYPE(self);

	PyObject_GC_UnTrack(self);
	if (view->hold)
		view_throw_away(view);
	Py_CLEAR(view->memory);
	Py_CLEAR(view->end);
	type->tp_free(self);
	Py_DECREF(type);
}

static int view_traverse(PyObject *self, visitproc visit, void *arg)
{
	struct view *view = (struct view *)self;

	Py_VISIT(Py_TYPE(self));
	Py_VISIT(view->memory);
	Py_VISIT((PyObject *)view->end);
	return 0;
}

/* The memoryview points to us and we to it; and an end of a class that was made in Python may point to us. */
static int view_clear(PyObject *self)
{
	struct view *view = (struct view *)self;

	/* It cannot be entered without its end, and needs only the hold to be left. */
	if (view->state == VIEW_NEW)
		view->state = VIEW_DONE;
	Py_CLEAR(view->memory);
	Py_CLEAR(view->end);
	return 0;
}

static size_t view_size(const struct view *view)
{
	return view->sends ? view->commit_len : view->len;
}

static PyObject *view_repr(PyObject *self)
{
	static const char *const states[] = {
		[VIEW_NEW] = "not entered", [VIEW_ENTERING] = "being entered",  [VIEW_OPEN] = "open",
		[VIEW_COPIED] = "open",     [VIEW_ENDING] = "left, but in use", [VIEW_DONE] = "left",
	};
	struct view *view = (struct view *)self;
	PyObject *name = name_of(Py_TYPE(self));
	PyObject *text;

	if (!name)
		return NULL;
	/* Nobody knows yet which message it will be. */
	if ((view->state == VIEW_NEW || view->state == VIEW_ENTERING) && !view->sends)
		text = PyUnicode_FromFormat("<%U receiving, %s, at %p>", name, states[view->state],
					    (void *)self);
	else
		text = PyUnicode_FromFormat("<%U %s %zu bytes, %s, at %p>", name,
					    view->sends ? "sending" : "receiving", view_size(view),
					    states[view->state], (void *)self);
	Py_DECREF(name);
	return text;
}

static PyObject *view_get_size(PyObject *self, void *unused)
{
	(void)unused;
	return PyLong_FromSize_t(view_size((struct view *)self));
}

static int view_set_size(PyObject *self, PyObject *value, void *unused)
{
	struct view *view = (struct view *)self;
	const struct hold *hold;
	size_t size;

	(void)unused;
	if (!view->sends || !value) {
		PyErr_SetString(PyExc_AttributeError,
				"only the size of a message that is to be sent can be set");
		return -1;
	}
	if (!args_number(value, "size", &size))
		return -1;
	/* An open view outlives the handle that it was made of. */
	hold = view->hold ? view->hold : view->end ? view->end->hold : NULL;
	if (size > view->len || (hold && hold_static(hold) && size != view->len)) {
		PyErr_Format(PyExc_ValueError, "%zu bytes were reserved", view->len);
		return -1;
	}
	view->commit_len = size;
	return 0;
}

PyDoc_STRVAR(view_doc,
	     "A message inside the pipe's memory: a context manager that gives a memoryview of it.\n\n"
	     "Made by End.send_view() and End.recv_view().  Nothing waits or is reserved before the block\n"
	     "is entered; that is done once.  The thread that enters the block must leave it, soon, because\n"
	     "others wait for it, and may not use the same direction of the end in between.");

static PyMethodDef view_methods[] = {
	{ "__enter__", view_enter, METH_NOARGS,
	  "__enter__($self, /)\n--\n\n"
	  "Wait for the message, or for room, and give the memoryview." },
	{ "__exit__", (PyCFunction)(void (*)(void))view_exit, METH_FASTCALL,
	  "__exit__($self, exc_type, exc, traceback, /)\n--\n\n"
	  "Consume or send the message." },
	{ NULL, NULL, 0, NULL },
};

static PyGetSetDef view_getset[] = {
	{ "size", view_get_size, view_set_size,
	  "How many bytes the message has.  Before it is sent, it can be set to fewer than were reserved.",
	  NULL },
	{ NULL, NULL, NULL, NULL, NULL },
};

static PyType_Slot view_slots[] = {
	{ Py_tp_doc, (void *)(uintptr_t)view_doc },
	{ Py_tp_dealloc, view_dealloc },
	{ Py_tp_repr, view_repr },
	{ Py_tp_traverse, view_traverse },
	{ Py_tp_clear, view_clear },
	{ Py_tp_methods, view_methods },
	{ Py_tp_getset, view_getset },
	{ Py_bf_getbuffer, view_getbuffer },
	{ Py_bf_releasebuffer, view_releasebuffer },
	{ 0, NULL },
};

PyType_Spec view_spec = {
	.name = "buffered_pipe.MessageView",
	.basicsize = sizeof(struct view),
	.flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
	.slots = view_slots,
};
