/* SPDX-License-Identifier: MIT */
#include "part.h"

#include <string.h>

/*
 * The sender announces a length, and may lie.  So the memory begins with this size
 * and is doubled as bytes come.  Doubling moves pages and copies nothing.
 */
#define FIRST_ROOM ((size_t)1 << 20)
/* A try ends after this many bytes, so that the event loop of asyncio is not held up. */
#define TRY_MOST ((size_t)4 << 20)

bool part_waits(const struct hold *hold)
{
	return hold->part && !hold->part->busy && stay_is_mine(hold->part->stay);
}

static char *data_of(PyObject *made)
{
	return PyBytes_Check(made) ? PyBytes_AS_STRING(made) : PyByteArray_AS_STRING(made);
}

/* Makes an object of len bytes.  Returns 0, or -1 with an exception. */
static int make_room(struct part *part, size_t len, bool writable)
{
	part->made = writable ? PyByteArray_FromStringAndSize(NULL, (Py_ssize_t)len)
			      : PyBytes_FromStringAndSize(NULL, (Py_ssize_t)len);
	if (!part->made)
		return -1;
	part->data = data_of(part->made);
	part->room = len;
	return 0;
}

static int resize(struct part *part, size_t len)
{
	if (PyBytes_Check(part->made)) {
		if (_PyBytes_Resize(&part->made, (Py_ssize_t)len) < 0)
			return -1; /* the object was freed */
	} else if (PyByteArray_Resize(part->made, (Py_ssize_t)len) < 0) {
		Py_CLEAR(part->made);
		return -1;
	}
	part->data = data_of(part->made);
	part->room = len;
	return 0;
}

static struct part *part_new(struct hold *hold, const struct place *place, size_t total, bool writable)
{
	struct part *part = PyMem_RawCalloc(1, sizeof(*part));

	if (part)
		part->stay = stay_begin(hold, RECEIVING);
	if (!part || !part->stay) {
		PyMem_RawFree(part);
		PyErr_NoMemory();
		return NULL;
	}
	part->total = total;
	if (place && total <= place->room) {
		part->data = place->data;
		part->room = place->room;
	} else if (make_room(part, total < FIRST_ROOM ? total : FIRST_ROOM, writable) < 0) {
		stay_end(part->stay);
		PyMem_RawFree(part);
		return NULL;
	}
	return part;
}

/* The library must not be in the middle of this message for this thread. */
static void part_free(struct hold *hold, struct part *part)
{
	if (hold->part == part)
		hold->part = NULL;
	if (stay_is_mine(part->stay))
		stay_end(part->stay);
	else
		stay_leave(part->stay); /* in a forked child */
	Py_XDECREF(part->made);
	PyMem_RawFree(part);
}

/*
 * A call gives up in the middle.  What it has received stays in the hold, in memory of
 * our own.  If there is no memory for that, the message is lost.
 */
static void part_keep(struct hold *hold, struct part *part)
{
	const char *data = part->data;
	size_t room = part->have > FIRST_ROOM / 2 ? 2 * part->have : FIRST_ROOM;
	PyObject *type, *value, *trace;

	part->busy = false;
	if (part->made)
		return;
	PyErr_Fetch(&type, &value, &trace);
	if (data && make_room(part, room < part->total ? room : part->total, false) == 0)
		memcpy(part->data, data, part->have);
	PyErr_Clear();
	PyErr_Restore(type, value, trace);
	if (part->made)
		return;
	(void)bufpipe_release(hold->pipe);
	part_free(hold, part);
}

/* How long a message may be.  If the caller has room for its len bytes, there is no other limit. */
static size_t most_for(const struct place *place, size_t most, size_t len)
{
	if (!place)
		return most;
	return len <= place->room ? SIZE_MAX : most < TOO_SHORT_MOST ? most : TOO_SHORT_MOST;
}

static void *refuse_place(size_t len)
{
	PyObject *text = PyUnicode_FromFormat("a message of %zu bytes stays in the pipe", len);

	if (text)
		raise_too_short(text);
	Py_XDECREF(text);
	return NULL;
}

void *part_refuse_peeked(struct hold *hold, size_t len)
{
	(void)bufpipe_unpeek(hold->pipe);
	return refuse_place(len);
}

static void *raise_too_long(size_t len, size_t most, const struct place *place)
{
	if (place)
		return refuse_place(len);
	return PyErr_Format(
		PyExc_OSError,
		"bad message length: %zu bytes came, at most %zu are allowed; the message stays in "
		"the pipe",
		len, most);
}

/* The message is complete. */
static PyObject *part_finish(struct hold *hold, struct part *part, struct place *place)
{
	PyObject *made = NULL;

	hold_settle(hold);
	if (place)
		place->len = part->total;
	if (!part->made) {
		made = Py_NewRef(Py_None);
	} else if (place && part->total <= place->room) {
		memcpy(place->data, part->data, part->total);
		made = Py_NewRef(Py_None);
	} else if (part->total == part->room || resize(part, part->total) == 0) {
		made = Py_NewRef(part->made);
	}
	part_free(hold, part);
	return made;
}

static bool gave_up(ssize_t r)
{
	return r == -EAGAIN || r == -ETIMEDOUT || r == -EINTR;
}

/* One call of the library, without the GIL.  The hold has the part as long as the library is in its message. */
static ssize_t take(struct hold *hold, struct part *part, int64_t slice)
{
	size_t after = 0;
	ssize_t r;

	WITHOUT_GIL(r = bufpipe_recv_part(hold->pipe, part->data + part->have, part->room - part->have,
					  &after, slice));
	if (r < 0) {
		if (hold->part == part && !gave_up(r))
			hold->part = NULL;
		return r;
	}
	part->have += (size_t)r;
	/* If another receiver was quicker, this is a later message than the one that was announced. */
	part->total = part->have + after;
	/*
	 * The message is complete, and the turn was given back.  Before this thread got the
	 * GIL, another one may have begun the next message, and its part may be in the hold.
	 */
	if (!after)
		return r;
	/*
	 * This thread has the turn, so the message that another thread had begun is over.
	 * If a call is still receiving that part, the call frees it as soon as it has the
	 * GIL.  Otherwise its thread has ended, and the part is freed here.
	 */
	if (hold->part && hold->part != part && !hold->part->busy)
		hold_forget_part(hold);
	hold->part = part;
	return r;
}

/* Makes room if the memory is full.  Returns 0, or -1 with an exception; then the memory was freed. */
static int grow(struct part *part)
{
	if (part->have < part->room || !part->made)
		return 0;
	if (resize(part, part->total / 2 > part->room ? 2 * part->room : part->total) == 0)
		return 0;
	part->data = NULL;
	return -1;
}

enum progress { GO_ON, DONE, TIME_UP, MORE_SOON, LOOK_AGAIN, FAILED };

/* How to go on after a call that returned r.  With FAILED an exception is set. */
static enum progress assess(struct end *self, struct hold *hold, struct part *part, ssize_t r,
			    const struct place *place, size_t most)
{
	if (r >= 0 && part->have == part->total)
		return DONE;
	/* The sender gave up the message; or another receiver took it, and the next message is short. */
	if (r == -ECANCELED || r == -EMSGSIZE)
		return LOOK_AGAIN;
	if (after_slice(self, hold, RECEIVING, r < 0 ? r : -EINTR) < 0)
		return FAILED;
	if (hold->part != part)
		return LOOK_AGAIN;
	if (part->total > most_for(place, most, part->total)) {
		raise_too_long(part->total, most, place);
		return FAILED;
	}
	return grow(part) < 0 ? FAILED : GO_ON;
}

static enum progress receive(struct end *self, struct hold *hold, struct part *part,
			     const struct place *place, size_t most, int64_t deadline)
{
	bool tries = deadline <= DEADLINE_TRY;
	size_t begin = part->have;

	for (;;) {
		ssize_t r = take(hold, part, deadline_slice(deadline, SLICE));
		enum progress progress = assess(self, hold, part, r, place, most);

		if (progress != GO_ON)
			return progress;
		if (tries ? r < 0 || part->have - begin >= TRY_MOST : deadline_slice(deadline, SLICE) == 0)
			return deadline == DEADLINE_TRY_SHORT && part->have > begin ? MORE_SOON : TIME_UP;
	}
}

/* Ends a call whose message is not complete.  The hold must be in use. */
static void leave(struct end *self, struct hold *hold, struct part *part, enum progress progress)
{
	/* The handle was closed: nobody will ask for the rest, and other receivers must not wait for it. */
	if (hold->part == part && self->hold != hold && bufpipe_release(hold->pipe) == 0)
		hold->part = NULL;
	if (hold->part != part || !stay_is_mine(part->stay)) {
		/* The message was not begun, or is over; or a signal handler forked, and this is the child. */
		if (hold->part == part && !PyErr_Occurred())
			PyErr_SetString(PyExc_RuntimeError,
					"the rest of this message belongs to the parent process");
		part_free(hold, part);
		return;
	}
	if (progress == TIME_UP || progress == MORE_SOON)
		PyErr_Format(progress == MORE_SOON ? PyExc_BlockingIOError : PyExc_TimeoutError,
			     "%zu of the %zu bytes of a message have come; the next call goes on with it",
			     part->have, part->total);
	part_keep(hold, part);
}

/*
 * The part that waits for this thread, or a new one.  Returns NULL with an exception, or
 * without one if the caller must look again.
 */
static struct part *begin(struct hold *hold, const struct place *place, size_t most, bool writable)
{
	bool waits = part_waits(hold);
	ssize_t len = waits ? (ssize_t)hold->part->total : bufpipe_next(hold->pipe, 0);

	if (len == -EAGAIN)
		return NULL;
	if (len < 0)
		return raise_error(hold, RECEIVING, len);
	if ((size_t)len > most_for(place, most, (size_t)len))
		return raise_too_long((size_t)len, most, place);
	if (waits)
		return hold->part;
	/* Meanwhile another receiver may have taken it, and what follows is short. */
	if ((size_t)len <= hold->info.buffer_size)
		return NULL;
	return part_new(hold, place, (size_t)len, writable);
}

PyObject *part_receive(struct end *self, struct hold *hold, struct place *place, size_t most,
		       int64_t deadline, bool writable)
{
	struct part *part = begin(hold, place, most, writable);
	enum progress progress;
	PyObject *made = NULL;
	struct use use;

	if (!part)
		return NULL;
	hold_use(hold, &use);
	part->busy = true;
	progress = receive(self, hold, part, place, most, deadline);
	if (progress == DONE)
		made = part_finish(hold, part, place);
	else
		leave(self, hold, part, progress);
	hold_unuse(&use);
	return made;
}
