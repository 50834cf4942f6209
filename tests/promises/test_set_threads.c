/* SPDX-License-Identifier: MIT */
/* Threads that take turns in waiting in one set, and what each of them may do meanwhile. */
#include "asleep.h"
#include "sets.h"

#include <poll.h>
#include <stdatomic.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>

SUITE(set_threads);

/* A thread that waits once, and then blocks in a call that nothing interrupts. */
struct stuck {
	bufpipe_set_t *set;
	int begun[2];
	int end[2];
};

static int hold_the_parent(void *arg)
{
	struct stuck *s = arg;
	struct pollfd p = { .fd = s->end[0], .events = POLLIN };
	char byte = 0;

	/* It ends by itself if the test fails meanwhile. */
	if (write(s->begun[1], &byte, 1) == 1 && poll(&p, 1, (int)(PLENTY / MSEC)) == 1)
		_exit(0);
	_exit(1);
}

static void wait_once_and_get_stuck(void *arg)
{
	static _Alignas(16) char stack[65536];
	struct stuck *s = arg;
	struct bufpipe_event event;
	int status;
	pid_t pid;

	check_eq(bufpipe_set_wait(s->set, &event, 1, MSEC), 0);
	/* Blocks as vfork does. The child shares the descriptors too, so it keeps none of them open. */
	pid = clone(hold_the_parent, stack + sizeof(stack), CLONE_VFORK | CLONE_FILES | SIGCHLD, s);
	check(pid > 0);
	check_eq(waitpid(pid, &status, 0), pid);
	check_eq(status, 0);
}

BOTH(set_threads, a_thread_that_waited_before_and_is_stuck_delays_no_other)
{
	struct stuck stuck = { .set = set_open(flags) };
	struct thread thread;
	struct waiter w;
	bufpipe_t *ends[2];
	int fd = eventfd(0, EFD_CLOEXEC);
	char byte;

#ifdef __SANITIZE_THREAD__
	cr_skip_test("ThreadSanitizer as a whole blocks with the stuck thread");
#endif
	pipe_open(ends, NULL);
	check_eq(pipe2(stuck.begun, O_CLOEXEC), 0);
	check_eq(pipe2(stuck.end, O_CLOEXEC), 0);
	check_eq(bufpipe_set_add(stuck.set, ends[IN], BUFPIPE_IN, ends), 0);
	check_eq(bufpipe_set_add_fd(stuck.set, fd, POLLIN, &fd), 0);
	thread_start(&thread, wait_once_and_get_stuck, &stuck);
	check_eq(read(stuck.begun[0], &byte, 1), 1);

	waiter_start(&w, stuck.set, PROMPT);
	wait_until_asleep(0, w.thread.tid, ASLEEP_SET);
	say(ends[OUT], "x");
	thread_join(&w.thread);
	check(w.result == 1 && w.event.user == ends);
	hear(ends[IN], "x");
	waiter_start(&w, stuck.set, PROMPT);
	wait_until_asleep(0, w.thread.tid, ASLEEP_SET);
	check_eq(eventfd_write(fd, 1), 0);
	thread_join(&w.thread);
	check(w.result == 1 && w.event.user == &fd);
	/* The change wakes the thread that sleeps. */
	check_eq(bufpipe_set_remove_fd(stuck.set, fd), 0);
	waiter_start(&w, stuck.set, PROMPT);
	wait_until_asleep(0, w.thread.tid, ASLEEP_SET);
	check_eq(bufpipe_set_modify(stuck.set, ends[IN], BUFPIPE_IN, &w), 0);
	say(ends[OUT], "x");
	thread_join(&w.thread);
	check(w.result == 1 && w.event.user == &w);
	/* The thread is told of a hang-up as well. */
	hear(ends[IN], "x");
	waiter_start(&w, stuck.set, PROMPT);
	wait_until_asleep(0, w.thread.tid, ASLEEP_SET);
	bufpipe_close(ends[OUT]);
	thread_join(&w.thread);
	check(w.result == 1 && w.event.events & BUFPIPE_HUP);

	check_eq(write(stuck.end[1], &byte, 1), 1);
	thread_join(&thread);
	bufpipe_set_destroy(stuck.set);
	bufpipe_close(ends[IN]);
	close(fd);
	for (int i = 0; i < 2; i++) {
		close(stuck.begun[i]);
		close(stuck.end[i]);
	}
}

/*
 * A thread sleeps in another loop while another thread uses the set. This must not look like a signal to the
 * first.
 */
static void sleep_elsewhere(void (*act)(void *), void *arg)
{
	int epoll = epoll_create1(EPOLL_CLOEXEC);
	struct thread thread;
	struct epoll_event event;

	thread_start(&thread, act, arg);
	check_eq(epoll_wait(epoll, &event, 1, 2 * MOMENT / MSEC), 0);
	thread_join(&thread);
	close(epoll);
}

static void do_nothing(void *arg)
{
	(void)arg;
}

BOTH(set_threads, creating_a_set_does_not_interrupt_its_creator)
{
	bufpipe_set_t *set = set_open(flags);

	for (int i = 0; i < 5; i++)
		sleep_elsewhere(do_nothing, NULL);
	bufpipe_set_destroy(set);
}

struct act {
	bufpipe_t *pipe;
	pid_t sleeper;
};

static void close_when_it_sleeps(void *arg)
{
	const struct act *a = arg;

	wait_until_asleep(0, a->sleeper, ASLEEP_SET);
	bufpipe_close(a->pipe);
}

static void say_when_it_sleeps(void *arg)
{
	const struct act *a = arg;

	wait_until_asleep(0, a->sleeper, ASLEEP_SET);
	say(a->pipe, "x");
}

BOTH(set_threads, an_event_does_not_interrupt_a_thread_that_only_changed_the_set)
{
	bufpipe_set_t *set = set_open(flags);
	bufpipe_t *first[2], *second[2];

	pipe_open(first, NULL);
	pipe_open(second, NULL);
	check_eq(bufpipe_set_add(set, first[IN], BUFPIPE_IN, NULL), 0);
	check_eq(bufpipe_set_add(set, second[IN], BUFPIPE_IN, second), 0);
	check_eq(bufpipe_set_remove(set, first[IN]), 0);
	sleep_elsewhere(close_when_it_sleeps, &(struct act){ second[OUT], (pid_t)syscall(SYS_gettid) });
	check(set_expect(set, second, PROMPT) & BUFPIPE_HUP);
	bufpipe_set_destroy(set);
	bufpipe_close(second[IN]);
	pipe_close(first);
}

BOTH(set_threads, an_event_does_not_interrupt_a_thread_that_waited_before)
{
	bufpipe_set_t *set = set_open(flags);
	struct bufpipe_event event;
	bufpipe_t *ends[2];
	struct waiter w;

	pipe_open(ends, NULL);
	check_eq(bufpipe_set_add(set, ends[IN], BUFPIPE_IN, ends), 0);
	check_eq(bufpipe_set_wait(set, &event, 1, MSEC), 0);
	waiter_start(&w, set, PLENTY);
	wait_until_asleep(0, w.thread.tid, ASLEEP_SET);
	sleep_elsewhere(say_when_it_sleeps, &(struct act){ ends[OUT], (pid_t)syscall(SYS_gettid) });
	thread_join(&w.thread);
	check(w.result == 1 && w.event.user == ends);
	bufpipe_set_destroy(set);
	pipe_close(ends);
}

/* Each thread finds all that there is, whichever thread asked the kernel before. */
BOTH(set_threads, they_take_turns_and_lose_nothing)
{
	enum { TURNS = 200 };
	bufpipe_set_t *set = set_open(flags);
	struct waiter w[2];
	bufpipe_t *ends[2];
	int fd = eventfd(0, EFD_CLOEXEC);
	eventfd_t count;

	pipe_open(ends, NULL);
	check_eq(bufpipe_set_add(set, ends[IN], BUFPIPE_IN, ends), 0);
	check_eq(bufpipe_set_add_fd(set, fd, POLLIN, &fd), 0);
	for (int i = 0; i < TURNS; i++) {
		struct bufpipe_event event;

		waiter_start(&w[0], set, PLENTY);
		if (i % 2)
			wait_until_asleep(0, w[0].thread.tid, ASLEEP_SET);
		if (i % 4 < 2)
			say(ends[OUT], "x");
		else
			check_eq(eventfd_write(fd, 1), 0);
		thread_join(&w[0].thread);
		check_eq(w[0].result, 1);
		check_eq(bufpipe_set_wait(set, &event, 1, PLENTY), 1);
		check(event.user == w[0].event.user);
		if (i % 4 < 2)
			hear(ends[IN], "x");
		else
			check_eq(eventfd_read(fd, &count), 0);
	}
	bufpipe_set_destroy(set);
	pipe_close(ends);
	close(fd);
}
