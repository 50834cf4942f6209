/* SPDX-License-Identifier: MIT */
/*
 * bufpipe_wait: the steps of wait_until for an array of ends.  It looks, spins, sleeps
 * on all futexes at once, and then sleeps on all sockets.
 */
#include "poll/readiness.h"
#include "sync/doorbell.h"
#include "sync/spin.h"

#include <poll.h>
#include <stdlib.h>

#define FUTEX_WAITV_LIMIT 128
#define FEW               32 /* up to this many pipes need no malloc */
#define FUTEX_PATIENCE    100000000ll
#define GLANCE            4000000ll
#define SOCKET_PATIENCE   (5 * NSEC_PER_SEC)
#define ROOM_PATIENCE     100000000ll /* for room: no socket tells that our own end was shut down */
#define BLIND_SLEEP       4000000ll   /* as in sync/wait.c */

struct polled {
	struct bufpipe_pollfd **live; /* the entries that have a pipe */
	struct pollfd *sockets;       /* the sockets of these pipes */
	unsigned n;
	bool interruptible;
	int64_t patience; /* how long to sleep on the sockets at a time */
	int bell;         /* an epoll of the sockets; -1 until it is needed */
	bool fenced;      /* a fence is enough to order what was raised last */
};

static int is_ready(const struct bufpipe_pollfd *e)
{
	return e->revents != 0;
}

/*
 * Counts what the last look found.  A new look might find less, and a wait without a timeout must
 * not return 0.
 */
static int count_ready(const struct polled *c)
{
	int ready = 0;

	for (unsigned i = 0; i < c->n; i++)
		ready += is_ready(c->live[i]);
	return ready;
}

/* Looks at all pipes: how many are ready.  A pipe that has hung up stays ready. */
static int look_at_all(const struct polled *c)
{
	int ready = 0;

	for (unsigned i = 0; i < c->n; i++) {
		struct bufpipe_pollfd *e = c->live[i];

		if (!(e->revents & BUFPIPE_HUP))
			e->revents = (short)readiness_look(e->pipe, (unsigned)e->events);
		ready += is_ready(e);
	}
	return ready;
}

/* If a peer is gone, all events that were asked for are ready, because no call would wait. */
static void note_hang_ups(const struct polled *c)
{
	for (unsigned i = 0; i < c->n; i++) {
		struct bufpipe_pollfd *e = c->live[i];

		if (c->sockets[i].revents & (POLLHUP | POLLRDHUP | POLLERR | POLLNVAL))
			e->revents = (short)(e->events | BUFPIPE_HUP);
	}
}

/* Polls all sockets: a negative errno, or how many have an event. */
static int poll_sockets(const struct polled *c, short events, int64_t until)
{
	int64_t now = until == TIME_TRY ? 0 : time_now();
	struct timespec left = time_spec(until > now ? until - now : 0);
	int r;

	for (unsigned i = 0; i < c->n; i++)
		c->sockets[i] = (struct pollfd){
			.fd = c->live[i]->pipe->socket,
			.events = (short)(events | POLLRDHUP),
		};
	/* Not a cancellation point: the epoll and the memory of the call would stay. */
	do
		r = (int)sys_result(syscall(SYS_ppoll, c->sockets, c->n, &left, NULL, 0));
	while (r == -EINTR && until == TIME_TRY); /* a look does not sleep, so no signal ends it */
	if (r < 0)
		return r;
	note_hang_ups(c);
	return r;
}

static void raise_all(struct polled *c, uint32_t mode)
{
	c->fenced = true;
	for (unsigned i = 0; i < c->n; i++)
		c->fenced &= readiness_raise(c->live[i]->pipe, (unsigned)c->live[i]->events, mode);
}

/* wait_order for the flags that were raised last: false if a sleep must be short. */
static bool order_all(const struct polled *c)
{
	bool ordered = true;
	bool issued;

	if (c->fenced) {
		/* Pairs with the fence in wait_ring. */
		atomic_thread_fence(memory_order_seq_cst);
		return true;
	}
	issued = wait_order_all();
	for (unsigned i = 0; i < c->n; i++)
		ordered &= readiness_ordered(c->live[i]->pipe, (unsigned)c->live[i]->events, issued);
	return ordered;
}

static void lower_all(const struct polled *c, uint32_t mode)
{
	for (unsigned i = 0; i < c->n; i++)
		readiness_lower(c->live[i]->pipe, (unsigned)c->live[i]->events, mode);
}

static struct futex_waitv futex_on(const struct wait *wait)
{
	return (struct futex_waitv){
		.val = wait_events(wait),
		.uaddr = (uintptr_t)&wait->theirs->events,
		.flags = FUTEX_32,
	};
}

/* Collects the futexes of all pipes and their current values; 0 if there are too many. */
static unsigned collect_futexes(const struct polled *c, struct futex_waitv futexes[FUTEX_WAITV_LIMIT])
{
	unsigned count = 0;

	for (unsigned i = 0; i < c->n; i++) {
		const struct bufpipe_pollfd *e = c->live[i];

		if (count + 2 > FUTEX_WAITV_LIMIT)
			return 0;
		if (e->events & BUFPIPE_IN)
			futexes[count++] = futex_on(&e->pipe->in.wait);
		if (e->events & BUFPIPE_OUT)
			futexes[count++] = futex_on(&e->pipe->out.wait);
	}
	return count;
}

static bool has_leaver(struct wait *wait)
{
	if (!wait_has_leaver(wait))
		return false;
	/* Other holders may be left: takes note, so that the next sleep does not ask again. */
	(void)wait_glance(wait);
	return true;
}

/* Whether a peer hung up before the counts were collected.  If it did, the counts do not end a sleep. */
static bool somebody_hung_up(const struct polled *c)
{
	bool left = false;

	for (unsigned i = 0; i < c->n; i++) {
		bufpipe_t *p = c->live[i]->pipe;

		/* Each, because bufpipe_stop counts only in the direction in which it receives. */
		if (!(p->in.state & DIRECTION_NONE))
			left |= has_leaver(&p->in.wait);
		if (!(p->out.state & DIRECTION_NONE))
			left |= has_leaver(&p->out.wait);
	}
	return left && poll_sockets(c, 0, TIME_TRY) > 0;
}

/* Sleeps until somebody rings.  Returns the result of the kernel; the caller must look again in any case. */
static int sleep_on_futexes(struct polled *c, int64_t until)
{
	struct futex_waitv futexes[FUTEX_WAITV_LIMIT];
	struct timespec limit = time_spec(until);
	unsigned count = collect_futexes(c, futexes);
	int r = -ENOSYS;

	if (!count)
		return r;
	raise_all(c, WAITER_MANY);
	if (!order_all(c))
		r = -ETIMEDOUT;
	else if (look_at_all(c) || somebody_hung_up(c))
		r = 0;
	else
		r = (int)sys_result(syscall(SYS_futex_waitv, futexes, count, 0, &limit, CLOCK_MONOTONIC));
	lower_all(c, WAITER_MANY);
	return r;
}

/* Makes the epoll of all sockets when it is first needed: 0 or a negative errno. */
static int open_bell(struct polled *c)
{
	int r = 0;

	if (c->bell >= 0)
		return 0;
	c->bell = doorbell_open();
	if (c->bell < 0)
		return c->bell;
	for (unsigned i = 0; r == 0 && i < c->n; i++) {
		r = doorbell_join(c->bell, c->live[i]->pipe->socket);
		if (r == -EEXIST) /* the same end twice in the array, for different events */
			r = 0;
	}
	if (r < 0) {
		doorbell_close(c->bell);
		c->bell = -1;
	}
	return r;
}

static int sleep_on_sockets(struct polled *c, int64_t until)
{
	int bell = open_bell(c);
	int64_t now;
	int r = 0;

	if (bell == 0)
		doorbell_take(c->bell);
	raise_all(c, WAITER_FD);
	/* Without the epoll, this call cannot tell a new byte from the bytes that were there before. */
	if (!order_all(c) || bell < 0)
		until = time_sooner(until, time_now() + BLIND_SLEEP);
	now = time_now();
	if (!look_at_all(c) && until > now) {
		r = poll_sockets(c, 0, TIME_TRY);
		if (r == 0 && bell == 0)
			r = doorbell_sleep(c->bell, until - now);
		else if (r == 0)
			r = poll_sockets(c, 0, until);
	}
	lower_all(c, WAITER_FD);
	if (r < 0 && r != -ETIMEDOUT)
		return r;
	return poll_sockets(c, 0, TIME_TRY);
}

/* How long to spin.  *here: a peer last ran on this CPU, so it cannot run while we spin. */
static int64_t budget_of_all(const struct polled *c, bool *here)
{
	int64_t budget = 0;

	for (unsigned i = 0; i < c->n; i++) {
		struct wait *wait = readiness_any(c->live[i]->pipe);
		int64_t one = wait_budget(wait);

		if (one > 0 && wait->spin_ns == 0 && spin_is_here(wait, wait->ours))
			*here = true;
		else if (one > budget)
			budget = one;
	}
	return budget;
}

static void learn_from(const struct polled *c, int64_t took)
{
	for (unsigned i = 0; i < c->n; i++) {
		const struct bufpipe_pollfd *e = c->live[i];

		if (is_ready(e) || took > wait_expected(readiness_any(e->pipe)))
			wait_learn(readiness_any(e->pipe), took);
	}
}

/*
 * Looks at the sockets for peers that were killed, even while other pipes are ready.
 * This enters the kernel, so it is not done in each call.
 */
static int glance_at_sockets(const struct polled *c)
{
	struct wait *first = readiness_any(c->live[0]->pipe);
	int64_t now = time_of(CLOCK_MONOTONIC_COARSE);

	if (now - atomic_load_explicit(&first->checked, memory_order_relaxed) < GLANCE)
		return 0;
	atomic_store_explicit(&first->checked, now, memory_order_relaxed);
	return poll_sockets(c, 0, TIME_TRY);
}

static int spin_on_all(const struct polled *c, int64_t begin, int64_t deadline)
{
	bool here = false;
	int64_t budget = budget_of_all(c, &here);
	int64_t now = begin;
	int ready = 0;

	while (!ready && now - begin < budget && now < deadline) {
		int64_t before = now;

		for (int i = 0; !ready && i < 8; i++) {
			cpu_relax();
			ready = look_at_all(c);
		}
		if (!ready && glance_at_sockets(c) > 0)
			ready = look_at_all(c);
		now = time_now();
		backoff_learn(before, now);
	}
	for (int i = 0; !ready && here && i < SPIN_TURNS && backoff_give_way(deadline, &now); i++)
		ready = look_at_all(c);
	return ready;
}

/* One round of sleep.  1 if the caller should return *result. */
static int sleep_round(struct polled *c, int64_t deadline, int *result)
{
	int64_t now = time_now();
	int r = sleep_on_futexes(c, time_sooner(deadline, now + FUTEX_PATIENCE));

	/*
	 * If nobody rang for a while, there are too many futexes, or futex_waitv is refused: use
	 * the sockets.
	 */
	if (r == -ETIMEDOUT && time_now() >= deadline)
		r = poll_sockets(c, 0, TIME_TRY);
	else if (r < 0 && r != -EAGAIN && r != -EINTR)
		r = sleep_on_sockets(c, time_sooner(deadline, now + c->patience));
	else if (r >= 0 && !look_at_all(c))
		r = poll_sockets(c, 0, TIME_TRY); /* somebody rang and published nothing: it may have left */
	if (r >= 0 || r == -EAGAIN || r == -ETIMEDOUT || (r == -EINTR && !c->interruptible))
		return 0;
	*result = r;
	return 1;
}

static int wait_for_all(struct polled *c, int64_t deadline)
{
	int64_t begin;
	int ready = look_at_all(c);
	int failed;

	if (ready) {
		failed = glance_at_sockets(c);
		return failed < 0 ? failed : count_ready(c);
	}
	if (deadline == TIME_TRY) {
		failed = poll_sockets(c, 0, TIME_TRY);
		return failed < 0 ? failed : look_at_all(c);
	}
	begin = time_now();
	ready = spin_on_all(c, begin, deadline);
	while (!ready) {
		if (sleep_round(c, deadline, &failed))
			return failed;
		ready = look_at_all(c);
		if (!ready && time_now() >= deadline)
			return 0;
	}
	learn_from(c, time_now() - begin);
	return ready;
}

static int admit(struct polled *c, struct bufpipe_pollfd *pipes, unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		struct bufpipe_pollfd *e = &pipes[i];
		int r = e->pipe ? readiness_check(e->pipe, (unsigned short)e->events) : 0;

		if (r < 0)
			return r;
		e->revents = 0;
		if (!e->pipe)
			continue;
		c->live[c->n++] = e;
		c->interruptible |= readiness_any(e->pipe)->interruptible;
		if (e->events & BUFPIPE_OUT)
			c->patience = ROOM_PATIENCE;
	}
	return c->n ? 0 : -EINVAL;
}

int bufpipe_wait(struct bufpipe_pollfd *pipes, unsigned n, int64_t timeout_ns)
{
	struct bufpipe_pollfd *few_live[FEW];
	struct pollfd few_sockets[FEW];
	struct polled c = {
		.live = few_live, .sockets = few_sockets, .bell = -1, .patience = SOCKET_PATIENCE
	};
	void *memory = NULL;
	int r;

	if (!pipes || !n || !timeout_valid(timeout_ns))
		return -EINVAL;
	if (n > FEW) {
		memory = calloc(n, sizeof(*few_live) + sizeof(*few_sockets));
		if (!memory)
			return -ENOMEM;
		c.live = memory;
		c.sockets = (struct pollfd *)(c.live + n);
	}
	r = admit(&c, pipes, n);
	if (r == 0)
		r = wait_for_all(&c, time_deadline(timeout_ns));
	/* We may have lowered the flag of bufpipe_fd: arm it again. */
	for (unsigned i = 0; i < c.n; i++)
		readiness_done(c.live[i]->pipe);
	if (c.bell >= 0)
		doorbell_close(c.bell);
	free(memory);
	return r;
}
