/* SPDX-License-Identifier: MIT */
/*
 * A system call is refused, with any errno that a sandbox may choose, from the beginning or from a later
 * moment on. Everything still works.
 */
#include "sandbox.h"
#include "support.h"

#include <bufpipe_uring.h>
#include <linux/io_uring.h>
#include <poll.h>
#include <sys/epoll.h>

#ifndef SYS_futex_waitv
#define SYS_futex_waitv 449
#endif

SUITE(refused);

static const int errors[] = { EPERM, EACCES, ENOSYS, EINVAL, ENOMEM };

enum { ERRORS = sizeof(errors) / sizeof(errors[0]), PIPES = 3 };

/* Which call is refused, in which process, and how that process waits. */
struct task {
	struct forbidden rule;
	int late; /* later: after the pipes and the set were made and used */
	struct bufpipe_options options;
	bufpipe_t *ends[PIPES][2];
	bufpipe_set_t *set;
};

/* Sends to each pipe in turn as soon as the other side may sleep, and once when it has slept for long. */
static void send_now_and_then(void *arg)
{
	struct task *task = arg;

	for (int i = 0; i < PIPES; i++)
		bufpipe_close(task->ends[i][IN]);
	for (int i = 0; i < PIPES; i++) {
		say(task->ends[i][OUT], "soon");
		sleep_ns(3 * MSEC);
		say(task->ends[i][OUT], "later");
		sleep_ns(i ? 3 * MSEC : 150 * MSEC);
	}
	for (int i = 0; i < PIPES; i++)
		bufpipe_close(task->ends[i][OUT]);
}

static void receive_blocked(struct task *task)
{
	char byte;

	for (int i = 0; i < PIPES; i++) {
		hear(task->ends[i][IN], "soon");
		hear(task->ends[i][IN], "later");
	}
	for (int i = 0; i < PIPES; i++)
		check_eq(bufpipe_recv(task->ends[i][IN], &byte, 1, PLENTY), -EPIPE);
}

/* Takes one message, if there is one, and counts it. Returns whether the stream has ended. */
static bool take(bufpipe_t *pipe, int *messages)
{
	char text[16];
	ssize_t n = bufpipe_recv(pipe, text, sizeof(text), 0);

	check(n == 4 || n == 5 || n == -EPIPE || n == -EAGAIN);
	*messages += n > 0;
	return n == -EPIPE;
}

static void receive_waiting(struct task *task)
{
	struct bufpipe_pollfd pipes[PIPES];
	int messages = 0;
	int ended = 0;

	for (int i = 0; i < PIPES; i++)
		pipes[i] = (struct bufpipe_pollfd){ .pipe = task->ends[i][IN], .events = BUFPIPE_IN };
	while (ended < PIPES) {
		check(bufpipe_wait(pipes, PIPES, PLENTY) > 0);
		for (int i = 0; i < PIPES; i++) {
			if (pipes[i].revents && take(pipes[i].pipe, &messages)) {
				pipes[i].pipe = NULL;
				ended++;
			}
			pipes[i].revents = 0;
		}
	}
	check_eq(messages, 2 * PIPES);
}

static void receive_in_set(struct task *task)
{
	struct bufpipe_event events[PIPES];
	int messages = 0;
	int ended = 0;

	for (int i = 0; i < PIPES; i++)
		check_eq(bufpipe_set_add(task->set, task->ends[i][IN], BUFPIPE_IN, NULL), 0);
	while (ended < PIPES) {
		int n = bufpipe_set_wait(task->set, events, PIPES, PLENTY);

		check(n > 0);
		for (int i = 0; i < n; i++) {
			if (!take(events[i].pipe, &messages))
				continue;
			check_eq(bufpipe_set_remove(task->set, events[i].pipe), 0);
			ended++;
		}
	}
	check_eq(messages, 2 * PIPES);
}

static void receive_by_descriptor(struct task *task)
{
	struct pollfd p[PIPES];
	int messages = 0;
	int ended = 0;

	for (int i = 0; i < PIPES; i++) {
		p[i] = (struct pollfd){ .fd = bufpipe_fd(task->ends[i][IN]), .events = POLLIN };
		check(p[i].fd >= 0);
	}
	while (ended < PIPES) {
		check(poll(p, PIPES, PLENTY / MSEC) > 0);
		for (int i = 0; i < PIPES; i++) {
			if (p[i].revents && take(task->ends[i][IN], &messages)) {
				p[i].fd = -1;
				ended++;
			}
			p[i].revents = 0;
		}
	}
	check_eq(messages, 2 * PIPES);
}

static void (*const ways[])(struct task *) = { receive_blocked, receive_waiting, receive_in_set,
					       receive_by_descriptor };

enum { WAYS = sizeof(ways) / sizeof(ways[0]) };

/* Uses each way of waiting briefly, so that the library has made the probes that it makes only once. */
static void warm_up(struct task *task)
{
	struct bufpipe_pollfd one = { .pipe = task->ends[0][IN], .events = BUFPIPE_IN };
	struct bufpipe_event event;
	char byte;

	check_eq(bufpipe_recv(task->ends[0][IN], &byte, 1, MSEC), -ETIMEDOUT);
	check_eq(bufpipe_wait(&one, 1, MSEC), 0);
	check_eq(bufpipe_set_add(task->set, task->ends[0][IN], BUFPIPE_IN, NULL), 0);
	check_eq(bufpipe_set_wait(task->set, &event, 1, MSEC), 0);
	check_eq(bufpipe_set_remove(task->set, task->ends[0][IN]), 0);
}

static void live_without(void *arg)
{
	struct task *task = arg;
	struct child child;

	if (!task->late)
		forbid(&task->rule, 1);
	check_eq(bufpipe_set_create(&task->set, 0), 0);
	for (int way = 0; way < WAYS; way++) {
		for (int i = 0; i < PIPES; i++)
			pipe_open(task->ends[i], &task->options);
		child = child_start(send_now_and_then, task);
		for (int i = 0; i < PIPES; i++)
			bufpipe_close(task->ends[i][OUT]);
		if (task->late && way == 0) {
			/* Other pipes, because the messages of the child are for the first way of waiting. */
			struct task idle = *task;

			for (int i = 0; i < PIPES; i++)
				pipe_open(idle.ends[i], &task->options);
			warm_up(&idle);
			for (int i = 0; i < PIPES; i++)
				pipe_close(idle.ends[i]);
			forbid(&task->rule, 1);
		}
		ways[way](task);
		child_join(&child);
		for (int i = 0; i < PIPES; i++)
			bufpipe_close(task->ends[i][IN]);
	}
	bufpipe_set_destroy(task->set);
}

static void refuse(int call)
{
	struct task tasks[2 * ERRORS];
	struct child children[2 * ERRORS];

	for (int kind = 0; kind < 2; kind++) {
		int n = 0;

		for (int i = 0; i < 2 * ERRORS; i++) {
			tasks[n] = (struct task){
				.rule = { .call = call, .error = errors[i / 2] },
				.late = i % 2,
				.options = { .spin_ns = BUFPIPE_NO_SPIN, .flags = kind ? BUFPIPE_SHARED : 0 },
			};
			children[n] = child_start(live_without, &tasks[n]);
			n++;
		}
		while (n--)
			child_join(&children[n]);
	}
}

Test(refused, nothing)
{
	refuse(SYS_acct);
}

Test(refused, futex_waitv)
{
	refuse(SYS_futex_waitv);
}

Test(refused, membarrier)
{
	refuse(SYS_membarrier);
}

Test(refused, io_uring_setup)
{
	refuse(SYS_io_uring_setup);
}

Test(refused, io_uring_enter)
{
	refuse(SYS_io_uring_enter);
}

Test(refused, io_uring_register)
{
	refuse(SYS_io_uring_register);
}

Test(refused, get_robust_list)
{
	refuse(SYS_get_robust_list);
}

Test(refused, madvise)
{
	refuse(SYS_madvise);
}

Test(refused, sched_yield)
{
	refuse(SYS_sched_yield);
}

Test(refused, getcpu)
{
	refuse(SYS_getcpu);
}

Test(refused, ioctl)
{
	refuse(SYS_ioctl);
}

Test(refused, timerfd_create)
{
	refuse(SYS_timerfd_create);
}

Test(refused, timerfd_settime)
{
	refuse(SYS_timerfd_settime);
}

/*
 * A set that has begun with io_uring loses it while it watches pipes and a descriptor. It goes on watching all
 * of them.
 */
static void lose_io_uring(void *arg)
{
	struct forbidden rule = { .call = SYS_io_uring_enter, .error = *(const int *)arg };
	struct bufpipe_options options = { .spin_ns = BUFPIPE_NO_SPIN, .buffer_size = 4096 };
	struct bufpipe_event event;
	bufpipe_t *full[2], *idle[2], *dying[2];
	bufpipe_set_t *set;
	int sockets[2];
	char text[16];

	pipe_open(full, &options);
	pipe_open(idle, &options);
	pipe_open(dying, &options);
	sockets_open(sockets, SOCK_STREAM);
	fill_up(full[OUT], 8);
	check_eq(bufpipe_set_create(&set, 0), 0);
	check_eq(bufpipe_set_add(set, full[OUT], BUFPIPE_OUT, NULL), 0);
	check_eq(bufpipe_set_add(set, idle[IN], BUFPIPE_IN, NULL), 0);
	check_eq(bufpipe_set_add(set, dying[IN], BUFPIPE_IN, NULL), 0);
	check_eq(bufpipe_set_add_fd(set, sockets[0], POLLIN, NULL), 0);
	check_eq(bufpipe_set_wait(set, &event, 1, 5 * MSEC), 0);
	forbid(&rule, 1);
	check_eq(bufpipe_set_wait(set, &event, 1, 5 * MSEC), 0);

	say(idle[OUT], "come");
	check_eq(bufpipe_set_wait(set, &event, 1, PLENTY), 1);
	check(event.pipe == idle[IN]);
	hear(idle[IN], "come");

	check_eq(write(sockets[1], "", 1), 1);
	check_eq(bufpipe_set_wait(set, &event, 1, PLENTY), 1);
	check(!event.pipe && event.events == POLLIN);
	check_eq(read(sockets[0], text, sizeof(text)), 1);

	while (bufpipe_recv(full[IN], text, sizeof(text), 0) >= 0)
		;
	check_eq(bufpipe_set_wait(set, &event, 1, PLENTY), 1);
	check(event.pipe == full[OUT]);
	check_eq(bufpipe_set_modify(set, full[OUT], 0, NULL), 0);

	check_eq(bufpipe_set_wait(set, &event, 1, 5 * MSEC), 0);
	bufpipe_close(dying[OUT]);
	check_eq(bufpipe_set_wait(set, &event, 1, PLENTY), 1);
	check(event.pipe == dying[IN]);
	check_eq(bufpipe_set_remove(set, dying[IN]), 0);
	check_eq(bufpipe_set_remove_fd(set, sockets[0]), 0);
	check_eq(bufpipe_set_wait(set, &event, 1, 5 * MSEC), 0);
	bufpipe_set_destroy(set);
	bufpipe_close(dying[IN]);
	pipe_close(full);
	pipe_close(idle);
	sockets_close(sockets);
}

Test(refused, io_uring_enter_while_a_set_uses_it)
{
	for (int i = 0; i < ERRORS; i++) {
		int error = errors[i];
		struct child child = child_start(lose_io_uring, &error);

		child_join(&child);
	}
}

/* The program's own io_uring must do without the operation. */
static void prepare_without(void *arg)
{
	struct forbidden rule = { .call = SYS_io_uring_setup, .error = *(const int *)arg };
	struct io_uring_sqe sqe = { .opcode = 77 };
	bufpipe_t *ends[2];

	forbid(&rule, 1);
	pipe_open(ends, NULL);
	check_eq(bufpipe_prep_wait(&sqe, ends[IN]), -ENOSYS);
	check_eq(bufpipe_prep_wait_room(&sqe, ends[OUT]), -ENOSYS);
	check_eq(bufpipe_prep_wait_hup(&sqe, ends[IN]), -ENOSYS);
	check_eq(sqe.opcode, 77);
	pipe_close(ends);
}

Test(refused, requests_for_an_io_uring_are_not_prepared)
{
	for (int i = 0; i < ERRORS; i++) {
		int error = errors[i];
		struct child child;

		if (error == EINVAL) /* where io_uring is allowed, the library's probe gets this errno */
			continue;
		child = child_start(prepare_without, &error);
		child_join(&child);
	}
}

/*
 * Nothing that is done with an io_uring may look like a signal to the thread that did it: neither asking for
 * it, nor creating a set, nor destroying one.
 */
static void no_interruption(int64_t for_ns)
{
	int epoll = epoll_create1(EPOLL_CLOEXEC);
	struct epoll_event event;

	check(epoll >= 0);
	check_eq(epoll_wait(epoll, &event, 1, (int)(for_ns / MSEC)), 0);
	close(epoll);
}

static void use_rings(void *arg)
{
	struct io_uring_sqe sqe;
	struct bufpipe_event event;
	bufpipe_t *ends[2];
	bufpipe_set_t *set;

	(void)arg;
	pipe_open(ends, NULL);
	bufpipe_prep_wait(&sqe, ends[IN]);
	no_interruption(60 * MSEC);
	for (int used = 0; used < 2; used++) {
		check_eq(bufpipe_set_create(&set, 0), 0);
		no_interruption(60 * MSEC);
		if (used) {
			check_eq(bufpipe_set_add(set, ends[IN], BUFPIPE_IN, NULL), 0);
			check_eq(bufpipe_set_wait(set, &event, 1, MSEC), 0);
		}
		bufpipe_set_destroy(set);
		no_interruption(60 * MSEC);
	}
	pipe_close(ends);
}

Test(refused, leaves_no_interruption_behind)
{
	struct child child = child_start(use_rings, NULL);

	child_join(&child);
}
