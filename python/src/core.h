/* SPDX-License-Identifier: MIT */
/*
 * The extension module behind the package buffered_pipe, over <bufpipe.h> only.
 *
 * A call first tries with timeout 0 and keeps the GIL.  If the try finds nothing,
 * the call releases the GIL and blocks.  It blocks in slices, for two reasons: a
 * signal that arrives while the library spins or waits for a lock does not end the
 * call of the library, and a thread must notice when its handle was closed.
 *
 * Each file uses only those above it:
 *
 *   base.h    Python, the library
 *   args.c    arguments and timeouts        hold.c    one end of the library, counted
 *   error.c   what an error is in Python    handle.c  a handle of an end
 *   part.c    messages longer than the ring await.c   waiting for a message
 *   send.c    sending bytes                 recv.c    receiving bytes
 *   frame.c   objects with buffers          sink.c    what a pickler writes into
 *   pickle.c  objects                       view.c    messages in place, with view_enter.c and view_leave.c
 *   wait.c    waiting for many              stats.c   the statistics of a pipe
 *   pair.c    making a pipe                 listen.c  the type Listener, connect
 *   end.c     the type End
 *   quick.c   small objects of a queue      tally.c   the counts of a queue (queue_count.h), with tally_page.c
 *   queue_call.c, queue_put.c, queue_get.c, queue.c   the type Queue
 *   module.c  the module
 */
#ifndef BUFFERED_PIPE_CORE_H
#define BUFFERED_PIPE_CORE_H

#include "await.h"
#include "frame.h"
#include "part.h"
#include "pickle.h"
#include "recv.h"
#include "send.h"
#include "sink.h"
#include "view.h"

PyObject *handle_stats(PyObject *self, PyObject *unused);
/* End._pair(), a class method: both ends of a new pipe. */
PyObject *handle_pair(PyObject *class, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames);
PyObject *core_seconds(PyObject *module, PyObject *timeout);
PyObject *core_wait(PyObject *module, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames);
PyObject *core_listen(PyObject *module, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames);
PyObject *core_connect(PyObject *module, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames);

extern PyType_Spec handle_spec;
extern PyType_Spec listener_spec;

#endif
