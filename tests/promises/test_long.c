/* SPDX-License-Identifier: MIT */
/* Messages longer than the ring stream through in fragments: whole or not at all. */
#include "asleep.h"
#include "support.h"

SUITE(long_message);

static const struct bufpipe_options small = { .buffer_size = 4096 };

struct job {
	bufpipe_t *pipe;
	size_t len;
	int64_t timeout;
	int result;
};

static void send_job(void *arg)
{
	struct job *job = arg;
	char *message = malloc(job->len);

	pattern_fill(message, job->len, job->len);
	job->result = bufpipe_send(job->pipe, message, job->len, job->timeout);
	free(message);
}

static void send_in_child(void *arg)
{
	struct job *job = arg;

	send_job(job);
	check_eq(job->result, 0);
}

static void recv_job(bufpipe_t *pipe, size_t len, int64_t timeout)
{
	char *message = malloc(len);

	check_eq(bufpipe_recv(pipe, message, len, timeout), len);
	check(pattern_holds(message, len, len));
	free(message);
}

/* A child that has begun to send a message and stopped in the middle of it, asleep for want of room. */
static struct child stuck_sender(struct job *job)
{
	struct child child = child_start(send_in_child, job);

	wait_until_asleep(child.pid, child.pid, ASLEEP_SOCKET);
	return child;
}

static void stop(const struct child *child)
{
	int status;

	check_eq(kill(child->pid, SIGSTOP), 0);
	check_eq(waitpid(child->pid, &status, WUNTRACED), child->pid);
	check(WIFSTOPPED(status));
}

static void stream(size_t len, int64_t timeout)
{
	struct job job = { .len = len, .timeout = PLENTY };
	struct child sender;
	bufpipe_t *ends[2];

	pipe_open(ends, &small);
	job.pipe = ends[OUT];
	sender = child_start(send_in_child, &job);
	recv_job(ends[IN], len, timeout);
	child_join(&sender);
	say(ends[OUT], "after");
	hear(ends[IN], "after");
	pipe_close(ends);
}

Test(long_message, of_all_lengths_around_the_ring)
{
	struct bufpipe_info info;
	bufpipe_t *ends[2];

	pipe_open(ends, &small);
	bufpipe_get_info(ends[OUT], &info);
	pipe_close(ends);
	for (size_t len = info.buffer_size - 1; len < info.buffer_size + 20; len += 3)
		stream(len, PLENTY);
	for (size_t len = 8192 - 20; len < 8192 + 20; len += 7)
		stream(len, -1);
}

Test(long_message, twice_and_a_hundred_times_the_ring)
{
	stream(2 * 8192, -1);
	stream(2 * 8192, PLENTY);
	stream(100 * 8192 + 1, -1);
	stream(100 * 8192 + 1, PLENTY);
}

Test(long_message, of_64_mib)
{
	stream((size_t)64 << 20, -1);
}

Test(long_message, of_1_gib, .timeout = 120)
{
	if (!getenv("BUFPIPE_TEST_LONG"))
		cr_skip_test("only with BUFPIPE_TEST_LONG set");
	stream((size_t)1 << 30, -1);
}

Test(long_message, is_gathered_from_pieces)
{
	static char whole[100001];
	struct iovec pieces[100];
	struct job job = { .len = sizeof(whole) };
	bufpipe_t *ends[2];
	pid_t pid;
	int status;

	pattern_fill(whole, sizeof(whole), sizeof(whole));
	for (size_t i = 0; i < 100; i++)
		pieces[i] = (struct iovec){ .iov_base = whole + i * 1000, .iov_len = 1000 + (i == 99) };
	pipe_open(ends, &small);
	pid = fork();
	if (pid == 0)
		_exit(bufpipe_sendv(ends[OUT], pieces, 100, PLENTY) != 0);
	recv_job(ends[IN], job.len, PLENTY);
	check_eq(waitpid(pid, &status, 0), pid);
	check_eq(status, 0);
	pipe_close(ends);
}

Test(long_message, next_tells_the_whole_length_and_a_receive_into_a_small_buffer_leaves_it)
{
	struct job job = { .len = 50000, .timeout = PLENTY };
	struct child sender;
	bufpipe_t *ends[2];
	char buf[8];

	pipe_open(ends, &small);
	job.pipe = ends[OUT];
	sender = stuck_sender(&job);
	check_eq(bufpipe_next(ends[IN], 0), 50000);
	check_eq(bufpipe_recv(ends[IN], buf, sizeof(buf), -1), -EMSGSIZE);
	check_eq(bufpipe_next(ends[IN], -1), 50000);
	recv_job(ends[IN], job.len, -1);
	child_join(&sender);
	pipe_close(ends);
}

Test(long_message, a_receive_whose_time_is_up_goes_on_later)
{
	struct job job = { .len = 200000, .timeout = PLENTY };
	char *message = malloc(job.len);
	struct child sender;
	bufpipe_t *ends[2];
	const void *there;
	int sockets[2];
	char buf[8];

	sockets_open(sockets, SOCK_STREAM);
	pipe_open(ends, &small);
	job.pipe = ends[OUT];
	sender = stuck_sender(&job);
	stop(&sender);
	check_eq(bufpipe_recv(ends[IN], message, job.len, 1 * MSEC), -ETIMEDOUT);
	check_eq(bufpipe_recv(ends[IN], message, job.len, 0), -EAGAIN);
	check_eq(kill(sender.pid, SIGCONT), 0);
	check_eq(bufpipe_next(ends[IN], PLENTY), job.len);
	check_eq(bufpipe_recv(ends[IN], buf, sizeof(buf), PLENTY), -EMSGSIZE);
	check_eq(bufpipe_peek(ends[IN], &there, PLENTY), -EMSGSIZE);
	check_eq(bufpipe_send_end(sockets[0], ends[IN]), -EBUSY);
	memset(message, 0, job.len); /* the end keeps what came before, and not in this buffer */
	check_eq(bufpipe_recv(ends[IN], message, job.len, PLENTY), job.len);
	check(pattern_holds(message, job.len, job.len));
	child_join(&sender);
	free(message);
	pipe_close(ends);
	sockets_close(sockets);
}

Test(long_message, is_received_by_nothing_but_tries)
{
	struct job job = { .len = 300000, .timeout = PLENTY };
	char *message = malloc(job.len);
	struct child sender;
	bufpipe_t *ends[2];
	ssize_t r;

	pipe_open(ends, &small);
	job.pipe = ends[OUT];
	sender = stuck_sender(&job);
	while ((r = bufpipe_recv(ends[IN], message, job.len, 0)) == -EAGAIN)
		sched_yield();
	check_eq(r, job.len);
	check(pattern_holds(message, job.len, job.len));
	child_join(&sender);
	free(message);
	pipe_close(ends);
}

Test(long_message, closing_with_half_a_message_leaks_nothing)
{
	static char message[200000];
	bufpipe_t *ends[2];

	pipe_open(ends, &small);
	check_eq(bufpipe_send(ends[OUT], message, sizeof(message), 1 * MSEC), -ETIMEDOUT);
	check_eq(bufpipe_recv(ends[IN], message, sizeof(message), 1 * MSEC), -ETIMEDOUT);
	pipe_close(ends);
}

Test(long_message, a_sender_whose_time_is_up_drops_it_before_it_was_seen)
{
	static char message[200000];
	bufpipe_t *ends[2];
	ssize_t r;

	pipe_open(ends, &small);
	say(ends[OUT], "before");
	check_eq(bufpipe_send(ends[OUT], message, sizeof(message), 1 * MSEC), -ETIMEDOUT);
	hear(ends[IN], "before");
	while ((r = bufpipe_send(ends[OUT], "after", 5, 0)) == -EAGAIN)
		check_eq(bufpipe_recv(ends[IN], message, sizeof(message), 0), -EAGAIN);
	check_eq(r, 0);
	check_eq(bufpipe_recv(ends[IN], message, sizeof(message), PLENTY), 5);
	check(!memcmp(message, "after", 5));
	pipe_close(ends);
}

static const unsigned kinds[] = { 0, BUFPIPE_SHARED, BUFPIPE_SHARED | BUFPIPE_INTERRUPTIBLE };

/* A message that its sender gave up is gone at once, and not only when another message follows. */
Test(long_message, a_sender_whose_time_is_up_leaves_nothing_to_receive)
{
	static char message[200000];

	for (int i = 0; i < 9; i++) {
		struct bufpipe_options options = { .buffer_size = 4096, .flags = kinds[i / 3] };
		bufpipe_t *ends[2];
		const void *there;

		pipe_open(ends, &options);
		for (int lap = 0; lap < 3; lap++) {
			say(ends[OUT], "before");
			check_eq(bufpipe_send(ends[OUT], message, sizeof(message), 1 * MSEC), -ETIMEDOUT);
			hear(ends[IN], "before");
			check_eq(i % 3 == 0   ? bufpipe_next(ends[IN], 0)
				 : i % 3 == 1 ? bufpipe_peek(ends[IN], &there, 0)
					      : bufpipe_recv(ends[IN], message, sizeof(message), 0),
				 -EAGAIN);
			check_eq(bufpipe_next(ends[IN], 1 * MSEC), -ETIMEDOUT);
		}
		/* All of its room is free again. */
		check_eq(bufpipe_send(ends[OUT], message, 4096, 0), 0);
		check_eq(bufpipe_recv(ends[IN], message, 4096, 0), 4096);
		pipe_close(ends);
	}
}

/*
 * Several messages that were given up follow each other. The receiver recognizes each one by the record that
 * follows it.
 */
Test(long_message, several_that_were_given_up_leave_nothing_to_receive)
{
	static char message[300000];

	for (int i = 0; i < 3; i++) {
		struct bufpipe_options options = { .buffer_size = 4096, .flags = kinds[i] };
		bufpipe_t *ends[2];
		const void *there;

		pipe_open(ends, &options);
		for (int n = 0; n < 6; n++)
			check_eq(bufpipe_send(ends[OUT], message, 600, 0), 0);
		check_eq(bufpipe_send(ends[OUT], message, 200000, 1 * MSEC), -ETIMEDOUT);
		for (int n = 0; n < 6; n++)
			check_eq(bufpipe_recv(ends[IN], message, 600, 0), 600);
		check_eq(bufpipe_send(ends[OUT], message, 300000, 1 * MSEC), -ETIMEDOUT);
		check_eq(bufpipe_next(ends[IN], 0), -EAGAIN);
		check_eq(bufpipe_peek(ends[IN], &there, 0), -EAGAIN);
		check_eq(bufpipe_recv(ends[IN], message, 64, 0), -EAGAIN);
		say(ends[OUT], "after");
		hear(ends[IN], "after");
		pipe_close(ends);
	}
}

enum { HUGE = 64 << 20 };

/* A try has received the beginning of a huge message. Then its sender gives it up. */
static void receive_half(bufpipe_t *ends[2], char *message)
{
	struct job job = { .pipe = ends[OUT], .len = HUGE, .timeout = 300 * MSEC };
	struct thread sender;
	ssize_t r;

	do {
		thread_start(&sender, send_job, &job);
		check_eq(bufpipe_next(ends[IN], PLENTY), HUGE);
		/* The loop ends when the sender is slower for a moment. */
		r = bufpipe_recv(ends[IN], message, HUGE, 0);
		thread_join(&sender);
	} while (r == HUGE);
	check_eq(r, -EAGAIN);
	check_eq(job.result, -ETIMEDOUT);
}

Test(long_message, a_kept_beginning_of_one_that_is_given_up_leaves_nothing_to_receive)
{
	char *message = malloc(HUGE); /* its pages were hardly touched */
	int sockets[2];

	sockets_open(sockets, SOCK_STREAM);
	for (int i = 0; i < 3; i++) {
		bufpipe_t *ends[2];
		const void *there;

		pipe_open(ends, &small);
		receive_half(ends, message);
		check_eq(i == 0   ? bufpipe_next(ends[IN], 0)
			 : i == 1 ? bufpipe_peek(ends[IN], &there, 0)
				  : bufpipe_recv(ends[IN], message, 64, 0),
			 -EAGAIN);
		check_eq(bufpipe_send_end(sockets[0], ends[IN]), 0);
		say(ends[OUT], "after");
		hear(ends[IN], "after");
		pipe_close(ends);
	}
	sockets_close(sockets);
	free(message);
}

Test(long_message, a_receiver_in_the_middle_of_one_that_is_given_up_receives_the_next)
{
	static const unsigned can_stop[] = { 0, BUFPIPE_SHARED | BUFPIPE_INTERRUPTIBLE };
	char *message = malloc(HUGE);

	for (int i = 0; i < 2; i++) {
		struct bufpipe_options options = { .buffer_size = 4096, .flags = can_stop[i] };
		bufpipe_t *ends[2];

		pipe_open(ends, &options);
		receive_half(ends, message);
		check_eq(bufpipe_recv(ends[IN], message, HUGE, 0), -EAGAIN);
		check_eq(bufpipe_next(ends[IN], 0), -EAGAIN);
		say(ends[OUT], "after");
		hear(ends[IN], "after");
		pipe_close(ends);
	}
	free(message);
}

static void recv_next(void *arg)
{
	struct job *job = arg;
	char *buf = malloc(job->len);

	job->result = (int)bufpipe_recv(job->pipe, buf, job->len, -1);
	free(buf);
}

/* The sender gives up while the receiver sleeps in the middle of the message, or races with it. */
Test(long_message, one_that_is_given_up_does_not_stop_a_blocked_receiver)
{
	static char message[100000];
	int given_up = 0;

	for (int i = 0; i < 60; i++) {
		struct bufpipe_options options = { .buffer_size = 4096, .flags = kinds[i % 3] };
		struct job job = { .len = sizeof(message) };
		struct thread receiver;
		bufpipe_t *ends[2];

		pipe_open(ends, &options);
		job.pipe = ends[IN];
		thread_start(&receiver, recv_next, &job);
		/* If the receiver was quick enough for one message, the sender tries again. */
		for (int n = 0; n < 20; n++) {
			if (bufpipe_send(ends[OUT], message, sizeof(message), 1 + i * 2 * USEC) < 0) {
				given_up++;
				break;
			}
			thread_join(&receiver);
			thread_start(&receiver, recv_next, &job);
		}
		say(ends[OUT], "after");
		thread_join(&receiver);
		check_eq(job.result, 5);
		pipe_close(ends);
	}
	check(given_up > 0);
}

Test(long_message, a_sender_whose_time_is_up_drops_what_was_half_received)
{
	struct job job = { .len = 100000, .timeout = 300 * MSEC };
	static char message[100000];
	struct thread sender;
	bufpipe_t *ends[2];

	pipe_open(ends, &small);
	job.pipe = ends[OUT];
	thread_start(&sender, send_job, &job);
	wait_until_asleep(0, sender.tid, ASLEEP_ANY);
	check_eq(bufpipe_recv(ends[IN], message, 4096, 0), -EMSGSIZE);
	thread_join(&sender);
	check_eq(job.result, -ETIMEDOUT);
	check_eq(bufpipe_recv(ends[IN], message, sizeof(message), 0), -EAGAIN); /* takes the beginning */
	job.len = 60000;
	job.timeout = PLENTY;
	thread_start(&sender, send_job, &job);
	recv_job(ends[IN], job.len, PLENTY);
	thread_join(&sender);
	check_eq(job.result, 0);
	pipe_close(ends);
}

Test(long_message, is_not_received_if_its_sender_dies_in_the_middle)
{
	struct job job = { .len = 100000, .timeout = PLENTY };
	char *message = malloc(job.len);
	struct child sender;
	bufpipe_t *ends[2];

	pipe_open(ends, &small);
	say(ends[OUT], "before");
	job.pipe = ends[OUT];
	sender = stuck_sender(&job);
	bufpipe_close(ends[OUT]);
	child_kill(&sender);
	hear(ends[IN], "before");
	check_eq(bufpipe_recv(ends[IN], message, job.len, PLENTY), -EPIPE);
	check_eq(bufpipe_recv(ends[IN], message, job.len, 0), -EPIPE);
	check_eq(bufpipe_next(ends[IN], -1), -EPIPE);
	bufpipe_close(ends[IN]);
	free(message);
}

Test(long_message, of_a_sender_that_dies_in_the_middle_gives_way_to_the_next_holder)
{
	struct job job = { .len = 100000, .timeout = PLENTY };
	char *message = malloc(job.len);
	struct child sender;
	bufpipe_t *ends[2];

	pipe_open(ends, &small);
	job.pipe = ends[OUT];
	sender = stuck_sender(&job);
	child_kill(&sender);
	check_eq(bufpipe_recv(ends[IN], message, job.len, 1 * MSEC), -ETIMEDOUT);
	say(ends[OUT], "from another holder");
	hear(ends[IN], "from another holder");
	pipe_close(ends);
	free(message);
}

Test(long_message, is_a_broken_pipe_when_its_receiver_goes)
{
	struct job job = { .len = 100000, .timeout = PLENTY };
	struct thread sender;
	bufpipe_t *ends[2];
	int64_t begin;

	pipe_open(ends, &small);
	job.pipe = ends[OUT];
	thread_start(&sender, send_job, &job);
	wait_until_asleep(0, sender.tid, ASLEEP_SOCKET);
	begin = clock_ns();
	bufpipe_close(ends[IN]);
	thread_join(&sender);
	check_eq(job.result, -EPIPE);
	check(clock_ns() - begin < PROMPT);
	bufpipe_close(ends[OUT]);
}

Test(long_message, goes_both_ways_at_once)
{
	struct bufpipe_options options = { .buffer_size = 4096, .flags = BUFPIPE_DUPLEX };
	struct job job = { .len = 3 << 20, .timeout = PLENTY };
	struct job back;
	struct child child;
	struct thread sender;
	bufpipe_t *ends[2];

	pipe_open(ends, &options);
	job.pipe = ends[1];
	back = job;
	back.pipe = ends[0];
	thread_start(&sender, send_job, &job);
	child = child_start(send_in_child, &back);
	recv_job(ends[1], back.len, PLENTY);
	recv_job(ends[0], job.len, PLENTY);
	thread_join(&sender);
	check_eq(job.result, 0);
	child_join(&child);
	pipe_close(ends);
}
