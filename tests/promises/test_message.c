/* SPDX-License-Identifier: MIT */
/* One message at a time: whole, once, in order; how many fit; what is refused. */
#include "support.h"

#include <limits.h>

SUITE(message);

Test(message, arrives_whole_once_and_in_order)
{
	static char sent[5000];
	static char got[5000];
	bufpipe_t *ends[2];

	pipe_open(ends, NULL);
	for (size_t i = 0; i < 20000; i++) {
		size_t len = i * 7 % 5000;

		pattern_fill(sent, len, i);
		check_eq(bufpipe_send(ends[OUT], sent, len, 0), 0);
		if (i % 3 == 0) /* so that more than one is in the ring */
			continue;
		if (i % 3 == 1) {
			check_eq(bufpipe_recv(ends[IN], got, sizeof(got), 0), (i - 1) * 7 % 5000);
			check(pattern_holds(got, (i - 1) * 7 % 5000, i - 1));
		}
		check_eq(bufpipe_recv(ends[IN], got, sizeof(got), 0), len);
		check(pattern_holds(got, len, i));
	}
	pipe_close(ends);
}

Test(message, of_no_bytes_is_a_message)
{
	bufpipe_t *ends[2];
	char byte = 'a';

	pipe_open(ends, NULL);
	check_eq(bufpipe_send(ends[OUT], NULL, 0, 0), 0);
	check_eq(bufpipe_send(ends[OUT], "", 0, 0), 0);
	check_eq(bufpipe_sendv(ends[OUT], NULL, 0, 0), 0);
	say(ends[OUT], "after");
	check_eq(bufpipe_next(ends[IN], 0), 0);
	check_eq(bufpipe_recv(ends[IN], NULL, 0, 0), 0);
	check_eq(bufpipe_recv(ends[IN], &byte, 1, 0), 0);
	check_eq(byte, 'a');
	check_eq(bufpipe_recv(ends[IN], NULL, 0, 0), 0);
	hear(ends[IN], "after");
	check_eq(bufpipe_recv(ends[IN], NULL, 0, 0), -EAGAIN);
	pipe_close(ends);
}

Test(message, static_pipe_holds_exactly_its_count)
{
	static const size_t sizes[] = { 1, 7, 8, 9, 64, 4096, 5000 };
	static const size_t counts[] = { 1, 2, 3, 255, 256, 1000 };
	static char object[5000];

	for (unsigned i = 0; i < 7 * 6; i++) {
		size_t size = sizes[i / 6];
		size_t count = counts[i % 6];
		struct bufpipe_options options = { .object_size = size, .object_count = count };
		bufpipe_t *ends[2];

		pipe_open(ends, &options);
		/* Twice, so that the second filling crosses the end of the ring. */
		for (int lap = 0; lap < 2; lap++) {
			check_eq(fill_up(ends[OUT], size), count);
			for (size_t n = 0; n < count; n++)
				check_eq(bufpipe_recv(ends[IN], object, size, 0), size);
			check_eq(bufpipe_recv(ends[IN], object, size, 0), -EAGAIN);
		}
		pipe_close(ends);
	}
}

/*
 * Each message counts 8 bytes and its length, rounded up to a multiple of 8. As many fit as this allows, no
 * fewer and no more.
 */
Test(message, generic_pipe_holds_its_bytes)
{
	static const size_t sizes[] = { 100, 4096, 5461, 10000, 65536, 1 << 20 };
	static const size_t lengths[] = { 16, 17, 23, 24, 100, 1000, 4096 };
	static char message[1 << 20];

	for (unsigned i = 0; i < 6 * 7; i++) {
		struct bufpipe_options options = { .buffer_size = sizes[i / 7] };
		size_t len = lengths[i % 7];
		bufpipe_t *ends[2];

		if (len > options.buffer_size)
			continue;
		pipe_open(ends, &options);
		for (int lap = 0; lap < 3; lap++) {
			unsigned n = fill_up(ends[OUT], len);

			check_eq(n, (options.buffer_size + 15) / 8 * 8 / ((len + 15) / 8 * 8));
			while (n--)
				check_eq(bufpipe_recv(ends[IN], message, len, 0), len);
		}
		pipe_close(ends);
	}
}

Test(message, of_buffer_size_can_be_sent_by_a_try_at_any_position)
{
	static char sent[5000];
	static char got[5000];
	struct bufpipe_options options = { .buffer_size = 5000 };
	bufpipe_t *ends[2];

	pipe_open(ends, &options);
	for (uint64_t i = 0; i < 500; i++) {
		check_eq(bufpipe_send(ends[OUT], sent, i % 40, 0), 0);
		check_eq(bufpipe_recv(ends[IN], got, sizeof(got), 0), i % 40);
		pattern_fill(sent, 5000, i);
		check_eq(bufpipe_send(ends[OUT], sent, 5000, 0), 0);
		check_eq(bufpipe_recv(ends[IN], got, 5000, 0), 5000);
		check(pattern_holds(got, 5000, i));
	}
	pipe_close(ends);
}

Test(message, too_long_for_the_buffer_stays_in_place)
{
	bufpipe_t *ends[2];
	char buf[16] = "untouched";

	pipe_open(ends, NULL);
	say(ends[OUT], "ten bytes.");
	check_eq(bufpipe_recv(ends[IN], buf, 9, 0), -EMSGSIZE);
	check_eq(bufpipe_recv(ends[IN], NULL, 0, -1), -EMSGSIZE);
	check(!strcmp(buf, "untouched"));
	check_eq(bufpipe_next(ends[IN], 0), 10);
	check_eq(bufpipe_next(ends[IN], -1), 10);
	check_eq(bufpipe_recv(ends[IN], buf, 10, 0), 10);
	check(!memcmp(buf, "ten bytes.", 10));
	check_eq(bufpipe_next(ends[IN], 0), -EAGAIN);
	pipe_close(ends);
}

Test(message, of_another_length_is_refused_by_a_static_pipe)
{
	struct bufpipe_options options = { .object_size = 10 };
	struct iovec pieces[] = { { .iov_base = (char[4]){ 0 }, .iov_len = 4 },
				  { .iov_base = (char[7]){ 0 }, .iov_len = 7 } };
	bufpipe_t *ends[2];
	char buf[20] = { 0 };
	void *room;

	pipe_open(ends, &options);
	check_eq(bufpipe_send(ends[OUT], buf, 9, -1), -EMSGSIZE);
	check_eq(bufpipe_send(ends[OUT], buf, 11, -1), -EMSGSIZE);
	check_eq(bufpipe_send(ends[OUT], buf, 0, 0), -EMSGSIZE);
	check_eq(bufpipe_sendv(ends[OUT], pieces, 2, -1), -EMSGSIZE);
	check_eq(bufpipe_sendv(ends[OUT], NULL, 0, -1), -EMSGSIZE);
	check_eq(bufpipe_reserve(ends[OUT], &room, 9, -1), -EMSGSIZE);
	check_eq(bufpipe_recv(ends[IN], buf, sizeof(buf), 0), -EAGAIN);
	check_eq(bufpipe_send(ends[OUT], buf, 10, 0), 0);
	check_eq(bufpipe_recv(ends[IN], buf, sizeof(buf), 0), 10);
	pipe_close(ends);
}

Test(message, beyond_the_limits_is_refused)
{
	struct bufpipe_options options = { .buffer_size = 4096 };
	struct bufpipe_info info;
	bufpipe_t *ends[2];
	char byte;
	void *room;

	pipe_open(ends, &options);
	bufpipe_get_info(ends[OUT], &info);
	check_eq(bufpipe_send(ends[OUT], &byte, info.buffer_size + 1, 0), -EMSGSIZE);
	check_eq(bufpipe_reserve(ends[OUT], &room, info.buffer_size + 1, -1), -EMSGSIZE);
	check_eq(bufpipe_send(ends[OUT], &byte, ((size_t)1 << 40) + 1, -1), -EMSGSIZE);
	check_eq(bufpipe_send(ends[OUT], &byte, SIZE_MAX, -1), -EMSGSIZE);
	check_eq(bufpipe_recv(ends[IN], &byte, 1, 0), -EAGAIN);
	pipe_close(ends);
}

Test(message, the_wrong_direction_is_refused)
{
	struct iovec one = { .iov_base = (char[1]){ 0 }, .iov_len = 1 };
	bufpipe_t *ends[2];
	const void *there;
	void *room;
	char byte = 0;

	pipe_open(ends, NULL);
	check_eq(bufpipe_send(ends[IN], &byte, 1, 0), -EBADF);
	check_eq(bufpipe_send(ends[IN], &byte, 1, -1), -EBADF);
	check_eq(bufpipe_sendv(ends[IN], &one, 1, 0), -EBADF);
	check_eq(bufpipe_send_many(ends[IN], &one, 1, 0), -EBADF);
	check_eq(bufpipe_reserve(ends[IN], &room, 1, 0), -EBADF);
	check_eq(bufpipe_recv(ends[OUT], &byte, 1, 0), -EBADF);
	check_eq(bufpipe_recv(ends[OUT], &byte, 1, -1), -EBADF);
	check_eq(bufpipe_recv_many(ends[OUT], &one, 1, 0), -EBADF);
	check_eq(bufpipe_next(ends[OUT], 0), -EBADF);
	check_eq(bufpipe_peek(ends[OUT], &there, 0), -EBADF);
	pipe_close(ends);
}

Test(message, is_gathered_from_pieces)
{
	static char whole[3000];
	static char got[3000];
	struct iovec pieces[IOV_MAX + 1];
	bufpipe_t *ends[2];
	size_t at = 0;
	int n = 0;

	pipe_open(ends, NULL);
	pattern_fill(whole, sizeof(whole), 1);
	while (at < sizeof(whole) && n < IOV_MAX) {
		size_t len = (size_t)n % 7; /* some are empty */

		if (len > sizeof(whole) - at || n == IOV_MAX - 1)
			len = sizeof(whole) - at;
		pieces[n++] = (struct iovec){ .iov_base = len ? whole + at : NULL, .iov_len = len };
		at += len;
	}
	check_eq(bufpipe_sendv(ends[OUT], pieces, n, 0), 0);
	check_eq(bufpipe_recv(ends[IN], got, sizeof(got), 0), sizeof(whole));
	check(pattern_holds(got, sizeof(got), 1));
	pipe_close(ends);
}

Test(message, pieces_are_checked)
{
	struct iovec pieces[IOV_MAX + 1] = { { .iov_base = NULL, .iov_len = 1 } };
	struct iovec endless[2] = { { .iov_base = (char[1]){ 0 }, .iov_len = SIZE_MAX },
				    { .iov_base = (char[2]){ 0 }, .iov_len = 2 } };
	bufpipe_t *ends[2];

	pipe_open(ends, NULL);
	check_eq(bufpipe_sendv(ends[OUT], pieces, 1, 0), -EINVAL);
	check_eq(bufpipe_sendv(ends[OUT], pieces + 1, IOV_MAX + 1, 0), -EINVAL);
	check_eq(bufpipe_sendv(ends[OUT], pieces + 1, -1, 0), -EINVAL);
	check_eq(bufpipe_sendv(ends[OUT], NULL, 1, 0), -EINVAL);
	check_eq(bufpipe_sendv(ends[OUT], endless, 2, 0), -EINVAL);
	check_eq(bufpipe_sendv(NULL, pieces + 1, 1, 0), -EINVAL);
	check_eq(bufpipe_sendv(ends[OUT], pieces + 1, 1, -2), -EINVAL);
	check_eq(bufpipe_sendv(ends[OUT], pieces + 1, IOV_MAX, 0), 0);
	check_eq(bufpipe_recv(ends[IN], NULL, 0, 0), 0);
	pipe_close(ends);
}

struct stream {
	bufpipe_t *pipe;
	uint64_t count;
	size_t most;
};

static size_t length_of(uint64_t i, size_t most)
{
	return (i * 2654435761u >> 7) % (most + 1);
}

static void send_stream(void *arg)
{
	struct stream *s = arg;
	char *message = malloc(s->most + 1);

	for (uint64_t i = 0; i < s->count; i++) {
		pattern_fill(message, length_of(i, s->most), i);
		check_eq(bufpipe_send(s->pipe, message, length_of(i, s->most), PLENTY), 0);
	}
	free(message);
}

static void recv_stream(const struct stream *s)
{
	char *message = malloc(s->most + 1);

	for (uint64_t i = 0; i < s->count; i++) {
		size_t len = length_of(i, s->most);

		check_eq(bufpipe_recv(s->pipe, message, s->most, PLENTY), len);
		check(pattern_holds(message, len, i));
	}
	free(message);
}

Test(message, streams_between_two_threads)
{
	struct bufpipe_options options = { .buffer_size = 4096 };
	struct stream in = { .count = 200000, .most = 300 };
	struct stream out = in;
	struct thread sender;
	bufpipe_t *ends[2];

	pipe_open(ends, &options);
	in.pipe = ends[IN];
	out.pipe = ends[OUT];
	thread_start(&sender, send_stream, &out);
	recv_stream(&in);
	thread_join(&sender);
	pipe_close(ends);
}

Test(message, streams_between_two_processes_in_every_spin_mode)
{
	static const int64_t spins[] = { 0, BUFPIPE_NO_SPIN, 20 * USEC };

	for (unsigned i = 0; i < 3; i++) {
		struct bufpipe_options options = { .buffer_size = 4096, .spin_ns = spins[i] };
		struct stream in = { .count = 20000, .most = 5000 };
		struct stream out = in;
		struct child sender;
		bufpipe_t *ends[2];

		pipe_open(ends, &options);
		in.pipe = ends[IN];
		out.pipe = ends[OUT];
		sender = child_start(send_stream, &out);
		recv_stream(&in);
		child_join(&sender);
		pipe_close(ends);
	}
}

Test(message, streams_with_both_sides_always_spinning)
{
	struct bufpipe_options options = { .object_size = 8, .spin_ns = BUFPIPE_SPIN_ALWAYS };
	struct bufpipe_options generic = { .spin_ns = BUFPIPE_SPIN_ALWAYS };
	struct stream in = { .count = 2000, .most = 64 };
	struct stream out = in;
	struct child sender;
	bufpipe_t *ends[2];
	char object[8];

	pipe_open(ends, &generic);
	in.pipe = ends[IN];
	out.pipe = ends[OUT];
	sender = child_start(send_stream, &out);
	recv_stream(&in);
	child_join(&sender);
	pipe_close(ends);
	pipe_open(ends, &options);
	check_eq(bufpipe_recv(ends[IN], object, 8, 3 * MSEC), -ETIMEDOUT);
	bufpipe_close(ends[OUT]);
	check_eq(bufpipe_recv(ends[IN], object, 8, -1), -EPIPE);
	bufpipe_close(ends[IN]);
}
