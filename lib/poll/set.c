/* SPDX-License-Identifier: MIT */
/* The entries of a set, and changing them.  How a set waits is in set_wait.c. */
#include "poll/set.h"

#include "base/fd.h"
#include "base/thread.h"

#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/stat.h>

/* The first estimate of how long a wait takes, in nanoseconds.  It is short enough for a spin. */
#define FIRST_GUESS 12500

bool set_is_ours(const struct bufpipe_set *set)
{
	return set->owner == thread_process();
}

int set_enter(struct bufpipe_set *set)
{
	if (!set || !set_is_ours(set))
		return -EINVAL;
	/* Relaxed: if the waiter sees this late, the change only takes longer. */
	atomic_fetch_add_explicit(&set->wanting, 1, memory_order_relaxed);
	pthread_mutex_lock(&set->lock);
	atomic_fetch_sub_explicit(&set->wanting, 1, memory_order_relaxed);
	return 0;
}

static int leave(bufpipe_set_t *set, int r)
{
	if (set->asleep)
		sys_event_ring(set->poke);
	pthread_mutex_unlock(&set->lock);
	return r;
}

/* Slots. */

struct entry *set_find(const struct bufpipe_set *set, uint32_t slot, uint32_t generation)
{
	struct entry *e = slot < set->slot_count ? set->slots[slot] : NULL;

	return e && e->generation == generation ? e : NULL;
}

static int grow(struct bufpipe_set *set)
{
	uint32_t n = set->slot_count ? set->slot_count * 2 : 64;
	struct entry **slots = realloc(set->slots, n * sizeof(*slots));
	uint32_t *generations;

	if (!slots)
		return -ENOMEM;
	set->slots = slots;
	generations = realloc(set->generations, n * sizeof(*generations));
	if (!generations)
		return -ENOMEM;
	set->generations = generations;
	memset(slots + set->slot_count, 0, (n - set->slot_count) * sizeof(*slots));
	memset(generations + set->slot_count, 0, (n - set->slot_count) * sizeof(*generations));
	set->slot_count = n;
	return 0;
}

static int take_slot(struct bufpipe_set *set, struct entry *e)
{
	uint32_t i = set->next_free;
	int r;

	for (; i < set->slot_count && set->slots[i]; i++)
		;
	if (i == set->slot_count) {
		r = grow(set);
		if (r < 0)
			return r;
	}
	set->next_free = i + 1;
	set->slots[i] = e;
	e->slot = i;
	e->generation = ++set->generations[i];
	return 0;
}

static void free_slot(struct bufpipe_set *set, const struct entry *e)
{
	set->slots[e->slot] = NULL;
	if (e->slot < set->next_free)
		set->next_free = e->slot;
}

/* Adding and removing. */

/* Gives the pipe back to its owner: its bufpipe_fd works again. */
static void release(const struct bufpipe_set *set, bufpipe_t *p, unsigned events)
{
	p->entry = NULL;
	p->leave_set = NULL;
	p->poke_set = NULL;
	/* After fork, the flags belong to the parent. */
	if (!set_is_ours(set))
		return;
	readiness_lower(p, events, set->sleeper->mode);
	readiness_done(p);
}

static void forget(struct bufpipe_set *set, struct entry *e)
{
	set_cool(set, e);
	set->sleeper->leave(set, e);
	if (e->pipe) {
		release(set, e->pipe, e->events);
	} else {
		set->by_fd[e->fd] = NULL;
	}
	free_slot(set, e);
	free(e);
}

/*
 * Called when an end is closed while it is in a set.  The manual forbids this, but no dangling
 * pointer may remain.
 */
static void leave_on_close(bufpipe_t *p)
{
	struct entry *e = p->entry;

	if (set_is_ours(e->set))
		bufpipe_set_remove(e->set, p);
	else
		e->pipe = NULL; /* the set is a copy in a child of fork */
}

/* Called when an end in the set was shut down by this process: nobody rings for that. */
static void look_again(bufpipe_t *p)
{
	struct entry *e = p->entry;

	if (set_enter(e->set) < 0)
		return;
	set_heat(e->set, e);
	leave(e->set, 0);
}

static int add(struct bufpipe_set *set, const struct entry *new)
{
	struct entry *e = malloc(sizeof(*e));
	int r;

	if (!e)
		return -ENOMEM;
	*e = *new;
	e->set = set;
	r = take_slot(set, e);
	if (r < 0) {
		free(e);
		return r;
	}
	r = set->sleeper->join(set, e);
	if (r < 0) {
		free_slot(set, e);
		free(e);
		return r;
	}
	if (e->pipe) {
		e->spin_ns = readiness_any(e->pipe)->spin_ns;
		e->pipe->entry = e;
		e->pipe->leave_set = leave_on_close;
		e->pipe->poke_set = look_again;
		set_hasten_round(set);
	} else {
		set->by_fd[e->fd] = e;
	}
	set_heat(set, e);
	return 0;
}

static struct entry *entry_of(const struct bufpipe_set *set, const bufpipe_t *p)
{
	struct entry *e = p->entry;

	return e && e->set == set ? e : NULL;
}

/* A new or changed entry is watched only from the next wait on, so make bufpipe_set_fd readable. */
static int announce(struct bufpipe_set *set, int r)
{
	if (r == 0 && set->pollable)
		sys_event_ring(set->poke);
	return leave(set, r);
}

int bufpipe_set_add(bufpipe_set_t *set, bufpipe_t *p, unsigned events, void *user)
{
	struct entry new = { .pipe = p, .events = events, .user = user };
	int r = p ? readiness_check(p, events) : -EINVAL;

	if (r == 0)
		r = set_enter(set);
	if (r < 0)
		return r;
	new.fd = p->socket;
	return announce(set, p->entry ? -EEXIST : add(set, &new));
}

int bufpipe_set_modify(bufpipe_set_t *set, bufpipe_t *p, unsigned events, void *user)
{
	struct entry *e;
	int r = p ? readiness_check(p, events) : -EINVAL;

	if (r == 0)
		r = set_enter(set);
	if (r < 0)
		return r;
	e = entry_of(set, p);
	if (!e)
		return leave(set, -ENOENT);
	set_heat(set, e);
	e->events = events;
	e->user = user;
	return announce(set, 0);
}

int bufpipe_set_remove(bufpipe_set_t *set, bufpipe_t *p)
{
	struct entry *e;
	int r = p ? set_enter(set) : -EINVAL;

	if (r < 0)
		return r;
	e = entry_of(set, p);
	if (!e)
		return leave(set, -ENOENT);
	forget(set, e);
	return leave(set, 0);
}

static int make_fd_room(struct bufpipe_set *set, int fd)
{
	unsigned n = set->by_fd_count ? set->by_fd_count : 64;
	struct entry **by_fd;

	if ((unsigned)fd < set->by_fd_count)
		return 0;
	while (n <= (unsigned)fd)
		n *= 2;
	by_fd = realloc(set->by_fd, n * sizeof(struct entry *));
	if (!by_fd)
		return -ENOMEM;
	memset(by_fd + set->by_fd_count, 0, (n - set->by_fd_count) * sizeof(struct entry *));
	set->by_fd = by_fd;
	set->by_fd_count = n;
	return 0;
}

int bufpipe_set_add_fd(bufpipe_set_t *set, int fd, unsigned events, void *user)
{
	struct entry new = { .fd = fd, .events = events, .user = user };
	struct pollfd probe = { .fd = fd };
	struct stat st;
	int r;

	if (fd < 0 || events & ~0xffffu)
		return -EINVAL;
	if ((sys_poll(&probe, 0) > 0 && probe.revents & POLLNVAL) || fstat(fd, &st) < 0)
		return -EBADF;
	if (S_ISREG(st.st_mode) || S_ISDIR(st.st_mode))
		return -EPERM; /* as epoll does.  io_uring would accept it, and it would always be ready */
	r = set_enter(set);
	if (r < 0)
		return r;
	r = make_fd_room(set, fd);
	if (r == 0)
		r = set->by_fd[fd] ? -EEXIST : add(set, &new);
	return leave(set, r);
}

int bufpipe_set_remove_fd(bufpipe_set_t *set, int fd)
{
	int r = fd < 0 ? -EINVAL : set_enter(set);

	if (r < 0)
		return r;
	if ((unsigned)fd >= set->by_fd_count || !set->by_fd[fd])
		return leave(set, -ENOENT);
	forget(set, set->by_fd[fd]);
	return leave(set, 0);
}

/* Adds all entries to the current sleeper. */
static int rejoin(struct bufpipe_set *set)
{
	for (uint32_t i = 0; i < set->slot_count; i++) {
		int r = set->slots[i] ? set->sleeper->join(set, set->slots[i]) : 0;

		if (r < 0)
			return r;
	}
	return 0;
}

/* Swaps the sleeper of a set and its private data with these. */
static void swap_sleepers(struct bufpipe_set *set, const struct sleeper **sleeper, void **inside)
{
	const struct sleeper *was = set->sleeper;
	void *was_inside = set->inside;

	set->sleeper = *sleeper;
	set->inside = *inside;
	*sleeper = was;
	*inside = was_inside;
}

int set_fall_back(struct bufpipe_set *set)
{
	const struct sleeper *other = &sleep_on_epoll;
	void *inside = NULL;
	int r;

	swap_sleepers(set, &other, &inside);
	r = set->sleeper->open(set);
	if (r == 0) {
		r = rejoin(set);
		/*
		 * Close the sleeper that is not needed: the old one, or the new one if an entry
		 * could not join.
		 */
		if (r == 0)
			swap_sleepers(set, &other, &inside);
		set->sleeper->close(set);
	}
	swap_sleepers(set, &other, &inside);
	if (r < 0)
		return r;
	for (uint32_t i = 0; i < set->slot_count; i++) {
		struct entry *e = set->slots[i];

		if (!e)
			continue;
		if (e->pipe && !e->next)
			readiness_lower(e->pipe, e->events, sleep_on_uring.mode);
		e->watched = 0;
		e->polled = false;
		set_heat(set, e);
	}
	set_hasten_round(set);
	return 0;
}

int bufpipe_set_create(bufpipe_set_t **set, unsigned flags)
{
	struct bufpipe_set *s;
	int r;

	if (!set || flags & ~(BUFPIPE_NO_URING | BUFPIPE_POLLABLE))
		return -EINVAL;
	s = calloc(1, sizeof(*s));
	if (!s)
		return -ENOMEM;
	s->poke = fd_own(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
	if (s->poke < 0) {
		r = s->poke;
		free(s);
		return r;
	}
	pthread_mutex_init(&s->lock, NULL);
	s->owner = thread_process();
	s->pace.ours = &s->waiter;
	s->round_due = TIME_FOREVER; /* there is no pipe to look at yet */
	atomic_store_explicit(&s->pace.expected, FIRST_GUESS, memory_order_relaxed);
	s->sleeper = &sleep_on_uring;
	s->pollable = flags & BUFPIPE_POLLABLE;
	r = flags ? -ENOSYS : s->sleeper->open(s);
	if (r < 0) { /* io_uring is forbidden, unknown or short of something; epoll needs less */
		s->sleeper = &sleep_on_epoll;
		r = s->sleeper->open(s);
	}
	if (r < 0) {
		sys_close(s->poke);
		free(s);
		return r;
	}
	*set = s;
	return 0;
}

int bufpipe_set_fd(const bufpipe_set_t *set)
{
	return set && set->pollable && set_is_ours(set) ? set->sleeper->fd(set) : -EINVAL;
}

void bufpipe_set_destroy(bufpipe_set_t *set)
{
	if (!set)
		return;
	for (uint32_t i = 0; i < set->slot_count; i++) {
		struct entry *e = set->slots[i];

		if (e && e->pipe)
			release(set, e->pipe, e->events);
		free(e);
	}
	set->sleeper->close(set);
	pthread_mutex_destroy(&set->lock);
	sys_close(set->poke);
	free(set->by_fd);
	free(set->generations);
	free(set->slots);
	free(set);
}
