/* SPDX-License-Identifier: MIT */
/* What help() says of the type End.  A first line with the signature and "--" is for inspect. */
#ifndef BUFFERED_PIPE_END_DOC_H
#define BUFFERED_PIPE_END_DOC_H

#include <Python.h>

PyDoc_STRVAR(
	doc_end,
	"One end of a pipe, for any number of threads and processes.\n\n"
	"Every blocking call takes timeout= in seconds: None waits for ever, 0 only tries, and\n"
	"TimeoutError says that the time is up.  But a call that has begun to receive a message longer\n"
	"than the buffer stays for a second, and one more for each 16 MiB, even if its timeout is\n"
	"shorter; if the rest does not come by then, the message is lost.  A call on a closed handle is\n"
	"an OSError.");
PyDoc_STRVAR(doc_send,
	     "send($self, /, obj, *, timeout=None)\n--\n\n"
	     "Send an object as a pickle; in a static pipe, bytes.\n\n"
	     "Buffers that the object offers out of band (pickle protocol 5), such as the data of numpy\n"
	     "arrays, go into the pipe straight from where they are.  If the object cannot be pickled,\n"
	     "nothing is sent.  BrokenPipeError: nobody is left to receive.");
PyDoc_STRVAR(doc_recv,
	     "recv($self, /, *, timeout=None)\n--\n\n"
	     "Receive an object that was sent with send(); in a static pipe, bytes.\n\n"
	     "EOFError: the other side is gone and everything was received.  To load a pickle is to run\n"
	     "what the sender says: receive objects only from those you trust.");
PyDoc_STRVAR(doc_send_bytes, "send_bytes($self, /, buf, offset=0, size=None, *, timeout=None)\n--\n\n"
			     "Send a bytes-like object, or a part of it, as one message.");
PyDoc_STRVAR(doc_recv_bytes, "recv_bytes($self, /, maxlength=None, *, timeout=None)\n--\n\n"
			     "Receive a message as bytes.\n\n"
			     "A message of more than maxlength bytes is an OSError, and stays in the pipe.");
PyDoc_STRVAR(doc_recv_bytes_into,
	     "recv_bytes_into($self, /, buf, offset=0, *, timeout=None)\n--\n\n"
	     "Receive a message into a writable bytes-like object, from offset on, and return its length.\n\n"
	     "A message that is too long comes as the argument of multiprocessing.BufferTooShort.");
PyDoc_STRVAR(doc_send_view,
	     "send_view($self, /, size=None, *, timeout=None)\n--\n\n"
	     "A context manager: a writable memoryview of size bytes inside the pipe.\n\n"
	     "The message is sent when the block ends, and dropped if that is by an exception.");
PyDoc_STRVAR(doc_recv_view,
	     "recv_view($self, /, *, timeout=None)\n--\n\n"
	     "A context manager: a read-only memoryview of the next message inside the pipe.\n\n"
	     "The message is consumed when the block ends.  A hostile sender can change the bytes\n"
	     "while you look at them: copy before you check.");
PyDoc_STRVAR(doc_poll,
	     "poll($self, /, timeout=0.0)\n--\n\n"
	     "Whether there is something to receive, a message or the end; waits for it for that long.");
PyDoc_STRVAR(doc_fileno, "fileno($self, /)\n--\n\n"
			 "A descriptor that is readable while there is something to receive.  Only poll it.");
PyDoc_STRVAR(doc_close, "close($self, /)\n--\n\n"
			"Let go of the end.  The last handle in the last process to do so ends the pipe.");
PyDoc_STRVAR(doc_shutdown,
	     "shutdown($self, /, *, timeout=None)\n--\n\n"
	     "End the stream, for all who hold this end: the other side receives what was sent, then EOF.\n\n"
	     "Waits while another one is in the middle of a message.");
PyDoc_STRVAR(doc_register,
	     "register($self, /)\n--\n\n"
	     "Does nothing: using an end attaches it.  It may be called in each process and thread.");
PyDoc_STRVAR(doc_fork, "fork($self, /)\n--\n\n"
		       "Another handle of the same end, to be closed on its own.");
PyDoc_STRVAR(doc_send_to,
	     "send_to($self, socket, /)\n--\n\n"
	     "Hand the end over through a connected Unix socket, to any program that uses the library.\n"
	     "This handle stays open.");
PyDoc_STRVAR(doc_recv_from, "recv_from($type, socket, /)\n--\n\n"
			    "An end that another process hands over through a connected Unix socket.");
PyDoc_STRVAR(doc_enter, "__enter__($self, /)\n--\n\n"
			"The end itself.");
PyDoc_STRVAR(doc_exit, "__exit__($self, exc_type, exc, traceback, /)\n--\n\n"
		       "close()");
PyDoc_STRVAR(doc_reduce, "__reduce__($self, /)\n--\n\n"
			 "TypeError: only multiprocessing pickles ends.");

#endif
