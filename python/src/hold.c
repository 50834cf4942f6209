/* SPDX-License-Identifier: MIT */
#include "core.h"

#include <pthread.h>

static unsigned process;

static _Thread_local struct use *uses;

/*
 * In a child, the calls of the other threads are gone.  Those of the thread that
 * forked are not: it may have done so in the handler of a signal that came in
 * the middle of a call, and that call goes on in the child as well.
 */
static void count_fork(void)
{
	process++;
	for (struct use *use = uses; use; use = use->next) {
		if (use->hold->process != process)
			use->hold->uses = 0;
		use->hold->process = process;
		use->hold->uses++;
	}
}

static int watching;

static void begin_to_watch(void)
{
	watching = -pthread_atfork(NULL, NULL, count_fork);
}

int watch_forks(void)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;

	pthread_once(&once, begin_to_watch);
	return watching;
}

unsigned this_process(void)
{
	return process;
}

struct hold *hold_new(bufpipe_t *pipe)
{
	struct hold *hold = PyMem_RawCalloc(1, sizeof(*hold));
	int r;

	if (!hold) {
		bufpipe_close(pipe);
		PyErr_NoMemory();
		return NULL;
	}
	hold->pipe = pipe;
	hold->handles = 1;
	hold->process = process;
	hold->fd = -1;
	r = bufpipe_get_info(pipe, &hold->info);
	if (r == 0 && !(hold->info.flags & BUFPIPE_SHARED)) {
		PyErr_SetString(PyExc_ValueError,
				"this end was not made to be shared, and threads of Python would share it");
		hold_drop(hold);
		return NULL;
	}
	hold->take_most =
		hold_static(hold) || hold->info.buffer_size > SHORT ? SHORT : hold->info.buffer_size;
	if (r < 0) {
		raise_error(hold, NEITHER, r);
		hold_drop(hold);
		return NULL;
	}
	return hold;
}

/* In a child, of a hold that the thread that forked did not use: nobody here will ever end the other calls. */
static void adopt(struct hold *hold)
{
	if (unlikely(hold->process != process)) {
		hold->process = process;
		hold->uses = 0;
	}
}

static void let_go(struct hold *hold)
{
	if (hold->handles || hold->uses)
		return;
	Py_CLEAR(hold->last);
	if (stays_over(hold))
		hold_free(hold);
}

void hold_free(struct hold *hold)
{
	bufpipe_close(hold->pipe);
	PyMem_RawFree(hold);
}

void hold_add(struct hold *hold)
{
	hold->handles++;
}

void hold_drop(struct hold *hold)
{
	adopt(hold);
	hold->handles--;
	let_go(hold);
}

void hold_use(struct hold *hold, struct use *use)
{
	adopt(hold);
	hold->uses++;
	*use = (struct use){ hold, uses };
	uses = use;
}

void hold_unuse(struct use *use)
{
	struct use **at = &uses;

	while (*at != use)
		at = &(*at)->next;
	*at = use->next;
	use->hold->uses--;
	let_go(use->hold);
}
