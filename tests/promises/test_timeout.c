/* SPDX-License-Identifier: MIT */
/* Timeouts of zero, short ones and infinite ones. A call that waits for long does not wake meanwhile. */
#include "asleep.h"
#include "support.h"

SUITE(timeouts);

static const int64_t spins[] = { 0, BUFPIPE_NO_SPIN, BUFPIPE_SPIN_ALWAYS, 100 * USEC };

enum { SPINS = sizeof(spins) / sizeof(spins[0]) };

/* Every call that receives from an empty pipe, or sends into a full static pipe of 8-byte objects. */
static int64_t blocking_call(unsigned which, bufpipe_t *ends[2], int64_t timeout)
{
	static char bytes[8];
	struct iovec one = { .iov_base = bytes, .iov_len = 8 };
	const void *there;
	void *room;

	switch (which) {
	case 0:
		return bufpipe_send(ends[OUT], bytes, 8, timeout);
	case 1:
		return bufpipe_sendv(ends[OUT], &one, 1, timeout);
	case 2:
		return bufpipe_send_many(ends[OUT], &one, 1, timeout);
	case 3:
		return bufpipe_reserve(ends[OUT], &room, 8, timeout);
	case 4:
		return bufpipe_recv(ends[IN], bytes, 8, timeout);
	case 5:
		return bufpipe_recv_many(ends[IN], &one, 1, timeout);
	case 6:
		return bufpipe_next(ends[IN], timeout);
	default:
		return bufpipe_peek(ends[IN], &there, timeout);
	}
}

enum { FIRST_RECEIVING = 4, CALLS = 8 };

/* Runs the body for each call, on an end on which the call blocks. */
static void for_each_call(const struct bufpipe_options *options, void (*body)(unsigned, bufpipe_t *[2]))
{
	for (unsigned which = 0; which < CALLS; which++) {
		bufpipe_t *ends[2];

		pipe_open(ends, options);
		if (which < FIRST_RECEIVING)
			fill_up(ends[OUT], 8);
		body(which, ends);
		pipe_close(ends);
	}
}

static void each_value(unsigned which, bufpipe_t *ends[2])
{
	check_eq(blocking_call(which, ends, -2), -EINVAL);
	check_eq(blocking_call(which, ends, INT64_MIN), -EINVAL);
	check_eq(blocking_call(which, ends, 0), -EAGAIN);
	check_eq(blocking_call(which, ends, 1), -ETIMEDOUT);
	check_eq(blocking_call(which, ends, 1 * USEC), -ETIMEDOUT);
	check_eq(blocking_call(which, ends, 0), -EAGAIN);
}

Test(timeouts, mean_the_same_in_every_call_and_spin_mode)
{
	for (unsigned shared = 0; shared < 2; shared++) {
		for (unsigned i = 0; i < SPINS; i++) {
			struct bufpipe_options options = { .object_size = 8,
							   .object_count = 2,
							   .flags = shared ? BUFPIPE_SHARED : 0,
							   .spin_ns = spins[i] };

			for_each_call(&options, each_value);
		}
	}
}

static void takes_its_time(unsigned which, bufpipe_t *ends[2])
{
	static const int64_t lengths[] = { 300 * USEC, 5 * MSEC, 250 * MSEC };

	for (unsigned i = 0; i < 3; i++) {
		int64_t begin = clock_ns();

		check_eq(blocking_call(which, ends, lengths[i]), -ETIMEDOUT);
		check(clock_ns() - begin >= lengths[i]);
		check(clock_ns() - begin < lengths[i] + PROMPT);
	}
}

Test(timeouts, are_not_shorter_and_hardly_longer)
{
	for (unsigned i = 0; i < SPINS; i++) {
		struct bufpipe_options options = { .object_size = 8, .object_count = 2, .spin_ns = spins[i] };

		for_each_call(&options, takes_its_time);
	}
}

struct job {
	bufpipe_t **ends;
	unsigned which;
	int64_t timeout;
	int64_t result;
};

static void run_job(void *arg)
{
	struct job *job = arg;

	job->result = blocking_call(job->which, job->ends, job->timeout);
	if (job->which == 3)
		bufpipe_commit(job->ends[OUT], 8);
	if (job->which == 7)
		bufpipe_release(job->ends[IN]);
}

static void unblock(unsigned which, bufpipe_t *ends[2])
{
	char object[8] = { 0 };

	if (which < FIRST_RECEIVING)
		check_eq(bufpipe_recv(ends[IN], object, 8, 0), 8);
	else
		check_eq(bufpipe_send(ends[OUT], object, 8, 0), 0);
}

static void longest(unsigned which, bufpipe_t *ends[2])
{
	static const int64_t values[] = { -1, INT64_MAX, INT64_MAX - 1, INT64_MAX / 2 };

	for (unsigned i = 0; i < 4; i++) {
		struct job job = { .ends = ends, .which = which, .timeout = values[i] };
		enum asleep how = i % 2 ? ASLEEP_ANY : ASLEEP_SOCKET;
		struct thread thread;
		char object[8];

		thread_start(&thread, run_job, &job);
		wait_until_asleep(0, thread.tid, how);
		unblock(which, ends);
		thread_join(&thread);
		check(job.result >= 0);
		if (which == 6)
			check_eq(bufpipe_recv(ends[IN], object, 8, 0), 8);
	}
}

Test(timeouts, that_are_infinite_or_huge_let_a_call_wait_until_it_succeeds)
{
	struct bufpipe_options options = { .object_size = 8, .object_count = 2 };

	for_each_call(&options, longest);
}

static void recv_for_ever(void *arg)
{
	char byte;

	check_eq(bufpipe_recv(arg, &byte, 1, -1), 1);
}

static void send_for_ever(void *arg)
{
	check_eq(bufpipe_send(arg, "12345678", 8, -1), 0);
}

static void stays_asleep(const struct child *child)
{
	long before;

	wait_until_asleep(child->pid, child->pid, ASLEEP_SOCKET);
	sleep_ns(200 * MSEC);
	before = sleeps_so_far(child->pid, child->pid);
	sleep_ns(2 * SEC);
	check(sleeps_so_far(child->pid, child->pid) - before < 6);
}

Test(timeouts, an_idle_receiver_causes_no_wake_ups)
{
	struct child child;
	bufpipe_t *ends[2];

	pipe_open(ends, NULL);
	child = child_start(recv_for_ever, ends[IN]);
	stays_asleep(&child);
	say(ends[OUT], "x");
	child_join(&child);
	pipe_close(ends);
}

Test(timeouts, an_idle_sender_causes_no_wake_ups)
{
	struct bufpipe_options options = { .object_size = 8, .object_count = 1 };
	struct child child;
	bufpipe_t *ends[2];

	pipe_open(ends, &options);
	fill_up(ends[OUT], 8);
	child = child_start(send_for_ever, ends[OUT]);
	stays_asleep(&child);
	unblock(0, ends);
	child_join(&child);
	hear(ends[IN], "12345678");
	pipe_close(ends);
}

Test(timeouts, a_spinner_does_not_sleep)
{
	struct bufpipe_options options = { .spin_ns = BUFPIPE_SPIN_ALWAYS };
	bufpipe_t *ends[2];
	pid_t self = getpid();
	long before;
	char byte;

	pipe_open(ends, &options);
	before = sleeps_so_far(self, (pid_t)syscall(SYS_gettid));
	check_eq(bufpipe_recv(ends[IN], &byte, 1, 50 * MSEC), -ETIMEDOUT);
	check(sleeps_so_far(self, (pid_t)syscall(SYS_gettid)) - before < 3);
	pipe_close(ends);
}
