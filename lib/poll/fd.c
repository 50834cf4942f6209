/* SPDX-License-Identifier: MIT */
/*
 * bufpipe_fd and bufpipe_room_fd: descriptors for other event loops.
 *
 * Such a descriptor is an epoll of the socket, edge-triggered, and of an eventfd.
 * The other side rings once after we have armed.  If a message comes while we arm,
 * the other side may have rung too early; then we write to the eventfd ourselves.  So
 * while no call is running, the descriptor is readable if a message is there.  It
 * stops being readable only when a try finds nothing and arms again.
 *
 * The same holds for room and bufpipe_room_fd.
 *
 * Each process that holds a shared end has a descriptor of its own, and one byte
 * makes all of them readable; see docs/waiting.md, section 2.
 */
#include "base/fd.h"
#include "base/thread.h"
#include "poll/readiness.h"
#include "sync/doorbell.h"

#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>

/*
 * When to look again at a record that another holder is receiving: it may put the record back
 * without telling us.
 */
#define LOOK_AGAIN (20 * NSEC_PER_SEC / 1000)

struct poll_fd {
	int epoll;
	int event;
	int timer;        /* one-shot, for a shared end; else -1 */
	bool out;         /* for room; false: for messages */
	bool rung;        /* the eventfd or the timer may be readable */
	uint32_t process; /* the process that opened it: a child must not take the events of its parent */
};

static void ring_self(struct poll_fd *f)
{
	sys_event_ring(f->event);
	f->rung = true;
}

/* False if there is no timer: the kernel knows none, or a sandbox refuses it, perhaps from now on. */
static bool set_timer(struct poll_fd *f, int64_t in)
{
	const struct itimerspec when = { .it_value = time_spec(in) };

	if (f->timer >= 0 && timerfd_settime(f->timer, 0, &when, NULL) < 0) {
		/*
		 * It may have been set before, and nobody could silence it.  Taken out of the epoll
		 * first, because a child of fork may hold it as well.
		 */
		epoll_ctl(f->epoll, EPOLL_CTL_DEL, f->timer, NULL);
		sys_close(f->timer);
		f->timer = -1;
	}
	return f->timer >= 0;
}

static void ring_self_later(struct poll_fd *f)
{
	/* Without a timer the caller comes again at once, until the other holder is done. */
	if (!set_timer(f, LOOK_AGAIN))
		ring_self(f);
	f->rung = true;
}

static void quiet_self(struct poll_fd *f)
{
	if (f->rung) {
		sys_event_quiet(f->event);
		set_timer(f, 0);
		f->rung = false;
	}
	doorbell_take(f->epoll);
}

/*
 * Called when a try has found nothing: arms the descriptor, so that a message (or
 * room) makes it readable from here on, and returns -EAGAIN.  0 if something has just
 * come, -EPIPE if nothing will come any more.  busy means that the try found nothing
 * because another holder has the turn.
 */
static int arm(bufpipe_t *p, struct poll_fd *f, bool busy)
{
	unsigned event = f->out ? BUFPIPE_OUT : BUFPIPE_IN;
	struct wait *wait = f->out ? &p->out.wait : &p->in.wait;
	bool ordered;

	if (f->process != thread_process())
		return -EAGAIN;
	quiet_self(f);
	ordered = wait_order(wait, readiness_raise(p, event, WAITER_FD));
	if (readiness_look(p, event)) {
		if (busy)
			ring_self_later(f);
		else
			ring_self(f);
		return busy ? -EAGAIN : 0;
	}
	/*
	 * The hang-up is only one event, which may have been taken.  So the eventfd keeps the
	 * descriptor readable.
	 */
	if (wait_hung_up(wait)) {
		ring_self(f);
		return readiness_look(p, event) ? 0 : -EPIPE;
	}
	/* A publisher may not see our flag this time: let the program come again. */
	if (!ordered)
		ring_self(f);
	return -EAGAIN;
}

static int arm_in(bufpipe_t *p, bool busy)
{
	return arm(p, p->poll_fds[ARM_IN], busy);
}

static int arm_out(bufpipe_t *p, bool busy)
{
	return arm(p, p->poll_fds[ARM_OUT], busy);
}

static int join(int epoll, int fd)
{
	struct epoll_event event = { .events = EPOLLIN };

	return epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) < 0 ? -errno : 0;
}

static void close_all(struct poll_fd *f)
{
	if (f->timer >= 0)
		sys_close(f->timer);
	if (f->event >= 0)
		sys_close(f->event);
	if (f->epoll >= 0)
		sys_close(f->epoll);
	free(f);
}

static int open_all(struct poll_fd *f, const bufpipe_t *p)
{
	int r;

	f->epoll = doorbell_open();
	if (f->epoll < 0)
		return f->epoll;
	f->event = fd_own(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
	r = f->event < 0 ? f->event : join(f->epoll, f->event);
	if (r == 0)
		r = doorbell_join(f->epoll, p->socket);
	if (r < 0 || !(p->ours.identity.flags & LAYOUT_SHARED))
		return r;
	f->timer = fd_own(timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK));
	if (f->timer >= 0)
		return join(f->epoll, f->timer);
	r = f->timer;
	f->timer = -1;
	/* Too few descriptors are an error; a call that is refused is replaced, see ring_self_later. */
	return r == -EMFILE || r == -ENFILE ? r : 0;
}

static void drop(bufpipe_t *p, int which)
{
	if (p->poll_fds[which])
		close_all(p->poll_fds[which]);
	p->poll_fds[which] = NULL;
	p->arm[which] = NULL;
}

static void drop_both(bufpipe_t *p)
{
	drop(p, ARM_IN);
	drop(p, ARM_OUT);
}

static int open_poll_fd(bufpipe_t *p, int which)
{
	struct poll_fd *f = malloc(sizeof(*f));
	int r;

	if (!f)
		return -ENOMEM;
	*f = (struct poll_fd){
		.epoll = -1, .event = -1, .timer = -1, .out = which == ARM_OUT, .process = thread_process()
	};
	r = open_all(f, p);
	if (r < 0) {
		close_all(f);
		return r;
	}
	drop(p, which);
	p->poll_fds[which] = f;
	p->arm[which] = which == ARM_OUT ? arm_out : arm_in;
	p->drop_poll_fds = drop_both;
	arm(p, f, false);
	return 0;
}

/* Opens the descriptor at the first call, and again in a child of fork, which needs one of its own. */
static int poll_fd_of(bufpipe_t *p, int which)
{
	const struct poll_fd *f = p->poll_fds[which];

	if (!f || f->process != thread_process()) {
		int r = open_poll_fd(p, which);

		if (r < 0)
			return r;
		f = p->poll_fds[which];
	}
	return f->epoll;
}

int bufpipe_fd(bufpipe_t *p)
{
	if (!p)
		return -EINVAL;
	return p->in.state & DIRECTION_NONE ? -EBADF : poll_fd_of(p, ARM_IN);
}

int bufpipe_room_fd(bufpipe_t *p)
{
	if (!p)
		return -EINVAL;
	return p->out.state & DIRECTION_NONE ? -EBADF : poll_fd_of(p, ARM_OUT);
}
