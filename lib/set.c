/* SPDX-License-Identifier: MIT */
#include "set.h"

#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/stat.h>

#define PATIENCE_SHARED 100000000ll /* without io_uring a co-owner can take a byte that was for us */
#define LONG_SLEEP      (5 * NSEC_PER_SEC)
#define BLIND_SLEEP     4000000ll
#define SPIN_MOST       64 /* hot entries that are worth a spin */
#define SPIN_MAX        50000

static int enter(bufpipe_set_t *set)
{
	if (!set || set->owner != getpid())
		return -EINVAL;
	pthread_mutex_lock(&set->lock);
	return 0;
}

static int leave(bufpipe_set_t *set, int r)
{
	if (set->asleep)
		eventfd_write(set->poke, 1);
	pthread_mutex_unlock(&set->lock);
	return r;
}

/* The circle of hot entries. */

void set_heat(struct bufpipe_set *set, struct entry *e)
{
	if (e->next)
		return;
	if (e->pipe)
		watch_lower(e->pipe, e->events, set->sleeper->mode);
	if (!set->hot) {
		set->hot = e->next = e->previous = e;
		return;
	}
	e->next = set->hot;
	e->previous = set->hot->previous;
	e->previous->next = e;
	e->next->previous = e;
}

static void cool(struct bufpipe_set *set, struct entry *e)
{
	if (!e->next)
		return;
	if (set->hot == e)
		set->hot = e->next == e ? NULL : e->next;
	e->previous->next = e->next;
	e->next->previous = e->previous;
	e->next = e->previous = NULL;
}

static unsigned count_hot(const struct bufpipe_set *set, unsigned most)
{
	unsigned n = 0;

	for (const struct entry *e = set->hot; e && n < most; n++) {
		e = e->next;
		if (e == set->hot) {
			n++;
			break;
		}
	}
	return n;
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

static void forget(struct bufpipe_set *set, struct entry *e)
{
	cool(set, e);
	set->sleeper->leave(set, e);
	if (e->pipe) {
		watch_lower(e->pipe, e->events, set->sleeper->mode);
		set->crowded_count -= (unsigned)watch_crowded(e->pipe);
		e->pipe->entry = NULL;
		e->pipe->leave_set = NULL;
		watch_done(e->pipe);
	} else {
		set->by_fd[e->fd] = NULL;
	}
	free_slot(set, e);
	free(e);
}

/* An end is closed while it is in a set: against the rules, but it must not leave a dangling pointer. */
static void leave_on_close(bufpipe_t *p)
{
	struct entry *e = p->entry;

	if (e->set->owner == getpid())
		bufpipe_set_remove(e->set, p);
	else
		e->pipe = NULL; /* the copy of a set that was forked */
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
		e->pipe->entry = e;
		e->pipe->leave_set = leave_on_close;
		set->crowded_count += (unsigned)watch_crowded(e->pipe);
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

int bufpipe_set_add(bufpipe_set_t *set, bufpipe_t *p, unsigned events, void *user)
{
	struct entry new = { .pipe = p, .events = events, .user = user };
	int r = p ? watch_check(p, events) : -EINVAL;

	if (r == 0)
		r = enter(set);
	if (r < 0)
		return r;
	new.fd = p->socket;
	return leave(set, p->entry ? -EEXIST : add(set, &new));
}

int bufpipe_set_modify(bufpipe_set_t *set, bufpipe_t *p, unsigned events, void *user)
{
	struct entry *e;
	int r = p ? watch_check(p, events) : -EINVAL;

	if (r == 0)
		r = enter(set);
	if (r < 0)
		return r;
	e = entry_of(set, p);
	if (!e)
		return leave(set, -ENOENT);
	set_heat(set, e);
	e->events = events;
	e->user = user;
	return leave(set, 0);
}

int bufpipe_set_remove(bufpipe_set_t *set, bufpipe_t *p)
{
	struct entry *e;
	int r = p ? enter(set) : -EINVAL;

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
	if ((poll(&probe, 1, 0) > 0 && probe.revents & POLLNVAL) || fstat(fd, &st) < 0)
		return -EBADF;
	if (S_ISREG(st.st_mode) || S_ISDIR(st.st_mode))
		return -EPERM; /* as epoll says; io_uring would take it, and it is always ready */
	r = enter(set);
	if (r < 0)
		return r;
	r = make_fd_room(set, fd);
	if (r == 0)
		r = set->by_fd[fd] ? -EEXIST : add(set, &new);
	return leave(set, r);
}

int bufpipe_set_remove_fd(bufpipe_set_t *set, int fd)
{
	int r = fd < 0 ? -EINVAL : enter(set);

	if (r < 0)
		return r;
	if ((unsigned)fd >= set->by_fd_count || !set->by_fd[fd])
		return leave(set, -ENOENT);
	forget(set, set->by_fd[fd]);
	return leave(set, 0);
}

int bufpipe_set_create(bufpipe_set_t **set, unsigned flags)
{
	struct bufpipe_set *s;
	int r;

	if (!set || flags & ~BUFPIPE_NO_URING)
		return -EINVAL;
	s = calloc(1, sizeof(*s));
	if (!s)
		return -ENOMEM;
	s->poke = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (s->poke < 0) {
		r = -errno;
		free(s);
		return r;
	}
	pthread_mutex_init(&s->lock, NULL);
	s->owner = getpid();
	s->sleeper = &sleep_on_uring;
	r = flags & BUFPIPE_NO_URING ? -ENOSYS : s->sleeper->open(s);
	if (r == -ENOSYS || r == -EPERM || r == -EINVAL) {
		s->sleeper = &sleep_on_epoll;
		r = s->sleeper->open(s);
	}
	if (r < 0) {
		close(s->poke);
		free(s);
		return r;
	}
	*set = s;
	return 0;
}

void bufpipe_set_destroy(bufpipe_set_t *set)
{
	if (!set)
		return;
	for (uint32_t i = 0; i < set->slot_count; i++) {
		struct entry *e = set->slots[i];

		if (e && e->pipe) {
			/* After fork the flags are the parent's. */
			if (set->owner == getpid())
				watch_lower(e->pipe, e->events, set->sleeper->mode);
			e->pipe->entry = NULL;
			e->pipe->leave_set = NULL;
		}
		free(e);
	}
	set->sleeper->close(set);
	pthread_mutex_destroy(&set->lock);
	close(set->poke);
	free(set->by_fd);
	free(set->generations);
	free(set->slots);
	free(set);
}

/* Waiting. */

static unsigned look(const struct entry *e)
{
	if (!e->pipe)
		return e->fired;
	if (e->hung_up)
		return e->events | BUFPIPE_HUP;
	return watch_look(e->pipe, e->events);
}

/* Reports hot entries that are ready, in turn. */
static unsigned harvest(struct bufpipe_set *set, struct bufpipe_event *events, unsigned max)
{
	unsigned hot = count_hot(set, UINT32_MAX);
	unsigned n = 0;

	for (; hot && n < max; hot--) {
		struct entry *e = set->hot;
		unsigned ready = look(e);

		set->hot = e->next;
		if (!ready)
			continue;
		events[n++] = (struct bufpipe_event){ .pipe = e->pipe, .user = e->user, .events = ready };
		e->fired = 0;
	}
	return n;
}

static bool any_ready(const struct bufpipe_set *set)
{
	const struct entry *e = set->hot;

	if (!e)
		return false;
	do {
		if (look(e))
			return true;
		e = e->next;
	} while (e != set->hot);
	return false;
}

static int64_t spin_budget(struct bufpipe_set *set)
{
	struct entry *e = set->hot;
	int64_t budget = 0;

	if (!e || count_hot(set, SPIN_MOST + 1) > SPIN_MOST)
		return 0;
	do {
		int64_t one = e->pipe ? wait_budget(watch_any(e->pipe)) : 0;

		if (one > budget)
			budget = one;
		e = e->next;
	} while (e != set->hot);
	return budget;
}

/*
 * Looks at the hot entries, and for what the kernel has to tell of the others.
 * With the lock, so it must be short, whatever a pipe was told of spinning.
 */
static int spin(struct bufpipe_set *set, int64_t begin, int64_t deadline)
{
	int64_t budget = time_sooner(spin_budget(set), SPIN_MAX);
	unsigned turn = 0;
	int r = 0;

	for (int64_t now = begin; r == 0 && now - begin < budget && now < deadline; now = time_now()) {
		for (int i = 0; i < 16; i++) {
			if (any_ready(set))
				return 0;
			wait_relax();
		}
		if (set->sleeper->fired(set, turn++))
			r = set->sleeper->sleep(set, TIME_TRY);
	}
	return r;
}

/*
 * Puts the hot entries to sleep; those that turn out to be ready stay hot.
 * False: the kernel could not be asked, or publishers do not know yet that
 * they must fence, so the sleep must be short.
 */
static bool cool_down(struct bufpipe_set *set)
{
	unsigned hot = count_hot(set, UINT32_MAX);
	struct entry *e = set->hot;
	bool ordered;

	for (unsigned i = 0; i < hot; i++, e = e->next) {
		if (!e->pipe)
			continue;
		set->sleeper->prepare(e);
		watch_raise(e->pipe, e->events, set->sleeper->mode);
	}
	ordered = wait_order_all();
	for (unsigned i = 0; i < hot; i++) {
		struct entry *next = e->next;

		if (look(e)) {
			if (e->pipe)
				watch_lower(e->pipe, e->events, set->sleeper->mode);
		} else if (ordered && set->sleeper->watch(set, e) == 0) {
			cool(set, e);
		} else {
			ordered = false;
		}
		e = next;
	}
	return ordered;
}

/* Without the lock; what fires is hot when it returns. */
static int sleep_until(struct bufpipe_set *set, int64_t until)
{
	bool swallowed = set->crowded_count && set->sleeper->mode == BELL_FD;
	int64_t limit = time_now() + (swallowed ? PATIENCE_SHARED : LONG_SLEEP);
	int r = set->sleeper->sleep(set, time_sooner(until, limit));

	/*
	 * Now and then all are looked at: a byte may have been swallowed, or one of
	 * several holders died after publishing and before ringing.
	 */
	if (r == 0 && time_now() >= limit) {
		for (uint32_t i = 0; i < set->slot_count; i++) {
			struct entry *e = set->slots[i];

			if (e && e->pipe && look(e))
				set_heat(set, e);
		}
	}
	return r;
}

static void learn(struct bufpipe_set *set, int64_t took)
{
	struct entry *e = set->hot;
	unsigned hot = count_hot(set, SPIN_MOST);

	for (; hot; hot--, e = e->next) {
		if (e->pipe)
			wait_learn(watch_any(e->pipe), took);
	}
}

/* What was not reported may be true no more; the kernel is asked again. */
static void forget_fired(const struct bufpipe_set *set)
{
	struct entry *e = set->hot;

	if (!e)
		return;
	do {
		e->fired = 0;
		e = e->next;
	} while (e != set->hot);
}

/* Until a hot entry is ready, or the time is up. */
static int await_ready(struct bufpipe_set *set, int64_t deadline)
{
	int r = spin(set, time_now(), deadline);

	while (r == 0 && !any_ready(set)) {
		bool ordered = cool_down(set);

		if (any_ready(set))
			break;
		if (time_now() >= deadline)
			break;
		r = sleep_until(set, ordered ? deadline : time_sooner(deadline, time_now() + BLIND_SLEEP));
	}
	return r;
}

static int wait_for_any(struct bufpipe_set *set, struct bufpipe_event *events, unsigned max, int64_t deadline)
{
	int64_t begin;
	unsigned n;
	int r;

	forget_fired(set);
	r = set->sleeper->sleep(set, TIME_TRY);
	if (r < 0)
		return r;
	n = harvest(set, events, max);
	if (n || deadline == TIME_TRY)
		return (int)n;
	begin = time_now();
	/* A co-owner may be quicker: then what was ready is no more. */
	do {
		r = await_ready(set, deadline);
		if (r < 0)
			return r;
		n = harvest(set, events, max);
	} while (!n && time_now() < deadline);
	learn(set, time_now() - begin);
	return (int)n;
}

int bufpipe_set_wait(bufpipe_set_t *set, struct bufpipe_event *events, unsigned max, int64_t timeout_ns)
{
	int r;

	if (!events || !max || max > INT32_MAX || !timeout_valid(timeout_ns))
		return -EINVAL;
	r = enter(set);
	if (r < 0)
		return r;
	r = wait_for_any(set, events, max, time_deadline(timeout_ns));
	pthread_mutex_unlock(&set->lock);
	return r;
}
