/* SPDX-License-Identifier: MIT */
/* Many messages in one call. */
#include "support.h"

SUITE(batch);

enum { MANY = 200 };

static void point_at(struct iovec *messages, char *bytes, size_t each, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		messages[i] = (struct iovec){ .iov_base = bytes + i * each, .iov_len = each };
}

Test(batch, moves_messages_of_different_lengths)
{
	static char out[MANY][64];
	static char in[MANY][64];
	struct iovec messages[MANY];
	bufpipe_t *ends[2];

	pipe_open(ends, NULL);
	for (unsigned i = 0; i < MANY; i++) {
		pattern_fill(out[i], i % 64, i);
		messages[i] = (struct iovec){ .iov_base = i % 64 ? out[i] : NULL, .iov_len = i % 64 };
	}
	check_eq(bufpipe_send_many(ends[OUT], messages, MANY, 0), MANY);
	point_at(messages, in[0], 64, MANY);
	check_eq(bufpipe_recv_many(ends[IN], messages, MANY, 0), MANY);
	for (unsigned i = 0; i < MANY; i++) {
		check_eq(messages[i].iov_len, i % 64);
		check(pattern_holds(in[i], i % 64, i));
	}
	check_eq(bufpipe_recv_many(ends[IN], messages, MANY, 0), -EAGAIN);
	pipe_close(ends);
}

Test(batch, sends_what_fits_and_receives_what_is_there)
{
	struct bufpipe_options options = { .object_size = 8, .object_count = 10 };
	static char bytes[20][8];
	struct iovec messages[20];
	bufpipe_t *ends[2];

	pipe_open(ends, &options);
	point_at(messages, bytes[0], 8, 20);
	check_eq(bufpipe_send_many(ends[OUT], messages, 20, 0), 10);
	check_eq(bufpipe_send_many(ends[OUT], messages, 20, 0), -EAGAIN);
	check_eq(bufpipe_send_many(ends[OUT], messages, 20, 1 * MSEC), -ETIMEDOUT);
	check_eq(bufpipe_recv_many(ends[IN], messages, 3, -1), 3);
	check_eq(bufpipe_send_many(ends[OUT], messages, 20, -1), 3);
	check_eq(bufpipe_recv_many(ends[IN], messages, 20, -1), 10);
	check_eq(bufpipe_recv_many(ends[IN], messages, 20, 1 * MSEC), -ETIMEDOUT);
	pipe_close(ends);
}

Test(batch, leaves_an_error_after_the_first_to_the_next_call)
{
	struct iovec messages[3] = {
		{ .iov_base = (char[8]){ 'a' }, .iov_len = 1 },
		{ .iov_base = NULL, .iov_len = 1 },
		{ .iov_base = (char[8]){ 'c' }, .iov_len = 1 },
	};
	bufpipe_t *ends[2];
	char byte;

	pipe_open(ends, NULL);
	check_eq(bufpipe_send_many(ends[OUT], messages, 3, 0), 1);
	check_eq(bufpipe_send_many(ends[OUT], messages + 1, 2, 0), -EINVAL);
	check_eq(bufpipe_recv(ends[IN], &byte, 1, 0), 1);
	check_eq(byte, 'a');
	say(ends[OUT], "short");
	say(ends[OUT], "much longer");
	say(ends[OUT], "short");
	messages[0].iov_len = messages[1].iov_len = messages[2].iov_len = 8;
	messages[1].iov_base = (char[8]){ 0 };
	check_eq(bufpipe_recv_many(ends[IN], messages, 3, 0), 1);
	check_eq(messages[0].iov_len, 5);
	check_eq(messages[1].iov_len, 8);
	check_eq(bufpipe_recv_many(ends[IN], messages + 1, 2, 0), -EMSGSIZE);
	hear(ends[IN], "much longer");
	hear(ends[IN], "short");
	pipe_close(ends);
}

Test(batch, receives_empty_messages_into_nothing)
{
	struct iovec messages[4] = { { NULL, 0 }, { NULL, 0 }, { NULL, 0 }, { NULL, 0 } };
	bufpipe_t *ends[2];

	pipe_open(ends, NULL);
	check_eq(bufpipe_send_many(ends[OUT], messages, 4, 0), 4);
	check_eq(bufpipe_recv_many(ends[IN], messages, 4, 0), 4);
	pipe_close(ends);
}

Test(batch, ends_at_the_end_of_the_stream)
{
	static char bytes[4][8];
	struct iovec messages[4];
	bufpipe_t *ends[2];

	pipe_open(ends, NULL);
	point_at(messages, bytes[0], 8, 4);
	check_eq(bufpipe_send_many(ends[OUT], messages, 2, 0), 2);
	check_eq(bufpipe_shutdown(ends[OUT]), 0);
	check_eq(bufpipe_send_many(ends[OUT], messages, 2, 0), -EPIPE);
	check_eq(bufpipe_recv_many(ends[IN], messages, 4, -1), 2);
	check_eq(bufpipe_recv_many(ends[IN], messages, 4, -1), -EPIPE);
	pipe_close(ends);
}

Test(batch, refuses_bad_arguments)
{
	struct iovec one = { .iov_base = (char[1]){ 0 }, .iov_len = 1 };
	bufpipe_t *ends[2];

	pipe_open(ends, NULL);
	check_eq(bufpipe_send_many(ends[OUT], &one, 0, 0), -EINVAL);
	check_eq(bufpipe_send_many(ends[OUT], NULL, 1, 0), -EINVAL);
	check_eq(bufpipe_send_many(NULL, &one, 1, 0), -EINVAL);
	check_eq(bufpipe_send_many(ends[OUT], &one, 1, -2), -EINVAL);
	check_eq(bufpipe_recv_many(ends[IN], &one, 0, 0), -EINVAL);
	check_eq(bufpipe_recv_many(ends[IN], NULL, 1, 0), -EINVAL);
	check_eq(bufpipe_recv_many(NULL, &one, 1, 0), -EINVAL);
	check_eq(bufpipe_recv_many(ends[IN], &one, 1, -2), -EINVAL);
	pipe_close(ends);
}

struct job {
	bufpipe_t *pipe;
	uint64_t count;
};

static void send_batches(void *arg)
{
	const struct job *job = arg;
	uint64_t numbers[16];
	struct iovec messages[16];

	for (uint64_t sent = 0; sent < job->count;) {
		unsigned n = 0;
		ssize_t r;

		for (; n < 1 + sent % 16 && sent + n < job->count; n++) {
			numbers[n] = sent + n;
			messages[n] = (struct iovec){ .iov_base = &numbers[n], .iov_len = 8 };
		}
		r = bufpipe_send_many(job->pipe, messages, n, PLENTY);
		check(r > 0 && r <= n);
		sent += (uint64_t)r;
	}
}

Test(batch, streams_in_order_between_sleepers)
{
	struct bufpipe_options options = { .object_size = 8, .object_count = 20, .spin_ns = BUFPIPE_NO_SPIN };
	struct job job = { .count = 30000 };
	struct child sender;
	bufpipe_t *ends[2];
	uint64_t numbers[32];
	struct iovec messages[32];

	pipe_open(ends, &options);
	job.pipe = ends[OUT];
	sender = child_start(send_batches, &job);
	for (uint64_t got = 0; got < job.count;) {
		ssize_t n;

		point_at(messages, (char *)numbers, 8, 32);
		n = bufpipe_recv_many(ends[IN], messages, 1 + got % 32, PLENTY);
		check(n > 0);
		for (ssize_t i = 0; i < n; i++)
			check_eq(numbers[i], got++);
	}
	child_join(&sender);
	pipe_close(ends);
}
