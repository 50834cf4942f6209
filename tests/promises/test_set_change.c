/* SPDX-License-Identifier: MIT */
/*
 * Sets that other threads change, interrupt or keep busy, and that a process forks, while a thread waits in
 * them.
 */
#include "asleep.h"
#include "sets.h"
#include "syscall.h"

#include <poll.h>
#include <stdatomic.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>

SUITE(set_change);

static void waiter_settle(struct waiter *w, bufpipe_set_t *set, int64_t timeout_ns)
{
	waiter_start(w, set, timeout_ns);
	wait_until_asleep(0, w->thread.tid, ASLEEP_SET);
}

BOTH(set_change, an_end_or_descriptor_added_while_another_thread_waits_wakes_it)
{
	bufpipe_set_t *set = set_open(flags);
	struct waiter w;
	bufpipe_t *ends[2];
	int event = eventfd(1, EFD_CLOEXEC);

	pipe_open(ends, NULL);
	for (int message_first = 0; message_first < 2; message_first++) {
		waiter_settle(&w, set, PLENTY);
		if (message_first)
			say(ends[OUT], "x");
		check_eq(bufpipe_set_add(set, ends[IN], BUFPIPE_IN, ends), 0);
		if (!message_first)
			say(ends[OUT], "x");
		thread_join(&w.thread);
		check_eq(w.result, 1);
		check(w.event.pipe == ends[IN] && w.event.user == ends);
		hear(ends[IN], "x");
		check_eq(bufpipe_set_remove(set, ends[IN]), 0);
	}
	waiter_settle(&w, set, PLENTY);
	check_eq(bufpipe_set_add_fd(set, event, POLLIN, &event), 0);
	thread_join(&w.thread);
	check_eq(w.result, 1);
	check(!w.event.pipe && w.event.user == &event && w.event.events == POLLIN);
	bufpipe_set_destroy(set);
	pipe_close(ends);
	close(event);
}

BOTH(set_change, an_end_modified_while_another_thread_waits_is_waited_for_as_it_is_now)
{
	struct bufpipe_options options = { .flags = BUFPIPE_DUPLEX };
	bufpipe_set_t *set = set_open(flags);
	struct waiter w;
	bufpipe_t *ends[2];

	pipe_open(ends, &options);
	check_eq(bufpipe_set_add(set, ends[0], BUFPIPE_IN, NULL), 0);
	waiter_settle(&w, set, PLENTY);
	check_eq(bufpipe_set_modify(set, ends[0], BUFPIPE_OUT, ends), 0);
	thread_join(&w.thread);
	check_eq(w.result, 1);
	check(w.event.user == ends && w.event.events == BUFPIPE_OUT);
	bufpipe_set_destroy(set);
	pipe_close(ends);
}

BOTH(set_change, an_end_removed_while_another_thread_waits_can_be_closed_and_is_silent)
{
	bufpipe_set_t *set = set_open(flags);
	struct waiter w;
	bufpipe_t *ends[2];
	int64_t begin;

	pipe_open(ends, NULL);
	check_eq(bufpipe_set_add(set, ends[IN], BUFPIPE_IN, ends), 0);
	waiter_settle(&w, set, SEC);
	check_eq(bufpipe_set_remove(set, ends[IN]), 0);
	say(ends[OUT], "x");
	hear(ends[IN], "x");
	bufpipe_close(ends[IN]);
	begin = clock_ns();
	while (bufpipe_send(ends[OUT], "", 0, 0) != -EPIPE) {
		check(clock_ns() - begin < PROMPT);
		sleep_ns(MSEC);
	}
	thread_join(&w.thread);
	check_eq(w.result, 0);
	bufpipe_set_destroy(set);
	bufpipe_close(ends[OUT]);
}

struct storm {
	bufpipe_set_t *set;
	bufpipe_t *ends[4][2];
	_Atomic int done;
	_Atomic unsigned heard;
};

static void send_without_end(void *arg)
{
	struct storm *s = arg;

	for (unsigned i = 0; !atomic_load(&s->done); i++) {
		if (bufpipe_send(s->ends[i % 4][OUT], "storm", 5, 0) == -EAGAIN)
			sched_yield();
	}
}

static void hear_without_end(void *arg)
{
	struct storm *s = arg;
	struct bufpipe_event events[3];
	char buf[8];

	while (!atomic_load(&s->done)) {
		int n = bufpipe_set_wait(s->set, events, 3, 10 * MSEC);

		check(n >= 0);
		for (int i = 0; i < n; i++) {
			if (bufpipe_recv(events[i].pipe, buf, sizeof(buf), 0) == 5)
				atomic_fetch_add(&s->heard, 1);
		}
	}
}

BOTH(set_change, ends_come_and_go_while_they_fire)
{
	struct storm s = { .set = set_open(flags) };
	struct thread sender;
	struct thread receiver;

	for (int i = 0; i < 4; i++)
		pipe_open(s.ends[i], NULL);
	thread_start(&sender, send_without_end, &s);
	thread_start(&receiver, hear_without_end, &s);
	for (int i = 0; i < 3000; i++) {
		bufpipe_t *p = s.ends[i * 7 % 4][IN];

		switch (i % 3) {
		case 0:
			check_eq(bufpipe_set_add(s.set, p, BUFPIPE_IN, p), 0);
			break;
		case 1:
			p = s.ends[(i - 1) * 7 % 4][IN];
			check_eq(bufpipe_set_modify(s.set, p, i % 2 ? BUFPIPE_IN : 0, p), 0);
			break;
		default:
			p = s.ends[(i - 2) * 7 % 4][IN];
			check_eq(bufpipe_set_remove(s.set, p), 0);
		}
		if (i % 16 == 0)
			sleep_ns(50 * USEC);
	}
	check_eq(bufpipe_set_add(s.set, s.ends[0][IN], BUFPIPE_IN, NULL), 0);
	for (unsigned before = atomic_load(&s.heard); atomic_load(&s.heard) < before + 100;)
		sched_yield();
	atomic_store(&s.done, 1);
	thread_join(&sender);
	thread_join(&receiver);
	bufpipe_set_destroy(s.set);
	for (int i = 0; i < 4; i++)
		pipe_close(s.ends[i]);
}

static void on_signal(int number)
{
	(void)number;
}

/*
 * The first signal nearly always ends the wait. But a sleep in a set may end by itself at that moment, for
 * example when the kernel has more to report about a thread that is gone.
 */
BOTH(set_change, a_signal_handler_ends_the_wait)
{
	enum { TIMES = 3 };
	struct sigaction action = { .sa_handler = on_signal, .sa_flags = SA_RESTART };
	bufpipe_set_t *set = set_open(flags);
	struct waiter w;
	bufpipe_t *ends[2];
	int missed = 0;

	check_eq(sigaction(SIGUSR1, &action, NULL), 0);
	pipe_open(ends, NULL);
	check_eq(bufpipe_set_add(set, ends[IN], BUFPIPE_IN, ends), 0);
	/*
	 * First while the kernel has only just been asked to watch the end, and then when it watches it
	 * already.
	 */
	for (int i = 0; i < TIMES; i++) {
		waiter_settle(&w, set, PLENTY);
		check_eq(pthread_kill(w.thread.handle, SIGUSR1), 0);
		while (!waiter_ends(&w, PROMPT)) {
			check(++missed < TIMES);
			check_eq(pthread_kill(w.thread.handle, SIGUSR1), 0);
		}
		thread_join(&w.thread);
		check_eq(w.result, -EINTR);
	}
	say(ends[OUT], "x");
	check_eq(set_expect(set, ends, PLENTY), BUFPIPE_IN);
	bufpipe_set_destroy(set);
	pipe_close(ends);
}

BOTH(set_change, goes_on_in_another_thread_when_the_one_that_waited_is_gone)
{
	bufpipe_set_t *set = set_open(flags);
	struct bufpipe_event event;
	struct waiter w;
	bufpipe_t *ends[2];
	int pipe_fds[2];

	pipe_open(ends, NULL);
	check_eq(pipe2(pipe_fds, O_CLOEXEC), 0);
	check_eq(bufpipe_set_add(set, ends[IN], BUFPIPE_IN, ends), 0);
	check_eq(bufpipe_set_add_fd(set, pipe_fds[0], POLLIN, pipe_fds), 0);
	for (int i = 0; i < 3; i++) {
		w = (struct waiter){ .set = set, .timeout_ns = 5 * MSEC };
		thread_start(&w.thread, wait_once, &w);
		thread_join(&w.thread);
		check_eq(w.result, 0);
		check_eq(bufpipe_set_wait(set, &event, 1, 0), 0);
		check_eq(bufpipe_set_wait(set, &event, 1, 5 * MSEC), 0);
	}
	say(ends[OUT], "x");
	check_eq(set_expect(set, ends, PLENTY), BUFPIPE_IN);
	hear(ends[IN], "x");
	check_eq(write(pipe_fds[1], "y", 1), 1);
	check_eq(set_expect(set, pipe_fds, PLENTY), POLLIN);
	bufpipe_set_destroy(set);
	pipe_close(ends);
	close(pipe_fds[0]);
	close(pipe_fds[1]);
}

/* Fork. */

struct family {
	unsigned flags;
	bufpipe_set_t *set;
	bufpipe_t *ends[2][2];
	bool close_first;
};

static void live_as_a_child(void *arg)
{
	struct family *f = arg;
	struct bufpipe_event event;
	bufpipe_set_t *own;

	check_eq(bufpipe_set_wait(f->set, &event, 1, 0), -EINVAL);
	check_eq(bufpipe_set_remove(f->set, f->ends[0][IN]), -EINVAL);
	check_eq(bufpipe_set_modify(f->set, f->ends[0][IN], 0, NULL), -EINVAL);
	check_eq(bufpipe_set_add(f->set, f->ends[1][IN], BUFPIPE_IN, NULL), -EINVAL);
	check_eq(bufpipe_set_add_fd(f->set, 0, POLLIN, NULL), -EINVAL);
	check_eq(bufpipe_set_remove_fd(f->set, 0), -EINVAL);
	if (f->close_first)
		bufpipe_close(f->ends[0][IN]);
	bufpipe_set_destroy(f->set);
	own = set_open(f->flags);
	check_eq(bufpipe_set_add(own, f->ends[1][IN], BUFPIPE_IN, f), 0);
	say(f->ends[1][OUT], "child");
	check_eq(set_expect(own, f, PLENTY), BUFPIPE_IN);
	hear(f->ends[1][IN], "child");
	bufpipe_set_destroy(own);
	if (!f->close_first)
		bufpipe_close(f->ends[0][IN]);
	bufpipe_close(f->ends[0][OUT]);
	pipe_close(f->ends[1]);
}

BOTH(set_change, a_child_makes_a_set_of_its_own_and_the_parents_goes_on)
{
	for (int close_first = 0; close_first < 2; close_first++) {
		struct family f = { .flags = flags, .set = set_open(flags), .close_first = close_first };
		struct child child;

		for (int i = 0; i < 2; i++) {
			pipe_open(f.ends[i], NULL);
			check_eq(bufpipe_set_add(f.set, f.ends[i][IN], BUFPIPE_IN, f.ends[i]), 0);
		}
		set_expect_nothing(f.set);
		check_eq(bufpipe_set_remove(f.set, f.ends[1][IN]), 0);
		child = child_start(live_as_a_child, &f);
		child_join(&child);
		set_expect_nothing(f.set);
		say(f.ends[0][OUT], "parent");
		check_eq(set_expect(f.set, f.ends[0], PLENTY), BUFPIPE_IN);
		hear(f.ends[0][IN], "parent");
		bufpipe_close(f.ends[0][OUT]);
		check(set_expect(f.set, f.ends[0], PROMPT) & BUFPIPE_HUP);
		bufpipe_set_destroy(f.set);
		bufpipe_close(f.ends[0][IN]);
		pipe_close(f.ends[1]);
	}
}

/* Starvation. */

/* If an end in the set is always ready, everything else is still reported. */
BOTH(set_change, an_end_that_is_always_ready_hides_nothing)
{
	bufpipe_set_t *set = set_open(flags);
	struct timespec soon = { .tv_nsec = 1000000 };
	struct itimerspec once = { .it_value = soon };
	bufpipe_t *busy[2], *quiet[2], *doomed[2], *roomy[2];
	struct child a, b;
	int timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);

	pipe_open(busy, NULL);
	pipe_open(quiet, NULL);
	pipe_open(doomed, NULL);
	pipe_open(roomy, NULL);
	say(busy[OUT], "always");
	check_eq(bufpipe_set_add(set, quiet[IN], BUFPIPE_IN, quiet), 0);
	set_expect_nothing(set);
	check_eq(bufpipe_set_add(set, busy[IN], BUFPIPE_IN, busy), 0);
	check_eq(set_expect(set, busy, PLENTY), BUFPIPE_IN);
	say(quiet[OUT], "x");
	check(set_await(set, quiet, BUFPIPE_IN, PROMPT));
	hear(quiet[IN], "x");
	check_eq(bufpipe_set_add_fd(set, timer, POLLIN, &timer), 0);
	check_eq(timerfd_settime(timer, 0, &once, NULL), 0);
	check(set_await(set, &timer, POLLIN, PROMPT));
	check_eq(bufpipe_set_remove_fd(set, timer), 0);

	a = child_start(sit_on, doomed[IN]);
	b = child_start(sit_on, roomy[OUT]);
	bufpipe_close(doomed[OUT]);
	bufpipe_close(roomy[IN]);
	check_eq(bufpipe_set_add(set, doomed[IN], BUFPIPE_IN, doomed), 0);
	check_eq(bufpipe_set_add(set, roomy[OUT], BUFPIPE_OUT, roomy), 0);
	check(set_await(set, roomy, BUFPIPE_OUT, PROMPT));
	child_kill(&a);
	child_kill(&b);
	check(set_await(set, doomed, BUFPIPE_HUP, PROMPT));
	check(set_await(set, roomy, BUFPIPE_HUP, PROMPT));
	bufpipe_set_destroy(set);
	pipe_close(busy);
	pipe_close(quiet);
	bufpipe_close(doomed[IN]);
	bufpipe_close(roomy[OUT]);
	close(timer);
}

/*
 * The library asks for a membarrier after it has raised its flags and before its last look. This substitute
 * for syscall publishes a message just there.
 */
static bufpipe_t *slip_into;

long syscall(long number, ...)
{
	bufpipe_t *into = slip_into;
	va_list list;
	long r;

	if (number == SYS_membarrier && into) {
		slip_into = NULL;
		say(into, "slipped in");
	}
	va_start(list, number);
	r = syscall_pass_on(number, list);
	va_end(list);
	return r;
}

BOTH(set_change, a_message_that_comes_as_it_falls_asleep_does_not_hide_the_others)
{
	bufpipe_set_t *set = set_open(flags);
	bufpipe_t *busy[2];
	bufpipe_t *quiet[2];

	pipe_open(busy, NULL);
	pipe_open(quiet, NULL);
	check_eq(bufpipe_set_add(set, quiet[IN], BUFPIPE_IN, quiet), 0);
	check_eq(bufpipe_set_add(set, busy[IN], BUFPIPE_IN, busy), 0);
	slip_into = busy[OUT];
	check_eq(set_expect(set, busy, PLENTY), BUFPIPE_IN);
	check(!slip_into);
	say(quiet[OUT], "x");
	check(set_await(set, quiet, BUFPIPE_IN, PROMPT));
	bufpipe_set_destroy(set);
	pipe_close(busy);
	pipe_close(quiet);
}

/* Spinning. */

BOTH(set_change, an_end_that_spins_for_ever_keeps_neither_changes_nor_others_waiting)
{
	struct bufpipe_options spinning = { .spin_ns = BUFPIPE_SPIN_ALWAYS };
	bufpipe_set_t *set = set_open(flags);
	bufpipe_t *always[2], *quiet[2], *doomed[2];
	struct child child;
	struct waiter w;
	int fd = eventfd(0, EFD_CLOEXEC);

	pipe_open(always, &spinning);
	pipe_open(quiet, NULL);
	pipe_open(doomed, &spinning);
	child = child_start(sit_on, doomed[IN]);
	bufpipe_close(doomed[OUT]);
	check_eq(bufpipe_set_add(set, quiet[IN], BUFPIPE_IN, quiet), 0);
	check_eq(bufpipe_set_add(set, always[IN], BUFPIPE_IN, always), 0);
	w = (struct waiter){ .set = set, .timeout_ns = PLENTY };
	thread_start(&w.thread, wait_once, &w);
	check_eq(bufpipe_set_add(set, doomed[IN], BUFPIPE_IN, doomed), 0);
	check_eq(bufpipe_set_add_fd(set, fd, POLLIN, &fd), 0);
	say(quiet[OUT], "x");
	thread_join(&w.thread);
	check(w.result == 1 && w.event.user == quiet);
	hear(quiet[IN], "x");
	check_eq(eventfd_write(fd, 1), 0);
	check_eq(set_expect(set, &fd, PLENTY), POLLIN);
	check_eq(bufpipe_set_remove_fd(set, fd), 0);
	child_kill(&child);
	check(set_await(set, doomed, BUFPIPE_HUP, PROMPT));
	bufpipe_set_destroy(set);
	pipe_close(always);
	pipe_close(quiet);
	bufpipe_close(doomed[IN]);
	close(fd);
}

BOTH(set_change, a_second_thread_does_not_wait_beside_the_first)
{
	bufpipe_set_t *set = set_open(flags);
	struct bufpipe_event event;
	struct waiter w;
	bufpipe_t *ends[2];

	pipe_open(ends, NULL);
	check_eq(bufpipe_set_add(set, ends[IN], BUFPIPE_IN, ends), 0);
	waiter_settle(&w, set, PLENTY);
	check_eq(bufpipe_set_wait(set, &event, 1, 0), -EBUSY);
	check_eq(bufpipe_set_wait(set, &event, 1, PLENTY), -EBUSY);
	say(ends[OUT], "x");
	thread_join(&w.thread);
	check_eq(w.result, 1);
	check_eq(bufpipe_set_wait(set, &event, 1, 0), 1);
	bufpipe_set_destroy(set);
	pipe_close(ends);
}

static void ask_for_the_descriptor(void *set)
{
	check_eq(bufpipe_set_fd(set), -EINVAL);
	bufpipe_set_destroy(set);
}

Test(set_change, a_child_does_not_get_the_descriptor_of_its_parents_set)
{
	bufpipe_set_t *set = set_open(BUFPIPE_POLLABLE);
	struct child child = child_start(ask_for_the_descriptor, set);

	child_join(&child);
	check(bufpipe_set_fd(set) >= 0);
	bufpipe_set_destroy(set);
}
