/* SPDX-License-Identifier: MIT */
/*
 * bufpipe_fd: a descriptor for other event loops.
 *
 * It is an epoll of the socket, edge-triggered, and of an eventfd by which we
 * ring for ourselves.  The other side rings once after we have armed.  When a
 * message slips in while we arm, it may have rung before: then we ring for
 * ourselves.  So whenever no call is at work: if a message is there, the
 * descriptor is readable.  It turns quiet only when we find nothing and arm again.
 *
 * Of a shared end each process has a descriptor of its own, and a byte makes all
 * of them readable; see docs/waiting.md, section 2.
 */
#include "base/fd.h"
#include "base/thread.h"
#include "end/end.h"
#include "sync/doorbell.h"

#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>

/* When to look again for a record that another holder has in its turn: it may put it back, and cannot tell us. */
#define LOOK_AGAIN (20 * NSEC_PER_SEC / 1000)

struct poll_fd {
	int epoll;
	int event;
	int timer;        /* one-shot, of a shared end; else -1 */
	bool rung;        /* the eventfd or the timer may have something to be read */
	uint32_t process; /* that opened it: a child that took the parent's events would silence it */
};

static void ring_self(struct poll_fd *f)
{
	eventfd_write(f->event, 1);
	f->rung = true;
}

static void ring_self_later(struct poll_fd *f)
{
	const struct itimerspec once = { .it_value = time_spec(LOOK_AGAIN) };

	if (f->timer < 0 || timerfd_settime(f->timer, 0, &once, NULL) < 0)
		ring_self(f);
	f->rung = true;
}

static void quiet_self(struct poll_fd *f)
{
	const struct itimerspec never = { 0 };
	eventfd_t count;

	if (f->rung) {
		eventfd_read(f->event, &count);
		if (f->timer >= 0)
			timerfd_settime(f->timer, 0, &never, NULL);
		f->rung = false;
	}
	doorbell_take(f->epoll);
}

/*
 * A try has found nothing.  From here on a message makes the descriptor readable:
 * -EAGAIN.  0 when one has just come, -EPIPE when none will.  busy: it found
 * nothing because another holder has the turn.
 */
static int arm(bufpipe_t *p, bool busy)
{
	struct poll_fd *f = p->poll_fd;
	bool ordered;

	if (f->process != thread_process())
		return -EAGAIN;
	quiet_self(f);
	ordered = wait_order(&p->in.wait, wait_raise(&p->in.wait, receiver_head(&p->receiver), WAITER_FD));
	if (ring_glance(&p->receiver)) {
		if (busy)
			ring_self_later(f);
		else
			ring_self(f);
		return busy ? -EAGAIN : 0;
	}
	/* An edge tells of a hang-up once, and it may have been taken: so the eventfd keeps saying it. */
	if (wait_hung_up(&p->in.wait)) {
		ring_self(f);
		return ring_glance(&p->receiver) ? 0 : -EPIPE;
	}
	/* A publisher may miss our flag this once: have the caller come again. */
	if (!ordered)
		ring_self(f);
	return -EAGAIN;
}

static int join(int epoll, int fd)
{
	struct epoll_event event = { .events = EPOLLIN };

	return epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) < 0 ? -errno : 0;
}

static void close_all(struct poll_fd *f)
{
	if (f->timer >= 0)
		close(f->timer);
	if (f->event >= 0)
		close(f->event);
	if (f->epoll >= 0)
		close(f->epoll);
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
	return f->timer < 0 ? f->timer : join(f->epoll, f->timer);
}

static void drop(bufpipe_t *p)
{
	close_all(p->poll_fd);
	p->poll_fd = NULL;
	p->arm = NULL;
	p->drop_poll_fd = NULL;
}

static int open_poll_fd(bufpipe_t *p)
{
	struct poll_fd *f = malloc(sizeof(*f));
	int r;

	if (!f)
		return -ENOMEM;
	*f = (struct poll_fd){ .epoll = -1, .event = -1, .timer = -1, .process = thread_process() };
	r = open_all(f, p);
	if (r < 0) {
		close_all(f);
		return r;
	}
	if (p->poll_fd)
		drop(p);
	p->poll_fd = f;
	p->arm = arm;
	p->drop_poll_fd = drop;
	arm(p, false);
	return 0;
}

int bufpipe_fd(bufpipe_t *p)
{
	const struct poll_fd *f;

	if (!p)
		return -EINVAL;
	if (p->in.state & DIRECTION_NONE)
		return -EBADF;
	f = p->poll_fd;
	if (!f || f->process != thread_process()) {
		int r = open_poll_fd(p);

		if (r < 0)
			return r;
		f = p->poll_fd;
	}
	return f->epoll;
}
