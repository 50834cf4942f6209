/* SPDX-License-Identifier: MIT */
#include "kill/waiter.h"

#include "support.h"

#include <poll.h>
#include <sys/epoll.h>

#ifdef HAVE_LIBURING
#include <bufpipe_uring.h>
#endif

const char *const waiter_names[WAITER_KINDS] = {
	[BLOCKED] = "a blocked call",           [WAIT] = "bufpipe_wait",           [SET] = "a set",
	[SET_EPOLL] = "a set without io_uring", [SET_FD] = "bufpipe_set_fd",       [LEVEL] = "bufpipe_fd",
	[EDGE] = "bufpipe_fd, edge-triggered",  [REQUEST] = "an io_uring request",
};

static unsigned event_of(const struct waiter *w)
{
	return w->room ? BUFPIPE_OUT : BUFPIPE_IN;
}

static int open_set(struct waiter *w)
{
	static const unsigned flags[WAITER_KINDS] = {
		[SET_EPOLL] = BUFPIPE_NO_URING, [SET_FD] = BUFPIPE_POLLABLE
	};
	int r = bufpipe_set_create(&w->set, flags[w->kind]);

	if (r == 0)
		r = bufpipe_set_add(w->set, w->end, event_of(w), NULL);
	if (r == 0 && w->kind == SET_FD)
		w->fd = bufpipe_set_fd(w->set);
	return r;
}

static int open_fd(struct waiter *w)
{
	struct epoll_event event = { .events = EPOLLIN | EPOLLET };

	w->fd = w->room ? bufpipe_room_fd(w->end) : bufpipe_fd(w->end);
	if (w->fd < 0 || w->kind == LEVEL)
		return w->fd < 0 ? w->fd : 0;
	w->epoll = epoll_create1(EPOLL_CLOEXEC);
	return w->epoll < 0 || epoll_ctl(w->epoll, EPOLL_CTL_ADD, w->fd, &event) < 0 ? -errno : 0;
}

#ifdef HAVE_LIBURING
enum { EVENT, HANG_UP };

/* What was requested already is not requested again. */
static int ask(struct waiter *w, int what)
{
	struct io_uring_sqe *sqe;
	int r;

	if (w->asked[what])
		return 0;
	sqe = io_uring_get_sqe(&w->ring);
	if (!sqe)
		return -EBUSY;
	if (what == HANG_UP)
		r = bufpipe_prep_wait_hup(sqe, w->end);
	else if (w->room)
		r = bufpipe_prep_wait_room(sqe, w->end);
	else
		r = bufpipe_prep_wait(sqe, w->end);
	if (r < 0)
		return r;
	io_uring_sqe_set_data64(sqe, (uint64_t)what);
	w->asked[what] = true;
	return 0;
}

static int open_request(struct waiter *w)
{
	struct io_uring_sqe none;
	int r = bufpipe_prep_wait_hup(&none, w->end);

	return r == 0 ? io_uring_queue_init(8, &w->ring, 0) : r;
}

static int sleep_on_request(struct waiter *w, int64_t timeout_ns)
{
	struct __kernel_timespec limit = { timeout_ns / SEC, timeout_ns % SEC };
	struct io_uring_cqe *cqe;
	int r = ask(w, EVENT);

	if (r == 0)
		r = ask(w, HANG_UP);
	if (r == 0)
		r = io_uring_submit(&w->ring);
	if (r >= 0)
		r = timeout_ns < 0 ? io_uring_wait_cqe(&w->ring, &cqe)
				   : io_uring_wait_cqe_timeout(&w->ring, &cqe, &limit);
	if (r < 0)
		return r == -ETIME ? -ETIMEDOUT : r;
	do {
		w->asked[io_uring_cqe_get_data64(cqe)] = false;
		io_uring_cqe_seen(&w->ring, cqe);
	} while (io_uring_peek_cqe(&w->ring, &cqe) == 0);
	return 0;
}

static void close_request(struct waiter *w)
{
	io_uring_queue_exit(&w->ring);
}
#else
static int open_request(struct waiter *w)
{
	(void)w;
	return -ENOSYS;
}

static int sleep_on_request(struct waiter *w, int64_t timeout_ns)
{
	(void)w;
	(void)timeout_ns;
	return -ENOSYS;
}

static void close_request(struct waiter *w)
{
	(void)w;
}
#endif

int waiter_open(struct waiter *w, enum waiter_kind kind, bufpipe_t *end, bool room)
{
	*w = (struct waiter){ .kind = kind, .room = room, .end = end, .fd = -1, .epoll = -1 };
	switch (kind) {
	case SET:
	case SET_EPOLL:
	case SET_FD:
		return open_set(w);
	case LEVEL:
	case EDGE:
		return open_fd(w);
	case REQUEST:
		return open_request(w);
	default:
		return 0;
	}
}

void waiter_close(struct waiter *w)
{
	if (w->set)
		bufpipe_set_destroy(w->set);
	if (w->epoll >= 0)
		close(w->epoll);
	if (w->kind == REQUEST)
		close_request(w);
}

bool waiter_works(enum waiter_kind kind)
{
	bufpipe_t *ends[2];
	struct waiter w;
	int r;

	if (kind != REQUEST)
		return true;
	pipe_open(ends, NULL);
	r = waiter_open(&w, kind, ends[IN], false);
	if (r == 0)
		waiter_close(&w);
	pipe_close(ends);
	return r == 0;
}

bool waiter_looks_again(enum waiter_kind kind)
{
	return kind < SET_FD;
}

/* Waits until the descriptor is readable. Edges: until something comes that was not there before. */
static int sleep_on_fd(const struct waiter *w, int64_t timeout_ns)
{
	int ms = timeout_ns < 0 ? -1 : (int)(timeout_ns / MSEC);
	struct pollfd p = { .fd = w->fd, .events = POLLIN };
	struct epoll_event event;
	int r = w->kind == EDGE ? epoll_wait(w->epoll, &event, 1, ms) : poll(&p, 1, ms);

	if (r < 0)
		return -errno;
	return r ? 0 : -ETIMEDOUT;
}

/* 0 if it has reported something, -ETIMEDOUT if not. */
static int ask_set(const struct waiter *w, int64_t timeout_ns)
{
	struct bufpipe_event event;
	int r = bufpipe_set_wait(w->set, &event, 1, timeout_ns);

	if (r < 0)
		return r;
	return r ? 0 : -ETIMEDOUT;
}

int waiter_sleep(struct waiter *w, int64_t timeout_ns)
{
	struct bufpipe_pollfd one = { .pipe = w->end, .events = (short)event_of(w) };
	int r;

	switch (w->kind) {
	case SET:
	case SET_EPOLL:
		return ask_set(w, timeout_ns);
	case SET_FD:
		/* The descriptor turns quiet only by a wait that finds nothing. */
		r = ask_set(w, 0);
		return r == -ETIMEDOUT ? sleep_on_fd(w, timeout_ns) : r;
	case LEVEL:
	case EDGE:
		return sleep_on_fd(w, timeout_ns);
	case REQUEST:
		return sleep_on_request(w, timeout_ns);
	default:
		r = bufpipe_wait(&one, 1, timeout_ns);
		return r == 0 ? -ETIMEDOUT : r < 0 ? r : 0;
	}
}

ssize_t waiter_transfer(struct waiter *w, void *buf, size_t len, int64_t timeout_ns)
{
	int64_t one_try = w->kind == BLOCKED ? timeout_ns : 0;
	ssize_t r;
	int slept;

	for (;;) {
		r = w->room ? bufpipe_send(w->end, buf, len, one_try)
			    : bufpipe_recv(w->end, buf, len, one_try);
		if (r != -EAGAIN || w->kind == BLOCKED)
			return r;
		slept = waiter_sleep(w, timeout_ns);
		/*
		 * EINTR also comes when the kernel takes the io_uring of another process down, or when a
		 * process is stopped.
		 */
		if (slept < 0 && slept != -EINTR)
			return slept;
	}
}
