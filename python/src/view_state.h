/* SPDX-License-Identifier: MIT */
/* What view.c, view_enter.c and view_leave.c share. */
#ifndef BUFFERED_PIPE_VIEW_STATE_H
#define BUFFERED_PIPE_VIEW_STATE_H

#include "handle.h"

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
	/* Kept while the view is open.  Also in a forked child something may point into the message. */
	struct hold *hold;
	struct stay *stay; /* while the view has a hold: the lock that the thread took when it entered */
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
	/* While it has a hold, the view is in the list of its interpreter. */
	struct view *next;
	struct view **at_me;
};

PyObject *view_enter(PyObject *self, PyObject *unused);
PyObject *view_exit(PyObject *self, PyObject *const *args, Py_ssize_t nargs);
/*
 * Separates the view from its hold, and returns the hold, which the caller must drop.
 * given_back says that this is the thread that entered, and that it has released the lock.
 */
struct hold *view_close(struct view *view, bool given_back);
/* Drops the message of a view that nobody will leave. */
void view_throw_away(struct view *view);

#endif
