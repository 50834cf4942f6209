/* SPDX-License-Identifier: MIT */
#include "hold.h"

#include <pthread.h>

static unsigned process;

unsigned this_process(void)
{
	return process;
}

unsigned long thread_number(void)
{
	static atomic_ulong threads;
	static _Thread_local unsigned long thread;

	if (!thread)
		thread = atomic_fetch_add_explicit(&threads, 1, memory_order_relaxed) + 1;
	return thread;
}

/*
 * The calls that this thread is in.  Their records are not on the stack: while a
 * call runs a signal handler, a library such as greenlet may put another stack in
 * the place of this one.
 */
struct use_record {
	struct hold *hold;
	struct use_record *next;
	struct use_record **at_me;
};
static _Thread_local struct use_record *uses;

/*
 * A forked child does not have the calls of the other threads.  It has those of
 * the thread that forked: if a signal handler forks in the middle of a call, that
 * call goes on in the child as well.
 */
static void count_uses_in_child(void)
{
	process++;
	for (struct use_record *use = uses; use; use = use->next) {
		if (use->hold->process != process)
			use->hold->uses = 0;
		use->hold->process = process;
		use->hold->uses++;
	}
}

/*
 * The locks that threads have taken and not released.  A lock of the library is
 * in the memory of the pipe, and the C library and the kernel keep it in a list of
 * the thread that owns it.  If that memory were unmapped while the thread lives,
 * the next lock that the thread takes would write into it.  So the memory stays
 * until the thread has released the lock: in its next call of this package, or
 * when it ends.
 *
 * A mutex protects the list, and not the GIL, because a thread that ends no longer
 * has the GIL, and because each interpreter may have a GIL of its own.
 */
_Atomic unsigned stays_left;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct stay *stays; /* under the lock */
static pthread_key_t key;  /* its destructor runs when a thread ends */

static void link_first(struct stay *stay)
{
	stay->next = stays;
	stay->at_me = &stays;
	if (stay->next)
		stay->next->at_me = &stay->next;
	stays = stay;
	stay->listed = true;
}

static void take_out(struct stay *stay)
{
	*stay->at_me = stay->next;
	if (stay->next)
		stay->next->at_me = stay->at_me;
	stay->listed = false;
	if (stay->state == STAY_LEFT)
		atomic_fetch_sub_explicit(&stays_left, 1, memory_order_relaxed);
}

/* Under the lock.  Whether this was the last stay of a hold that nothing else uses. */
static bool count_down(struct hold *hold)
{
	return --hold->stays == 0 && hold->parked;
}

/* May run without the GIL: nothing uses the hold any more. */
static void hold_free(struct hold *hold)
{
	bufpipe_close(hold->pipe);
	PyMem_RawFree(hold);
}

struct stay *stay_begin(struct hold *hold, enum direction direction)
{
	struct stay *stay;

	/* The value means nothing, but the destructor runs only if it is not NULL. */
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
	(void)count_down(stay->hold); /* the caller has the hold, so it is not parked */
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
		/* If it is not listed, its thread is giving it back at this moment. */
		if (stay->listed)
			atomic_fetch_add_explicit(&stays_left, 1, memory_order_relaxed);
	}
	pthread_mutex_unlock(&lock);
	if (gone)
		PyMem_RawFree(stay);
}

bool stay_is_mine(const struct stay *stay)
{
	bool mine;

	pthread_mutex_lock(&lock);
	mine = stay->state == STAY_OURS && stay->thread == thread_number();
	pthread_mutex_unlock(&lock);
	return mine;
}

/* Takes a stay of this thread out of the list; returns NULL if there is none.  The hold still counts the stay. */
static struct stay *take_mine(bool only_left, bool *left)
{
	unsigned long thread = thread_number();
	struct stay *stay;

	pthread_mutex_lock(&lock);
	for (stay = stays; stay; stay = stay->next) {
		if (stay->thread == thread && (!only_left || stay->state == STAY_LEFT))
			break;
	}
	if (stay) {
		*left = stay->state == STAY_LEFT;
		take_out(stay);
	}
	pthread_mutex_unlock(&lock);
	return stay;
}

/*
 * Releases the lock.  If the stay was left, nothing points into the message any more,
 * so it is consumed.  Otherwise it stays in the pipe, as if the thread had been killed.
 */
static void give_back(bufpipe_t *pipe, enum direction direction, bool left)
{
	if (direction == SENDING) {
		(void)bufpipe_cancel(pipe);
		return;
	}
	if (left || bufpipe_unpeek(pipe) < 0)
		(void)bufpipe_release(pipe);
	/* As in hold_settle(): a descriptor that is polled must not stay readable for nothing. */
	(void)bufpipe_next(pipe, 0);
}

/* The stay belongs to this thread, and was taken out of the list. */
static void finish(struct stay *stay, bool left)
{
	struct hold *hold = stay->hold;
	bool owned, close;

	give_back(hold->pipe, stay->direction, left);
	pthread_mutex_lock(&lock);
	owned = stay->state == STAY_OURS;
	if (owned)
		stay->state = STAY_GONE; /* from here on its view or message may free it */
	close = count_down(hold);
	pthread_mutex_unlock(&lock);
	if (!owned)
		PyMem_RawFree(stay);
	if (close)
		hold_free(hold);
}

void stays_give_back(void)
{
	struct stay *stay;
	bool left;

	while ((stay = take_mine(true, &left)))
		finish(stay, left);
}

/* Runs when a thread ends.  Its open views keep their memory. */
static void thread_ends(void *unused)
{
	struct stay *stay;
	bool left;

	(void)unused;
	while ((stay = take_mine(false, &left)))
		finish(stay, left);
}

static void before_fork(void)
{
	pthread_mutex_lock(&lock);
}

static void after_fork_in_parent(void)
{
	pthread_mutex_unlock(&lock);
}

/* The child owns none of the locks, not even those of the thread that forked. */
static void after_fork_in_child(void)
{
	count_uses_in_child();
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

int hold_watch(void)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;

	pthread_once(&once, begin_to_watch);
	return watching;
}

int hold_new(struct hold **made, bufpipe_t *pipe)
{
	struct hold *hold = PyMem_RawCalloc(1, sizeof(*hold));
	int r = hold ? bufpipe_get_info(pipe, &hold->info) : -ENOMEM;

	if (r == 0 && !(hold->info.flags & BUFPIPE_SHARED))
		r = -EPERM;
	if (r < 0) {
		bufpipe_close(pipe);
		PyMem_RawFree(hold);
		return r;
	}
	hold->pipe = pipe;
	hold->handles = 1;
	hold->process = process;
	hold->fd = -1;
	hold->take_most =
		hold_static(hold) || hold->info.buffer_size > SHORT ? SHORT : hold->info.buffer_size;
	*made = hold;
	return 0;
}

/* The calls of threads that a forked child does not have will never end there, so they do not count. */
static void adopt(struct hold *hold)
{
	if (unlikely(hold->process != process)) {
		hold->process = process;
		hold->uses = 0;
	}
}

void hold_forget_part(struct hold *hold)
{
	struct part *part = hold->part;

	hold->part = NULL;
	if (part->stay)
		stay_leave(part->stay);
	Py_XDECREF(part->made);
	PyMem_RawFree(part);
}

/* Nobody will ask for its rest any more. */
static void drop_part(struct hold *hold)
{
	if (stay_is_mine(hold->part->stay)) {
		(void)bufpipe_release(hold->pipe);
		stay_end(hold->part->stay);
		hold->part->stay = NULL;
	}
	hold_forget_part(hold);
}

/* Whether no stay is left.  If one is, the last stay will close the hold. */
static bool stays_over(struct hold *hold)
{
	bool over;

	pthread_mutex_lock(&lock);
	over = hold->stays == 0;
	hold->parked = !over;
	pthread_mutex_unlock(&lock);
	return over;
}

static void let_go(struct hold *hold)
{
	if (hold->handles || hold->uses)
		return;
	Py_CLEAR(hold->last);
	Py_CLEAR(hold->name);
	if (hold->part)
		drop_part(hold);
	if (stays_over(hold))
		hold_free(hold);
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

/* If there is no memory, there is no record.  Only a child that is forked during the call would need it. */
void hold_use(struct hold *hold, struct use *use)
{
	struct use_record *record = PyMem_RawMalloc(sizeof(*record));

	adopt(hold);
	hold->uses++;
	*use = (struct use){ hold, record, process };
	if (!record)
		return;
	*record = (struct use_record){ hold, uses, &uses };
	if (record->next)
		record->next->at_me = &record->next;
	uses = record;
}

void hold_unuse(struct use *use)
{
	struct use_record *record = use->record;

	if (record) {
		*record->at_me = record->next;
		if (record->next)
			record->next->at_me = record->at_me;
		PyMem_RawFree(record);
	} else if (use->process != process) {
		return; /* this is a child that was forked during the call, and did not count it */
	}
	use->hold->uses--;
	let_go(use->hold);
}

void hold_settle(struct hold *hold)
{
	if (unlikely(hold->fd >= 0))
		(void)bufpipe_next(hold->pipe, 0);
}
