/* SPDX-License-Identifier: MIT */
/*
 * bufpipe_fd: a descriptor for other event loops.
 *
 * Bytes come through the socket, but not for each message: the other side rings
 * once after we have armed.  When a message slips in while we arm, the other
 * side may have rung already; then we ring for ourselves, by the eventfd.  So
 * whenever no call is at work: if a message is there, the epoll of both is
 * readable.  It turns quiet only when we find nothing and arm again.
 *
 * The holders of a shared end have one socket, and a byte in it is for all of
 * them.  Who takes it off and then dies has silenced the others.  So a holder
 * takes bytes off only after it has found nothing to receive, and then looks
 * again: a message and its byte would have to come between these two looks, and
 * the holder to die there.  Against that, and against a sender that dies after
 * publishing and before ringing, a timer has all of them look now and then.
 */
#include "base/fd.h"
#include "end/end.h"

#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/timerfd.h>

#define LOOK_EVERY 5 /* seconds, as in every other long sleep */
/* How often to begin anew because bytes have come, before we leave it to the caller. */
#define ARM_TRIES 4

static void ring_self(const struct poll_fd *poll_fd)
{
	eventfd_write(poll_fd->event, 1);
}

static void quiet_self(const struct poll_fd *poll_fd)
{
	uint64_t count;

	eventfd_read(poll_fd->event, &count);
	/* A timer's count is read like that of an eventfd. */
	if (poll_fd->timer >= 0)
		eventfd_read(poll_fd->timer, &count);
}

/* From here on a publisher rings.  False: it may miss our flag this once. */
static bool raise_flag(bufpipe_t *p)
{
	quiet_self(&p->poll_fd);
	wait_raise(&p->in.wait, receiver_head(&p->receiver), WAITER_FD);
	return wait_order(&p->in.wait);
}

/* With the flag up: 0 when a message is there, -EPIPE, or -EAGAIN. */
static int look_behind(bufpipe_t *p)
{
	if (ring_glance(&p->receiver)) {
		ring_self(&p->poll_fd);
		return 0;
	}
	/* Who polls for edges has been told of a hang-up already, and will not be told again. */
	if (wait_hung_up(&p->in.wait))
		return ring_glance(&p->receiver) ? 0 : -EPIPE;
	return -EAGAIN;
}

/*
 * A byte that we take off may be the answer to our raise, for a message that
 * another holder has taken: then the next message would not be rung for, and we
 * must raise anew.
 */
static int arm_shared(bufpipe_t *p)
{
	char byte;

	for (int i = 0; i < ARM_TRIES; i++) {
		bool ordered = raise_flag(p);
		int r = look_behind(p);

		if (r != -EAGAIN)
			return r;
		if (recv(p->socket, &byte, sizeof(byte), MSG_DONTWAIT) < 0) {
			if (!ordered)
				ring_self(&p->poll_fd);
			return -EAGAIN;
		}
		wait_drain(p->socket);
	}
	ring_self(&p->poll_fd);
	return -EAGAIN;
}

int poll_fd_arm(bufpipe_t *p)
{
	bool ordered;
	int r;

	if (p->poll_fd.timer >= 0)
		return arm_shared(p);
	wait_drain(p->socket);
	ordered = raise_flag(p);
	r = look_behind(p);
	/* A publisher may miss our flag: have the caller come again. */
	if (r == -EAGAIN && !ordered)
		ring_self(&p->poll_fd);
	return r;
}

static int join(int epoll, int fd)
{
	struct epoll_event event = { .events = EPOLLIN | EPOLLRDHUP };

	return epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) < 0 ? -errno : 0;
}

static int open_timer(int *timer)
{
	const struct itimerspec every = {
		.it_interval = { .tv_sec = LOOK_EVERY },
		.it_value = { .tv_sec = LOOK_EVERY },
	};

	*timer = fd_own(timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK));
	if (*timer < 0)
		return *timer;
	return timerfd_settime(*timer, 0, &every, NULL) < 0 ? -errno : 0;
}

static void drop(const struct poll_fd *poll_fd)
{
	if (poll_fd->timer >= 0)
		close(poll_fd->timer);
	if (poll_fd->event >= 0)
		close(poll_fd->event);
	if (poll_fd->epoll >= 0)
		close(poll_fd->epoll);
}

static int poll_fd_open(bufpipe_t *p)
{
	struct poll_fd poll_fd = { .epoll = -1, .event = -1, .timer = -1 };
	int r;

	poll_fd.epoll = fd_own(epoll_create1(EPOLL_CLOEXEC));
	if (poll_fd.epoll < 0)
		return poll_fd.epoll;
	poll_fd.event = fd_own(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
	r = poll_fd.event < 0 ? poll_fd.event : join(poll_fd.epoll, poll_fd.event);
	if (r == 0)
		r = join(poll_fd.epoll, p->socket);
	if (r == 0 && p->ours.identity.flags & LAYOUT_SHARED)
		r = open_timer(&poll_fd.timer);
	if (r == 0 && poll_fd.timer >= 0)
		r = join(poll_fd.epoll, poll_fd.timer);
	if (r < 0) {
		drop(&poll_fd);
		return r;
	}
	p->poll_fd = poll_fd;
	return 0;
}

void poll_fd_close(bufpipe_t *p)
{
	if (p->poll_fd.epoll >= 0)
		drop(&p->poll_fd);
}

int bufpipe_fd(bufpipe_t *p)
{
	int r;

	if (!p)
		return -EINVAL;
	if (p->in.state & DIRECTION_NONE)
		return -EBADF;
	if (p->poll_fd.epoll < 0) {
		r = poll_fd_open(p);
		if (r < 0)
			return r;
		poll_fd_arm(p);
	}
	return p->poll_fd.epoll;
}
