/* SPDX-License-Identifier: MIT */
/* How a set waits: what it looks at, what it puts to sleep, and when it sleeps itself. */
#include "poll/set.h"

#include "sync/spin.h"

#include <sys/eventfd.h>

#define LONG_SLEEP (5 * NSEC_PER_SEC)
/* How many pipes one call looks at, of a round of all. */
#define ROUND_PART 256
#define SPIN_MAX   50000ll
/* So many hot entries may stay, however rarely they are ready: to look at them costs less than a wake-up. */
#define HOT_MOST 64
/*
 * Of more than that, those that were looked at so often in vain go to sleep: by
 * then the looks have cost as much as it costs to be woken.
 */
#define MISSES_MOST 64
/* How many at a time, as one membarrier and one submission do for all of them; and how many at most. */
#define COOL_LEAST 32
#define COOL_MOST  256

/* Looks in a spin, until the kernel has its turn. */
#define SPIN_LOOKS 16
/* How often to look between two looks at the clock. */
#define LOOKS_A_GLANCE 16
/* How often, and for how long at a time, to let those go first who want to change the set. */
#define YIELDS 100
#define AWHILE 50000ll

void set_hasten_round(struct bufpipe_set *set)
{
	set->round_due = time_sooner(set->round_due, time_of(CLOCK_MONOTONIC_COARSE) + LONG_SLEEP);
}

static void ask_again(struct entry *e)
{
	struct pollfd p = { .fd = e->fd, .events = (short)e->events };
	int r = sys_poll(&p, 0);

	if (r >= 0)
		set_fired(e, (unsigned short)p.revents);
}

static unsigned look(struct entry *e)
{
	if (!e->pipe) {
		if (e->fired && e->doubtful)
			ask_again(e);
		return e->fired;
	}
	if (e->hung_up)
		return e->events | BUFPIPE_HUP;
	return readiness_look(e->pipe, e->events);
}

/* Reports hot entries that are ready, in turn; *stale becomes how many should be put to sleep. */
static unsigned harvest(struct bufpipe_set *set, struct bufpipe_event *events, unsigned max, unsigned *stale)
{
	unsigned n = 0;

	*stale = 0;
	for (unsigned left = set->hot_count; left && n < max; left--) {
		struct entry *e = set->hot;
		unsigned ready = look(e);

		set->hot = e->next;
		if (!ready) {
			*stale += ++e->misses >= MISSES_MOST;
			continue;
		}
		events[n++] = (struct bufpipe_event){ .pipe = e->pipe, .user = e->user, .events = ready };
		e->fired = 0;
		e->misses = 0;
	}
	return n;
}

/* Looks at so many hot entries at most, and leaves the next turn to the one that is ready. */
static bool any_ready(struct bufpipe_set *set, unsigned most)
{
	if (most > set->hot_count)
		most = set->hot_count;
	for (; most; most--) {
		if (look(set->hot))
			return true;
		set->hot->misses++;
		set->hot = set->hot->next;
	}
	return false;
}

/* Passes on what has fired, or sleeps for it. */
static int sleep_now(struct bufpipe_set *set, int64_t until)
{
	int r = set->sleeper->sleep(set, until);

	return r < 0 && r != -EINTR && set->sleeper->mode == WAITER_MANY ? set_fall_back(set) : r;
}

/*
 * A set spins as its own waits taught it, unless all its pipes are told otherwise.
 * *here: one of them is published to from this CPU, where a spin would be in vain.
 */
static int64_t spin_budget(struct bufpipe_set *set, bool *here)
{
	const struct entry *e = set->hot;
	unsigned left = set->hot_count < HOT_MOST ? set->hot_count : HOT_MOST;
	int64_t pace = wait_budget(&set->pace);
	int64_t budget = 0;

	for (; left && budget < SPIN_MAX; left--, e = e->next) {
		int64_t one = e->spin_ns == BUFPIPE_SPIN_ALWAYS ? SPIN_MAX : e->spin_ns ? e->spin_ns : pace;

		if (!e->pipe || one <= 0)
			continue;
		if (spin_is_here(readiness_any(e->pipe), &set->waiter))
			*here = true;
		else if (one > budget)
			budget = one;
	}
	return time_sooner(budget, SPIN_MAX);
}

/* Relaxed: pairs with set_enter, of which it says only that somebody is there. */
static bool wanted(const struct bufpipe_set *set)
{
	return atomic_load_explicit(&set->wanting, memory_order_relaxed);
}

/* One look in a spin: 1 if something is ready, 0, or a negative errno. */
static int glance(struct bufpipe_set *set, unsigned turn)
{
	if (any_ready(set, SPIN_LOOKS))
		return 1;
	return set->sleeper->fired(set, turn) ? sleep_now(set, TIME_TRY) : 0;
}

/*
 * Looks at the hot entries, and for what the kernel has to tell of the others.
 * With the lock, so it must be short, whatever a pipe was told of spinning.
 */
static int spin(struct bufpipe_set *set, int64_t begin, int64_t deadline)
{
	bool here = false;
	int64_t budget = spin_budget(set, &here);
	int64_t now = begin;
	unsigned turn = 0;
	int r = 0;

	while (r == 0 && now - begin < budget && now < deadline && !wanted(set)) {
		int64_t before = now;

		for (int i = 0; r == 0 && i < LOOKS_A_GLANCE; i++) {
			cpu_relax();
			r = glance(set, turn++);
		}
		now = time_now();
		backoff_learn(before, now);
	}
	for (int i = 0; r == 0 && here && i < SPIN_TURNS && !wanted(set); i++) {
		if (!backoff_give_way(deadline, &now))
			break;
		r = glance(set, turn++);
	}
	return r < 0 ? r : 0;
}

/* One membarrier for all of them. */
static bool order_batch(struct entry *const *batch, unsigned n)
{
	bool ordered = wait_order_all();

	for (unsigned i = 0; ordered && i < n; i++) {
		if (batch[i]->pipe)
			readiness_ordered(batch[i]->pipe, batch[i]->events);
	}
	return ordered;
}

/* Puts these to sleep, but for those that turn out to be ready.  False as in cool_down. */
static bool cool_batch(struct bufpipe_set *set, struct entry *const *batch, unsigned n)
{
	bool ordered = true;
	bool fenced = true;

	for (unsigned i = 0; i < n; i++) {
		if (!batch[i]->pipe)
			continue;
		set->sleeper->prepare(batch[i]);
		fenced &= readiness_raise(batch[i]->pipe, batch[i]->events, set->sleeper->mode);
	}
	if (fenced)
		atomic_thread_fence(memory_order_seq_cst); /* pairs with the fence in wait_ring */
	else
		ordered = order_batch(batch, n);
	for (unsigned i = 0; i < n; i++) {
		struct entry *e = batch[i];

		if (look(e)) {
			if (e->pipe)
				readiness_lower(e->pipe, e->events, set->sleeper->mode);
		} else if (ordered && set->sleeper->watch(set, e) == 0) {
			set_cool(set, e);
		} else {
			ordered = false;
		}
	}
	return ordered;
}

/*
 * Puts hot entries to sleep that were looked at in vain so often, at most so
 * many; those that turn out to be ready stay hot.  False: the kernel could not be
 * asked, or publishers do not know yet that they must fence, so a sleep must be
 * short.
 */
static bool cool_down(struct bufpipe_set *set, unsigned misses, unsigned most)
{
	struct entry *batch[COOL_MOST];
	struct entry *e = set->hot;
	unsigned left = set->hot_count;
	bool ordered = true;

	while (left && most && ordered) {
		unsigned n = 0;

		for (; left && most && n < COOL_MOST; left--, e = e->next) {
			if (e->misses < misses)
				continue;
			batch[n++] = e;
			most--;
		}
		ordered = cool_batch(set, batch, n);
	}
	return ordered;
}

/*
 * Now and then all pipes are looked at: one of several holders of the other end
 * may have died after publishing and before ringing.  By the clock, and
 * not by the length of a sleep, as a busy set never sleeps for long; and in parts,
 * so that no call of a large set takes long.
 */
static void go_round(struct bufpipe_set *set, int64_t now)
{
	uint32_t left = ROUND_PART;

	if (now < set->round_due)
		return;
	for (; left && set->round < set->slot_count; left--, set->round++) {
		struct entry *e = set->slots[set->round];

		if (e && e->pipe && !e->next && look(e))
			set_heat(set, e);
	}
	if (set->round >= set->slot_count) {
		set->round = 0;
		set->round_due = now + LONG_SLEEP;
	}
}

static void leave_cancelled(void *arg)
{
	struct bufpipe_set *set = arg;

	pthread_mutex_lock(&set->lock);
	set->asleep = false;
	set->waiting = false;
	pthread_mutex_unlock(&set->lock);
}

int set_sleep_on(struct bufpipe_set *set, int fd, int64_t until)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };
	int64_t now = time_now();
	struct timespec left = time_spec(until > now ? until - now : 0);
	int r;

	set->asleep = true;
	pthread_mutex_unlock(&set->lock);
	pthread_cleanup_push(leave_cancelled, set);
	r = ppoll(&p, 1, &left, NULL) < 0 ? -errno : 0;
	pthread_cleanup_pop(0);
	pthread_mutex_lock(&set->lock);
	set->asleep = false;
	return r;
}

/* Without the lock; what fires is hot when it returns. */
static int sleep_until(struct bufpipe_set *set, int64_t until)
{
	int64_t now = time_now();

	while (now >= set->round_due) {
		go_round(set, now);
		if (any_ready(set, UINT32_MAX))
			return 0;
	}
	return sleep_now(set, time_sooner(until, set->round_due));
}

/*
 * What was not reported may be true no more.  It is not forgotten, as epoll tells
 * of so many at a time: those for which there is never room would not be heard of.
 */
static void doubt_fired(const struct bufpipe_set *set)
{
	struct entry *e = set->hot;

	if (!set->hot_fds)
		return;
	do {
		e->doubtful = true;
		e = e->next;
	} while (e != set->hot);
}

/* Until a hot entry is ready, or the time is up. */
static int await_ready(struct bufpipe_set *set, int64_t deadline)
{
	int r = spin(set, time_now(), deadline);

	while (r == 0 && !any_ready(set, UINT32_MAX)) {
		bool ordered = cool_down(set, 0, UINT32_MAX);

		if (any_ready(set, UINT32_MAX) || time_now() >= deadline)
			break;
		/* One was ready and is no more, as a co-owner was quicker: nobody watches it, so this is no time to sleep. */
		if (ordered && set->hot)
			continue;
		r = sleep_until(set, ordered ? deadline : time_sooner(deadline, time_now() + BLIND_SLEEP));
	}
	return r;
}

/* For bufpipe_set_fd: what comes from here on makes it readable.  How many came meanwhile. */
static unsigned put_all_to_sleep(struct bufpipe_set *set, struct bufpipe_event *events, unsigned max)
{
	unsigned stale;

	/* Not all of them are watched: have the caller come again. */
	if (!cool_down(set, 0, UINT32_MAX))
		eventfd_write(set->poke, 1);
	return harvest(set, events, max, &stale);
}

static int wait_for_any(struct bufpipe_set *set, struct bufpipe_event *events, unsigned max, int64_t deadline)
{
	unsigned stale;
	int64_t begin;
	unsigned n;
	int r;

	set->sleeper->begin(set);
	go_round(set, time_of(CLOCK_MONOTONIC_COARSE));
	doubt_fired(set);
	r = sleep_now(set, TIME_TRY);
	if (r < 0)
		return r;
	n = harvest(set, events, max, &stale);
	if (stale >= COOL_LEAST && set->hot_count > HOT_MOST)
		cool_down(set, MISSES_MOST, COOL_MOST);
	if (!n && deadline == TIME_TRY && set->pollable)
		n = put_all_to_sleep(set, events, max);
	if (n || deadline == TIME_TRY)
		return (int)n;
	begin = time_now();
	/* A co-owner may be quicker: then what was ready is no more. */
	do {
		r = await_ready(set, deadline);
		if (r < 0)
			return r;
		n = harvest(set, events, max, &stale);
	} while (!n && time_now() < deadline);
	wait_learn(&set->pace, time_now() - begin);
	return (int)n;
}

/* A mutex favours the thread that has just dropped it: with a pipe that is always ready, that is this one. */
static void let_others_in(struct bufpipe_set *set)
{
	for (int i = 0; i < YIELDS && wanted(set); i++) {
		int64_t now = time_now();

		/* Beside a busy program a sleep is shorter.  Nobody wakes us: it is but a sleep. */
		if (!backoff_give_way(TIME_FOREVER, &now))
			sys_futex_wait(&set->wanting,
				       atomic_load_explicit(&set->wanting, memory_order_relaxed),
				       now + AWHILE);
	}
}

int bufpipe_set_wait(bufpipe_set_t *set, struct bufpipe_event *events, unsigned max, int64_t timeout_ns)
{
	int r = -EBUSY;

	if (!events || !max || max > INT32_MAX || !timeout_valid(timeout_ns) || !set || !set_is_ours(set))
		return -EINVAL;
	let_others_in(set);
	pthread_mutex_lock(&set->lock);
	if (!set->waiting) {
		set->waiting = true;
		r = wait_for_any(set, events, max, time_deadline(timeout_ns));
		set->waiting = false;
	}
	pthread_mutex_unlock(&set->lock);
	return r;
}
