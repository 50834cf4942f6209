/* SPDX-License-Identifier: MIT */
/*
 * A program starts without standard input, output or error, and prints nevertheless. No call may take one of
 * these numbers.
 */
#include "sandbox.h"
#include "support.h"

#include <fcntl.h>
#include <sys/resource.h>

SUITE(stdio);

enum { LOW = 3 };

static void close_standard(unsigned which)
{
	for (int fd = 0; fd < LOW; fd++) {
		if (which & 1u << fd)
			close(fd);
	}
}

/* The closed numbers are still closed. */
static void check_standard(unsigned which)
{
	for (int fd = 0; fd < LOW; fd++) {
		if (which & 1u << fd)
			check(fcntl(fd, F_GETFD) < 0 && errno == EBADF);
	}
}

/* What the program prints goes nowhere, and in particular not into a pipe. */
static void print_something(unsigned which)
{
	for (int fd = 0; fd < LOW; fd++) {
		if (which & 1u << fd)
			check(write(fd, "warning\n", 8) < 0 && errno == EBADF);
	}
}

static void talk(bufpipe_t *ends[2], unsigned which)
{
	print_something(which);
	say(ends[OUT], "hello");
	print_something(which);
	hear(ends[IN], "hello");
}

/* Watches an end in every way that needs descriptors. */
static void watch(bufpipe_t *ends[2], unsigned which)
{
	struct bufpipe_event event;

	for (unsigned flags = 0; flags <= BUFPIPE_NO_URING; flags += BUFPIPE_NO_URING) {
		bufpipe_set_t *set;

		check_eq(bufpipe_set_create(&set, flags), 0);
		check_standard(which);
		check_eq(bufpipe_set_add(set, ends[IN], BUFPIPE_IN, NULL), 0);
		say(ends[OUT], "in a set");
		check_eq(bufpipe_set_wait(set, &event, 1, PLENTY), 1);
		hear(ends[IN], "in a set");
		check_eq(bufpipe_set_wait(set, &event, 1, MSEC), 0);
		check_standard(which);
		bufpipe_set_destroy(set);
	}
	check(bufpipe_fd(ends[IN]) >= LOW);
	check_standard(which);
}

struct task {
	unsigned which;
	unsigned flags;
	int sockets[2];
};

static void make_and_watch(void *arg)
{
	const struct task *task = arg;
	struct bufpipe_options options = { .flags = task->flags };
	bufpipe_t *landed[2];
	bufpipe_t *ends[2];

	close_standard(task->which);
	check_eq(bufpipe_create(ends, &options), 0);
	check_standard(task->which);
	talk(ends, task->which);
	for (int i = 0; i < 2; i++) {
		check_eq(bufpipe_send_end(task->sockets[0], ends[i]), 0);
		bufpipe_close(ends[i]);
		check_eq(bufpipe_recv_end(task->sockets[1], &landed[i]), 0);
		check_standard(task->which);
	}
	talk(landed, task->which);
	watch(landed, task->which);
	bufpipe_close(landed[IN]);
	bufpipe_close(landed[OUT]);
	check_standard(task->which);
}

Test(stdio, create_hand_over_and_watch_take_no_standard_descriptor)
{
	static const unsigned kinds[] = { 0, BUFPIPE_DUPLEX, BUFPIPE_SHARED | BUFPIPE_DUPLEX };

	for (unsigned which = 1; which < 1u << LOW; which++) {
		for (int i = 0; i < 3; i++) {
			struct task task = { .which = which, .flags = kinds[i] };
			struct child child;

			sockets_open(task.sockets, SOCK_STREAM);
			child = child_start(make_and_watch, &task);
			child_join(&child);
			sockets_close(task.sockets);
		}
	}
}

static char address[64];

static void serve(void *arg)
{
	const struct task *task = arg;
	bufpipe_listener_t *listener;
	bufpipe_t *pipe;

	close_standard(task->which);
	check_eq(bufpipe_listen(&listener, address, NULL), 0);
	check_standard(task->which);
	check(bufpipe_listener_fd(listener) >= LOW);
	check_eq(write(task->sockets[0], "", 1), 1);
	check_eq(bufpipe_accept(listener, &pipe, PLENTY), 0);
	check_standard(task->which);
	print_something(task->which);
	hear(pipe, "knock");
	bufpipe_close(pipe);
	bufpipe_listener_close(listener);
}

static void call(void *arg)
{
	const struct task *task = arg;
	bufpipe_t *pipe;
	char byte;

	close_standard(task->which);
	check_eq(read(task->sockets[1], &byte, 1), 1);
	check_eq(bufpipe_connect(&pipe, address, NULL, PLENTY), 0);
	check_standard(task->which);
	print_something(task->which);
	say(pipe, "knock");
	bufpipe_close(pipe);
}

Test(stdio, listen_accept_and_connect_take_no_standard_descriptor)
{
	for (unsigned which = 1; which < 1u << LOW; which++) {
		for (int path = 0; path < 2; path++) {
			struct task task = { .which = which };
			struct child children[2];

			snprintf(address, sizeof(address),
				 path ? "/tmp/bufpipe-stdio-%d" : "@bufpipe-stdio-%d", (int)getpid());
			sockets_open(task.sockets, SOCK_STREAM);
			children[0] = child_start(serve, &task);
			children[1] = child_start(call, &task);
			child_join(&children[0]);
			child_join(&children[1]);
			sockets_close(task.sockets);
		}
	}
}

/* No number above the standard ones is free. Each call returns an error and leaves nothing behind. */
static void make_without_numbers(void *arg)
{
	const struct task *task = arg;
	struct rlimit limit = { .rlim_cur = 0, .rlim_max = 0 };
	bufpipe_listener_t *listener;
	bufpipe_set_t *set;
	bufpipe_t *end;
	bufpipe_t *ends[2];
	int first_free = fcntl(0, F_DUPFD, LOW);
	int many;

	/* All numbers below the first free one are taken. */
	close(first_free);
	close_standard(task->which);
	check_eq(bufpipe_create(ends, NULL), 0);
	check_eq(bufpipe_send_end(task->sockets[0], ends[IN]), 0);
	bufpipe_close(ends[IN]);
	bufpipe_close(ends[OUT]);
	for (many = 0; many < 2; many++) {
		limit.rlim_cur = limit.rlim_max = many ? LOW : (rlim_t)first_free;
		check_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
		check_eq(bufpipe_create(ends, NULL), -EMFILE);
		check_eq(bufpipe_listen(&listener, "@bufpipe-stdio-none", NULL), -EMFILE);
		check_eq(bufpipe_set_create(&set, 0), -EMFILE);
		check_eq(bufpipe_set_create(&set, BUFPIPE_NO_URING), -EMFILE);
		if (!many)
			check_eq(bufpipe_recv_end(task->sockets[1], &end), -EMFILE);
		check_standard(task->which);
	}
}

Test(stdio, calls_fail_when_no_other_number_is_free)
{
	struct task task = { .which = (1u << LOW) - 1 };
	struct child child;

	need_limits();
	sockets_open(task.sockets, SOCK_STREAM);
	child = child_start(make_without_numbers, &task);
	child_join(&child);
	sockets_close(task.sockets);
}
