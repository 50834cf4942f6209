/* SPDX-License-Identifier: MIT */
/*
 * A set that sleeps in one io_uring.  The ring has a FUTEX_WAIT for each direction of
 * a pipe, a poll for each plain descriptor, and one poll of an epoll.  This epoll
 * contains the sockets of all pipes, for their hang-ups.  A poll request for a socket
 * would keep the socket open until the request is cancelled; an epoll does not.
 *
 * While a thread sleeps in the ring, only this thread uses it.  Other threads leave
 * their requests in the set and wake it.
 */
#include "poll/set.h"

#include "base/fd.h"
#include "base/thread.h"

#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>

#ifdef HAVE_LIBURING
#include <liburing.h>

#include "poll/uring.h"

#define RING_ENTRIES 256
#define CQ_ENTRIES   4096
#define HUPS         64
#define NOT_ALL      1
/* After more refused submissions in a row than this, the set goes on without io_uring. */
#define REFUSALS_MOST 16

/*
 * user_data: the upper half is a slot.  The lower half is a ticket, and, in its two
 * lowest bits, what the answer is about.  No slot has the number OURS.
 */
enum kind { KIND_IN, KIND_OUT, KIND_POLL };
enum ours { OURS_POKE, OURS_HUPS, OURS_IGNORE };

#define OURS UINT32_MAX
/* The bits of a ticket that fit into user_data. */
#define TICKET 0x3fffffffu

struct inside {
	struct io_uring ring;
	int hups;           /* the epoll of the sockets */
	uint32_t maker;     /* the thread that made the ring */
	uint32_t submitter; /* the thread that submitted last */
	uint32_t waiter;    /* the thread that made all requests in the ring; 0: none */
	uint32_t turn;      /* counts these threads; the ticket of the requests of the set itself */
	bool ask_for_poke;  /* the poll of the eventfd must be submitted again */
	bool ask_for_hups;  /* the poll of the epoll must be submitted again */
	uint64_t *cancels;
	unsigned cancel_count;
	unsigned cancel_room;
	unsigned refusals; /* submissions in a row that the kernel did not take */
};

static uint64_t data_of(uint32_t slot, uint32_t ticket, unsigned about)
{
	return (uint64_t)slot << 32 | (ticket & TICKET) << 2 | about;
}

static uint64_t data_of_entry(const struct entry *e, enum kind kind)
{
	return data_of(e->slot, e->ticket, kind);
}

static uint64_t data_of_ours(const struct inside *in, enum ours what)
{
	return data_of(OURS, in->turn, what);
}

static struct io_uring_sqe *next_sqe(struct io_uring *ring)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(ring);

	if (sqe)
		return sqe;
	io_uring_submit(ring);
	return io_uring_get_sqe(ring);
}

static void cancel_all(struct inside *in)
{
	struct io_uring_sync_cancel_reg all = {
		.fd = -1,
		.flags = IORING_ASYNC_CANCEL_ANY | IORING_ASYNC_CANCEL_ALL,
		.timeout = { .tv_sec = -1, .tv_nsec = -1 },
	};

	io_uring_register_sync_cancel(&in->ring, &all);
}

/*
 * Waits until the kernel has taken the ring down.  The kernel does this 12 to 20 ms
 * after the close, and interrupts each thread that has used the ring.  Without this
 * wait, an epoll_wait of the program would end with EINTR although no signal handler
 * ran.  All signals are blocked, so that only this interruption ends the sleep.
 */
static void await_interruption(void)
{
	const struct timespec limit = time_spec(NSEC_PER_SEC / 10);
	sigset_t none, all, before;

	sigemptyset(&none);
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	syscall(SYS_rt_sigtimedwait, &none, NULL, &limit, _NSIG / 8);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
}

static void close_uring(struct bufpipe_set *set)
{
	struct inside *in = set->inside;
	uint32_t id = thread_id();
	bool used_here = set_is_ours(set) && (in->maker == id || in->submitter == id);

	/*
	 * A child may have inherited the ring, which would keep the requests and their
	 * files alive.  Also, each request that ended later would interrupt this thread.
	 */
	if (set_is_ours(set))
		cancel_all(in);
	io_uring_queue_exit(&in->ring);
	if (used_here)
		await_interruption();
	sys_close(in->hups);
	free(in->cancels);
	free(in);
}

/* Moves the descriptor of the ring up, if need be.  liburing keeps it in two places. */
static int own_ring(struct io_uring *ring)
{
	int fd = fd_own(ring->ring_fd);

	/* Also on failure: fd_own has closed the descriptor, and its number may belong to another file. */
	ring->ring_fd = fd;
	ring->enter_ring_fd = fd;
	return fd < 0 ? fd : 0;
}

/*
 * The ring has no IORING_SETUP_SINGLE_ISSUER, because any thread may change the set
 * or wait in it: the kernel would refuse all other threads, even for a cancel.  So
 * IORING_SETUP_DEFER_TASKRUN is not possible either.  COOP_TASKRUN is enough: the
 * waiting thread enters the kernel by itself, so completions need not interrupt it,
 * and TASKRUN_FLAG tells a spinning thread about them.
 */
static int open_uring(struct bufpipe_set *set)
{
	struct io_uring_params params = {
		.flags = IORING_SETUP_CQSIZE | IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG,
		.cq_entries = CQ_ENTRIES,
	};
	struct inside *in;
	int r;

	if (!uring_has_futex(-1))
		return -ENOSYS;
	in = calloc(1, sizeof(*in));
	if (!in)
		return -ENOMEM;
	in->hups = fd_own(epoll_create1(EPOLL_CLOEXEC));
	r = in->hups < 0 ? in->hups : io_uring_queue_init_params(RING_ENTRIES, &in->ring, &params);
	if (r < 0) {
		if (in->hups >= 0)
			sys_close(in->hups);
		free(in);
		return r;
	}
	set->inside = in;
	in->maker = thread_id();
	r = own_ring(&in->ring);
	if (r < 0) {
		close_uring(set);
		return r;
	}
	if (!uring_has_futex(in->ring.ring_fd)) {
		close_uring(set);
		return -ENOSYS;
	}
	return 0;
}

/* Makes room for three cancels of each entry, so that leaving cannot fail. */
static int make_cancel_room(struct inside *in, uint32_t slot_count)
{
	unsigned needed = 3 * slot_count + in->cancel_count;
	uint64_t *cancels;

	if (in->cancel_room >= needed)
		return 0;
	cancels = realloc(in->cancels, (size_t)2 * needed * sizeof(*cancels));
	if (!cancels)
		return -ENOMEM;
	in->cancels = cancels;
	in->cancel_room = 2 * needed;
	return 0;
}

static int join(struct bufpipe_set *set, struct entry *e)
{
	struct inside *in = set->inside;
	struct epoll_event event = { .events = EPOLLRDHUP | EPOLLET,
				     .data.u64 = data_of(e->slot, e->generation, 0) };
	int r = make_cancel_room(in, set->slot_count);

	e->ticket = e->generation;
	if (r == 0 && e->pipe && epoll_ctl(in->hups, EPOLL_CTL_ADD, e->fd, &event) < 0)
		r = -errno;
	return r;
}

static void prepare_cancels(struct inside *in)
{
	struct io_uring_sqe *sqe;

	while (in->cancel_count && (sqe = next_sqe(&in->ring))) {
		io_uring_prep_cancel64(sqe, in->cancels[--in->cancel_count], 0);
		io_uring_sqe_set_data64(sqe, data_of_ours(in, OURS_IGNORE));
	}
}

/*
 * Polls once, not multishot: each new poll is submitted by the waiting thread, and so completes in
 * that thread.
 */
static void prepare_poll(struct inside *in, int fd, enum ours what, bool *ask)
{
	struct io_uring_sqe *sqe = *ask ? next_sqe(&in->ring) : NULL;

	if (!sqe)
		return;
	io_uring_prep_poll_add(sqe, fd, POLLIN);
	io_uring_sqe_set_data64(sqe, data_of_ours(in, what));
	*ask = false;
}

/*
 * For the waiting thread: the cancels that others have left, and the polls of the eventfd and of
 * the hang-ups.
 */
static void prepare_wishes(struct bufpipe_set *set)
{
	struct inside *in = set->inside;

	prepare_cancels(in);
	prepare_poll(in, set->poke, OURS_POKE, &in->ask_for_poke);
	prepare_poll(in, in->hups, OURS_HUPS, &in->ask_for_hups);
}

/*
 * Submits: 0; NOT_ALL if the kernel is short of something, so that a sleep must be short; or a
 * negative errno.
 */
static int submit(struct bufpipe_set *set)
{
	struct inside *in = set->inside;
	int r = 1;

	in->submitter = thread_id();
	/* An invalid request ends a submission.  The requests behind it go with the next submission. */
	while (r > 0 && io_uring_sq_ready(&in->ring))
		r = io_uring_submit(&in->ring);
	if (r > 0) {
		in->refusals = 0;
		return 0;
	}
	/*
	 * A shortage is temporary, unless it happens too often.  Any other errno means that
	 * io_uring is forbidden.
	 */
	if (r < 0 && ++in->refusals > REFUSALS_MOST)
		return r;
	if (r < 0 && r != -EAGAIN && r != -EBUSY && r != -EINTR && r != -ENOMEM)
		return r;
	/* Some sleeping pipes are not watched now, so each wait must look at all pipes. */
	set->round_due = 0;
	return NOT_ALL;
}

static void part(struct bufpipe_set *set, struct entry *e)
{
	struct inside *in = set->inside;

	if (e->watched & BUFPIPE_IN)
		in->cancels[in->cancel_count++] = data_of_entry(e, KIND_IN);
	if (e->watched & BUFPIPE_OUT)
		in->cancels[in->cancel_count++] = data_of_entry(e, KIND_OUT);
	if (e->polled)
		in->cancels[in->cancel_count++] = data_of_entry(e, KIND_POLL);
	if (e->pipe)
		epoll_ctl(in->hups, EPOLL_CTL_DEL, e->fd, NULL);
	/*
	 * Cancel at once, because a poll keeps its descriptor open.  If a thread sleeps in
	 * the ring, it is woken to do this.  Otherwise we do it, but submit nothing else:
	 * our requests would complete in this thread, so the waiting thread would see the
	 * answers only after our next system call.
	 */
	if (!set->asleep) {
		prepare_cancels(in);
		submit(set);
	}
}

/*
 * A request completes in the thread that submitted it, at its next system call, which
 * may be much later.  So the waiting thread must have submitted all requests.  This
 * cancels the requests of another thread; new tickets make their answers count for
 * nothing.
 */
static void begin(struct bufpipe_set *set)
{
	struct inside *in = set->inside;
	uint32_t id = thread_id();

	if (likely(in->waiter == id))
		return;
	if (in->waiter)
		cancel_all(in);
	in->waiter = id;
	in->turn++;
	in->ask_for_poke = true;
	in->ask_for_hups = true;
	for (uint32_t i = 0; i < set->slot_count; i++) {
		struct entry *e = set->slots[i];

		if (!e || !(e->watched || e->polled))
			continue;
		e->watched = 0;
		e->polled = false;
		e->ticket = ++set->generations[i];
		set_heat(set, e);
	}
}

static void prepare(struct entry *e)
{
	if (e->events & BUFPIPE_IN)
		e->tokens[KIND_IN] = wait_events(&e->pipe->in.wait);
	if (e->events & BUFPIPE_OUT)
		e->tokens[KIND_OUT] = wait_events(&e->pipe->out.wait);
}

static int watch_futex(struct inside *in, struct entry *e, unsigned event, const struct wait *wait,
		       enum kind kind)
{
	struct io_uring_sqe *sqe;

	if (!(e->events & event) || e->watched & event)
		return 0;
	sqe = next_sqe(&in->ring);
	if (!sqe)
		return -EAGAIN;
	uring_prep_futex_wait(sqe, &wait->theirs->events, e->tokens[kind]);
	io_uring_sqe_set_data64(sqe, data_of_entry(e, kind));
	e->watched |= event;
	return 0;
}

static int watch_fd(struct inside *in, struct entry *e)
{
	struct io_uring_sqe *sqe;

	if (e->pipe || e->polled)
		return 0;
	sqe = next_sqe(&in->ring);
	if (!sqe)
		return -EAGAIN;
	io_uring_prep_poll_add(sqe, e->fd, e->events);
	io_uring_sqe_set_data64(sqe, data_of_entry(e, KIND_POLL));
	e->polled = true;
	return 0;
}

static int watch(struct bufpipe_set *set, struct entry *e)
{
	struct inside *in = set->inside;
	int r = watch_fd(in, e);

	if (r == 0 && e->pipe)
		r = watch_futex(in, e, BUFPIPE_IN, &e->pipe->in.wait, KIND_IN);
	if (r == 0 && e->pipe)
		r = watch_futex(in, e, BUFPIPE_OUT, &e->pipe->out.wait, KIND_OUT);
	return r;
}

static struct entry *entry_at(const struct bufpipe_set *set, uint64_t data)
{
	uint32_t slot = (uint32_t)(data >> 32);

	return slot < set->slot_count ? set->slots[slot] : NULL;
}

static void collect_hups(struct bufpipe_set *set)
{
	struct inside *in = set->inside;
	struct epoll_event events[HUPS];
	int n;

	do {
		n = sys_epoll_take(in->hups, events, HUPS);
		for (int i = 0; i < n; i++) {
			struct entry *e = entry_at(set, events[i].data.u64);

			if (!e || data_of(e->slot, e->generation, 0) != events[i].data.u64)
				continue;
			e->hung_up |= poll_says_gone(events[i].events);
			set_heat(set, e);
		}
	} while (n == HUPS);
}

static void pass_on(struct bufpipe_set *set, const struct io_uring_cqe *cqe)
{
	struct inside *in = set->inside;
	struct entry *e = entry_at(set, cqe->user_data);
	enum kind kind = cqe->user_data & 3;

	if (cqe->user_data == data_of_ours(in, OURS_POKE)) {
		sys_event_quiet(set->poke);
		in->ask_for_poke = true;
	} else if (cqe->user_data == data_of_ours(in, OURS_HUPS)) {
		in->ask_for_hups = true;
		collect_hups(set);
	} else if (e && cqe->user_data == data_of_entry(e, kind)) {
		if (kind != KIND_POLL)
			e->watched &= ~(unsigned)(kind == KIND_IN ? BUFPIPE_IN : BUFPIPE_OUT);
		else if (cqe->res >= 0)
			set_fired(e, (unsigned)cqe->res);
		else if (cqe->res != -ECANCELED) /* ECANCELED: the thread that submitted it has ended */
			set_fired(e, POLLNVAL);
		if (kind == KIND_POLL)
			e->polled = false;
		set_heat(set, e);
	}
}

static void collect(struct bufpipe_set *set)
{
	struct inside *in = set->inside;
	struct io_uring_cqe *cqe;

	while (io_uring_peek_cqe(&in->ring, &cqe) == 0) {
		pass_on(set, cqe);
		io_uring_cqe_seen(&in->ring, cqe);
	}
}

/* Polls the hot plain descriptors, because only the kernel knows whether they are ready again. */
static void ask_for_hot(struct bufpipe_set *set)
{
	struct entry *e = set->hot;

	if (!set->hot_fds)
		return;
	do {
		watch_fd(set->inside, e);
		e = e->next;
	} while (e != set->hot);
}

static int sleep_in_ring(struct bufpipe_set *set, int64_t until)
{
	struct inside *in = set->inside;
	int r = submit(set);

	if (r < 0)
		return r;
	if (r == NOT_ALL)
		until = time_sooner(until, time_now() + BLIND_SLEEP);
	return set_sleep_on(set, in->ring.ring_fd, until);
}

static int sleep_in_uring(struct bufpipe_set *set, int64_t until)
{
	int last;
	int r;

	if (until == TIME_TRY) {
		ask_for_hot(set);
		prepare_wishes(set);
		r = submit(set);
	} else {
		r = sleep_in_ring(set, until);
	}
	collect(set);
	/* Submit what others left for us while we slept, because this thread may not come again soon. */
	prepare_wishes(set);
	last = submit(set);
	if (r >= 0 && last < 0)
		r = last;
	return r < 0 && r != -ETIME && r != -EAGAIN && r != -EBUSY ? r : 0;
}

/* Whether there are answers, or the kernel has some for us; found out without a system call. */
static bool fired(const struct bufpipe_set *set, unsigned turn)
{
	const struct io_uring *ring = &((const struct inside *)set->inside)->ring;

	(void)turn;
	return io_uring_cq_ready(ring) || __atomic_load_n(ring->sq.kflags, __ATOMIC_RELAXED) &
						  (IORING_SQ_TASKRUN | IORING_SQ_CQ_OVERFLOW);
}

const struct sleeper sleep_on_uring = {
	.mode = WAITER_MANY,
	.open = open_uring,
	.close = close_uring,
	.join = join,
	.leave = part,
	.begin = begin,
	.prepare = prepare,
	.watch = watch,
	.sleep = sleep_in_uring,
	.fired = fired,
};
#else
static int open_nothing(struct bufpipe_set *set)
{
	(void)set;
	return -ENOSYS;
}

const struct sleeper sleep_on_uring = { .open = open_nothing };
#endif
