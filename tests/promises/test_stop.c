/* SPDX-License-Identifier: MIT */
/* Stopping: a call that blocks on an end wakes when another thread shuts that end down. */
#include "asleep.h"
#include "sets.h"

#include <poll.h>

SUITE(stop);

static const struct bufpipe_options kinds[] = {
	{ .object_size = 8, .object_count = 2 },
	{ .object_size = 8, .object_count = 2, .flags = BUFPIPE_SHARED },
	{ .object_size = 8, .object_count = 2, .flags = BUFPIPE_DUPLEX },
	{ .object_size = 8, .object_count = 2, .flags = BUFPIPE_DUPLEX | BUFPIPE_SHARED },
};
enum { KINDS = sizeof(kinds) / sizeof(kinds[0]) };

struct caller {
	struct thread thread;
	bufpipe_t *pipe;
	bool sends;
	int64_t result;
};

static void call(void *arg)
{
	struct caller *c = arg;
	char object[8] = { 0 };

	c->result = c->sends ? bufpipe_send(c->pipe, object, 8, -1) : bufpipe_recv(c->pipe, object, 8, -1);
}

static void call_in_a_child(void *arg)
{
	struct caller *c = arg;

	call(c);
	check_eq(c->result, -EPIPE);
}

/* If i is odd, the stop comes so late that the call already sleeps on the socket, as it does in a long wait. */
static void blocked_then(const struct bufpipe_options *options, bool sends, int callers, int i,
			 int (*stop)(bufpipe_t *))
{
	struct caller c[3];
	bufpipe_t *ends[2];
	int64_t begin;

	pipe_open(ends, options);
	if (sends)
		fill_up(ends[OUT], 8);
	for (int n = 0; n < callers; n++) {
		c[n] = (struct caller){ .pipe = ends[sends ? OUT : IN], .sends = sends };
		thread_start(&c[n].thread, call, &c[n]);
		wait_until_asleep(0, c[n].thread.tid, ASLEEP_ANY);
	}
	if (i % 2)
		sleep_ns(150 * MSEC);
	begin = clock_ns();
	check_eq(stop(ends[sends ? OUT : IN]), 0);
	for (int n = 0; n < callers; n++) {
		thread_join(&c[n].thread);
		check_eq(c[n].result, -EPIPE);
	}
	check(clock_ns() - begin < PROMPT);
	pipe_close(ends);
}

Test(stop, a_blocked_sender_wakes_at_shutdown)
{
	for (int i = 0; i < 2 * KINDS; i++)
		blocked_then(&kinds[i / 2], true, 1, i, bufpipe_shutdown);
}

Test(stop, a_blocked_receiver_wakes_at_stop)
{
	for (int i = 0; i < 2 * KINDS; i++)
		blocked_then(&kinds[i / 2], false, 1, i, bufpipe_stop);
}

Test(stop, a_blocked_receiver_of_a_one_way_end_wakes_at_shutdown)
{
	for (int i = 0; i < 4; i++)
		blocked_then(&kinds[i / 2], false, 1, i, bufpipe_shutdown);
}

Test(stop, those_that_wait_behind_another_holder_wake_too)
{
	for (int i = 0; i < 4; i++) {
		blocked_then(&kinds[1 + i / 2 * 2], true, 3, i, bufpipe_stop);
		blocked_then(&kinds[1 + i / 2 * 2], false, 3, i, bufpipe_stop);
	}
}

Test(stop, a_holder_in_another_process_wakes_too)
{
	for (int sends = 0; sends < 2; sends++) {
		struct caller c = { .sends = sends };
		struct child child;
		bufpipe_t *ends[2];

		pipe_open(ends, &kinds[3]);
		if (sends)
			fill_up(ends[OUT], 8);
		c.pipe = ends[sends ? OUT : IN];
		child = child_start(call_in_a_child, &c);
		wait_until_asleep(child.pid, child.pid, ASLEEP_ANY);
		check_eq(bufpipe_stop(c.pipe), 0);
		child_join(&child);
		pipe_close(ends);
	}
}

/* Waits for room as an event loop does, and has found none so far. */
static void poll_for_room(void *arg)
{
	bufpipe_t *pipe = arg;
	char object[8] = { 0 };
	struct pollfd p = { .fd = bufpipe_room_fd(pipe), .events = POLLIN };
	int r;

	check(p.fd >= 0);
	check_eq(bufpipe_send(pipe, object, 8, 0), -EAGAIN);
	/* As long as the holder that stops the end has the turn, a try finds it busy. */
	do {
		check_eq(ppoll(&p, 1, &(struct timespec){ .tv_sec = PLENTY / SEC }, NULL), 1);
		r = bufpipe_send(pipe, object, 8, 0);
	} while (r == -EAGAIN);
	check_eq(r, -EPIPE);
}

static void poll_set_for_room(void *arg)
{
	bufpipe_set_t *set = set_open(BUFPIPE_NO_URING);
	struct bufpipe_event event;

	check_eq(bufpipe_set_add(set, arg, BUFPIPE_OUT, set), 0);
	check_eq(bufpipe_set_wait(set, &event, 1, PLENTY), 1);
	check(event.events & BUFPIPE_HUP);
	bufpipe_set_destroy(set);
}

/* These waiters sleep on the socket alone, and a change of their own end writes nothing to it. */
Test(stop, a_room_fd_and_a_set_in_another_process_wake_too)
{
	/* On a duplex end nothing tells that one direction was shut down, as documented. */
	for (int i = 0; i < 6; i++) {
		int64_t begin;
		struct child child;
		bufpipe_t *ends[2];

		pipe_open(ends, &kinds[i / 2 % 2 * 2 + 1]);
		fill_up(ends[OUT], 8);
		child = child_start(i % 2 ? poll_set_for_room : poll_for_room, ends[OUT]);
		wait_until_asleep(child.pid, child.pid, i % 2 ? ASLEEP_SET : ASLEEP_SOCKET);
		begin = clock_ns();
		check_eq((i < 4 ? bufpipe_stop : bufpipe_shutdown)(ends[OUT]), 0);
		child_join(&child);
		check(clock_ns() - begin < PROMPT);
		pipe_close(ends);
	}
}

Test(stop, what_has_arrived_is_received_first)
{
	for (int i = 0; i < KINDS; i++) {
		bufpipe_t *ends[2];
		char object[8];

		pipe_open(ends, &kinds[i]);
		say(ends[OUT], "message1");
		check_eq(bufpipe_stop(ends[IN]), 0);
		hear(ends[IN], "message1");
		check_eq(bufpipe_recv(ends[IN], object, 8, -1), -EPIPE);
		check_eq(bufpipe_send(ends[OUT], "message2", 8, -1), -EPIPE);
		pipe_close(ends);
	}
}

Test(stop, the_other_side_gets_what_was_sent_and_then_the_end)
{
	for (int i = 0; i < KINDS; i++) {
		bufpipe_t *ends[2];
		char object[8];

		pipe_open(ends, &kinds[i]);
		say(ends[OUT], "message1");
		check_eq(bufpipe_stop(ends[OUT]), 0);
		check_eq(bufpipe_send(ends[OUT], "message2", 8, -1), -EPIPE);
		check_eq(bufpipe_stop(ends[OUT]), 0);
		hear(ends[IN], "message1");
		check_eq(bufpipe_recv(ends[IN], object, 8, -1), -EPIPE);
		pipe_close(ends);
	}
}

static void shut_down(void *arg)
{
	check_eq(bufpipe_stop(arg), 0);
}

/* A wait for many pipes, which another thread stops. */
Test(stop, a_wait_for_many_wakes)
{
	for (int i = 0; i < 4 * KINDS; i++) {
		short events = i % 2 ? BUFPIPE_OUT : BUFPIPE_IN;
		struct bufpipe_pollfd one = { .events = events };
		struct thread thread;
		bufpipe_t *ends[2];
		int64_t begin;

		pipe_open(ends, &kinds[i / 4]);
		if (events == BUFPIPE_OUT)
			fill_up(ends[OUT], 8);
		one.pipe = ends[i % 2 ? OUT : IN];
		begin = clock_ns();
		/* The stop comes at any moment of the wait. */
		thread_start(&thread, shut_down, one.pipe);
		while (bufpipe_wait(&one, 1, PLENTY) != 1)
			check(clock_ns() - begin < PROMPT);
		check(one.revents & BUFPIPE_HUP);
		check(clock_ns() - begin < PROMPT);
		thread_join(&thread);
		pipe_close(ends);
	}
}

static void shut_down_later(void *arg)
{
	sleep_ns(300 * MSEC);
	shut_down(arg);
}

/* This wait has lasted so long that it sleeps on the sockets, which tell nothing about our own end. */
Test(stop, a_long_wait_for_room_wakes)
{
	for (int i = 0; i < KINDS; i++) {
		struct bufpipe_pollfd one = { .events = BUFPIPE_OUT };
		struct thread thread;
		bufpipe_t *ends[2];
		int64_t begin;

		pipe_open(ends, &kinds[i]);
		fill_up(ends[OUT], 8);
		one.pipe = ends[OUT];
		begin = clock_ns();
		thread_start(&thread, shut_down_later, one.pipe);
		check_eq(bufpipe_wait(&one, 1, PLENTY), 1);
		check(one.revents & BUFPIPE_HUP);
		check(clock_ns() - begin < PROMPT);
		thread_join(&thread);
		pipe_close(ends);
	}
}

BOTH(stop, a_set_wakes)
{
	for (int i = 0; i < 2 * KINDS; i++) {
		bool sends = i % 2;
		bufpipe_t *ends[2];
		bufpipe_set_t *set = set_open(flags);
		struct waiter w;

		pipe_open(ends, &kinds[i / 2]);
		if (sends)
			fill_up(ends[OUT], 8);
		check_eq(bufpipe_set_add(set, ends[sends ? OUT : IN], sends ? BUFPIPE_OUT : BUFPIPE_IN, set),
			 0);
		waiter_start(&w, set, PLENTY);
		wait_until_asleep(0, w.thread.tid, ASLEEP_SET);
		check_eq(bufpipe_stop(ends[sends ? OUT : IN]), 0);
		check(waiter_ends(&w, PROMPT));
		thread_join(&w.thread);
		check_eq(w.result, 1);
		check(w.event.events & BUFPIPE_HUP);
		bufpipe_set_destroy(set);
		pipe_close(ends);
	}
}

/* A plain pthread, because thread_join would report the cancellation as a failure. */
static void *wait_in_set(void *arg)
{
	struct bufpipe_event event;

	bufpipe_set_wait(arg, &event, 1, -1);
	return NULL;
}

static void *wait_with_id(void *arg)
{
	struct waiter *w = arg;

	w->thread.tid = (pid_t)syscall(SYS_gettid);
	atomic_store(&w->ended, true);
	return wait_in_set(w->set);
}

BOTH(stop, a_set_goes_on_when_the_thread_that_waits_is_cancelled)
{
	bufpipe_set_t *set = set_open(flags);
	struct waiter w = { .set = set };
	bufpipe_t *ends[2];
	pthread_t thread;
	void *result;

	pipe_open(ends, NULL);
	check_eq(bufpipe_set_add(set, ends[IN], BUFPIPE_IN, ends), 0);
	check_eq(pthread_create(&thread, NULL, wait_with_id, &w), 0);
	while (!atomic_load(&w.ended))
		sleep_ns(100 * USEC);
	wait_until_asleep(0, w.thread.tid, ASLEEP_SET);
	check_eq(pthread_cancel(thread), 0);
	check_eq(pthread_join(thread, &result), 0);
	check(result == PTHREAD_CANCELED);
	set_expect_nothing_for(set, MOMENT);
	say(ends[OUT], "here");
	check_eq(set_expect(set, ends, PLENTY), BUFPIPE_IN);
	bufpipe_set_destroy(set);
	pipe_close(ends);
}

struct sitter {
	bufpipe_t *pipe;
	unsigned flags;
};

static void sit_in_a_set(void *arg)
{
	const struct sitter *s = arg;
	bufpipe_set_t *set = set_open(s->flags);
	struct bufpipe_event event;

	check_eq(bufpipe_set_add(set, s->pipe, BUFPIPE_IN, NULL), 0);
	check_eq(bufpipe_set_wait(set, &event, 1, PLENTY), 1);
	check_eq(event.events, BUFPIPE_IN);
	bufpipe_set_destroy(set);
}

/* SIGSTOP and SIGCONT without a handler are no interruption. */
BOTH(stop, a_set_goes_on_after_the_process_was_stopped)
{
	struct bufpipe_options o = { .flags = BUFPIPE_INTERRUPTIBLE };
	struct sitter s = { .flags = flags };
	struct child child;
	bufpipe_t *ends[2];

	pipe_open(ends, &o);
	s.pipe = ends[IN];
	child = child_start(sit_in_a_set, &s);
	for (int i = 0; i < 3; i++) {
		int status;

		wait_until_asleep(child.pid, child.pid, ASLEEP_SET);
		check_eq(kill(child.pid, SIGSTOP), 0);
		check_eq(waitpid(child.pid, &status, WUNTRACED), child.pid);
		check(WIFSTOPPED(status));
		check_eq(kill(child.pid, SIGCONT), 0);
	}
	wait_until_asleep(child.pid, child.pid, ASLEEP_SET);
	say(ends[OUT], "here");
	child_join(&child);
	pipe_close(ends);
}
