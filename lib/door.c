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
#include "end.h"

#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/timerfd.h>

#define LOOK_EVERY 5 /* seconds, as in every other long sleep */
/* How often to begin anew because bytes have come, before we leave it to the caller. */
#define ARM_TRIES 4

static void ring_self(const struct door *door)
{
	eventfd_write(door->event, 1);
}

static void quiet_self(const struct door *door)
{
	uint64_t count;

	eventfd_read(door->event, &count);
	/* A timer's count is read like that of an eventfd. */
	if (door->timer >= 0)
		eventfd_read(door->timer, &count);
}

/* From here on a publisher rings.  False: it may miss our flag this once. */
static bool raise_flag(bufpipe_t *p)
{
	quiet_self(&p->door);
	wait_raise(&p->in.wait, receiver_head(&p->receiver), BELL_FD);
	return wait_order(&p->in.wait);
}

/* With the flag up: 0 when a message is there, -EPIPE, or -EAGAIN. */
static int look_behind(bufpipe_t *p)
{
	if (ring_glance(&p->receiver)) {
		ring_self(&p->door);
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
				ring_self(&p->door);
			return -EAGAIN;
		}
		wait_drain(p->socket);
	}
	ring_self(&p->door);
	return -EAGAIN;
}

int door_arm(bufpipe_t *p)
{
	bool ordered;
	int r;

	if (p->door.timer >= 0)
		return arm_shared(p);
	wait_drain(p->socket);
	ordered = raise_flag(p);
	r = look_behind(p);
	/* A publisher may miss our flag: have the caller come again. */
	if (r == -EAGAIN && !ordered)
		ring_self(&p->door);
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

	*timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	return *timer < 0 || timerfd_settime(*timer, 0, &every, NULL) < 0 ? -errno : 0;
}

static void drop(const struct door *door)
{
	if (door->timer >= 0)
		close(door->timer);
	if (door->event >= 0)
		close(door->event);
	if (door->epoll >= 0)
		close(door->epoll);
}

static int door_open(bufpipe_t *p)
{
	struct door door = { .epoll = -1, .event = -1, .timer = -1 };
	int r;

	door.epoll = epoll_create1(EPOLL_CLOEXEC);
	if (door.epoll < 0)
		return -errno;
	door.event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	r = door.event < 0 ? -errno : join(door.epoll, door.event);
	if (r == 0)
		r = join(door.epoll, p->socket);
	if (r == 0 && p->ours.identity.flags & LAYOUT_SHARED)
		r = open_timer(&door.timer);
	if (r == 0 && door.timer >= 0)
		r = join(door.epoll, door.timer);
	if (r < 0) {
		drop(&door);
		return r;
	}
	p->door = door;
	return 0;
}

void door_close(bufpipe_t *p)
{
	if (p->door.epoll >= 0)
		drop(&p->door);
}

int bufpipe_fd(bufpipe_t *p)
{
	int r;

	if (!p)
		return -EINVAL;
	if (p->in.state & WAY_NONE)
		return -EBADF;
	if (p->door.epoll < 0) {
		r = door_open(p);
		if (r < 0)
			return r;
		door_arm(p);
	}
	return p->door.epoll;
}
