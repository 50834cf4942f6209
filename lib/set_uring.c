/* SPDX-License-Identifier: MIT */
/*
 * A set that sleeps in one io_uring: a FUTEX_WAIT for each direction of a pipe,
 * a poll of its socket for the hang-up, a poll of each plain descriptor.  Only
 * the thread that waits touches the ring; others leave their wishes to it.
 */
#include "set.h"

#include <poll.h>
#include <stdlib.h>
#include <sys/eventfd.h>

#ifdef HAVE_LIBURING
#include <liburing.h>

#include "uring.h"

#define RING_ENTRIES 256
#define CQ_ENTRIES   4096

/* What an answer is about: the two lowest bits of the generation's half of user_data. */
enum kind { KIND_IN, KIND_OUT, KIND_POLL };

#define DATA_POKE   UINT64_MAX
#define DATA_IGNORE (UINT64_MAX - 1)
/* Thirty bits of the generation travel with a request. */
#define GENERATION 0x3fffffffu

struct inside {
	struct io_uring ring;
	bool poked; /* the poll of the eventfd is not in the ring */
	uint64_t *cancels;
	unsigned cancel_count;
	unsigned cancel_room;
};

static uint64_t data_of(const struct entry *e, enum kind kind)
{
	return (uint64_t)e->slot << 32 | (e->generation & GENERATION) << 2 | kind;
}

static struct io_uring_sqe *next_sqe(struct io_uring *ring)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(ring);

	if (sqe)
		return sqe;
	io_uring_submit(ring);
	return io_uring_get_sqe(ring);
}

static int open_uring(struct bufpipe_set *set)
{
	struct io_uring_params params = {
		.flags = IORING_SETUP_CQSIZE | IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG,
		.cq_entries = CQ_ENTRIES,
	};
	struct inside *in;
	int r;

	if (!uring_has_futex())
		return -ENOSYS;
	in = calloc(1, sizeof(*in));
	if (!in)
		return -ENOMEM;
	r = io_uring_queue_init_params(RING_ENTRIES, &in->ring, &params);
	if (r < 0) {
		free(in);
		return r;
	}
	in->poked = true;
	set->inside = in;
	return 0;
}

static void close_uring(struct bufpipe_set *set)
{
	struct inside *in = set->inside;
	struct io_uring_sqe *sqe;

	/* A child may have inherited the ring, and would keep the requests, and what they hold, alive. */
	if (set->owner == getpid() && (sqe = next_sqe(&in->ring))) {
		io_uring_prep_cancel64(sqe, 0, IORING_ASYNC_CANCEL_ANY | IORING_ASYNC_CANCEL_ALL);
		io_uring_submit(&in->ring);
	}
	io_uring_queue_exit(&in->ring);
	free(in->cancels);
	free(in);
}

static int join(struct bufpipe_set *set, struct entry *e)
{
	struct inside *in = set->inside;
	/* Room for the three cancels that its leaving may take, so that leaving cannot fail. */
	unsigned needed = 3 * set->slot_count + in->cancel_count;
	uint64_t *cancels;

	(void)e;
	if (in->cancel_room >= needed)
		return 0;
	cancels = realloc(in->cancels, 2 * needed * sizeof(*cancels));
	if (!cancels)
		return -ENOMEM;
	in->cancels = cancels;
	in->cancel_room = 2 * needed;
	return 0;
}

/* What other threads have left to us, and the eventfd by which they wake us. */
static void prepare_wishes(struct bufpipe_set *set)
{
	struct inside *in = set->inside;
	struct io_uring_sqe *sqe;

	while (in->cancel_count && (sqe = next_sqe(&in->ring))) {
		io_uring_prep_cancel64(sqe, in->cancels[--in->cancel_count], 0);
		io_uring_sqe_set_data64(sqe, DATA_IGNORE);
	}
	if (in->poked && (sqe = next_sqe(&in->ring))) {
		io_uring_prep_poll_add(sqe, set->poke, POLLIN);
		io_uring_sqe_set_data64(sqe, DATA_POKE);
		in->poked = false;
	}
}

static void submit(struct bufpipe_set *set)
{
	struct inside *in = set->inside;

	if (io_uring_sq_ready(&in->ring))
		io_uring_submit(&in->ring);
}

static void part(struct bufpipe_set *set, struct entry *e)
{
	struct inside *in = set->inside;

	if (e->watched & BUFPIPE_IN)
		in->cancels[in->cancel_count++] = data_of(e, KIND_IN);
	if (e->watched & BUFPIPE_OUT)
		in->cancels[in->cancel_count++] = data_of(e, KIND_OUT);
	if (e->polled)
		in->cancels[in->cancel_count++] = data_of(e, KIND_POLL);
	/* At once, as these requests keep the memory and the socket; who sleeps in the ring is poked to do it. */
	if (!set->asleep) {
		prepare_wishes(set);
		submit(set);
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
	io_uring_sqe_set_data64(sqe, data_of(e, kind));
	e->watched |= event;
	return 0;
}

static int watch_fd(struct inside *in, struct entry *e)
{
	struct io_uring_sqe *sqe;

	if (e->polled)
		return 0;
	sqe = next_sqe(&in->ring);
	if (!sqe)
		return -EAGAIN;
	io_uring_prep_poll_add(sqe, e->fd, e->pipe ? POLLRDHUP : e->events);
	io_uring_sqe_set_data64(sqe, data_of(e, KIND_POLL));
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

static void pass_on(struct bufpipe_set *set, const struct io_uring_cqe *cqe)
{
	struct inside *in = set->inside;
	uint32_t slot = (uint32_t)(cqe->user_data >> 32);
	struct entry *e;
	eventfd_t count;

	if (cqe->user_data == DATA_POKE) {
		eventfd_read(set->poke, &count);
		in->poked = true;
		return;
	}
	e = slot < set->slot_count ? set->slots[slot] : NULL;
	if (!e || cqe->user_data == DATA_IGNORE ||
	    (e->generation & GENERATION) != ((uint32_t)cqe->user_data >> 2))
		return;
	if ((cqe->user_data & 3) != KIND_POLL) {
		e->watched &= ~(unsigned)((cqe->user_data & 3) == KIND_IN ? BUFPIPE_IN : BUFPIPE_OUT);
	} else {
		e->polled = false;
		if (e->pipe)
			e->hung_up |= cqe->res > 0;
		else if (cqe->res >= 0)
			e->fired = (unsigned)cqe->res;
		else if (cqe->res != -ECANCELED) /* that is the end of the thread that asked */
			e->fired = POLLNVAL;
	}
	set_heat(set, e);
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

/*
 * For hot entries, about which only the kernel knows: whether a plain descriptor
 * is ready again, and whether the other side of a pipe has hung up.
 */
static void ask_for_hot(struct bufpipe_set *set)
{
	struct entry *e = set->hot;

	if (!e)
		return;
	do {
		if (!e->hung_up)
			watch_fd(set->inside, e);
		e = e->next;
	} while (e != set->hot);
}

/* Without the lock. */
static int sleep_in_ring(struct bufpipe_set *set, int64_t until)
{
	struct inside *in = set->inside;
	struct __kernel_timespec limit;
	struct io_uring_cqe *cqe;
	int64_t now = time_now();
	int r;

	limit.tv_sec = until > now ? (until - now) / NSEC_PER_SEC : 0;
	limit.tv_nsec = until > now ? (until - now) % NSEC_PER_SEC : 0;
	set->asleep = true;
	pthread_mutex_unlock(&set->lock);
	r = io_uring_submit_and_wait_timeout(&in->ring, &cqe, 1, &limit, NULL);
	/* What was submitted hides that a signal ended the sleep. */
	if (r == -ETIME && time_now() < until)
		r = -EINTR;
	pthread_mutex_lock(&set->lock);
	set->asleep = false;
	return r;
}

static int sleep_in_uring(struct bufpipe_set *set, int64_t until)
{
	int r = 0;

	prepare_wishes(set);
	if (until == TIME_TRY) {
		ask_for_hot(set);
		submit(set);
	} else {
		r = sleep_in_ring(set, until);
	}
	collect(set);
	return r < 0 && r != -ETIME && r != -EAGAIN && r != -EBUSY ? r : 0;
}

const struct sleeper sleep_on_uring = {
	.mode = BELL_WATCH,
	.open = open_uring,
	.close = close_uring,
	.join = join,
	.leave = part,
	.prepare = prepare,
	.watch = watch,
	.sleep = sleep_in_uring,
};
#else
static int open_nothing(struct bufpipe_set *set)
{
	(void)set;
	return -ENOSYS;
}

const struct sleeper sleep_on_uring = { .open = open_nothing };
#endif
