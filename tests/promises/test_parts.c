/* SPDX-License-Identifier: MIT */
/*
 * Long messages that one side or both sides move in parts, or that a receiver receives by calls with short
 * timeouts.
 */
#include "support.h"

#include <poll.h>
#include <signal.h>

SUITE(parts);

enum { LEN = 300000 };

static const unsigned kinds[] = { 0, BUFPIPE_SHARED, BUFPIPE_SHARED | BUFPIPE_INTERRUPTIBLE };

struct job {
	bufpipe_t *pipe;
	size_t len;
	size_t step; /* 0: in one call */
	int64_t timeout;
	ssize_t result;
	_Atomic bool done;
};

static ssize_t send_parts(bufpipe_t *pipe, const char *message, size_t len, size_t step, int64_t timeout)
{
	size_t at = 0;

	while (at < len) {
		size_t n = len - at < step ? len - at : step;
		ssize_t r = bufpipe_send_part(pipe, message + at, n, len - at - n, timeout);

		if (r >= 0)
			at += (size_t)r;
		else if (r != -EAGAIN && r != -ETIMEDOUT)
			return r;
	}
	return 0;
}

static void send_job(void *arg)
{
	struct job *job = arg;
	char *message = malloc(job->len);

	pattern_fill(message, job->len, job->len);
	job->result = job->step ? send_parts(job->pipe, message, job->len, job->step, job->timeout)
				: bufpipe_send(job->pipe, message, job->len, job->timeout);
	free(message);
	job->done = true;
}

/* Returns the length, or an error. */
static ssize_t recv_parts(bufpipe_t *pipe, char *message, size_t cap, size_t step, int64_t timeout)
{
	size_t at = 0, after = 1;

	while (after) {
		size_t n = cap - at < step ? cap - at : step;
		ssize_t r = bufpipe_recv_part(pipe, message + at, n, &after, timeout);

		if (r >= 0)
			at += (size_t)r;
		else if (r != -EAGAIN && r != -ETIMEDOUT)
			return r;
	}
	return (ssize_t)at;
}

static void pipe_of(bufpipe_t *ends[2], unsigned flags)
{
	struct bufpipe_options options = { .buffer_size = 4096, .flags = flags };

	pipe_open(ends, &options);
}

Test(parts, of_any_size_make_the_message)
{
	static const size_t steps[] = { 0, 1, 777, 4096, 100000, LEN };
	char *message = malloc(LEN);

	for (int kind = 0; kind < 3; kind++) {
		for (size_t i = 0; i < 6; i++) {
			struct job job = { .len = LEN, .step = steps[i], .timeout = i % 2 ? PLENTY : MSEC };
			size_t step = steps[(i + 2) % 6];
			struct thread sender;
			bufpipe_t *ends[2];

			if (!job.step)
				job.timeout = PLENTY;
			pipe_of(ends, kinds[kind]);
			job.pipe = ends[OUT];
			thread_start(&sender, send_job, &job);
			if (step)
				check_eq(recv_parts(ends[IN], message, LEN, step, i % 3 ? MSEC : 0), LEN);
			else
				check_eq(bufpipe_recv(ends[IN], message, LEN, PLENTY), LEN);
			check(pattern_holds(message, LEN, LEN));
			thread_join(&sender);
			check_eq(job.result, 0);
			say(ends[OUT], "after");
			hear(ends[IN], "after");
			pipe_close(ends);
		}
	}
	free(message);
}

Test(parts, a_short_message_comes_whole)
{
	bufpipe_t *ends[2];
	size_t after = 1;
	char buf[8];

	pipe_of(ends, BUFPIPE_SHARED);
	say(ends[OUT], "whole");
	check_eq(bufpipe_recv_part(ends[IN], buf, 4, &after, PLENTY), -EMSGSIZE);
	check_eq(bufpipe_recv_part(ends[IN], buf, 8, &after, PLENTY), 5);
	check_eq(after, 0);
	check_eq(bufpipe_send(ends[OUT], NULL, 0, 0), 0);
	check_eq(bufpipe_recv_part(ends[IN], NULL, 0, &after, PLENTY), 0);
	check_eq(bufpipe_recv_part(ends[IN], buf, 8, &after, 0), -EAGAIN);
	check_eq(bufpipe_recv_part(ends[IN], buf, 8, &after, MSEC), -ETIMEDOUT);
	check_eq(bufpipe_send_part(ends[OUT], buf, 4, 4, 0), -EMSGSIZE);
	pipe_close(ends);
}

Test(parts, keep_other_calls_of_their_direction_away)
{
	static char message[LEN];
	const void *there;
	void *room;

	for (int kind = 0; kind < 3; kind++) {
		bufpipe_t *ends[2];
		size_t after;

		pipe_of(ends, kinds[kind]);
		check_eq(bufpipe_send_part(ends[OUT], message, 1000, LEN - 1000, PLENTY), 1000);
		check_eq(bufpipe_send(ends[OUT], "", 1, 0), -EBUSY);
		check_eq(bufpipe_reserve(ends[OUT], &room, 1, 0), -EBUSY);
		check_eq(bufpipe_commit(ends[OUT], 0), -EINVAL);
		check_eq(bufpipe_shutdown(ends[OUT]), -EBUSY);
		check_eq(bufpipe_send_part(ends[OUT], message, 1000, LEN - 1000, PLENTY), -EINVAL);
		check_eq(bufpipe_send_part(ends[OUT], message, 0, LEN - 1000, PLENTY), -EINVAL);

		check_eq(bufpipe_recv_part(ends[IN], message, 10, &after, PLENTY), 10);
		check_eq(after, LEN - 10);
		check_eq(bufpipe_recv(ends[IN], message, LEN, 0), -EBUSY);
		check_eq(bufpipe_next(ends[IN], 0), -EBUSY);
		check_eq(bufpipe_peek(ends[IN], &there, 0), -EBUSY);
		check_eq(bufpipe_unpeek(ends[IN]), -EINVAL);
		check_eq(bufpipe_recv_part(ends[IN], message, LEN, &after, MSEC), 990);
		check_eq(bufpipe_recv_part(ends[IN], message, LEN, &after, MSEC), -ETIMEDOUT);
		check_eq(bufpipe_recv_part(ends[IN], message, LEN, &after, 0), -EAGAIN);
		pipe_close(ends);
	}
}

Test(parts, are_given_up_by_the_sender)
{
	static char message[LEN];

	for (int i = 0; i < 6; i++) {
		bufpipe_t *ends[2];
		size_t after;

		pipe_of(ends, kinds[i / 2]);
		check_eq(bufpipe_send_part(ends[OUT], message, 3000, LEN - 3000, PLENTY), 3000);
		if (i % 2)
			check_eq(bufpipe_recv_part(ends[IN], message, 2000, &after, PLENTY), 2000);
		check_eq(bufpipe_cancel(ends[OUT]), 0);
		if (i % 2)
			check_eq(bufpipe_recv_part(ends[IN], message, 2000, &after, PLENTY), -ECANCELED);
		check_eq(bufpipe_recv_part(ends[IN], message, 2000, &after, 0), -EAGAIN);
		say(ends[OUT], "after");
		hear(ends[IN], "after");
		pipe_close(ends);
	}
}

Test(parts, are_dropped_by_the_receiver)
{
	char *message = malloc(LEN);

	for (int kind = 0; kind < 3; kind++) {
		struct job job = { .len = LEN, .timeout = PLENTY };
		struct thread sender;
		bufpipe_t *ends[2];
		size_t after;

		pipe_of(ends, kinds[kind]);
		job.pipe = ends[OUT];
		thread_start(&sender, send_job, &job);
		check_eq(bufpipe_recv_part(ends[IN], message, 5000, &after, PLENTY), 5000);
		check_eq(bufpipe_release(ends[IN]), 0);
		/* The rest of it is skipped as it arrives. */
		while (!job.done)
			check(bufpipe_next(ends[IN], MSEC) < 0);
		thread_join(&sender);
		check_eq(job.result, 0);
		say(ends[OUT], "after");
		hear(ends[IN], "after");
		pipe_close(ends);
	}
	free(message);
}

static void send_some(void *arg)
{
	bufpipe_t *pipe = arg;
	static char message[3000];

	check_eq(bufpipe_send_part(pipe, message, sizeof(message), LEN, PLENTY), sizeof(message));
}

static void recv_some(void *arg)
{
	bufpipe_t *pipe = arg;
	char message[3000];
	size_t after;

	check_eq(bufpipe_recv_part(pipe, message, sizeof(message), &after, PLENTY), sizeof(message));
}

/* There is room all the time, but another holder has the turn. */
static void try_until_quiet(void *arg)
{
	bufpipe_t *pipe = arg;
	struct pollfd room = { .fd = bufpipe_room_fd(pipe), .events = POLLIN };
	int64_t begin = clock_ns();
	static char message[3000];
	int readable;

	do {
		check_eq(bufpipe_send_part(pipe, message, sizeof(message), LEN, 0), -EAGAIN);
		/* Measure again: the first try may have taken up to 20 ms. */
		readable = poll(&room, 1, 0);
	} while (readable == 1 && clock_ns() - begin < PROMPT);
	check_eq(readable, 0);
	/* The other holder may give its turn back without being able to tell. */
	check_eq(poll(&room, 1, PLENTY / MSEC), 1);
}

Test(parts, a_try_while_another_sends_makes_the_descriptor_for_room_quiet)
{
	struct thread other;
	bufpipe_t *ends[2];
	void *room;

	pipe_of(ends, BUFPIPE_SHARED);
	check_eq(bufpipe_reserve(ends[OUT], &room, 8, 0), 0);
	thread_start(&other, try_until_quiet, ends[OUT]);
	thread_join(&other);
	check_eq(bufpipe_cancel(ends[OUT]), 0);
	pipe_close(ends);
}

/* A holder of the end leaves in the middle, by death or by closing. */
Test(parts, are_lost_with_the_holder_that_moves_them)
{
	bufpipe_t *ends[2];
	size_t after;
	char buf[8];

	pipe_of(ends, BUFPIPE_SHARED);
	struct child child = child_start(send_some, ends[OUT]);
	child_join(&child);
	check_eq(bufpipe_recv_part(ends[IN], buf, 8, &after, PLENTY), 8);
	say(ends[OUT], "after");
	check_eq(bufpipe_recv_part(ends[IN], buf, 8, &after, PLENTY), 8);
	while (bufpipe_recv_part(ends[IN], buf, 8, &after, PLENTY) != -ECANCELED)
		continue;
	hear(ends[IN], "after");

	send_some(ends[OUT]);
	child = child_start(recv_some, ends[IN]);
	child_join(&child);
	check_eq(bufpipe_next(ends[IN], 0), -EAGAIN); /* the beginning of the message died with its holder */
	check_eq(bufpipe_cancel(ends[OUT]), 0);
	say(ends[OUT], "after");
	hear(ends[IN], "after");

	send_some(ends[OUT]);
	recv_some(ends[IN]);
	bufpipe_close(ends[OUT]);
	check_eq(bufpipe_recv_part(ends[IN], buf, 8, &after, PLENTY), -ECANCELED);
	check_eq(bufpipe_recv_part(ends[IN], buf, 8, &after, PLENTY), -EPIPE);
	bufpipe_close(ends[IN]);
}

/*
 * Each call receives some of the message before it gives up, however short its timeout is. So the cost does
 * not grow with the square of the length.
 */
Test(parts, a_message_is_received_by_calls_with_short_timeouts)
{
	enum { MUCH = 48 << 20 };
	char *message = malloc(MUCH);

	for (int kind = 0; kind < 3; kind += 2) {
		struct job job = { .len = MUCH, .timeout = PLENTY };
		struct thread sender;
		bufpipe_t *ends[2];
		ssize_t r;

		pipe_of(ends, kinds[kind]);
		job.pipe = ends[OUT];
		thread_start(&sender, send_job, &job);
		do
			r = bufpipe_recv(ends[IN], message, MUCH, 50 * USEC);
		while (r == -ETIMEDOUT);
		check_eq(r, MUCH);
		check(pattern_holds(message, MUCH, MUCH));
		thread_join(&sender);
		check_eq(job.result, 0);
		pipe_close(ends);
	}
	free(message);
}

static void on_signal(int number)
{
	(void)number;
}

struct storm {
	pthread_t target;
	_Atomic bool over;
};

static void send_signals(void *arg)
{
	struct storm *storm = arg;

	while (!storm->over) {
		pthread_kill(storm->target, SIGUSR1);
		usleep(200);
	}
}

Test(parts, survive_signals)
{
	struct job job = { .len = LEN * 20, .step = 5000, .timeout = PLENTY };
	char *message = malloc(job.len);
	struct storm storm = { .target = pthread_self() };
	struct thread sender, signals;
	bufpipe_t *ends[2];
	size_t at = 0, after = 1;

	signal(SIGUSR1, on_signal);
	pipe_of(ends, BUFPIPE_SHARED | BUFPIPE_INTERRUPTIBLE);
	job.pipe = ends[OUT];
	thread_start(&sender, send_job, &job);
	thread_start(&signals, send_signals, &storm);
	while (after) {
		ssize_t r = bufpipe_recv_part(ends[IN], message + at, job.len - at, &after, PLENTY);

		check(r > 0 || r == -EINTR);
		at += r > 0 ? (size_t)r : 0;
	}
	storm.over = true;
	thread_join(&signals);
	thread_join(&sender);
	check_eq(at, job.len);
	check(pattern_holds(message, job.len, job.len));
	free(message);
	pipe_close(ends);
}
