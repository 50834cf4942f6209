/* SPDX-License-Identifier: MIT */
/* In place: reserve, commit, cancel; peek, release, unpeek; and which calls are refused meanwhile. */
#include "support.h"

SUITE(zerocopy);

static void in_both_modes(void (*body)(bufpipe_t *ends[2]))
{
	for (int shared = 0; shared < 2; shared++) {
		struct bufpipe_options options = { .flags = shared ? BUFPIPE_SHARED : 0 };
		bufpipe_t *ends[2];

		pipe_open(ends, &options);
		body(ends);
		pipe_close(ends);
	}
}

static void write_and_read(bufpipe_t *ends[2])
{
	const void *there;
	void *room;

	for (size_t i = 0; i < 5000; i++) {
		size_t len = i * 13 % 900;

		check_eq(bufpipe_reserve(ends[OUT], &room, len, 0), 0);
		check_eq((uintptr_t)room % 8, 0);
		pattern_fill(room, len, i);
		check_eq(bufpipe_commit(ends[OUT], len), 0);
		check_eq(bufpipe_peek(ends[IN], &there, 0), len);
		check_eq((uintptr_t)there % 8, 0);
		check(pattern_holds(there, len, i));
		check_eq(bufpipe_release(ends[IN]), 0);
	}
	check_eq(bufpipe_peek(ends[IN], &there, 0), -EAGAIN);
}

Test(zerocopy, writes_and_reads_in_place)
{
	in_both_modes(write_and_read);
}

static void commit_less(bufpipe_t *ends[2])
{
	void *room;

	check_eq(bufpipe_reserve(ends[OUT], &room, 1000, 0), 0);
	memcpy(room, "less", 4);
	check_eq(bufpipe_commit(ends[OUT], 1001), -EINVAL);
	check_eq(bufpipe_commit(ends[OUT], SIZE_MAX), -EINVAL);
	check_eq(bufpipe_commit(ends[OUT], 4), 0);
	check_eq(bufpipe_reserve(ends[OUT], &room, 10, 0), 0);
	check_eq(bufpipe_commit(ends[OUT], 0), 0);
	hear(ends[IN], "less");
	check_eq(bufpipe_recv(ends[IN], NULL, 0, 0), 0);
}

Test(zerocopy, commits_any_length_up_to_the_one_reserved)
{
	in_both_modes(commit_less);
}

static void cancel(bufpipe_t *ends[2])
{
	void *room;

	say(ends[OUT], "before");
	for (int i = 0; i < 1000; i++) {
		check_eq(bufpipe_reserve(ends[OUT], &room, 60000, 0), 0);
		memset(room, 0xff, 60000);
		check_eq(bufpipe_cancel(ends[OUT]), 0);
	}
	say(ends[OUT], "after");
	hear(ends[IN], "before");
	hear(ends[IN], "after");
	check_eq(bufpipe_next(ends[IN], 0), -EAGAIN);
}

Test(zerocopy, a_cancelled_message_is_never_seen)
{
	in_both_modes(cancel);
}

static void unpeek(bufpipe_t *ends[2])
{
	const void *first;
	const void *again;
	char buf[10];

	say(ends[OUT], "one");
	say(ends[OUT], "two");
	check_eq(bufpipe_peek(ends[IN], &first, 0), 3);
	check_eq(bufpipe_unpeek(ends[IN]), 0);
	check_eq(bufpipe_unpeek(ends[IN]), -EINVAL);
	check_eq(bufpipe_release(ends[IN]), -EINVAL);
	check_eq(bufpipe_next(ends[IN], 0), 3);
	check_eq(bufpipe_peek(ends[IN], &again, 0), 3);
	check(again == first && !memcmp(again, "one", 3));
	check_eq(bufpipe_release(ends[IN]), 0);
	check_eq(bufpipe_unpeek(ends[IN]), -EINVAL);
	hear(ends[IN], "two");
	check_eq(bufpipe_recv(ends[IN], buf, sizeof(buf), 0), -EAGAIN);
}

Test(zerocopy, unpeek_leaves_the_message_where_it_is)
{
	in_both_modes(unpeek);
}

static void nothing_open(bufpipe_t *ends[2])
{
	check_eq(bufpipe_commit(ends[OUT], 0), -EINVAL);
	check_eq(bufpipe_cancel(ends[OUT]), -EINVAL);
	check_eq(bufpipe_release(ends[IN]), -EINVAL);
	check_eq(bufpipe_unpeek(ends[IN]), -EINVAL);
	check_eq(bufpipe_commit(ends[IN], 0), -EINVAL);
	check_eq(bufpipe_release(ends[OUT]), -EINVAL);
	check_eq(bufpipe_unpeek(ends[OUT]), -EINVAL);
	say(ends[OUT], "still there");
	check_eq(bufpipe_release(ends[IN]), -EINVAL);
	check_eq(bufpipe_unpeek(ends[IN]), -EINVAL);
	hear(ends[IN], "still there");
}

static void copy_out(bufpipe_t *ends[2])
{
	const void *at;
	char buf[10] = "";

	say(ends[OUT], "before");
	hear(ends[IN], "before");
	say(ends[OUT], "message");
	check_eq(bufpipe_peek_copy(ends[IN], buf, 0, 1), -EINVAL);
	check_eq(bufpipe_peek(ends[IN], &at, 0), 7);
	check_eq(bufpipe_peek_copy(ends[IN], buf, 0, 7), 0);
	check(!memcmp(buf, "message", 7));
	check_eq(bufpipe_peek_copy(ends[IN], buf, 3, 4), 0);
	check(!memcmp(buf, "sage", 4));
	check_eq(bufpipe_peek_copy(ends[IN], NULL, 7, 0), 0);
	check_eq(bufpipe_peek_copy(ends[IN], buf, 7, 1), -EINVAL);
	check_eq(bufpipe_peek_copy(ends[IN], buf, 8, 0), -EINVAL);
	check_eq(bufpipe_peek_copy(ends[IN], buf, 1, SIZE_MAX), -EINVAL);
	check_eq(bufpipe_peek_copy(ends[IN], NULL, 0, 1), -EINVAL);
	check_eq(bufpipe_peek_copy(NULL, buf, 0, 1), -EINVAL);
	check_eq(bufpipe_release(ends[IN]), 0);
	check_eq(bufpipe_peek_copy(ends[IN], buf, 0, 0), -EINVAL);
}

Test(zerocopy, copies_out_of_the_message_that_is_peeked_and_nothing_else)
{
	in_both_modes(copy_out);
}

Test(zerocopy, finishing_without_an_open_message_is_invalid)
{
	in_both_modes(nothing_open);
}

static void busy_sending(bufpipe_t *ends[2])
{
	struct iovec one = { .iov_base = (char[1]){ 0 }, .iov_len = 1 };
	int sockets[2];
	void *room;
	void *second;

	sockets_open(sockets, SOCK_SEQPACKET);
	check_eq(bufpipe_reserve(ends[OUT], &room, 100, 0), 0);
	check_eq(bufpipe_send(ends[OUT], "x", 1, 0), -EBUSY);
	check_eq(bufpipe_send(ends[OUT], "x", 1, -1), -EBUSY);
	check_eq(bufpipe_sendv(ends[OUT], &one, 1, -1), -EBUSY);
	check_eq(bufpipe_send_many(ends[OUT], &one, 1, 0), -EBUSY);
	check_eq(bufpipe_reserve(ends[OUT], &second, 1, -1), -EBUSY);
	check_eq(bufpipe_shutdown(ends[OUT]), -EBUSY);
	check_eq(bufpipe_send_end(sockets[0], ends[OUT]), -EBUSY);
	memcpy(room, "mine", 4);
	check_eq(bufpipe_commit(ends[OUT], 4), 0);
	say(ends[OUT], "next");
	hear(ends[IN], "mine");
	hear(ends[IN], "next");
	sockets_close(sockets);
}

Test(zerocopy, an_open_reservation_keeps_other_sends_away)
{
	in_both_modes(busy_sending);
}

static void busy_receiving(bufpipe_t *ends[2])
{
	char buf[10];
	struct iovec one = { .iov_base = buf, .iov_len = sizeof(buf) };
	int sockets[2];
	const void *there;
	const void *second;

	sockets_open(sockets, SOCK_SEQPACKET);
	say(ends[OUT], "one");
	say(ends[OUT], "two");
	check_eq(bufpipe_peek(ends[IN], &there, 0), 3);
	check_eq(bufpipe_recv(ends[IN], buf, sizeof(buf), 0), -EBUSY);
	check_eq(bufpipe_recv(ends[IN], buf, sizeof(buf), -1), -EBUSY);
	check_eq(bufpipe_recv_many(ends[IN], &one, 1, 0), -EBUSY);
	check_eq(bufpipe_next(ends[IN], -1), -EBUSY);
	check_eq(bufpipe_peek(ends[IN], &second, -1), -EBUSY);
	check_eq(bufpipe_send_end(sockets[0], ends[IN]), -EBUSY);
	say(ends[OUT], "three"); /* the other end goes on */
	check(!memcmp(there, "one", 3));
	check_eq(bufpipe_release(ends[IN]), 0);
	hear(ends[IN], "two");
	hear(ends[IN], "three");
	sockets_close(sockets);
}

Test(zerocopy, an_open_peek_keeps_other_receives_away)
{
	in_both_modes(busy_receiving);
}

Test(zerocopy, the_other_direction_of_a_duplex_end_goes_on)
{
	for (int shared = 0; shared < 2; shared++) {
		struct bufpipe_options options = { .flags = BUFPIPE_DUPLEX | (shared ? BUFPIPE_SHARED : 0) };
		bufpipe_t *ends[2];
		const void *there;
		void *room;

		pipe_open(ends, &options);
		say(ends[1], "in");
		check_eq(bufpipe_reserve(ends[0], &room, 10, 0), 0);
		hear(ends[0], "in");
		say(ends[1], "again");
		check_eq(bufpipe_peek(ends[0], &there, 0), 5);
		check_eq(bufpipe_commit(ends[0], 0), 0);
		say(ends[0], "out");
		check_eq(bufpipe_release(ends[0]), 0);
		check_eq(bufpipe_recv(ends[1], NULL, 0, 0), 0);
		hear(ends[1], "out");
		pipe_close(ends);
	}
}

Test(zerocopy, reserves_buffer_size_at_any_place)
{
	struct bufpipe_options options = { .buffer_size = 4096 };
	struct bufpipe_info info;
	bufpipe_t *ends[2];
	const void *there;
	void *room;

	pipe_open(ends, &options);
	bufpipe_get_info(ends[OUT], &info);
	for (uint64_t i = 0; i < 1000; i++) {
		check_eq(bufpipe_reserve(ends[OUT], &room, info.buffer_size, 0), 0);
		pattern_fill(room, info.buffer_size, i);
		check_eq(bufpipe_commit(ends[OUT], info.buffer_size - i % 50), 0);
		check_eq(bufpipe_peek(ends[IN], &there, 0), info.buffer_size - i % 50);
		check(pattern_holds(there, (info.buffer_size - i % 50) & ~(size_t)7, i));
		check_eq(bufpipe_release(ends[IN]), 0);
	}
	pipe_close(ends);
}

Test(zerocopy, static_commit_is_of_the_whole_object)
{
	struct bufpipe_options options = { .object_size = 10, .object_count = 1 };
	bufpipe_t *ends[2];
	void *room;

	pipe_open(ends, &options);
	check_eq(bufpipe_reserve(ends[OUT], &room, 10, 0), 0);
	check_eq(bufpipe_commit(ends[OUT], 9), -EINVAL);
	memcpy(room, "0123456789", 10);
	check_eq(bufpipe_commit(ends[OUT], 10), 0);
	check_eq(bufpipe_reserve(ends[OUT], &room, 10, 0), -EAGAIN);
	check_eq(bufpipe_reserve(ends[OUT], &room, 10, 1), -ETIMEDOUT);
	hear(ends[IN], "0123456789");
	pipe_close(ends);
}

static void close_open(bufpipe_t *ends[2])
{
	void *room;

	say(ends[OUT], "sent");
	check_eq(bufpipe_reserve(ends[OUT], &room, 100, 0), 0);
	memset(room, 0xff, 100);
	bufpipe_close(ends[OUT]);
	ends[OUT] = NULL;
	hear(ends[IN], "sent");
	check_eq(bufpipe_recv(ends[IN], NULL, 0, -1), -EPIPE);
}

Test(zerocopy, close_cancels_an_open_reservation)
{
	in_both_modes(close_open);
}

static void close_in_child(void *arg)
{
	bufpipe_t **ends = arg;
	const void *there;

	check_eq(bufpipe_peek(ends[IN], &there, PLENTY), 5);
	bufpipe_close(ends[IN]);
}

static void close_peeked(bufpipe_t *ends[2])
{
	struct child child;

	say(ends[OUT], "again");
	child = child_start(close_in_child, ends);
	child_join(&child);
	hear(ends[IN], "again");
}

Test(zerocopy, close_leaves_an_open_peek_unread)
{
	in_both_modes(close_peeked);
}

Test(zerocopy, commit_to_nobody_is_a_broken_pipe_and_ends_the_reservation)
{
	bufpipe_t *ends[2];
	void *room;

	pipe_open(ends, NULL);
	check_eq(bufpipe_reserve(ends[OUT], &room, 10, 0), 0);
	bufpipe_close(ends[IN]);
	check_eq(bufpipe_commit(ends[OUT], 10), -EPIPE);
	check_eq(bufpipe_cancel(ends[OUT]), -EINVAL);
	check_eq(bufpipe_send(ends[OUT], "x", 1, -1), -EPIPE);
	/* Free room can still be reserved, but what is committed in it does not arrive. */
	check_eq(bufpipe_reserve(ends[OUT], &room, 10, -1) ?: bufpipe_commit(ends[OUT], 10), -EPIPE);
	bufpipe_close(ends[OUT]);
}

static void send_long_message(void *arg)
{
	static char message[100000];

	check_eq(bufpipe_send(arg, message, sizeof(message), PLENTY), 0);
}

Test(zerocopy, peek_refuses_a_message_longer_than_the_ring)
{
	struct bufpipe_options options = { .buffer_size = 4096 };
	static char message[100000];
	struct child sender;
	bufpipe_t *ends[2];
	const void *there;

	pipe_open(ends, &options);
	sender = child_start(send_long_message, ends[OUT]);
	check_eq(bufpipe_peek(ends[IN], &there, -1), -EMSGSIZE);
	check_eq(bufpipe_release(ends[IN]), -EINVAL);
	check_eq(bufpipe_recv(ends[IN], message, sizeof(message), PLENTY), sizeof(message));
	child_join(&sender);
	pipe_close(ends);
}
