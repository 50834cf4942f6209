/* SPDX-License-Identifier: MIT */
/* Leaving a view, or losing it: by its thread, by another one, or in a forked child. */
#include "view.h"

#include "view_state.h"

struct hold *view_close(struct view *view, bool given_back)
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

/* Only the thread that has entered a view can leave it, and not a forked child. */
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

/* Ends the message in the library.  Only the owner may call this. */
static int view_end(struct view *view, bool commit)
{
	struct hold *hold = view_close(view, true);
	int r = 0;

	if (!view->sends) {
		r = bufpipe_release(hold->pipe);
		hold_settle(hold);
	} else {
		r = commit ? bufpipe_commit(hold->pipe, view->commit_len) : bufpipe_cancel(hold->pipe);
		/* -EPIPE has ended the reservation.  After any other error it must be ended here. */
		if (commit && r < 0 && r != -EPIPE)
			(void)bufpipe_cancel(hold->pipe);
	}
	if (r < 0)
		raise_error(hold, SENDING, r);
	hold_drop(hold);
	return r < 0 ? -1 : 0;
}

/*
 * Only the owner of a view can end its message.  If this is another thread, the owner
 * does so in its next call, or when it ends.
 */
void view_throw_away(struct view *view)
{
	PyObject *type, *value, *trace;

	PyErr_Fetch(&type, &value, &trace);
	if (is_owner(view)) {
		/* Names the end and not the view, which may be about to be freed. */
		if (view_end(view, false) < 0)
			PyErr_WriteUnraisable((PyObject *)view->end);
	} else {
		hold_drop(view_close(view, false));
	}
	PyErr_Restore(type, value, trace);
}

/*
 * The thread of this view is not in this process, so nobody will ever leave the view.
 * Releases the memoryview that was given out.  The view keeps its hold only if something
 * else still points into the message.
 */
static void view_leave_behind(struct view *view)
{
	PyObject *released;

	Py_INCREF((PyObject *)view);
	released = view->memory ? PyObject_CallMethod(view->memory, "release", NULL) : NULL;
	if (!released)
		PyErr_Clear(); /* something still points into it, which 'exports' counts */
	Py_XDECREF(released);
	if (view->exports)
		view->state = VIEW_ENDING;
	else
		hold_drop(view_close(view, false));
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
	/* Begins at the first view each time, because releasing a view may run code that ends others. */
	while ((view = next_to_leave(state_of_module(module))))
		view_leave_behind(view);
	Py_RETURN_NONE;
}

PyObject *view_exit(PyObject *self, PyObject *const *args, Py_ssize_t nargs)
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
	/* A view without a memoryview is being opened, or collected. */
	if (view->state != VIEW_OPEN || !memory) {
		PyErr_SetString(PyExc_RuntimeError, "this view is not open");
		return NULL;
	}
	if (check_owner(view) < 0)
		return NULL;
	/* Counts one export more, because otherwise releasing the last memoryview would end the message. */
	view->exports++;
	view->memory = NULL;
	released = PyObject_CallMethod(memory, "release", NULL);
	if (!released)
		PyErr_Clear(); /* something still points into it, which 'exports' counts */
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
