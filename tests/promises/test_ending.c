/* SPDX-License-Identifier: MIT */
/* How a stream ends: by shutdown, close or death. What was sent before is received first. */
#include "asleep.h"
#include "support.h"

#include <fcntl.h>

SUITE(ending);

Test(ending, shutdown_lets_the_receiver_drain_and_then_says_so)
{
	for (int i = 0; i < 2; i++) {
		struct bufpipe_options options = { .flags = i ? BUFPIPE_SHARED : 0 };
		bufpipe_t *ends[2];
		const void *there;
		char buf[10];

		pipe_open(ends, &options);
		say(ends[OUT], "one");
		say(ends[OUT], "two");
		check_eq(bufpipe_shutdown(ends[OUT]), 0);
		check_eq(bufpipe_shutdown(ends[OUT]), 0);
		check_eq(bufpipe_send(ends[OUT], "x", 1, 0), -EPIPE);
		check_eq(bufpipe_send(ends[OUT], "x", 1, -1), -EPIPE);
		hear(ends[IN], "one");
		hear(ends[IN], "two");
		for (int again = 0; again < 2; again++) {
			check_eq(bufpipe_recv(ends[IN], buf, sizeof(buf), 0), -EPIPE);
			check_eq(bufpipe_recv(ends[IN], buf, sizeof(buf), -1), -EPIPE);
			check_eq(bufpipe_next(ends[IN], -1), -EPIPE);
			check_eq(bufpipe_peek(ends[IN], &there, -1), -EPIPE);
		}
		pipe_close(ends);
	}
}

Test(ending, shutdown_needs_no_room)
{
	struct bufpipe_options options = { .object_size = 8, .object_count = 511 }; /* exactly a page */
	bufpipe_t *ends[2];
	char object[8];

	for (int laps = 0; laps < 3; laps++) {
		pipe_open(ends, &options);
		for (int i = 0; i < laps * 300; i++) {
			check_eq(bufpipe_send(ends[OUT], "12345678", 8, 0), 0);
			check_eq(bufpipe_recv(ends[IN], object, 8, 0), 8);
		}
		check_eq(fill_up(ends[OUT], 8), 511);
		check_eq(bufpipe_shutdown(ends[OUT]), 0);
		for (int i = 0; i < 511; i++)
			check_eq(bufpipe_recv(ends[IN], object, 8, 0), 8);
		check_eq(bufpipe_recv(ends[IN], object, 8, 0), -EPIPE);
		check_eq(bufpipe_send(ends[OUT], object, 8, 0), -EPIPE);
		pipe_close(ends);
	}
}

Test(ending, shutdown_of_the_receiver_breaks_the_pipe_but_keeps_what_came)
{
	for (int i = 0; i < 2; i++) {
		struct bufpipe_options options = { .flags = i ? BUFPIPE_SHARED : 0 };
		bufpipe_t *ends[2];
		char buf[10];

		pipe_open(ends, &options);
		say(ends[OUT], "one");
		say(ends[OUT], "two");
		check_eq(bufpipe_shutdown(ends[IN]), 0);
		check_eq(bufpipe_shutdown(ends[IN]), 0);
		for (int n = 0; n < 5; n++)
			check_eq(bufpipe_send(ends[OUT], "x", 1, n % 2 - 1), -EPIPE);
		hear(ends[IN], "one");
		hear(ends[IN], "two");
		check_eq(bufpipe_recv(ends[IN], buf, sizeof(buf), -1), -EPIPE);
		pipe_close(ends);
	}
}

static int send_copy(bufpipe_t *out)
{
	return bufpipe_send(out, "x", 1, -1);
}

static int send_reserved(bufpipe_t *out)
{
	void *room;
	int r = bufpipe_reserve(out, &room, 1, -1);

	return r < 0 ? r : bufpipe_commit(out, 1);
}

static int send_one_of_many(bufpipe_t *out)
{
	static char text[] = "xy";
	struct iovec messages[2] = { { text, 1 }, { text + 1, 1 } };

	return (int)bufpipe_send_many(out, messages, 2, -1);
}

static int send_in_pieces(bufpipe_t *out)
{
	static char message[100000];

	return bufpipe_send(out, message, sizeof(message), -1);
}

/* This holds for the first message too, although its sender learns of the end only afterwards. */
Test(ending, nothing_is_delivered_after_the_receiver_has_shut_down)
{
	static int (*const sends[])(bufpipe_t *) = { send_copy, send_reserved, send_one_of_many,
						     send_in_pieces };

	for (int i = 0; i < 8; i++) {
		struct bufpipe_options options = { .buffer_size = 1000, .flags = i < 4 ? BUFPIPE_SHARED : 0 };
		bufpipe_t *ends[2];
		char buf[10];

		pipe_open(ends, &options);
		say(ends[OUT], "before");
		check_eq(bufpipe_shutdown(ends[IN]), 0);
		check_eq(sends[i % 4](ends[OUT]), -EPIPE);
		check_eq(sends[i % 4](ends[OUT]), -EPIPE);
		hear(ends[IN], "before");
		check_eq(bufpipe_recv(ends[IN], buf, sizeof(buf), -1), -EPIPE);
		pipe_close(ends);
	}
}

struct counting {
	bufpipe_t *out;
	uint64_t sent;
};

static void count_until_broken(void *arg)
{
	struct counting *c = arg;
	int r;

	while ((r = bufpipe_send(c->out, &c->sent, 8, PLENTY)) == 0)
		c->sent++;
	check_eq(r, -EPIPE);
}

/* Only one message may be either delivered or not: the one that was being received when its send failed. */
Test(ending, shutdown_of_the_receiver_leaves_at_most_one_message_of_a_stream_in_doubt)
{
	for (int round = 0; round < 200; round++) {
		struct bufpipe_options options = { .flags = round % 2 ? BUFPIPE_SHARED : 0 };
		struct counting c = { 0 };
		uint64_t number, received;
		struct thread thread;
		bufpipe_t *ends[2];

		pipe_open(ends, &options);
		c.out = ends[OUT];
		thread_start(&thread, count_until_broken, &c);
		for (received = 0; bufpipe_recv(ends[IN], &number, 8, PLENTY) == 8; received++) {
			check_eq(number, received);
			if (received == (uint64_t)round)
				check_eq(bufpipe_shutdown(ends[IN]), 0);
		}
		thread_join(&thread);
		check(received - c.sent <= 1);
		pipe_close(ends);
	}
}

Test(ending, nothing_is_delivered_after_a_broken_pipe_that_was_full)
{
	struct bufpipe_options options = { .object_size = 8, .object_count = 4 };
	bufpipe_t *ends[2];
	char object[8];
	void *room;

	for (int i = 0; i < 2; i++) {
		options.flags = i ? BUFPIPE_SHARED : 0;
		pipe_open(ends, &options);
		fill_up(ends[OUT], 8);
		check_eq(bufpipe_shutdown(ends[IN]), 0);
		check_eq(bufpipe_send(ends[OUT], object, 8, i - 1), -EPIPE);
		for (int n = 0; n < 4; n++)
			check_eq(bufpipe_recv(ends[IN], object, 8, 0), 8);
		check_eq(bufpipe_reserve(ends[OUT], &room, 8, 0), -EPIPE);
		check_eq(bufpipe_send(ends[OUT], object, 8, 0), -EPIPE);
		check_eq(bufpipe_recv(ends[IN], object, 8, 0), -EPIPE);
		pipe_close(ends);
	}
}

static void send_without_descriptors(void *arg)
{
	int64_t end = clock_ns() + PLENTY;

	syscall(SYS_close_range, 3u, ~0u, 0u);
	check_eq(bufpipe_send(arg, "x", 1, 0), 0);
	while (bufpipe_send(arg, "x", 1, 0) != -EPIPE)
		check(clock_ns() < end);
}

/* One holder closes its descriptors by mistake. For the others the stream goes on. */
Test(ending, a_holder_that_closed_its_descriptors_does_not_end_the_stream_for_all)
{
	struct bufpipe_options options = { .flags = BUFPIPE_SHARED };
	struct child child;
	bufpipe_t *ends[2];
	char buf[8];

	pipe_open(ends, &options);
	child = child_start(send_without_descriptors, ends[OUT]);
	child_join(&child);
	while (bufpipe_recv(ends[IN], buf, sizeof(buf), 0) > 0)
		;
	say(ends[OUT], "go on");
	hear(ends[IN], "go on");
	pipe_close(ends);
}

Test(ending, a_closed_sender_leaves_what_it_sent)
{
	bufpipe_t *ends[2];
	char buf[10];

	pipe_open(ends, NULL);
	say(ends[OUT], "left");
	bufpipe_close(ends[OUT]);
	hear(ends[IN], "left");
	check_eq(bufpipe_recv(ends[IN], buf, sizeof(buf), -1), -EPIPE);
	check_eq(bufpipe_recv(ends[IN], buf, sizeof(buf), 0), -EPIPE);
	bufpipe_close(ends[IN]);
}

Test(ending, a_closed_receiver_breaks_the_pipe)
{
	struct bufpipe_options options = { .object_size = 8, .object_count = 4 };
	bufpipe_t *ends[2];

	for (int fill = 0; fill < 2; fill++) {
		pipe_open(ends, &options);
		say(ends[OUT], "unread 1");
		if (fill)
			fill_up(ends[OUT], 8);
		bufpipe_close(ends[IN]);
		check_eq(bufpipe_send(ends[OUT], "unread 2", 8, -1), -EPIPE);
		check_eq(bufpipe_send(ends[OUT], "unread 3", 8, 0), -EPIPE);
		check_eq(bufpipe_send(ends[OUT], "unread 4", 8, -1), -EPIPE);
		bufpipe_close(ends[OUT]);
	}
}

struct job {
	bufpipe_t *pipe;
	int sends;
	int64_t result;
};

static void blocked_call(void *arg)
{
	struct job *job = arg;
	char object[8] = { 0 };

	job->result =
		job->sends ? bufpipe_send(job->pipe, object, 8, -1) : bufpipe_recv(job->pipe, object, 8, -1);
}

enum how { CLOSE, SHUTDOWN, CHILD_KILLED, CHILD_EXITS };

static void hold(void *arg)
{
	char byte;

	/* Ends when the parent sends a byte. The end of the stream never comes: the child has the writing side too. */
	if (read(*(int *)arg, &byte, 1) < 0)
		_exit(1);
}

/* A blocked call on one end learns that the other end is gone, in one of several ways. */
static void notices(struct job job, unsigned flags, enum how how, enum asleep asleep)
{
	struct bufpipe_options options = { .object_size = 8, .object_count = 4, .flags = flags };
	int us = job.sends ? OUT : IN;
	struct child child = { 0 };
	struct thread thread;
	bufpipe_t *ends[2];
	int64_t begin;
	int line[2];

	check_eq(pipe2(line, O_CLOEXEC), 0);
	pipe_open(ends, &options);
	if (job.sends)
		fill_up(ends[OUT], 8);
	job.pipe = ends[us];
	if (how >= CHILD_KILLED) {
		child = child_start(hold, &line[0]);
		bufpipe_close(ends[!us]);
	}
	thread_start(&thread, blocked_call, &job);
	wait_until_asleep(0, thread.tid, asleep);
	begin = clock_ns();
	if (how == CLOSE)
		bufpipe_close(ends[!us]);
	else if (how == SHUTDOWN)
		check_eq(bufpipe_shutdown(ends[!us]), 0);
	else if (how == CHILD_KILLED)
		child_kill(&child);
	else if (write(line[1], "", 1) == 1)
		child_join(&child);
	thread_join(&thread);
	check(clock_ns() - begin < PROMPT);
	check_eq(job.result, -EPIPE);
	bufpipe_close(ends[us]);
	if (how == SHUTDOWN)
		bufpipe_close(ends[!us]);
	close(line[0]);
	close(line[1]);
}

static void notices_in_all_ways(int sends)
{
	static const unsigned flags[] = { 0, BUFPIPE_SHARED, BUFPIPE_DUPLEX };

	for (unsigned i = 0; i < 3 * 4 * 2; i++) {
		enum how how = i / 3 % 4;

		/* A duplex shutdown ends what this end sends. It goes on receiving. */
		if (sends && how == SHUTDOWN && flags[i % 3] == BUFPIPE_DUPLEX)
			continue;
		/* On a duplex end, a sender that waits for room stays on the futex. */
		notices((struct job){ .sends = sends }, flags[i % 3], how,
			i / 12 && !(sends && flags[i % 3] == BUFPIPE_DUPLEX) ? ASLEEP_SOCKET : ASLEEP_ANY);
	}
}

Test(ending, a_blocked_receiver_notices_that_the_other_end_has_gone)
{
	notices_in_all_ways(0);
}

Test(ending, a_blocked_sender_notices_that_the_other_end_has_gone)
{
	notices_in_all_ways(1);
}

static void send_and_wait(void *arg)
{
	bufpipe_t *pipe = arg;

	for (uint64_t i = 0; i < 100; i++)
		check_eq(bufpipe_send(pipe, &i, 8, PLENTY), 0);
	for (;;)
		pause();
}

Test(ending, what_was_sent_before_sigkill_is_received_after_it)
{
	for (int i = 0; i < 2; i++) {
		struct bufpipe_options options = { .flags = i ? BUFPIPE_SHARED : 0 };
		struct child child;
		bufpipe_t *ends[2];
		uint64_t number;

		pipe_open(ends, &options);
		child = child_start(send_and_wait, ends[OUT]);
		bufpipe_close(ends[OUT]);
		check_eq(bufpipe_recv(ends[IN], &number, 8, PLENTY), 8);
		check_eq(number, 0);
		for (uint64_t n = 1; n < 50; n++)
			check_eq(bufpipe_recv(ends[IN], &number, 8, PLENTY), 8);
		wait_until_asleep(child.pid, child.pid, ASLEEP_PAUSE);
		child_kill(&child);
		for (uint64_t n = 50; n < 100; n++) {
			check_eq(bufpipe_recv(ends[IN], &number, 8, -1), 8);
			check_eq(number, n);
		}
		check_eq(bufpipe_recv(ends[IN], &number, 8, -1), -EPIPE);
		bufpipe_close(ends[IN]);
	}
}

/* Calls that only try also find that the peer has died, some milliseconds later. */
Test(ending, tries_notice_a_killed_peer)
{
	for (int sends = 0; sends < 2; sends++) {
		struct bufpipe_options options = { .object_size = 8, .object_count = 4 };
		char object[8] = { 0 };
		struct child child;
		bufpipe_t *ends[2];
		int64_t begin;
		int64_t r;
		int line[2];

		check_eq(pipe2(line, O_CLOEXEC), 0);
		pipe_open(ends, &options);
		if (sends)
			fill_up(ends[OUT], 8);
		child = child_start(hold, &line[0]);
		bufpipe_close(ends[sends ? IN : OUT]);
		child_kill(&child);
		begin = clock_ns();
		do {
			r = sends ? bufpipe_send(ends[OUT], object, 8, 0)
				  : bufpipe_recv(ends[IN], object, 8, 0);
			check(clock_ns() - begin < PROMPT);
		} while (r == -EAGAIN);
		check_eq(r, -EPIPE);
		bufpipe_close(ends[sends ? OUT : IN]);
		close(line[0]);
		close(line[1]);
	}
}

/* Nobody receives, so the ring is full after at most one lap. */
Test(ending, sends_into_free_room_notice_a_killed_peer_within_one_ring)
{
	struct bufpipe_options options = { .object_size = 8, .object_count = 1000 };
	char object[8] = { 0 };
	struct child child;
	bufpipe_t *ends[2];
	int line[2];
	int sent = 0;
	int r;

	check_eq(pipe2(line, O_CLOEXEC), 0);
	pipe_open(ends, &options);
	child = child_start(hold, &line[0]);
	bufpipe_close(ends[IN]);
	child_kill(&child);
	while ((r = bufpipe_send(ends[OUT], object, 8, -1)) == 0)
		check(++sent <= 1000);
	check_eq(r, -EPIPE);
	bufpipe_close(ends[OUT]);
	close(line[0]);
	close(line[1]);
}

Test(ending, one_process_may_close_its_two_ends_in_any_order)
{
	for (int i = 0; i < 4; i++) {
		struct bufpipe_options options = { .flags = i & 2 ? BUFPIPE_DUPLEX : 0 };
		bufpipe_t *ends[2];

		pipe_open(ends, &options);
		say(ends[OUT], "unread");
		bufpipe_close(ends[i & 1]);
		bufpipe_close(ends[!(i & 1)]);
	}
}

/* How a call that may wait ends if the other side was closed, or stopped, just before. */
static int64_t time_to_notice(unsigned direction, bool of_many, unsigned flags, bool by_stop)
{
	struct bufpipe_options options = { .spin_ns = BUFPIPE_NO_SPIN, .buffer_size = 4096, .flags = flags };
	struct bufpipe_pollfd asked = { .events = direction == IN ? BUFPIPE_IN : BUFPIPE_OUT };
	char message[64] = { 0 };
	bufpipe_t *ends[2];
	int64_t begin;

	pipe_open(ends, &options);
	asked.pipe = ends[direction];
	if (direction == OUT)
		fill_up(ends[OUT], sizeof(message));
	else
		check_eq(bufpipe_recv(ends[IN], message, sizeof(message), 0), -EAGAIN);
	if (by_stop)
		check_eq(bufpipe_stop(ends[!direction]), 0);
	else
		bufpipe_close(ends[!direction]);
	begin = clock_ns();
	if (of_many) {
		check_eq(bufpipe_wait(&asked, 1, PLENTY), 1);
		check(asked.revents & BUFPIPE_HUP);
	} else if (direction == IN) {
		check_eq(bufpipe_recv(ends[IN], message, sizeof(message), PLENTY), -EPIPE);
	} else {
		check_eq(bufpipe_send(ends[OUT], message, sizeof(message), PLENTY), -EPIPE);
	}
	begin = clock_ns() - begin;
	bufpipe_close(ends[direction]);
	if (by_stop)
		bufpipe_close(ends[!direction]);
	return begin;
}

/*
 * A death may be noticed 100 ms late, a close or a stop may not. One of many attempts must be quick; the machine may
 * hold up the others.
 */
static void notice_at_once(unsigned flags, bool by_stop)
{
	for (int i = 0; i < 4; i++) {
		int64_t least = PLENTY;

		for (int tries = 0; tries < 50 && least > 50 * MSEC; tries++) {
			int64_t took = time_to_notice(i % 2, i / 2, flags, by_stop);

			least = took < least ? took : least;
		}
		check(least <= 50 * MSEC);
	}
}

Test(ending, a_close_just_before_the_wait_is_noticed_at_once)
{
	notice_at_once(0, false);
	notice_at_once(BUFPIPE_DUPLEX, false);
}

Test(ending, a_stop_just_before_the_wait_is_noticed_at_once)
{
	notice_at_once(0, true);
	notice_at_once(BUFPIPE_DUPLEX, true);
	notice_at_once(BUFPIPE_DUPLEX | BUFPIPE_SHARED, true);
}
