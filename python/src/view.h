/* SPDX-License-Identifier: MIT */
/* Messages in place. */
#ifndef BUFFERED_PIPE_VIEW_H
#define BUFFERED_PIPE_VIEW_H

#include "handle.h"

METHOD(handle_send_view);
METHOD(handle_recv_view);
/* Before the state goes: views may be freed after it. */
void views_forget(struct state *state);
/* In a forked child: the open views of threads that are not there let go of their ends. */
PyObject *core_leave_views_behind(PyObject *module, PyObject *unused);
extern PyType_Spec view_spec;

#endif
