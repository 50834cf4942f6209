/* SPDX-License-Identifier: MIT */
#include "await.h"

#include "part.h"

enum awaited handle_await_quietly(struct end *self, int64_t deadline)
{
	int64_t slice = deadline_slice(deadline, SLICE);
	struct hold *hold = handle_hold(self);
	enum awaited result;
	struct use use;
	ssize_t r;

	if (!hold)
		return AWAIT_FAILED;
	if (slice == 0)
		return AWAIT_TIME_UP;
	hold_use(hold, &use);
	WITHOUT_GIL(r = bufpipe_next(hold->pipe, slice));
	if (r == -EPIPE)
		result = AWAIT_ENDED;
	else
		result = after_slice(self, hold, RECEIVING, r) < 0 ? AWAIT_FAILED : AWAIT_LOOK;
	hold_unuse(&use);
	return result;
}

int handle_await(struct end *self, int64_t deadline)
{
	switch (handle_await_quietly(self, deadline)) {
	case AWAIT_LOOK:
		return 0;
	case AWAIT_TIME_UP:
		raise_timeout(end_to_name(deadline, self->hold), RECEIVING);
		return -1;
	case AWAIT_ENDED:
		raise_error(self->hold, RECEIVING, -EPIPE);
		return -1;
	default:
		return -1;
	}
}

METHOD(handle_poll)
{
	static const struct signature signature = { "poll", 1, 0, { "timeout" } };
	int64_t deadline = DEADLINE_TRY;
	PyObject *values[1];

	if (!args_parse(&signature, args, nargs, kwnames, values) ||
	    (values[0] && args_wait_deadline(values[0], &deadline) < 0))
		return NULL;
	for (;;) {
		struct hold *hold = handle_hold(self);
		ssize_t r;

		if (!hold)
			return NULL;
		r = bufpipe_next(hold->pipe, 0);
		if (r >= 0 || r == -EPIPE || (r == -EBUSY && part_waits(hold)))
			Py_RETURN_TRUE;
		if (r != -EAGAIN)
			return raise_error(hold, RECEIVING, r);
		switch (handle_await_quietly(self, deadline)) {
		case AWAIT_LOOK:
			break;
		case AWAIT_TIME_UP:
			Py_RETURN_FALSE;
		case AWAIT_ENDED:
			Py_RETURN_TRUE;
		default:
			return NULL;
		}
	}
}
