/* SPDX-License-Identifier: MIT */
/* The docstrings of the type End.  A first line with the signature and "--" is for the module inspect. */
#ifndef BUFFERED_PIPE_END_DOC_H
#define BUFFERED_PIPE_END_DOC_H

#include <Python.h>

PyDoc_STRVAR(
	doc_end,
	"One end of a pipe, for any number of threads and processes.\n\n"
	"Pipe(), Static_Pipe(), connect() and Listener.accept() make ends.  An end that is no longer\n"
	"referred to is closed.\n\n"
	"Every call that may wait takes timeout= in seconds: None waits for ever, 0 only tries, and\n"
	"TimeoutError means that the time is up.  EOFError: the stream has ended and everything was\n"
	"received.  BrokenPipeError: nobody is left to receive.  OSError: the handle is closed, or the\n"
	"end does not have this direction.\n\n"
	"A message longer than buffer_size streams through the buffer while both sides are at work.\n"
	"Sending one with timeout=0 raises ValueError.  If a timeout or an exception ends a call that\n"
	"receives one, the part that has come is kept.  The next receiving call of the same thread goes\n"
	"on with it, and until then the other threads and processes that use this end wait.");
PyDoc_STRVAR(doc_send,
	     "send($self, /, obj, *, timeout=None)\n--\n\n"
	     "Send an object as a pickle; in a static pipe, bytes.\n\n"
	     "Buffers that the object offers out of band (pickle protocol 5), such as the data of numpy\n"
	     "arrays, are copied straight into the pipe.  If the object cannot be pickled, nothing is sent.");
PyDoc_STRVAR(doc_recv,
	     "recv($self, /, *, timeout=None)\n--\n\n"
	     "Receive an object that was sent with send(); in a static pipe, bytes.\n\n"
	     "Loading a pickle runs what the sender says: receive objects only from those you trust.");
PyDoc_STRVAR(doc_send_bytes, "send_bytes($self, /, buf, offset=0, size=None, *, timeout=None)\n--\n\n"
			     "Send a bytes-like object, or a part of it, as one message.");
PyDoc_STRVAR(doc_recv_bytes, "recv_bytes($self, /, maxlength=None, *, timeout=None)\n--\n\n"
			     "Receive a message as bytes.\n\n"
			     "A message of more than maxlength bytes raises OSError, and stays in the pipe.");
PyDoc_STRVAR(
	doc_recv_bytes_into,
	"recv_bytes_into($self, /, buf, offset=0, *, timeout=None)\n--\n\n"
	"Receive a message into a writable bytes-like object, from offset on, and return its length.\n\n"
	"A message that is too long for the object raises multiprocessing.BufferTooShort, which has the\n"
	"message as its argument.  If the message has more than 16 MiB, or more than both max_message and\n"
	"buffer_size bytes, it stays in the pipe, and the exception only says so.");
PyDoc_STRVAR(doc_send_view,
	     "send_view($self, /, size=None, *, timeout=None)\n--\n\n"
	     "A context manager: a writable memoryview of size bytes inside the pipe.\n\n"
	     "The message is sent when the block ends, and dropped if an exception ends the block.  To send\n"
	     "less, keep the object that this call returns, and set its size inside the block.  In a\n"
	     "static pipe the size may be left out.  If something else, such as an array, still points\n"
	     "into the memory when the block ends, the block raises BufferError, nothing is sent, and this\n"
	     "direction of the end waits until nothing points there.");
PyDoc_STRVAR(
	doc_recv_view,
	"recv_view($self, /, *, timeout=None)\n--\n\n"
	"A context manager: a read-only memoryview of the next message inside the pipe.\n\n"
	"The message is consumed when the block ends, even if an exception ends it.  If something else,\n"
	"such as an array, still points there, the block raises BufferError, and this direction of the\n"
	"end waits until nothing points there.  A hostile sender can change the bytes while you look at\n"
	"them: copy them before you check them.  A message longer than the buffer is shown as a copy.");
PyDoc_STRVAR(doc_poll, "poll($self, /, timeout=0.0)\n--\n\n"
		       "Whether there is something to receive, a message or the end of the stream.\n\n"
		       "Waits for it until the time is up; None waits for ever.");
PyDoc_STRVAR(doc_fileno,
	     "fileno($self, /)\n--\n\n"
	     "A descriptor that is readable while there is something to receive.\n\n"
	     "Only wait for it; never read or close it.  Another holder of the end may take the message\n"
	     "first, so receive with timeout=0.  An end that only sends raises OSError.");
PyDoc_STRVAR(doc_close,
	     "close($self, /)\n--\n\n"
	     "Close this handle of the end.\n\n"
	     "When the last handle in the last process is closed, the other side gets EOFError or\n"
	     "BrokenPipeError.  A call that waits in another thread ends with an OSError.");
PyDoc_STRVAR(doc_shutdown,
	     "shutdown($self, /, *, timeout=None)\n--\n\n"
	     "End the stream, for all who hold this end.\n\n"
	     "The other side receives what was sent, and then gets EOFError.  Sending more here raises\n"
	     "BrokenPipeError.  A duplex end still receives.  If this end only receives, sending raises\n"
	     "BrokenPipeError on the other side; a message that a call is receiving at that moment may\n"
	     "arrive although its send raised.  Waits while another holder is in the middle of sending.");
PyDoc_STRVAR(doc_register,
	     "register($self, /)\n--\n\n"
	     "Does nothing: using an end attaches it.  It may be called in each process and thread.");
PyDoc_STRVAR(doc_fork, "fork($self, /)\n--\n\n"
		       "Return another handle of the same end, which is closed separately.");
PyDoc_STRVAR(doc_send_to,
	     "send_to($self, socket, /)\n--\n\n"
	     "Hand the end over through a connected Unix socket, to any program that uses the library.\n\n"
	     "This handle stays open.  The timeout is that of the socket.");
PyDoc_STRVAR(doc_recv_from,
	     "recv_from($type, socket, /)\n--\n\n"
	     "Receive an end that another process hands over through a connected Unix socket.\n\n"
	     "Take one only from those you trust.  The timeout is that of the socket.");
PyDoc_STRVAR(doc_enter, "__enter__($self, /)\n--\n\n"
			"The end itself.");
PyDoc_STRVAR(doc_exit, "__exit__($self, exc_type, exc, traceback, /)\n--\n\n"
		       "close()");
PyDoc_STRVAR(doc_reduce, "__reduce__($self, /)\n--\n\n"
			 "TypeError: only multiprocessing pickles ends.");

#endif
