/* SPDX-License-Identifier: MIT */
#include "connect/sleep.h"

#include "base/backoff.h"
#include "base/packet.h"

struct sleeper sleeper_begin(int64_t deadline, bool interruptible)
{
	struct sleeper s = { .deadline = deadline, .interruptible = interruptible };

	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &s.cancel_state);
	return s;
}

void sleeper_end(const struct sleeper *s)
{
	pthread_setcancelstate(s->cancel_state, NULL);
}

static void close_owned(void *fd)
{
	if (*(int *)fd >= 0)
		packet_close(*(int *)fd); /* a listener may have sent descriptors whose close sleeps */
}

/*
 * Uses ppoll, not epoll_wait or a blocking connect: the kernel continues ppoll after
 * SIGSTOP and SIGCONT, so -EINTR always means that a signal handler ran.
 */
static int sleep_cancellable(const struct sleeper *s, struct pollfd *p, const struct timespec *limit,
			     int owned)
{
	int n;

	pthread_cleanup_push(close_owned, &owned);
	pthread_setcancelstate(s->cancel_state, NULL);
	n = ppoll(p, p->fd >= 0, limit, NULL);
	n = n < 0 ? -errno : n;
	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, NULL);
	pthread_cleanup_pop(0);
	return n;
}

bool sleep_spared(const struct sleeper *s, int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };
	int64_t end = time_now() + SLEEP_BRIEF;

	if (s->at_once || s->deadline == TIME_TRY)
		return false;
	do {
		if (ppoll(&p, 1, &(struct timespec){ 0 }, NULL) > 0)
			return true;
	} while (!backoff_crowded() && backoff_pause(s->deadline) && time_now() < end);
	return false;
}

int sleep_until(const struct sleeper *s, int fd, int64_t until, int owned)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };
	int64_t now = time_now();
	struct timespec limit;
	int n;

	until = time_sooner(until, s->deadline);
	limit = time_spec(until > now ? until - now : 0);
	n = sleep_cancellable(s, &p, until == TIME_FOREVER ? NULL : &limit, owned);
	if (n > 0)
		return 1;
	if (n < 0 && (n != -EINTR || s->interruptible))
		return n;
	if (s->deadline == TIME_TRY)
		return -EAGAIN;
	return time_now() >= s->deadline ? -ETIMEDOUT : 0;
}
