/* SPDX-License-Identifier: MIT */
/* Putting items into a queue. */
#include "queue.h"

#include <limits.h>
#include <string.h>

/* A pickle of at most this length is copied into one piece, which the library sends faster than several. */
#define FLAT_MOST 2048
/* This many items are put while the lock is taken once. */
#define BATCH 128

/* How long a try waits for another producer that is at work and does not wait itself. */
#define BUSY_SLICE (NSEC_PER_SEC / 50)

static bool is_for_later(ssize_t r)
{
	return r == -EAGAIN || r == -ETIMEDOUT || r == -EINTR || r == -EALREADY;
}

static int raise_full(struct queue *self)
{
	if (state_alive(self->state))
		PyErr_SetNone(self->state->full);
	return -1;
}

/* Notes that a call uses both ends. */
struct uses {
	struct use out;
	struct use in;
	bool has_in;
};

static void use_both(struct queue *self, struct uses *uses)
{
	struct hold *in = self->reader->hold;

	hold_use(self->writer->hold, &uses->out);
	uses->has_in = in != NULL;
	if (in)
		hold_use(in, &uses->in);
}

static void unuse_both(struct uses *uses)
{
	if (uses->has_in)
		hold_unuse(&uses->in);
	hold_unuse(&uses->out);
}

/* Puts items, or begins a long one, for one slice. */
typedef ssize_t slice_fn(struct tally *tally, bufpipe_t *out, bufpipe_t *in, struct item *items, size_t n,
			 int64_t timeout_ns);

static ssize_t begin_long(struct tally *tally, bufpipe_t *out, bufpipe_t *in, struct item *items, size_t n,
			  int64_t timeout_ns)
{
	(void)n;
	return tally_begin(tally, out, in, items, timeout_ns);
}

static ssize_t put_one(struct tally *tally, bufpipe_t *out, bufpipe_t *in, struct item *items, size_t n,
		       int64_t timeout_ns)
{
	(void)n;
	return tally_put(tally, out, in, items, timeout_ns);
}

/*
 * To be called after a try that returned r.  Calls slice() without the GIL until it
 * succeeds, the time is up or a signal handler raises.  Returns -1 with an exception.
 */
static ssize_t in_slices(struct queue *self, slice_fn *slice, struct item *items, size_t n, int64_t deadline,
			 ssize_t r)
{
	int64_t timeout = deadline_slice(deadline, SLICE);

	if (timeout == 0 && r == -EALREADY)
		timeout = BUSY_SLICE;
	for (; timeout != 0; timeout = deadline_slice(deadline, SLICE)) {
		struct hold *hold = handle_hold(self->writer);
		bufpipe_t *in = queue_pipe(self->reader);
		struct uses uses;
		int failed = 0;

		if (!hold)
			return -1;
		use_both(self, &uses);
		WITHOUT_GIL(r = slice(self->tally, hold->pipe, in, items, n, timeout));
		/* If slice() succeeded, the call succeeds, even if a signal came meanwhile. */
		if (r < 0)
			failed = self->closed ? !queue_check(self)
					      : after_slice(self->writer, hold, SENDING, r);
		unuse_both(&uses);
		if (failed)
			return -1;
		if (r >= 0)
			return r;
	}
	return raise_full(self);
}

/* To be called after a try that returned r. */
static int put_blocking(struct queue *self, struct item *item, int64_t deadline, ssize_t r)
{
	if (!is_for_later(r)) {
		raise_error(self->writer->hold, SENDING, r);
		return -1;
	}
	return in_slices(self, put_one, item, 1, deadline, r) < 0 ? -1 : 0;
}

static int put_item(struct queue *self, struct item *item, int64_t deadline)
{
	struct hold *hold = handle_hold(self->writer);
	bufpipe_t *in = queue_pipe(self->reader);
	struct uses uses;
	int r;

	if (unlikely(!hold))
		return -1;
	if (likely(item->len < LONG_COPY)) {
		r = tally_put(self->tally, hold->pipe, in, item, 0);
		return likely(r == 0) ? 0 : put_blocking(self, item, deadline, r);
	}
	use_both(self, &uses);
	WITHOUT_GIL(r = tally_put(self->tally, hold->pipe, in, item, 0));
	if (r < 0)
		r = put_blocking(self, item, deadline, r);
	unuse_both(&uses);
	return r;
}

/*
 * Puts an item longer than the buffer.  The end sends it like any long message, while this
 * thread has the lock.  Signal handlers run meanwhile.  If one puts, it gets an exception.
 * If one forks, the child must not end what the parent began.
 */
static int put_long(struct queue *self, struct item *item, int64_t deadline)
{
	unsigned process = this_process();
	int r;

	if (deadline == DEADLINE_TRY_SHORT) {
		PyErr_SetString(PyExc_BlockingIOError, "the object is longer than the buffer");
		return -1;
	}
	if (deadline == DEADLINE_TRY) {
		PyErr_Format(PyExc_ValueError,
			     "an object of %zu bytes is longer than the buffer of %zu, and so needs time to "
			     "be put",
			     item->len, self->writer->hold->info.buffer_size);
		return -1;
	}
	if (in_slices(self, begin_long, item, 1, deadline, -EAGAIN) < 0)
		return -1;
	r = handle_send(self->writer, item->pieces, item->n, item->len, deadline);
	if (process == this_process())
		tally_end(self->tally, r == 0);
	if (r < 0 && exception_is_ours(PyExc_TimeoutError)) {
		PyErr_Clear();
		return raise_full(self);
	}
	return r;
}

static bool is_long(const struct queue *self, size_t len)
{
	const struct hold *hold = self->writer->hold;

	return hold && len > hold->info.buffer_size;
}

/* Clears the padding of a trailer, in front of its number.  Nearly all trailers have none. */
static void clear_padding(char *at, size_t trailer)
{
	if (unlikely(trailer > TRAILER))
		memset(at, 0, trailer - TRAILER);
}

/* 'flat' has room for the trailer behind its len bytes. */
static int put_flat(struct queue *self, char *flat, size_t len, int64_t deadline)
{
	size_t trailer = tally_trailer(len);
	struct item item = { .flat = flat, .len = len + trailer };

	clear_padding(flat + len, trailer);
	return put_item(self, &item, deadline);
}

static char *join(char *to, const struct iovec *pieces, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		memcpy(to, pieces[i].iov_base, pieces[i].iov_len);
		to += pieces[i].iov_len;
	}
	return to;
}

/* 'pieces' has room for one more. */
static int put_pieces(struct queue *self, struct iovec *pieces, size_t n, size_t len, int64_t deadline)
{
	struct item item = { .pieces = pieces };
	size_t trailer = tally_trailer(len);
	char *joined = NULL;
	int r;

	if (n + 1 > IOV_MAX) {
		joined = PyMem_Malloc(len);
		if (!joined) {
			PyErr_NoMemory();
			return -1;
		}
		join(joined, pieces, n);
		pieces[0] = (struct iovec){ joined, len };
		n = 1;
	}
	pieces[n] = (struct iovec){ (char *)&item.trailer[2] - trailer, trailer };
	item.n = (int)n + 1;
	item.len = len + trailer;
	r = is_long(self, item.len) ? put_long(self, &item, deadline) : put_item(self, &item, deadline);
	PyMem_Free(joined);
	return r;
}

struct order {
	struct queue *queue;
	int64_t deadline;
};

static int put_pickle(void *arg, struct iovec *pieces, size_t n, size_t len)
{
	struct order *order = arg;
	char flat[FLAT_MOST + 2 * TRAILER];

	if (len > FLAT_MOST || is_long(order->queue, len + 2 * TRAILER))
		return put_pieces(order->queue, pieces, n, len, order->deadline);
	join(flat, pieces, n);
	return put_flat(order->queue, flat, len, order->deadline);
}

static PyObject *put(struct queue *self, PyObject *object, int64_t deadline)
{
	char flat[QUICK_MOST + 2 * TRAILER];
	size_t len;
	int r;

	if (unlikely(!queue_check(self)))
		return NULL;
	len = quick_dump(flat, object);
	if (likely(len && !is_long(self, len + 2 * TRAILER)))
		r = put_flat(self, flat, len, deadline);
	else
		r = pickle_use(self->state, object, put_pickle, &(struct order){ self, deadline });
	if (unlikely(r < 0))
		return NULL;
	Py_RETURN_NONE;
}

QUEUE_METHOD(queue_put)
{
	static const struct signature signature = { "put", 3, 1, { "obj", "block", "timeout" } };
	int64_t deadline;
	PyObject *values[3];

	if (likely(nargs == 1 && !kwnames))
		return put((struct queue *)object, args[0], DEADLINE_NEVER);
	if (!args_parse(&signature, args, nargs, kwnames, values) ||
	    !queue_deadline(values[1], values[2], &deadline))
		return NULL;
	return put((struct queue *)object, values[0], deadline);
}

PyObject *queue_put_nowait(PyObject *object, PyObject *item)
{
	return put((struct queue *)object, item, DEADLINE_TRY);
}

QUEUE_METHOD(queue_put_dumped)
{
	static const struct signature signature = { "_put_dumped", 2, 1, { "data", "block" } };
	struct queue *self = (struct queue *)object;
	PyObject *values[2];
	struct iovec pieces[2];
	int64_t deadline;
	int r;

	if (!args_parse(&signature, args, nargs, kwnames, values) || !queue_check(self))
		return NULL;
	deadline = values[1] == Py_True ? DEADLINE_NEVER : DEADLINE_TRY_SHORT;
	if (!PyBytes_Check(values[0])) {
		PyErr_SetString(PyExc_TypeError, "bytes are needed");
		return NULL;
	}
	pieces[0] = (struct iovec){ PyBytes_AS_STRING(values[0]), (size_t)PyBytes_GET_SIZE(values[0]) };
	r = put_pieces(self, pieces, 1, pieces[0].iov_len, deadline);
	if (r < 0)
		return NULL;
	Py_RETURN_NONE;
}

/* Pickles one after the other, each with room for its trailer. */
struct batch {
	char *bytes;
	size_t used;
	size_t room;
	size_t *lengths; /* without trailers */
	size_t n;
};

static char *batch_grow(struct batch *batch, size_t len)
{
	size_t needed = batch->used + len + 2 * TRAILER;
	char *grown;

	if (needed > batch->room) {
		size_t room = 2 * needed;

		grown = PyMem_Realloc(batch->bytes, room);
		if (!grown) {
			PyErr_NoMemory();
			return NULL;
		}
		batch->bytes = grown;
		batch->room = room;
	}
	return batch->bytes + batch->used;
}

static void batch_add(struct batch *batch, char *at, size_t len)
{
	size_t trailer = tally_trailer(len);

	clear_padding(at + len, trailer);
	batch->used += len + trailer;
	batch->lengths[batch->n++] = len;
}

static int batch_pickle(void *arg, struct iovec *pieces, size_t n, size_t len)
{
	struct batch *batch = arg;
	char *at = batch_grow(batch, len);

	if (!at)
		return -1;
	join(at, pieces, n);
	batch_add(batch, at, len);
	return 0;
}

static int batch_fill(struct batch *batch, struct state *state, PyObject *list)
{
	size_t n = (size_t)PyList_GET_SIZE(list);

	batch->lengths = PyMem_Malloc((n + 1) * sizeof(*batch->lengths));
	if (!batch->lengths) {
		PyErr_NoMemory();
		return -1;
	}
	for (size_t i = 0; i < n && i < (size_t)PyList_GET_SIZE(list); i++) {
		PyObject *object = PyList_GET_ITEM(list, (Py_ssize_t)i);
		char *at = batch_grow(batch, QUICK_MOST);
		size_t len = at ? quick_dump(at, object) : 0;

		if (!at)
			return -1;
		if (len)
			batch_add(batch, at, len);
		else if (pickle_use(state, object, batch_pickle, batch) < 0)
			return -1;
	}
	return 0;
}

/* The items from the first on that fit into the buffer, at most BATCH. */
static size_t choose_items(const struct queue *self, const struct batch *batch, size_t first, char *at,
			   struct item *items)
{
	size_t n;

	for (n = 0; n < BATCH && first + n < batch->n; n++) {
		size_t len = batch->lengths[first + n];

		items[n] = (struct item){ .flat = at, .len = len + tally_trailer(len) };
		if (is_long(self, items[n].len))
			break;
		at += items[n].len;
	}
	return n;
}

static ssize_t put_items(struct queue *self, struct item *items, size_t n, int64_t deadline)
{
	struct hold *hold = handle_hold(self->writer);
	ssize_t r;

	if (!hold)
		return -1;
	r = tally_put_many(self->tally, hold->pipe, queue_pipe(self->reader), items, n, 0);
	if (r > 0)
		return r;
	if (!is_for_later(r)) {
		raise_error(hold, SENDING, r);
		return -1;
	}
	return in_slices(self, tally_put_many, items, n, deadline, r);
}

/* Returns how many were put; if not all were, with an exception. */
static size_t batch_put(struct queue *self, struct batch *batch, int64_t deadline)
{
	struct item items[BATCH];
	char *at = batch->bytes;
	size_t done = 0;

	while (done < batch->n) {
		size_t n = choose_items(self, batch, done, at, items);
		ssize_t r;

		if (n) {
			r = put_items(self, items, n, deadline);
		} else {
			struct iovec pieces[2] = { { at, batch->lengths[done] } };

			r = put_pieces(self, pieces, 1, pieces[0].iov_len, deadline) < 0 ? -1 : 1;
		}
		if (r < 0)
			break;
		for (ssize_t i = 0; i < r; i++, done++)
			at += batch->lengths[done] + tally_trailer(batch->lengths[done]);
	}
	return done;
}

QUEUE_METHOD(queue_put_many)
{
	static const struct signature signature = { "put_many", 3, 1, { "objs", "block", "timeout" } };
	struct queue *self = (struct queue *)object;
	struct batch batch = { 0 };
	PyObject *values[3];
	int64_t deadline;
	size_t done = 0;
	PyObject *list;
	bool complete = false;

	if (!args_parse(&signature, args, nargs, kwnames, values) ||
	    !queue_deadline(values[1], values[2], &deadline) || !queue_check(self))
		return NULL;
	list = PySequence_List(values[0]);
	if (!list)
		return NULL;
	if (batch_fill(&batch, self->state, list) == 0 && queue_check(self)) {
		done = batch_put(self, &batch, deadline);
		complete = done == batch.n;
	}
	Py_DECREF(list);
	PyMem_Free(batch.bytes);
	PyMem_Free(batch.lengths);
	if (!complete && done && exception_is_ours(self->state->full))
		PyErr_Clear();
	return PyErr_Occurred() ? NULL : PyLong_FromSize_t(done);
}
