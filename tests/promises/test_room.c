/* SPDX-License-Identifier: MIT */
/* Room: BUFPIPE_OUT means that what was refused would now fit, in every way of waiting for it. */
#include "asleep.h"
#include "sets.h"

#include <poll.h>
#include <sys/epoll.h>

SUITE(room);

enum { BIG = 3000, SMALL = 100 };

static const struct bufpipe_options options = { .buffer_size = 4096 };

static bool readable(int fd, int64_t timeout_ns)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };

	return poll(&p, 1, (int)(timeout_ns / MSEC)) == 1;
}

/* Sends small messages until there is no room for a big one, which is refused. */
static void fill_for_big(bufpipe_t *ends[2])
{
	static char message[BIG];

	while (bufpipe_send(ends[OUT], message, SMALL, 0) == 0)
		;
	check_eq(bufpipe_send(ends[OUT], message, BIG, 0), -EAGAIN);
}

/* Receives one small message. Returns whether there was one. */
static bool take_one(bufpipe_t *ends[2])
{
	char message[SMALL];

	return bufpipe_recv(ends[IN], message, sizeof(message), 0) == SMALL;
}

/* Tries to send a big message. Returns whether it was sent. */
static bool fits_now(bufpipe_t *ends[2])
{
	static char message[BIG];
	int r = bufpipe_send(ends[OUT], message, BIG, 0);

	check(r == 0 || r == -EAGAIN);
	return r == 0;
}

Test(room, bufpipe_wait_says_so_when_what_was_refused_fits)
{
	bufpipe_t *ends[2];
	struct bufpipe_pollfd one = { .events = BUFPIPE_OUT };
	int ready;

	pipe_open(ends, &options);
	one.pipe = ends[OUT];
	fill_for_big(ends);
	do {
		check(take_one(ends));
		ready = bufpipe_wait(&one, 1, 0);
		check_eq(fits_now(ends), ready);
	} while (!ready);
	pipe_close(ends);
}

Test(room, is_reported_in_an_empty_ring_and_not_after_a_refusal)
{
	bufpipe_t *ends[2];
	struct bufpipe_pollfd one = { .events = BUFPIPE_OUT };

	pipe_open(ends, &options);
	one.pipe = ends[OUT];
	check_eq(bufpipe_wait(&one, 1, 0), 1);
	fill_for_big(ends);
	check_eq(bufpipe_wait(&one, 1, 0), 0);
	while (!fits_now(ends))
		check(take_one(ends));
	pipe_close(ends);
}

Test(room, of_a_static_pipe_is_one_object)
{
	struct bufpipe_options o = { .object_size = 1000, .object_count = 3 };
	struct bufpipe_pollfd one = { .events = BUFPIPE_OUT };
	char object[1000] = { 0 };
	bufpipe_t *ends[2];

	pipe_open(ends, &o);
	one.pipe = ends[OUT];
	check_eq(fill_up(ends[OUT], 1000), 3);
	check_eq(bufpipe_wait(&one, 1, 0), 0);
	check_eq(bufpipe_recv(ends[IN], object, 1000, 0), 1000);
	check_eq(bufpipe_wait(&one, 1, 0), 1);
	check_eq(bufpipe_send(ends[OUT], object, 1000, 0), 0);
	pipe_close(ends);
}

BOTH(room, a_set_says_so_when_what_was_refused_fits)
{
	bufpipe_set_t *set = set_open(flags);
	struct bufpipe_event event;
	bufpipe_t *ends[2];
	int ready;

	pipe_open(ends, &options);
	check_eq(bufpipe_set_add(set, ends[OUT], BUFPIPE_OUT, set), 0);
	fill_for_big(ends);
	set_expect_nothing(set);
	do {
		check(take_one(ends));
		ready = bufpipe_set_wait(set, &event, 1, 0);
		check_eq(fits_now(ends), ready);
	} while (!ready);
	bufpipe_set_destroy(set);
	pipe_close(ends);
}

BOTH(room, a_set_that_sleeps_wakes_when_what_was_refused_fits)
{
	bufpipe_set_t *set = set_open(flags);
	bufpipe_t *ends[2];
	struct waiter w;

	pipe_open(ends, &options);
	check_eq(bufpipe_set_add(set, ends[OUT], BUFPIPE_OUT, set), 0);
	fill_for_big(ends);
	waiter_start(&w, set, PLENTY);
	wait_until_asleep(0, w.thread.tid, ASLEEP_SET);
	while (take_one(ends))
		;
	check(waiter_ends(&w, PROMPT));
	thread_join(&w.thread);
	check_eq(w.result, 1);
	check_eq(w.event.events, BUFPIPE_OUT);
	check(fits_now(ends));
	bufpipe_set_destroy(set);
	pipe_close(ends);
}

Test(room, the_descriptor_is_readable_when_what_was_refused_fits)
{
	char message[BIG];
	bufpipe_t *ends[2];
	int64_t begin;
	int fd;

	pipe_open(ends, &options);
	fd = bufpipe_room_fd(ends[OUT]);
	check(fd >= 0);
	check_eq(bufpipe_room_fd(ends[OUT]), fd);
	check_eq(bufpipe_room_fd(ends[IN]), -EBADF);
	check_eq(bufpipe_room_fd(NULL), -EINVAL);
	check(readable(fd, 0));
	fill_for_big(ends);
	check(!readable(fd, 0));
	begin = clock_ns();
	while (!fits_now(ends)) {
		/*
		 * Every try that fails makes the descriptor quiet. No wake-up for an earlier try comes too
		 * late.
		 */
		check(take_one(ends));
		check(clock_ns() - begin < PLENTY);
	}
	fill_for_big(ends);
	/* Not readable before the message fits. */
	while (!readable(fd, 0))
		check(bufpipe_recv(ends[IN], message, BIG, 0) > 0);
	check(fits_now(ends));
	pipe_close(ends);
}

Test(room, the_descriptor_is_readable_when_the_receiver_is_gone)
{
	for (int i = 0; i < 2; i++) {
		char message[SMALL] = { 0 };
		bufpipe_t *ends[2];
		int fd;

		pipe_open(ends, &options);
		fd = bufpipe_room_fd(ends[OUT]);
		if (i)
			fill_for_big(ends);
		bufpipe_close(ends[IN]);
		check(readable(fd, PLENTY));
		check_eq(bufpipe_send(ends[OUT], message, SMALL, 0), -EPIPE);
		check(readable(fd, 0));
		bufpipe_close(ends[OUT]);
	}
}

struct job {
	bufpipe_t *ends[2];
};

static void receive_all(void *arg)
{
	struct job *job = arg;
	char message[BIG];
	ssize_t n;

	bufpipe_close(job->ends[OUT]);
	while ((n = bufpipe_recv(job->ends[IN], message, sizeof(message), PLENTY)) >= 0)
		check(pattern_holds(message, (size_t)n, (uint64_t)n));
	check_eq(n, -EPIPE);
}

/* A loop that sends what fits and waits for room for the rest. Its receiver is as quick as it can be. */
Test(room, a_loop_that_polls_the_descriptor_loses_no_wake_up)
{
	struct job job;
	struct child child;
	char message[BIG];
	int fd;

	pipe_open(job.ends, &options);
	fd = bufpipe_room_fd(job.ends[OUT]);
	child = child_start(receive_all, &job);
	bufpipe_close(job.ends[IN]);
	for (unsigned i = 0; i < 20000; i++) {
		size_t len = 1 + i * 7 % BIG;
		int r;

		pattern_fill(message, len, len);
		while ((r = bufpipe_send(job.ends[OUT], message, len, 0)) == -EAGAIN)
			check(readable(fd, PLENTY));
		check_eq(r, 0);
	}
	bufpipe_close(job.ends[OUT]);
	child_join(&child);
}

/* Serves a set that is one source of another event loop. Returns -EPIPE at the end of the stream. */
static int64_t drain_set(bufpipe_set_t *set, bufpipe_t *in, unsigned *next)
{
	struct bufpipe_event event;
	unsigned number;
	int n;

	while ((n = bufpipe_set_wait(set, &event, 1, 0)) == 1) {
		check(event.pipe == in);
		while (bufpipe_recv(in, &number, sizeof(number), 0) == sizeof(number))
			check_eq(number, (*next)++);
		if (event.events & BUFPIPE_HUP)
			return -EPIPE;
	}
	return n;
}

static void count_up(void *arg)
{
	struct job *job = arg;

	bufpipe_close(job->ends[IN]);
	for (unsigned i = 0; i < 20000; i++) {
		check_eq(bufpipe_send(job->ends[OUT], &i, sizeof(i), PLENTY), 0);
		if (i % 1000 == 0)
			sleep_ns(MSEC);
	}
}

Test(room, a_set_works_in_the_loop_of_another_library)
{
	int epoll = epoll_create1(EPOLL_CLOEXEC);
	struct epoll_event event = { .events = EPOLLIN };
	bufpipe_set_t *set = set_open(BUFPIPE_POLLABLE);
	struct child child;
	struct job job;
	unsigned next = 0;
	int64_t r;

	pipe_open(job.ends, &options);
	child = child_start(count_up, &job);
	bufpipe_close(job.ends[OUT]);
	check_eq(bufpipe_set_add(set, job.ends[IN], BUFPIPE_IN, NULL), 0);
	check_eq(epoll_ctl(epoll, EPOLL_CTL_ADD, bufpipe_set_fd(set), &event), 0);
	while ((r = drain_set(set, job.ends[IN], &next)) == 0) {
		check_eq(epoll_wait(epoll, &event, 1, (int)(PLENTY / MSEC)), 1);
	}
	check_eq(r, -EPIPE);
	check_eq(next, 20000);
	child_join(&child);
	close(epoll);
	bufpipe_set_destroy(set);
	bufpipe_close(job.ends[IN]);
}

Test(room, the_descriptor_of_a_set_is_quiet_when_nothing_is_there)
{
	bufpipe_set_t *set = set_open(BUFPIPE_POLLABLE);
	bufpipe_set_t *other = set_open(0);
	struct bufpipe_event event;
	bufpipe_t *ends[2];
	int fd = bufpipe_set_fd(set);

	check_eq(bufpipe_set_fd(other), -EINVAL);
	check_eq(bufpipe_set_fd(NULL), -EINVAL);
	pipe_open(ends, NULL);
	check_eq(bufpipe_set_add(set, ends[IN], BUFPIPE_IN, NULL), 0);
	while (readable(fd, 0))
		check_eq(bufpipe_set_wait(set, &event, 1, 0), 0);
	check_eq(bufpipe_set_wait(set, &event, 1, 0), 0);
	check(!readable(fd, 0));
	for (int i = 0; i < 3; i++) {
		say(ends[OUT], "here");
		check(readable(fd, PLENTY));
		check_eq(bufpipe_set_wait(set, &event, 1, 0), 1);
		hear(ends[IN], "here");
		check_eq(bufpipe_set_wait(set, &event, 1, 0), 0);
		check(!readable(fd, 0));
	}
	bufpipe_close(ends[OUT]);
	check(readable(fd, PLENTY));
	check_eq(bufpipe_set_wait(set, &event, 1, 0), 1);
	check(event.events & BUFPIPE_HUP);
	check_eq(bufpipe_set_remove(set, ends[IN]), 0);
	bufpipe_close(ends[IN]);
	bufpipe_set_destroy(set);
	bufpipe_set_destroy(other);
}

/*
 * An end that joins a set, or is changed in it, after the set's descriptor has turned quiet makes it readable
 * again.
 */
Test(room, the_descriptor_of_a_set_tells_of_what_is_added_later)
{
	bufpipe_set_t *set = set_open(BUFPIPE_POLLABLE);
	struct bufpipe_event event;
	bufpipe_t *ends[2];
	int fd = bufpipe_set_fd(set);

	check_eq(bufpipe_set_wait(set, &event, 1, 0), 0);
	pipe_open(ends, NULL);
	say(ends[OUT], "early");
	check_eq(bufpipe_set_add(set, ends[IN], 0, NULL), 0);
	while (readable(fd, 0))
		check_eq(bufpipe_set_wait(set, &event, 1, 0), 0);
	check_eq(bufpipe_set_modify(set, ends[IN], BUFPIPE_IN, NULL), 0);
	check(readable(fd, PLENTY));
	check_eq(bufpipe_set_wait(set, &event, 1, 0), 1);
	hear(ends[IN], "early");
	check_eq(bufpipe_set_remove(set, ends[IN]), 0);
	while (readable(fd, 0))
		check_eq(bufpipe_set_wait(set, &event, 1, 0), 0);
	check_eq(bufpipe_set_add(set, ends[IN], BUFPIPE_IN, NULL), 0);
	say(ends[OUT], "late");
	check(readable(fd, PLENTY));
	check_eq(bufpipe_set_wait(set, &event, 1, 0), 1);
	check_eq(bufpipe_set_remove(set, ends[IN]), 0);
	pipe_close(ends);
	bufpipe_set_destroy(set);
}
