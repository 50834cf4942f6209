/* SPDX-License-Identifier: MIT */
/* How a set waits: which entries it looks at, which it puts to sleep, and when it sleeps itself. */
#include "poll/set.h"

#include "sync/spin.h"

#include <sys/eventfd.h>

#define LONG_SLEEP (5 * NSEC_PER_SEC)
/* How many pipes of a round over all pipes one call looks at. */
#define ROUND_PART 256
#define SPIN_MAX   50000ll
/* Up to this many hot entries stay hot, however rarely they are ready: looking costs less than a wake-up. */
#define HOT_MOST 64
/*
 * If there are more, an entry that was not ready in this many looks is put to sleep.
 * With fewer looks, entries that are busy, but less so than the receiver, are put to sleep
 * and woken all the time; with more, the looks at those that are rarely busy cost more
 * than their wake-ups.  docs/performance.md has the measurement.
 */
#define MISSES_MOST 256
/* How many entries are put to sleep at a time: one membarrier and one submission serve all of them. */
#define COOL_LEAST 32
#define COOL_MOST  256

/* How many hot entries a spin looks at before it asks the sleeper. */
#define SPIN_LOOKS 16
/* How many times a spin does this before it reads the clock. */
#define LOOKS_A_GLANCE 16
/* How often, and for how long at a time, a wait gives way to threads that want to change the set. */
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

/* Reports the hot entries that are ready, in turn.  *stale becomes the number of those with MISSES_MOST. */
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

/* Looks at hot entries, at most 'most', until one is ready.  The next look begins at that one. */
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

/* Calls the sleeper, and falls back to epoll if io_uring is refused. */
static int sleep_now(struct bufpipe_set *set, int64_t until)
{
	int r = set->sleeper->sleep(set, until);

	return r < 0 && r != -EINTR && set->sleeper->mode == WAITER_MANY ? set_fall_back(set) : r;
}

/*
 * How long to spin: as the waits of the set have taught it, unless the pipes have a
 * spin_ns of their own.  *here: a peer last ran on this CPU, so it cannot run while
 * we spin.
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

/* Whether a thread waits in set_enter.  Relaxed: no other memory depends on it. */
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
 * Spins: looks at the hot entries, and asks the sleeper about the others.  The lock is
 * held, so the spin is short, whatever the spin_ns of a pipe says.
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

/* Orders the flags of all entries in the batch by one membarrier. */
static bool order_batch(struct entry *const *batch, unsigned n)
{
	bool issued = wait_order_all();
	bool ordered = true;

	for (unsigned i = 0; i < n; i++) {
		if (batch[i]->pipe)
			ordered &= readiness_ordered(batch[i]->pipe, batch[i]->events, issued);
	}
	return ordered;
}

/* Puts these entries to sleep, except those that turn out to be ready.  False as in cool_down. */
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
		/* Pairs with the fence in wait_ring. */
		atomic_thread_fence(memory_order_seq_cst);
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
 * Puts hot entries with at least 'misses' misses to sleep, but not more than 'most'.
 * Entries that turn out to be ready stay hot.  False if a sleep must be short, because
 * the kernel could not watch all of them, or because publishers do not know yet that
 * they must fence.
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
 * Looks at all pipes from time to time, because one of several holders of the other
 * end may have died after it published and before it rang.  The clock decides, not
 * the length of a sleep, because a busy set never sleeps for long.  Each call looks at
 * ROUND_PART pipes, so that no call of a large set takes long.
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

/* Sleeps without the lock.  Entries that fired are hot when it returns. */
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
 * Events that were not reported by the last call may be out of date, so look asks the
 * kernel again before it reports them.  They are not dropped: epoll returns a limited
 * number of events at a time, so some descriptors might never be reported.
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

/* Waits until a hot entry is ready or the time is up. */
static int await_ready(struct bufpipe_set *set, int64_t deadline)
{
	int r = spin(set, time_now(), deadline);

	while (r == 0 && !any_ready(set, UINT32_MAX)) {
		bool ordered = cool_down(set, 0, UINT32_MAX);

		if (any_ready(set, UINT32_MAX) || time_now() >= deadline)
			break;
		/*
		 * A hot entry was ready during cool_down, but a co-owner was quicker.  It is not
		 * watched: do not sleep.
		 */
		if (ordered && set->hot)
			continue;
		r = sleep_until(set, ordered ? deadline : time_sooner(deadline, time_now() + BLIND_SLEEP));
	}
	return r;
}

/* For bufpipe_set_fd: whatever comes from here on makes it readable.  Reports what came meanwhile. */
static unsigned put_all_to_sleep(struct bufpipe_set *set, struct bufpipe_event *events, unsigned max)
{
	unsigned stale;

	/* Not all entries are watched: let the program come again. */
	if (!cool_down(set, 0, UINT32_MAX))
		sys_event_ring(set->poke);
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
	/* Repeat, because a co-owner may take the message of a ready entry first. */
	do {
		r = await_ready(set, deadline);
		if (r < 0)
			return r;
		n = harvest(set, events, max, &stale);
	} while (!n && time_now() < deadline);
	wait_learn(&set->pace, time_now() - begin);
	return (int)n;
}

/*
 * A mutex favours the thread that has just released it: with a pipe that is always ready, this
 * would be us.
 */
static void let_others_in(struct bufpipe_set *set)
{
	for (int i = 0; i < YIELDS && wanted(set); i++) {
		int64_t now = time_now();

		/* If the CPU is crowded, sleep instead: that is shorter.  Nobody wakes us. */
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
