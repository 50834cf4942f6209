/* SPDX-License-Identifier: MIT */
/* What the tests of sets share. Each test runs twice, once for each of the two ways in which a set sleeps. */
#ifndef TESTS_SETS_H
#define TESTS_SETS_H

#include "support.h"

#include <fcntl.h>
#include <stdatomic.h>
#include <sys/socket.h>

/* A test with a parameter: the flags for bufpipe_set_create. */
#define BOTH(suite, name)                 \
	static void name(unsigned flags); \
	Test(suite, name##_by_uring)      \
	{                                 \
		name(0);                  \
	}                                 \
	Test(suite, name##_by_epoll)      \
	{                                 \
		name(BUFPIPE_NO_URING);   \
	}                                 \
	static void name(unsigned flags)

/*
 * Long enough for the waiter to fall asleep in the set. An event that must not come has not come in that
 * time.
 */
#define MOMENT (20 * MSEC)

static inline bufpipe_set_t *set_open(unsigned flags)
{
	bufpipe_set_t *set;

	check_eq(bufpipe_set_create(&set, flags), 0);
	return set;
}

/* The only event that the set reports. */
static inline unsigned set_expect(bufpipe_set_t *set, const void *user, int64_t timeout_ns)
{
	struct bufpipe_event events[4] = { 0 };

	check_eq(bufpipe_set_wait(set, events, 4, timeout_ns), 1);
	check(events[0].user == user);
	return events[0].events;
}

/*
 * For use after a set was destroyed. The kernel takes its io_uring down later, and that can look like a
 * signal.
 */
static inline void set_expect_nothing_for(bufpipe_set_t *set, int64_t timeout_ns)
{
	struct bufpipe_event events[4];
	int r;

	do
		r = bufpipe_set_wait(set, events, 4, timeout_ns);
	while (r == -EINTR);
	check_eq(r, 0);
}

static inline void set_expect_nothing(bufpipe_set_t *set)
{
	struct bufpipe_event events[4];

	check_eq(bufpipe_set_wait(set, events, 4, 0), 0);
	set_expect_nothing_for(set, MOMENT);
}

/*
 * Waits until one of these events is reported for this user. Others may be reported before it. 0 if none was.
 */
static inline unsigned set_await(bufpipe_set_t *set, const void *user, unsigned wanted, int64_t timeout_ns)
{
	struct bufpipe_event events[8];
	int64_t end = clock_ns() + timeout_ns;

	while (clock_ns() < end) {
		int n = bufpipe_set_wait(set, events, 8, timeout_ns);

		check(n >= 0);
		for (int i = 0; i < n; i++) {
			if (events[i].user == user && events[i].events & wanted)
				return events[i].events;
		}
	}
	return 0;
}

/* How many descriptors of this process belong to an io_uring. */
static inline int rings_open(void)
{
	int n = 0;

	for (int fd = 0; fd < 1024; fd++) {
		char path[32];
		char target[64] = "";

		snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
		if (readlink(path, target, sizeof(target) - 1) > 0)
			n += strstr(target, "io_uring") != NULL;
	}
	return n;
}

/* A child that keeps one end of a pipe, closes the other one, and waits until it is killed. */
static inline void sit_on(void *arg)
{
	bufpipe_close(arg);
	for (;;)
		pause();
}

/* A thread that waits once in a set. */
struct waiter {
	struct thread thread;
	bufpipe_set_t *set;
	int64_t timeout_ns;
	int result;
	struct bufpipe_event event;
	_Atomic bool ended;
};

static inline void wait_once(void *arg)
{
	struct waiter *w = arg;

	w->result = bufpipe_set_wait(w->set, &w->event, 1, w->timeout_ns);
	atomic_store(&w->ended, true);
}

static inline bool waiter_ends(const struct waiter *w, int64_t timeout_ns)
{
	int64_t end = clock_ns() + timeout_ns;

	while (!atomic_load(&w->ended) && clock_ns() < end)
		sleep_ns(200 * USEC);
	return atomic_load(&w->ended);
}

static inline void waiter_start(struct waiter *w, bufpipe_set_t *set, int64_t timeout_ns)
{
	*w = (struct waiter){ .set = set, .timeout_ns = timeout_ns };
	thread_start(&w->thread, wait_once, w);
}

#endif
