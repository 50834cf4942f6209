/* SPDX-License-Identifier: MIT */
/* What the files of views have in common. */
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
	struct hold *
		hold; /* kept while the view is open; in a forked child, too, something may point into the message */
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
	/* While it has a hold, the view is in the list of its interpreter. */
	struct view *next;
	struct view **at_me;
};

PyObject *view_enter(PyObject *self, PyObject *unused);
PyObject *view_exit(PyObject *self, PyObject *const *args, Py_ssize_t nargs);
/*
 * Lets go of the hold, which is the caller's from here on.  given_back: and so is the
 * lock, because this is the thread that has entered.
 */
struct hold *view_close(struct view *view, bool given_back);
/* Nobody will leave the view. */
void view_throw_away(struct view *view);

#endif
