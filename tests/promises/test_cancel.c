/* SPDX-License-Identifier: MIT */
/* A cancellation is pending when a call begins. A call that is not a cancellation point does its whole work. */
#include "sets.h"

SUITE(cancel);

static bufpipe_t *ends[2], *more[2];
static bufpipe_listener_t *listener;
static bufpipe_set_t *set;
static char address[64];
static int sockets[2];
static char large[200000];

static ssize_t create(void)
{
	return bufpipe_create(more, NULL);
}

static ssize_t close_sender(void)
{
	bufpipe_close(more[OUT]);
	return 0;
}

static ssize_t recv_end_of_stream(void)
{
	return bufpipe_recv(more[IN], large, 1, 0);
}

static ssize_t close_receiver(void)
{
	bufpipe_close(more[IN]);
	return 0;
}

static ssize_t get_fd(void)
{
	return bufpipe_fd(ends[IN]) >= 0;
}

static ssize_t get_room_fd(void)
{
	return bufpipe_room_fd(ends[OUT]) >= 0;
}

static ssize_t send_one(void)
{
	return bufpipe_send(ends[OUT], "x", 1, 0);
}

static ssize_t sendv_one(void)
{
	return bufpipe_sendv(ends[OUT], &(struct iovec){ large, 1 }, 1, 0);
}

static ssize_t send_part(void)
{
	return bufpipe_send_part(ends[OUT], large, 1, sizeof(large) - 1, 0);
}

static ssize_t send_two(void)
{
	struct iovec two[2] = { { large, 1 }, { large, 1 } };

	return bufpipe_send_many(ends[OUT], two, 2, 0);
}

static ssize_t reserve(void)
{
	void *room;

	return bufpipe_reserve(ends[OUT], &room, 1, 0);
}

static ssize_t commit(void)
{
	return bufpipe_commit(ends[OUT], 1);
}

static ssize_t cancel(void)
{
	return bufpipe_cancel(ends[OUT]);
}

static ssize_t next(void)
{
	return bufpipe_next(ends[IN], 0);
}

static ssize_t recv_one(void)
{
	return bufpipe_recv(ends[IN], large, 1, 0);
}

static ssize_t recv_part(void)
{
	size_t after;

	return bufpipe_recv_part(ends[IN], large, 1, &after, 0);
}

static ssize_t recv_two(void)
{
	struct iovec two[2] = { { large, 1 }, { large + 1, 1 } };

	return bufpipe_recv_many(ends[IN], two, 2, 0);
}

static ssize_t peek(void)
{
	const void *message;

	return bufpipe_peek(ends[IN], &message, 0);
}

static ssize_t peek_copy(void)
{
	return bufpipe_peek_copy(ends[IN], large, 0, 1);
}

static ssize_t unpeek(void)
{
	return bufpipe_unpeek(ends[IN]);
}

static ssize_t release(void)
{
	return bufpipe_release(ends[IN]);
}

static ssize_t recv_in_vain(void)
{
	return bufpipe_recv(ends[IN], large, 1, 150 * MSEC);
}

static ssize_t wait_in_vain(void)
{
	struct bufpipe_pollfd both[2] = { { .pipe = ends[IN], .events = BUFPIPE_IN },
					  { .pipe = more[IN], .events = BUFPIPE_IN } };

	return bufpipe_wait(both, 2, 150 * MSEC);
}

static ssize_t send_until_full(void)
{
	int r;

	while ((r = bufpipe_send(ends[OUT], large, 4000, 0)) == 0)
		;
	return r;
}

static ssize_t send_in_vain(void)
{
	return bufpipe_send(ends[OUT], large, 4000, 150 * MSEC);
}

static ssize_t drain_in_vain(void)
{
	return bufpipe_drain(ends[OUT], 150 * MSEC);
}

static ssize_t recv_all(void)
{
	ssize_t r;

	while ((r = bufpipe_recv(ends[IN], large, sizeof(large), 0)) == 4000)
		;
	return r;
}

static ssize_t look_at_it(void)
{
	struct bufpipe_info info;
	struct bufpipe_stats stats;

	return bufpipe_get_info(ends[IN], &info) + bufpipe_get_stats(ends[IN], &stats);
}

static ssize_t shut_down(void)
{
	return bufpipe_shutdown(ends[OUT]);
}

static ssize_t stop(void)
{
	return bufpipe_stop(ends[IN]);
}

static ssize_t listen_there(void)
{
	snprintf(address, sizeof(address), "/tmp/bufpipe-test-cancel-%d", getpid());
	return bufpipe_listen(&listener, address, NULL);
}

static ssize_t get_listener_fd(void)
{
	return bufpipe_listener_fd(listener) >= 0;
}

static ssize_t close_listener(void)
{
	bufpipe_listener_close(listener);
	return access(address, F_OK) == 0;
}

static ssize_t set_new(void)
{
	return bufpipe_set_create(&set, 0);
}

static ssize_t set_new_by_epoll(void)
{
	return bufpipe_set_create(&set, BUFPIPE_NO_URING);
}

static ssize_t set_new_pollable(void)
{
	return bufpipe_set_create(&set, BUFPIPE_POLLABLE);
}

static ssize_t set_add(void)
{
	return bufpipe_set_add(set, more[IN], BUFPIPE_IN, NULL);
}

static ssize_t set_modify(void)
{
	return bufpipe_set_modify(set, more[IN], BUFPIPE_IN, NULL);
}

static ssize_t set_remove(void)
{
	return bufpipe_set_remove(set, more[IN]);
}

static ssize_t set_add_fd(void)
{
	return bufpipe_set_add_fd(set, sockets[0], BUFPIPE_IN, NULL);
}

static ssize_t set_remove_fd(void)
{
	return bufpipe_set_remove_fd(set, sockets[0]);
}

static ssize_t set_look(void)
{
	struct bufpipe_event event;

	return bufpipe_set_wait(set, &event, 1, 0);
}

static ssize_t set_destroy(void)
{
	bufpipe_set_destroy(set);
	return 0;
}

struct call {
	const char *name;
	ssize_t (*run)(void);
	ssize_t wanted;
};

static bool returned;
static ssize_t result_of_call;

/*
 * The calls run in this order, so each finds what the earlier ones have left. bufpipe_send_end and
 * bufpipe_recv_end are missing because they may block on a socket of the program.
 */
static const struct call calls[] = {
	{ "bufpipe_create", create, 0 },
	{ "bufpipe_close", close_sender, 0 },
	{ "bufpipe_recv at the end of the stream", recv_end_of_stream, -EPIPE },
	{ "bufpipe_close of the other end", close_receiver, 0 },
	{ "bufpipe_fd", get_fd, 1 },
	{ "bufpipe_room_fd", get_room_fd, 1 },
	{ "bufpipe_send", send_one, 0 },
	{ "bufpipe_sendv", sendv_one, 0 },
	{ "bufpipe_send_many", send_two, 2 },
	{ "bufpipe_reserve", reserve, 0 },
	{ "bufpipe_commit", commit, 0 },
	{ "bufpipe_reserve", reserve, 0 },
	{ "bufpipe_cancel", cancel, 0 },
	{ "bufpipe_send_part", send_part, 1 },
	{ "bufpipe_cancel of a message", cancel, 0 },
	{ "bufpipe_next", next, 1 },
	{ "bufpipe_recv", recv_one, 1 },
	{ "bufpipe_recv_part", recv_part, 1 },
	{ "bufpipe_recv_many", recv_two, 2 },
	{ "bufpipe_peek", peek, 1 },
	{ "bufpipe_peek_copy", peek_copy, 0 },
	{ "bufpipe_unpeek", unpeek, 0 },
	{ "bufpipe_peek", peek, 1 },
	{ "bufpipe_release", release, 0 },
	{ "bufpipe_recv that sleeps", recv_in_vain, -ETIMEDOUT },
	{ "bufpipe_send until the ring is full", send_until_full, -EAGAIN },
	{ "bufpipe_send that sleeps", send_in_vain, -ETIMEDOUT },
	{ "bufpipe_drain", drain_in_vain, -ETIMEDOUT },
	{ "bufpipe_recv until the ring is empty", recv_all, -EAGAIN },
	{ "bufpipe_create", create, 0 },
	{ "bufpipe_wait", wait_in_vain, 0 },
	{ "bufpipe_get_info, bufpipe_get_stats", look_at_it, 0 },
	{ "bufpipe_shutdown", shut_down, 0 },
	{ "bufpipe_stop", stop, 0 },
	{ "bufpipe_listen", listen_there, 0 },
	{ "bufpipe_listener_fd", get_listener_fd, 1 },
	{ "bufpipe_listener_close", close_listener, 0 },
	{ "bufpipe_set_create", set_new, 0 },
	{ "bufpipe_set_add", set_add, 0 },
	{ "bufpipe_set_add_fd", set_add_fd, 0 },
	{ "bufpipe_set_wait that looks once", set_look, 0 },
	{ "bufpipe_set_modify", set_modify, 0 },
	{ "bufpipe_set_remove", set_remove, 0 },
	{ "bufpipe_set_remove_fd", set_remove_fd, 0 },
	{ "bufpipe_set_destroy", set_destroy, 0 },
	{ "bufpipe_set_create with epoll", set_new_by_epoll, 0 },
	{ "bufpipe_set_add with epoll", set_add, 0 },
	{ "bufpipe_set_wait that looks once, with epoll", set_look, 0 },
	{ "bufpipe_set_remove with epoll", set_remove, 0 },
	{ "bufpipe_set_destroy with epoll", set_destroy, 0 },
	{ "bufpipe_set_create of a pollable set", set_new_pollable, 0 },
	{ "bufpipe_set_add to a pollable set", set_add, 0 },
	{ "bufpipe_set_wait that looks once, in a pollable set", set_look, 0 },
	{ "bufpipe_set_remove from a pollable set", set_remove, 0 },
	{ "bufpipe_set_destroy of a pollable set", set_destroy, 0 },
	{ "bufpipe_close of a sender", close_sender, 0 },
	{ "bufpipe_recv at the end of the stream", recv_end_of_stream, -EPIPE },
	{ "bufpipe_close of a receiver", close_receiver, 0 },
};

static void *call_while_cancelled(void *arg)
{
	ssize_t (*const *run)(void) = arg;

	pthread_cancel(pthread_self());
	result_of_call = (*run)();
	returned = true;
	pthread_testcancel();
	return NULL;
}

static void *result_of(void *(*run)(void *), void *arg)
{
	pthread_t thread;
	void *result;

	check_eq(pthread_create(&thread, NULL, run, arg), 0);
	check_eq(pthread_join(thread, &result), 0);
	return result;
}

/* The fixture finds what would have been left behind. */
Test(cancel, a_pending_cancellation_does_not_end_calls_that_are_no_cancellation_points)
{
	pipe_open(ends, NULL);
	sockets_open(sockets, SOCK_SEQPACKET);
	for (unsigned i = 0; i < sizeof(calls) / sizeof(calls[0]); i++) {
		const struct call *c = &calls[i];
		ssize_t (*run)(void) = c->run;
		void *result;

		returned = false;
		result = result_of(call_while_cancelled, &run);
		if (!returned)
			support_fail(__FILE__, __LINE__, "%s was cancelled", c->name);
		if (result_of_call != c->wanted)
			support_fail(__FILE__, __LINE__, "%s is %zd and not %zd", c->name, result_of_call,
				     c->wanted);
		if (result != PTHREAD_CANCELED)
			support_fail(__FILE__, __LINE__, "%s forgot the cancellation", c->name);
	}
	sockets_close(sockets);
	pipe_close(ends);
}

/* The variable is static because AddressSanitizer does not notice that the thread leaves this function. */
static void *wait_while_cancelled(void *arg)
{
	static struct bufpipe_event event;

	(void)arg;
	pthread_cancel(pthread_self());
	bufpipe_set_wait(set, &event, 1, PLENTY);
	pthread_testcancel();
	return NULL;
}

/* Cancels, in turn, waits that would find a message and waits that would not. */
static void is_usable_afterwards(unsigned flags)
{
	set = set_open(flags);
	pipe_open(ends, NULL);
	check_eq(bufpipe_set_add(set, ends[IN], BUFPIPE_IN, ends), 0);
	for (int i = 0; i < 10; i++) {
		if (i % 2)
			say(ends[OUT], "here");
		check(result_of(wait_while_cancelled, NULL) == PTHREAD_CANCELED);
		if (i % 2 == 0)
			say(ends[OUT], "here");
		check_eq(set_expect(set, ends, PLENTY), BUFPIPE_IN);
		hear(ends[IN], "here");
		set_expect_nothing_for(set, 0);
	}
	bufpipe_set_destroy(set);
	pipe_close(ends);
}

BOTH(cancel, a_set_is_usable_after_a_wait_whose_cancellation_was_pending)
{
	is_usable_afterwards(flags);
}

Test(cancel, a_pollable_set_is_usable_after_a_wait_whose_cancellation_was_pending)
{
	is_usable_afterwards(BUFPIPE_POLLABLE);
}
