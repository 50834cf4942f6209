/* SPDX-License-Identifier: MIT */
/* Messages in place. */
#ifndef BUFFERED_PIPE_VIEW_H
#define BUFFERED_PIPE_VIEW_H

#include "handle.h"

METHOD(handle_send_view);
METHOD(handle_recv_view);
/* To be called before the state is freed, because views may outlive it. */
void views_forget(struct state *state);
/* In a forked child: lets go of the views that threads of the parent had entered. */
PyObject *core_leave_views_behind(PyObject *module, PyObject *unused);
extern PyType_Spec view_spec;

#endif
