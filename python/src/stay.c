/* SPDX-License-Identifier: MIT */
/*
 * What threads have entered and not left.  The library's lock of an end is in
 * the memory of the pipe, and the C library and the kernel have it in a list of
 * the thread that owns it.  Were that memory unmapped while the thread lives,
 * the next lock that the thread takes would write into it.  So the memory stays
 * until the thread has given the lock back: in its next call of this package,
 * or when it ends.
 *
 * The list is under a mutex, not under the GIL, because a thread that ends has
 * no GIL any more, and because interpreters may have a GIL each.
 */
#include "core.h"

#include <pthread.h>

_Atomic unsigned stays_left;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct stay *stays; /* all but those that are gone; under the lock */
static pthread_key_t key;  /* whose destructor tells that a thread ends */

unsigned long thread_number(void)
{
	static atomic_ulong threads;
	static _Thread_local unsigned long thread;

	if (!thread)
		thread = atomic_fetch_add_explicit(&threads, 1, memory_order_relaxed) + 1;
	return thread;
}

static void link_first(struct stay *stay)
{
	stay->next = stays;
	stay->at_me = &stays;
	if (stay->next)
		stay->next->at_me = &stay->next;
	stays = stay;
}

static void take_out(struct stay *stay)
{
	*stay->at_me = stay->next;
	if (stay->next)
		stay->next->at_me = stay->at_me;
	if (stay->state == STAY_LEFT)
		atomic_fetch_sub_explicit(&stays_left, 1, memory_order_relaxed);
}

/* Under the lock: whether it was the last one of a hold that nothing else uses. */
static bool count_down(struct hold *hold)
{
	return --hold->stays == 0 && hold->parked;
}

struct stay *stay_begin(struct hold *hold, enum direction direction)
{
	struct stay *stay;

	/* Any value but NULL: the destructor runs for it. */
	if (pthread_setspecific(key, &stays) != 0)
		return NULL;
	stay = PyMem_RawMalloc(sizeof(*stay));
	if (!stay)
		return NULL;
	*stay = (struct stay){ .hold = hold, .direction = direction, .thread = thread_number() };
	pthread_mutex_lock(&lock);
	link_first(stay);
	hold->stays++;
	pthread_mutex_unlock(&lock);
	return stay;
}

void stay_end(struct stay *stay)
{
	pthread_mutex_lock(&lock);
	take_out(stay);
	(void)count_down(stay->hold); /* the view has the hold, so it is not parked */
	pthread_mutex_unlock(&lock);
	PyMem_RawFree(stay);
}

void stay_leave(struct stay *stay)
{
	bool gone;

	pthread_mutex_lock(&lock);
	gone = stay->state == STAY_GONE;
	if (!gone) {
		stay->state = STAY_LEFT;
		atomic_fetch_add_explicit(&stays_left, 1, memory_order_relaxed);
	}
	pthread_mutex_unlock(&lock);
	if (gone)
		PyMem_RawFree(stay);
}

bool stays_over(struct hold *hold)
{
	bool over;

	pthread_mutex_lock(&lock);
	over = hold->stays == 0;
	hold->parked = !over;
	pthread_mutex_unlock(&lock);
	return over;
}

/* Takes one of this thread out of the list; NULL: there is none.  The hold still counts it. */
static struct stay *take_mine(bool only_left)
{
	unsigned long thread = thread_number();
	struct stay *stay;

	pthread_mutex_lock(&lock);
	for (stay = stays; stay; stay = stay->next) {
		if (stay->thread == thread && (!only_left || stay->state == STAY_LEFT))
			break;
	}
	if (stay)
		take_out(stay);
	pthread_mutex_unlock(&lock);
	return stay;
}

static void give_back(const struct stay *stay)
{
	bufpipe_t *pipe = stay->hold->pipe;

	if (stay->direction == SENDING) {
		(void)bufpipe_cancel(pipe);
	} else if (stay->state == STAY_LEFT) {
		(void)bufpipe_release(pipe);
		/* A descriptor that somebody polls must not stay ready for nothing. */
		(void)bufpipe_next(pipe, 0);
	} else {
		(void)bufpipe_unpeek(pipe); /* as if the thread had died in it: the next receiver gets it */
	}
}

/* Of this thread, and taken out of the list. */
static void finish(struct stay *stay)
{
	struct hold *hold = stay->hold;
	bool of_view, close;

	give_back(stay);
	pthread_mutex_lock(&lock);
	of_view = stay->state == STAY_OURS;
	if (of_view)
		stay->state = STAY_GONE; /* from here on the view may free it */
	close = count_down(hold);
	pthread_mutex_unlock(&lock);
	if (!of_view)
		PyMem_RawFree(stay);
	if (close)
		hold_free(hold);
}

void stays_give_back(void)
{
	struct stay *stay;

	while ((stay = take_mine(true)))
		finish(stay);
}

/* The destructor of a thread that ends.  The views of it that are open keep their memory. */
static void thread_ends(void *unused)
{
	struct stay *stay;

	(void)unused;
	while ((stay = take_mine(false)))
		finish(stay);
}

static void before_fork(void)
{
	pthread_mutex_lock(&lock);
}

static void after_fork_in_parent(void)
{
	pthread_mutex_unlock(&lock);
}

/* The child has none of the locks, also not those of the thread that forked. */
static void after_fork_in_child(void)
{
	while (stays) {
		struct stay *stay = stays;

		take_out(stay);
		if (count_down(stay->hold))
			hold_free(stay->hold);
		if (stay->state == STAY_LEFT)
			PyMem_RawFree(stay);
		else
			stay->state = STAY_GONE;
	}
	pthread_mutex_unlock(&lock);
}

static int watching;

static void begin_to_watch(void)
{
	watching = -pthread_key_create(&key, thread_ends);
	if (watching == 0)
		watching = -pthread_atfork(before_fork, after_fork_in_parent, after_fork_in_child);
}

int watch_threads(void)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;

	pthread_once(&once, begin_to_watch);
	return watching;
}
