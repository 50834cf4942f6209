/* SPDX-License-Identifier: MIT */
/* Both directions of an end at once: two threads, one socket. */
#include "asleep.h"
#include "support.h"

SUITE(duplex);

static const struct bufpipe_options options = { .object_size = 8,
						.object_count = 4,
						.flags = BUFPIPE_DUPLEX };

struct job {
	bufpipe_t *pipe;
	int64_t timeout;
	int64_t result;
};

static void run_send(void *arg)
{
	struct job *job = arg;

	job->result = bufpipe_send(job->pipe, "outgoing", 8, job->timeout);
}

static void run_recv(void *arg)
{
	struct job *job = arg;
	char object[8];

	job->result = bufpipe_recv(job->pipe, object, 8, job->timeout);
}

/* One thread of an end waits for a message and another for room. */
struct both {
	struct job sending;
	struct job receiving;
	struct thread sender;
	struct thread receiver;
};

static void block_both(struct both *both, bufpipe_t *end, int64_t timeout, int sender_first)
{
	fill_up(end, 8);
	both->sending = both->receiving = (struct job){ .pipe = end, .timeout = timeout };
	if (sender_first) {
		thread_start(&both->sender, run_send, &both->sending);
		wait_until_asleep(0, both->sender.tid, ASLEEP_ANY);
	}
	thread_start(&both->receiver, run_recv, &both->receiving);
	if (!sender_first) {
		wait_until_asleep(0, both->receiver.tid, ASLEEP_SOCKET);
		thread_start(&both->sender, run_send, &both->sending);
	}
	/* Long enough for each of them to be in its longest kind of sleep. */
	sleep_ns(250 * MSEC);
	wait_until_asleep(0, both->sender.tid, ASLEEP_ANY);
	wait_until_asleep(0, both->receiver.tid, ASLEEP_ANY);
}

static void drain(bufpipe_t *pipe)
{
	char object[8];

	while (bufpipe_recv(pipe, object, 8, 0) == 8)
		;
}

Test(duplex, two_sleepers_of_an_end_each_get_what_they_wait_for)
{
	for (int i = 0; i < 8; i++) {
		struct both both;
		bufpipe_t *ends[2];
		int64_t begin;

		pipe_open(ends, &options);
		block_both(&both, ends[0], -1, i & 1);
		begin = clock_ns();
		for (int step = 0; step < 2; step++) {
			if (step == !(i & 2)) {
				say(ends[1], "incoming");
				thread_join(&both.receiver);
			} else {
				drain(ends[1]);
				thread_join(&both.sender);
			}
		}
		check(clock_ns() - begin < PROMPT);
		check_eq(both.sending.result, 0);
		check_eq(both.receiving.result, 8);
		pipe_close(ends);
	}
}

Test(duplex, two_sleepers_of_an_end_both_notice_its_peer_closing)
{
	for (int i = 0; i < 2; i++) {
		struct both both;
		bufpipe_t *ends[2];
		int64_t begin;

		pipe_open(ends, &options);
		block_both(&both, ends[0], -1, i);
		begin = clock_ns();
		bufpipe_close(ends[1]);
		thread_join(&both.receiver);
		thread_join(&both.sender);
		check(clock_ns() - begin < PROMPT);
		check_eq(both.sending.result, -EPIPE);
		check_eq(both.receiving.result, -EPIPE);
		bufpipe_close(ends[0]);
	}
}

static void hold(void *arg)
{
	(void)arg;
	for (;;)
		pause();
}

Test(duplex, two_sleepers_of_an_end_both_notice_its_peer_killed)
{
	for (int i = 0; i < 2; i++) {
		struct both both;
		struct child child;
		bufpipe_t *ends[2];
		int64_t begin;

		pipe_open(ends, &options);
		child = child_start(hold, NULL);
		bufpipe_close(ends[1]);
		/* The child also holds our end. This must not keep the other end alive. */
		block_both(&both, ends[0], -1, i);
		begin = clock_ns();
		child_kill(&child);
		thread_join(&both.receiver);
		thread_join(&both.sender);
		check(clock_ns() - begin < PROMPT);
		check_eq(both.sending.result, -EPIPE);
		check_eq(both.receiving.result, -EPIPE);
		bufpipe_close(ends[0]);
	}
}

Test(duplex, two_sleepers_of_an_end_both_time_out)
{
	struct both both;
	bufpipe_t *ends[2];

	pipe_open(ends, &options);
	block_both(&both, ends[0], 900 * MSEC, 1);
	thread_join(&both.receiver);
	thread_join(&both.sender);
	check_eq(both.sending.result, -ETIMEDOUT);
	check_eq(both.receiving.result, -ETIMEDOUT);
	pipe_close(ends);
}

Test(duplex, shutdown_ends_one_direction_only)
{
	bufpipe_t *ends[2];
	char object[8];

	pipe_open(ends, &options);
	say(ends[0], "the last");
	check_eq(bufpipe_shutdown(ends[0]), 0);
	check_eq(bufpipe_send(ends[0], "too late", 8, -1), -EPIPE);
	hear(ends[1], "the last");
	check_eq(bufpipe_recv(ends[1], object, 8, -1), -EPIPE);
	for (int i = 0; i < 20; i++) {
		say(ends[1], "opposite");
		hear(ends[0], "opposite");
	}
	check_eq(bufpipe_shutdown(ends[1]), 0);
	check_eq(bufpipe_recv(ends[0], object, 8, -1), -EPIPE);
	pipe_close(ends);
}

static void echo(void *arg)
{
	bufpipe_t *pipe = arg;
	uint64_t number;

	while (bufpipe_recv(pipe, &number, 8, PLENTY) == 8)
		check_eq(bufpipe_send(pipe, &number, 8, PLENTY), 0);
}

Test(duplex, question_and_answer_in_every_spin_mode)
{
	static const int64_t spins[] = { 0, BUFPIPE_NO_SPIN, 10 * USEC };

	for (unsigned i = 0; i < 3; i++) {
		struct bufpipe_options o = options;
		struct child child;
		bufpipe_t *ends[2];
		uint64_t answer;

		o.spin_ns = spins[i];
		pipe_open(ends, &o);
		child = child_start(echo, ends[1]);
		for (uint64_t n = 0; n < 5000; n++) {
			check_eq(bufpipe_send(ends[0], &n, 8, PLENTY), 0);
			check_eq(bufpipe_recv(ends[0], &answer, 8, PLENTY), 8);
			check_eq(answer, n);
		}
		check_eq(bufpipe_shutdown(ends[0]), 0);
		child_join(&child);
		pipe_close(ends);
	}
}

static void send_all(void *arg)
{
	for (uint64_t i = 0; i < 50000; i++)
		check_eq(bufpipe_send(arg, &i, 8, PLENTY), 0);
}

static void recv_all(void *arg)
{
	for (uint64_t i = 0; i < 50000; i++) {
		uint64_t number;

		check_eq(bufpipe_recv(arg, &number, 8, PLENTY), 8);
		check_eq(number, i);
	}
}

Test(duplex, streams_both_ways_with_a_thread_for_each)
{
	struct thread threads[4];
	bufpipe_t *ends[2];

	pipe_open(ends, &options);
	for (int i = 0; i < 4; i++)
		thread_start(&threads[i], i & 1 ? send_all : recv_all, ends[i / 2]);
	for (int i = 0; i < 4; i++)
		thread_join(&threads[i]);
	pipe_close(ends);
}
