/* SPDX-License-Identifier: MIT */
/*
 * bufpipe_fd: a descriptor for other event loops.
 *
 * Bytes come through the socket, but not for each message: the other side rings
 * once after we have armed.  When a message slips in while we arm, the other
 * side may have rung already; then we ring for ourselves, by the eventfd.  So
 * whenever no call is at work: if a message is there, the epoll of both is
 * readable.  It turns quiet only when we find nothing and arm again.
 */
#include "end.h"

#include <sys/epoll.h>
#include <sys/eventfd.h>

static void ring_self(const struct door *door)
{
	eventfd_write(door->event, 1);
}

static void quiet_self(const struct door *door)
{
	eventfd_t count;

	eventfd_read(door->event, &count);
}

int door_arm(bufpipe_t *p)
{
	const char *payload;
	bool ordered;

	wait_drain(p->socket);
	quiet_self(&p->door);
	wait_raise(&p->in.wait, receiver_head(&p->receiver), BELL_FD);
	ordered = wait_order(&p->in.wait);
	if (ring_peek(&p->receiver, &payload)) {
		ring_self(&p->door);
		return 0;
	}
	/* Who polls for edges has been told of a hang-up already, and will not be told again. */
	if (wait_hung_up(&p->in.wait))
		return ring_peek(&p->receiver, &payload) ? 0 : -EPIPE;
	/* A publisher may miss our flag this once: have the caller come again. */
	if (!ordered)
		ring_self(&p->door);
	return -EAGAIN;
}

static int join(int epoll, int fd)
{
	struct epoll_event event = { .events = EPOLLIN | EPOLLRDHUP };

	return epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) < 0 ? -errno : 0;
}

static int door_open(bufpipe_t *p)
{
	struct door door = { .epoll = -1, .event = -1 };
	int r;

	door.epoll = epoll_create1(EPOLL_CLOEXEC);
	if (door.epoll < 0)
		return -errno;
	door.event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	r = door.event < 0 ? -errno : join(door.epoll, door.event);
	if (r == 0)
		r = join(door.epoll, p->socket);
	if (r < 0) {
		if (door.event >= 0)
			close(door.event);
		close(door.epoll);
		return r;
	}
	p->door = door;
	return 0;
}

void door_close(bufpipe_t *p)
{
	if (p->door.epoll < 0)
		return;
	close(p->door.event);
	close(p->door.epoll);
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
