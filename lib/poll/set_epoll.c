/* SPDX-License-Identifier: MIT */
/* A set that sleeps in an epoll of the sockets of its pipes. */
#include "base/fd.h"
#include "poll/set.h"

#include <sys/eventfd.h>

#define BATCH 64
#define POKE  UINT64_MAX

static int epoll_of(const struct bufpipe_set *set)
{
	return (int)(intptr_t)set->inside;
}

static int control(const struct bufpipe_set *set, int operation, int fd, uint32_t events, uint64_t data)
{
	struct epoll_event event = { .events = events, .data.u64 = data };

	return epoll_ctl(epoll_of(set), operation, fd, &event) < 0 ? -errno : 0;
}

static int open_epoll(struct bufpipe_set *set)
{
	int fd = fd_own(epoll_create1(EPOLL_CLOEXEC));
	int r;

	if (fd < 0)
		return fd;
	set->inside = (void *)(intptr_t)fd;
	r = control(set, EPOLL_CTL_ADD, set->poke, EPOLLIN, POKE);
	if (r < 0)
		sys_close(fd);
	return r;
}

static void close_epoll(struct bufpipe_set *set)
{
	sys_close(epoll_of(set));
}

static int join(struct bufpipe_set *set, struct entry *e)
{
	/*
	 * Edge-triggered, because a byte is for all who sleep on the socket and nobody takes it;
	 * see sync/doorbell.h.
	 */
	uint32_t events = e->pipe ? EPOLLIN | EPOLLRDHUP | EPOLLET : e->events;

	return control(set, EPOLL_CTL_ADD, e->fd, events, (uint64_t)e->generation << 32 | e->slot);
}

static void part(struct bufpipe_set *set, struct entry *e)
{
	control(set, EPOLL_CTL_DEL, e->fd, 0, 0);
}

static void begin(struct bufpipe_set *set)
{
	(void)set;
}

/* Nothing to do: an old event only makes the entry hot once more. */
static void prepare(struct entry *e)
{
	(void)e;
}

static int watch(struct bufpipe_set *set, struct entry *e)
{
	(void)set;
	(void)e;
	return 0;
}

static void pass_on(struct bufpipe_set *set, const struct epoll_event *event)
{
	struct entry *e = set_find(set, (uint32_t)event->data.u64, (uint32_t)(event->data.u64 >> 32));

	if (event->data.u64 == POKE)
		sys_event_quiet(set->poke);
	if (!e || event->data.u64 == POKE)
		return;
	if (!e->pipe)
		set_fired(e, event->events);
	else if (poll_says_gone(event->events))
		e->hung_up = true;
	set_heat(set, e);
}

static int sleep_in_epoll(struct bufpipe_set *set, int64_t until)
{
	struct epoll_event events[BATCH];
	int r = until == TIME_TRY ? 0 : set_sleep_on(set, epoll_of(set), until);
	int n;

	if (r < 0)
		return r;
	n = sys_epoll_take(epoll_of(set), events, BATCH);
	for (int i = 0; i < n; i++)
		pass_on(set, &events[i]);
	return n < 0 ? n : 0;
}

/* Only a system call can tell, so the answer is yes only from time to time. */
static bool fired(const struct bufpipe_set *set, unsigned turn)
{
	(void)set;
	return turn % 64 == 63;
}

const struct sleeper sleep_on_epoll = {
	.mode = WAITER_FD,
	.open = open_epoll,
	.close = close_epoll,
	.join = join,
	.leave = part,
	.begin = begin,
	.prepare = prepare,
	.watch = watch,
	.sleep = sleep_in_epoll,
	.fd = epoll_of,
	.fired = fired,
};
