/* SPDX-License-Identifier: MIT */
/*
 * The extension module behind the package buffered_pipe, over <bufpipe.h> only.
 *
 * A call first tries with timeout 0 and keeps the GIL; only when that finds
 * nothing it lets go of the GIL and blocks.  It blocks in slices, because a
 * signal that arrives while the library spins or waits for a lock does not end
 * the call, and because a thread must notice that its handle was closed.
 *
 *   module.c  the module, its state          listen.c   the type Listener, connect
 *   end.c     the type End                   await.c    waiting for a message
 *   send.c    sending bytes                  recv.c     receiving bytes
 *   pickle.c  objects                        frame.c    objects with buffers out of band
 *   view.c    messages in place              args.c     arguments and timeouts
 *   wait.c    waiting for many               hold.c     one end of the library, counted
 *   error.c   what an error is in Python     stay.c     what a thread has entered and must leave
 */
#ifndef BUFFERED_PIPE_CORE_H
#define BUFFERED_PIPE_CORE_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <bufpipe.h>

#include <errno.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#if PY_VERSION_HEX < 0x030a0000
static inline PyObject *core_new_ref(PyObject *object)
{
	Py_INCREF(object);
	return object;
}
#define Py_NewRef core_new_ref
#endif

#define likely(x)   __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)

/* One statement while other threads of Python run. */
#define WITHOUT_GIL(statement)                               \
	do {                                                 \
		PyThreadState *state_ = PyEval_SaveThread(); \
		statement;                                   \
		PyEval_RestoreThread(state_);                \
	} while (0)

#define NSEC_PER_SEC 1000000000ll
/* Between two looks at signals and at whether the handle was closed. */
#define SLICE (NSEC_PER_SEC / 5)
/* From here on a copy is long enough to let other threads run meanwhile. */
#define LONG_COPY ((size_t)256 << 10)

/* An absolute time on CLOCK_MONOTONIC, or one of these. */
#define DEADLINE_TRY   0
#define DEADLINE_NEVER INT64_MAX
/* A try that leaves a message longer than the ring to a thread: BlockingIOError. */
#define DEADLINE_TRY_SHORT (-1)
/* A try that takes such a message, however long that takes once it has begun. */
#define DEADLINE_TRY_LONG (-2)

/* A message of at most this is received without asking for its length. */
#define SHORT ((size_t)4096)

enum direction { SENDING, RECEIVING, NEITHER };

struct pickling;
struct view;

/* One per interpreter.  Its objects live as long as the module, and so as long as each type of it. */
struct state {
	PyTypeObject *end_type;
	PyTypeObject *view_type;
	PyTypeObject *sink_type;
	PyTypeObject *listener_type;
	PyTypeObject *queue_type;
	PyObject *full;     /* queue.Full */
	PyObject *empty;    /* queue.Empty */
	struct view *views; /* those that are open */
	PyObject *pickler_class;
	PyObject *loads;
	PyObject *reducers
		[2]; /* dicts from type to function, the first has the say; NULL before they are set */
	PyObject *name_buffers;
	struct pickling *spare; /* a pickler that nobody uses now */
};

/*
 * An end as the library has it.  It is shared by the handles that fork() makes,
 * and closed when no handle and no call uses it any more.  Changed under the
 * GIL only.
 */
struct hold {
	bufpipe_t *pipe;
	unsigned handles; /* and open views */
	unsigned uses;    /* calls that are at work without the GIL */
	unsigned process; /* to which the uses belong: fork leaves the other threads behind */
	struct bufpipe_info info;
	/* Written under the lock of stay.c: */
	unsigned stays;   /* locks of this end that a thread still has */
	bool parked;      /* nothing else uses it: the last stay closes it */
	int fd;           /* of bufpipe_fd; -1: nobody asked for it */
	size_t take_most; /* the longest message that is received without a look at it first */
	size_t expected;  /* the length of the last message; 0 if that was very short */
	PyObject *last;   /* that message */
};

/* A call that uses a hold; it lies in the frame of the call.  Those of a thread are a list. */
struct use {
	struct hold *hold;
	struct use *next;
};

/*
 * A lock of the library that a thread has from entering a view to leaving it.
 * Only that thread can give it back: the lock lies in the memory of the pipe and
 * in a list of the thread, so the memory must not go before.
 */
struct stay {
	struct hold *hold;
	enum direction direction;
	unsigned long thread;
	enum stay_state {
		STAY_OURS, /* of a view, whose thread lives */
		STAY_LEFT, /* another thread threw the view away: the one that entered must give the lock back */
		STAY_GONE, /* of a view, whose thread is gone, or was left behind by a fork */
	} state;
	struct stay *next;
	struct stay **at_me;
};

/* A handle: what Python calls an End. */
struct end {
	PyObject_HEAD struct state *state;
	struct hold *hold; /* NULL: closed */
	/* Known also when it is closed. */
	bool readable;
	bool writable;
};

struct state *state_of_module(PyObject *module);
/* Of a class that is one of the module's, or has one among its bases; NULL with an exception. */
struct state *state_of_class(PyObject *class);
extern struct PyModuleDef core_module;

/* Takes the pipe, also when it fails: then NULL, with an exception. */
struct hold *hold_new(bufpipe_t *pipe);
void hold_add(struct hold *hold);
void hold_drop(struct hold *hold);
void hold_use(struct hold *hold, struct use *use);
void hold_unuse(struct use *use);
/* Closes it, without the GIL as well: nothing uses it any more. */
void hold_free(struct hold *hold);
/* Notes that this thread has entered a view.  NULL without memory; no exception. */
struct stay *stay_begin(struct hold *hold, enum direction direction);
/* Its thread has given the lock back.  Before the view lets go of the hold. */
void stay_end(struct stay *stay);
/* In another thread, or in another process than the one that entered.  The same. */
void stay_leave(struct stay *stay);
/* Whether there is no stay any more, so that the hold can be closed; else the last stay does it. */
bool stays_over(struct hold *hold);
/* How many are left by others and not given back, by all threads.  Written under the lock of stay.c. */
extern _Atomic unsigned stays_left __attribute__((visibility("hidden")));
/* Gives back what this thread had entered and another one has left. */
void stays_give_back(void);
/* A number that is another one in a forked child; sooner known than the pid. */
unsigned this_process(void);
/* A number that no other thread has or had; the ident of a thread that is gone is soon another's.  Never 0. */
unsigned long thread_number(void);
/* Once, before the first this_process.  0 or a negative errno. */
int watch_forks(void);
/* Once, before the first view.  The same. */
int watch_threads(void);

static inline bool hold_static(const struct hold *hold)
{
	return hold->info.object_size != 0;
}

/* The hold of an open handle; NULL with an exception if it is closed. */
static inline struct hold *handle_hold(struct end *self);

/* What a type is called where it is imported from. */
PyObject *name_of(PyTypeObject *type);

/* Arguments: a borrowed reference each in *values, NULL where none was given.  False: an exception is set. */
struct signature {
	const char *function;
	int positional; /* how many may be given by position */
	int required;
	const char *names[10];
};
bool args_parse(const struct signature *signature, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames,
		PyObject **values);
/* Seconds, None or NULL for ever.  -1 with an exception. */
int args_deadline(PyObject *timeout, int64_t *deadline);
int args_timeout_ns(PyObject *timeout, int64_t *timeout_ns);
/*
 * False with an exception if it is negative or no integer.  What is absent is
 * 'absent', and what is too large is the largest there is.
 */
bool args_size(PyObject *value, const char *name, size_t absent, size_t *size);
/* The same where absent is 0, and None is no number. */
bool args_number(PyObject *value, const char *name, size_t *size);

int64_t deadline_from(int64_t timeout_ns);
/* What is left, at most 'most'; 0 when the time is up; -1 to wait for ever, if most allows that. */
int64_t deadline_slice(int64_t deadline, int64_t most);

/* Sets the exception for a negative errno and returns NULL. */
void *raise_error(const struct hold *hold, enum direction direction, long error);
void *raise_closed(void);
void *raise_timeout(enum direction direction);
/* An OSError, or what that is for this error, with a text; at an address, or NULL. */
void *raise_os(int error, const char *text, PyObject *address);
/* For options that the library calls invalid, when each on its own is none. */
void *raise_too_large(void);
/* In the middle of a long message. */
void *raise_cut_short(void);
void *raise_too_short(PyObject *message);
/*
 * After a slice that ended with r: 0: go on, -1: there is an exception.  Looks
 * at the signals, and whether the handle still is what it was.
 */
int after_slice(struct end *self, const struct hold *hold, enum direction direction, long r);

/* Sends the pieces; -1 with an exception. */
int handle_send(struct end *self, const struct iovec *pieces, int n, size_t len, int64_t deadline);
/* A slice of waiting for a message.  AWAIT_FAILED: with an exception. */
enum awaited { AWAIT_LOOK, AWAIT_TIME_UP, AWAIT_ENDED, AWAIT_FAILED };
enum awaited handle_await_quietly(struct end *self, int64_t deadline);
/* The same: 0 to look, or -1 with an exception. */
int handle_await(struct end *self, int64_t deadline);
/*
 * Receives a message into a new object: bytes, or a bytearray if 'writable' says
 * so of its first bytes (NULL: never).
 */
typedef bool writable_fn(const void *begin, size_t len);
PyObject *handle_receive(struct end *self, int64_t deadline, writable_fn *writable);
/* After a message was taken: a descriptor that is polled must not stay ready for nothing. */
void handle_settle(struct hold *hold);

#define METHOD(name) \
	PyObject *name(struct end *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
METHOD(handle_send_bytes);
METHOD(handle_recv_bytes);
METHOD(handle_recv_bytes_into);
METHOD(handle_poll);
METHOD(handle_send_object);
METHOD(handle_recv_object);
/* Bytes-like, to a static pipe. */
PyObject *handle_send_buffer(struct end *self, PyObject *buffer, int64_t deadline);
PyObject *handle_recv_now(PyObject *self, PyObject *objects);
PyObject *handle_recv_long(PyObject *self, PyObject *objects);
METHOD(handle_send_view);
METHOD(handle_recv_view);
/* Before the state goes: views may be freed after it. */
void views_forget(struct state *state);
/* In a forked child: the open views of threads that are not there let go of their ends. */
PyObject *core_leave_views_behind(PyObject *module, PyObject *unused);

/* A handle of this type; takes the hold. */
PyObject *handle_make(PyTypeObject *type, struct state *state, struct hold *hold);
/* Options from keyword values; false with an exception. */
bool args_options(struct bufpipe_options *options, PyObject *buffer_size, PyObject *object_size,
		  PyObject *object_count);

/* The two halves of sending and of receiving an object. */
PyObject *handle_dump(PyObject *self, PyObject *object);
PyObject *handle_load(PyObject *self, PyObject *message);
/* From a message of send(), whatever follows in it. */
PyObject *message_load(struct state *state, PyObject *message);
/* Pickles the object, and gives the pieces to 'use'; there is room for one more.  -1 with an exception. */
typedef int use_pickle_fn(void *arg, struct iovec *pieces, size_t n, size_t len);
int pickle_use(struct state *state, PyObject *object, use_pickle_fn *use, void *arg);
void pickling_free(struct pickling *pickling);
int pickling_traverse(const struct pickling *pickling, visitproc visit, void *arg);
/* frame.c: a message that carries buffers beside the pickle. */
bool frame_recognise(const void *begin, size_t len);
PyObject *frame_load(struct state *state, PyObject *bytearray);
size_t frame_head_size(size_t buffers);
void frame_head(void *head, size_t pickled, const Py_buffer *buffers, size_t n);
size_t frame_padding(size_t position);

/* A timeout as seconds, None for ever. */
PyObject *core_seconds(PyObject *module, PyObject *timeout);
PyObject *core_wait(PyObject *module, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames);
PyObject *core_listen(PyObject *module, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames);
PyObject *core_connect(PyObject *module, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames);

extern PyType_Spec handle_spec;
extern PyType_Spec view_spec;
extern PyType_Spec sink_spec;
extern PyType_Spec listener_spec;
extern PyType_Spec queue_spec;

static inline struct hold *handle_hold(struct end *self)
{
	if (unlikely(!self->hold))
		return raise_closed();
	/* Relaxed: what another thread left a moment ago may as well be found by the next call. */
	if (unlikely(atomic_load_explicit(&stays_left, memory_order_relaxed)))
		stays_give_back();
	return self->hold;
}

#endif
