/* SPDX-License-Identifier: MIT */
/* bufpipe_fd under epoll, poll and select: readable while there is something to receive, quiet otherwise. */
#include "sets.h"

#include <poll.h>
#include <stdatomic.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/stat.h>

SUITE(fd);

static bool readable(int fd, int64_t timeout_ns)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };

	return poll(&p, 1, (int)(timeout_ns / MSEC)) == 1 && p.revents & POLLIN;
}

static int fd_of(bufpipe_t *pipe)
{
	int fd = bufpipe_fd(pipe);

	check(fd >= 0);
	check_eq(bufpipe_fd(pipe), fd);
	check(fcntl(fd, F_GETFD) & FD_CLOEXEC);
	return fd;
}

/* A receive that finds nothing. */
static void find_nothing(bufpipe_t *pipe)
{
	check_eq(bufpipe_recv(pipe, NULL, 0, 0), -EAGAIN);
}

Test(fd, is_readable_while_there_is_a_message_and_quiet_after_a_try_that_found_none)
{
	for (int kind = 0; kind < 3; kind++) {
		static const unsigned flags[] = { 0, BUFPIPE_SHARED, BUFPIPE_DUPLEX };
		struct bufpipe_options options = { .flags = flags[kind] };
		bufpipe_t *ends[2];
		int fd;

		pipe_open(ends, &options);
		say(ends[OUT], "before the first call");
		fd = fd_of(ends[IN]);
		check(readable(fd, PLENTY));
		hear(ends[IN], "before the first call");
		find_nothing(ends[IN]);
		check(!readable(fd, 0));
		for (int i = 0; i < 100; i++) {
			say(ends[OUT], "a");
			check(readable(fd, PLENTY));
			say(ends[OUT], "b");
			check(readable(fd, PLENTY));
			hear(ends[IN], "a");
			check(readable(fd, PLENTY));
			hear(ends[IN], "b");
			find_nothing(ends[IN]);
			check(!readable(fd, 0));
		}
		pipe_close(ends);
	}
}

Test(fd, refuses_what_does_not_receive)
{
	bufpipe_t *ends[2];

	pipe_open(ends, NULL);
	check_eq(bufpipe_fd(NULL), -EINVAL);
	check_eq(bufpipe_fd(ends[OUT]), -EBADF);
	pipe_close(ends);
}

Test(fd, stays_readable_at_the_end_of_the_stream)
{
	for (int how = 0; how < 2; how++) {
		bufpipe_t *ends[2];
		int fd;

		pipe_open(ends, NULL);
		fd = fd_of(ends[IN]);
		check(!readable(fd, 0));
		say(ends[OUT], "last");
		if (how)
			bufpipe_close(ends[OUT]);
		else
			check_eq(bufpipe_shutdown(ends[OUT]), 0);
		check(readable(fd, PLENTY));
		hear(ends[IN], "last");
		for (int i = 0; i < 3; i++) {
			check(readable(fd, PLENTY));
			check_eq(bufpipe_recv(ends[IN], NULL, 0, 0), -EPIPE);
		}
		if (!how)
			bufpipe_close(ends[OUT]);
		bufpipe_close(ends[IN]);
	}
}

Test(fd, becomes_readable_when_the_other_process_is_killed)
{
	struct child child;
	bufpipe_t *ends[2];
	int fd;

	pipe_open(ends, NULL);
	child = child_start(sit_on, ends[IN]);
	bufpipe_close(ends[OUT]);
	fd = fd_of(ends[IN]);
	check(!readable(fd, 0));
	child_kill(&child);
	check(readable(fd, PROMPT));
	check_eq(bufpipe_recv(ends[IN], NULL, 0, 0), -EPIPE);
	bufpipe_close(ends[IN]);
}

/* Other ways of waiting in between do not stop the descriptor from being rung. */
Test(fd, still_works_after_other_ways_of_waiting)
{
	static const unsigned flags[] = { 0, BUFPIPE_NO_URING };
	struct bufpipe_pollfd p = { .events = BUFPIPE_IN };
	bufpipe_set_t *set;
	bufpipe_t *ends[2];
	int fd;

	pipe_open(ends, NULL);
	p.pipe = ends[IN];
	fd = fd_of(ends[IN]);
	for (int how = 0; how < 6; how++) {
		find_nothing(ends[IN]);
		if (how < 2) {
			set = set_open(flags[how]);
			check_eq(bufpipe_set_add(set, ends[IN], BUFPIPE_IN, NULL), 0);
			set_expect_nothing(set);
			if (how % 2)
				check_eq(bufpipe_set_remove(set, ends[IN]), 0);
			bufpipe_set_destroy(set);
		} else if (how < 4) {
			check_eq(bufpipe_wait(&p, 1, how % 2 ? 300 * MSEC : 5 * MSEC), 0);
		} else {
			check_eq(bufpipe_recv(ends[IN], NULL, 0, how % 2 ? 300 * MSEC : 5 * MSEC),
				 -ETIMEDOUT);
		}
		check(!readable(fd, 0));
		say(ends[OUT], "x");
		check(readable(fd, PROMPT));
		hear(ends[IN], "x");
	}
	pipe_close(ends);
}

Test(fd, uses_further_descriptors_that_a_close_gives_back)
{
	static const unsigned flags[] = { 0, BUFPIPE_SHARED };

	for (int i = 0; i < 2; i++) {
		struct bufpipe_options options = { .flags = flags[i] };
		int none = descriptors_open();
		bufpipe_t *ends[2];
		int before;

		pipe_open(ends, &options);
		before = descriptors_open();
		fd_of(ends[IN]);
		/* A shared end also has a timer behind it. */
		check_eq(descriptors_open(), before + 2 + i);
		pipe_close(ends);
		check_eq(descriptors_open(), none);
	}
}

/* Sends numbered messages, with a pause now and then in which both sides fall asleep. */
enum { MESSAGES = 30000 };

static void send_numbers(void *arg)
{
	bufpipe_t **ends = arg;

	bufpipe_close(ends[IN]);
	for (unsigned i = 0; i < MESSAGES; i++) {
		check_eq(bufpipe_send(ends[OUT], &i, sizeof(i), PLENTY), 0);
		if (i % 64 == 0)
			sched_yield();
		if (i % 1024 == 0)
			sleep_ns(MSEC);
	}
	bufpipe_close(ends[OUT]);
}

/* Takes at most 'most' messages. Returns false at the end of the stream. */
static bool take_numbers(bufpipe_t *in, unsigned *next, unsigned most)
{
	unsigned number;

	while (most--) {
		ssize_t n = bufpipe_recv(in, &number, sizeof(number), 0);

		if (n == -EPIPE)
			return false;
		if (n == -EAGAIN)
			return true;
		check_eq(n, sizeof(number));
		check_eq(number, *next);
		++*next;
	}
	return true;
}

static void receive_with_epoll(uint32_t mode, unsigned most)
{
	struct epoll_event event = { .events = EPOLLIN | mode };
	int epoll = epoll_create1(EPOLL_CLOEXEC);
	struct child child;
	bufpipe_t *ends[2];
	unsigned next = 0;

	pipe_open(ends, NULL);
	child = child_start(send_numbers, ends);
	bufpipe_close(ends[OUT]);
	check_eq(epoll_ctl(epoll, EPOLL_CTL_ADD, fd_of(ends[IN]), &event), 0);
	do
		check_eq(epoll_wait(epoll, &event, 1, (int)(PLENTY / MSEC)), 1);
	while (take_numbers(ends[IN], &next, most));
	check_eq(next, MESSAGES);
	child_join(&child);
	bufpipe_close(ends[IN]);
	close(epoll);
}

Test(fd, level_triggered_epoll_gets_all_taking_one_message_per_wake_up)
{
	receive_with_epoll(0, 1);
}

Test(fd, level_triggered_epoll_gets_all_taking_what_is_there)
{
	receive_with_epoll(0, UINT32_MAX);
}

Test(fd, edge_triggered_epoll_gets_all_taking_what_is_there)
{
	receive_with_epoll(EPOLLET, UINT32_MAX);
}

Test(fd, select_gets_all)
{
	struct child child;
	bufpipe_t *ends[2];
	unsigned next = 0;
	int fd;

	pipe_open(ends, NULL);
	child = child_start(send_numbers, ends);
	bufpipe_close(ends[OUT]);
	fd = fd_of(ends[IN]);
	do {
		struct timeval limit = { .tv_sec = PLENTY / SEC };
		fd_set set;

		FD_ZERO(&set);
		FD_SET(fd, &set);
		check_eq(select(fd + 1, &set, NULL, NULL, &limit), 1);
	} while (take_numbers(ends[IN], &next, 100));
	check_eq(next, MESSAGES);
	child_join(&child);
	bufpipe_close(ends[IN]);
}

/* The end's own socket, found among those that the kernel says an epoll watches. */
static int socket_behind(int epoll)
{
	char path[64], line[256];
	struct stat st;
	FILE *file;
	int fd;

	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", epoll);
	file = fopen(path, "re");
	check(file);
	while (fgets(line, sizeof(line), file)) {
		if (sscanf(line, "tfd: %d", &fd) != 1 || fstat(fd, &st) < 0 || !S_ISSOCK(st.st_mode))
			continue;
		fclose(file);
		return fd;
	}
	support_fail(__FILE__, __LINE__, "there is no socket behind %d", epoll);
}

/*
 * While nobody is about to sleep on the descriptor, a message costs no system call, because no byte is sent
 * for it.
 */
Test(fd, is_rung_once_for_many_messages)
{
	bufpipe_t *ends[2];
	int fd, socket, bytes = 0;
	char byte;

	pipe_open(ends, NULL);
	fd = fd_of(ends[IN]);
	find_nothing(ends[IN]);
	for (int i = 0; i < 1000; i++)
		say(ends[OUT], "x");
	check(readable(fd, 0));
	socket = socket_behind(fd);
	while (recv(socket, &byte, 1, MSG_DONTWAIT) == 1)
		bytes++;
	check_eq(bytes, 1);
	pipe_close(ends);
}

/* Several processes sleep on one shared end: each message wakes at least one of them. */
struct crew {
	bufpipe_t *work[2];
	bufpipe_t *done[2];
};

static void work_by_fd(void *arg)
{
	struct crew *c = arg;
	struct pollfd p = { .events = POLLIN };
	unsigned number;

	bufpipe_close(c->work[OUT]);
	bufpipe_close(c->done[IN]);
	p.fd = fd_of(c->work[IN]);
	for (;;) {
		ssize_t n;

		check_eq(poll(&p, 1, (int)(PLENTY / MSEC)), 1);
		n = bufpipe_recv(c->work[IN], &number, sizeof(number), 0);
		if (n == -EPIPE)
			break;
		if (n == -EAGAIN)
			continue;
		check_eq(n, sizeof(number));
		check_eq(bufpipe_send(c->done[OUT], &number, sizeof(number), PLENTY), 0);
	}
}

Test(fd, each_message_to_a_shared_end_is_taken_by_one_of_several_processes)
{
	struct bufpipe_options options = { .flags = BUFPIPE_SHARED };
	struct child child[3];
	struct crew c;
	unsigned number;

	pipe_open(c.work, &options);
	pipe_open(c.done, &options);
	for (int i = 0; i < 3; i++)
		child[i] = child_start(work_by_fd, &c);
	bufpipe_close(c.work[IN]);
	bufpipe_close(c.done[OUT]);
	for (unsigned i = 0; i < 2000; i++) {
		check_eq(bufpipe_send(c.work[OUT], &i, sizeof(i), PLENTY), 0);
		check_eq(bufpipe_recv(c.done[IN], &number, sizeof(number), PLENTY), sizeof(number));
		check_eq(number, i);
	}
	bufpipe_close(c.work[OUT]);
	for (int i = 0; i < 3; i++)
		child_join(&child[i]);
	bufpipe_close(c.done[IN]);
}

/* A set takes the doorbell over, and gives it back however the end leaves the set. */
static void come_back_from_a_set(unsigned flags, bool remove)
{
	bufpipe_set_t *set;
	bufpipe_t *ends[2];
	int fd;

	pipe_open(ends, NULL);
	fd = fd_of(ends[IN]);
	check_eq(bufpipe_set_create(&set, flags), 0);
	check_eq(bufpipe_set_add(set, ends[IN], BUFPIPE_IN, NULL), 0);
	set_expect_nothing_for(set, MSEC);
	if (remove)
		check_eq(bufpipe_set_remove(set, ends[IN]), 0);
	bufpipe_set_destroy(set);
	check(!readable(fd, 0));
	say(ends[OUT], "x");
	check(readable(fd, 0));
	hear(ends[IN], "x");
	pipe_close(ends);
}

Test(fd, tells_of_messages_after_the_end_was_in_a_set)
{
	for (int remove = 0; remove < 2; remove++) {
		come_back_from_a_set(0, remove);
		come_back_from_a_set(BUFPIPE_NO_URING, remove);
	}
}
