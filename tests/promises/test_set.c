/* SPDX-License-Identifier: MIT */
/* Sets: what is reported, when, and in which order. */
#include "asleep.h"
#include "sets.h"

#include <poll.h>
#include <stdatomic.h>

SUITE(set);

BOTH(set, reports_each_ready_pipe_with_its_pointer_until_it_is_drained)
{
	bufpipe_set_t *set = set_open(flags);
	struct bufpipe_event events[8];
	bufpipe_t *pipes[3][2];
	int seen;

	for (int i = 0; i < 3; i++) {
		pipe_open(pipes[i], NULL);
		check_eq(bufpipe_set_add(set, pipes[i][IN], BUFPIPE_IN, pipes[i]), 0);
	}
	set_expect_nothing(set);
	say(pipes[0][OUT], "zero");
	say(pipes[2][OUT], "two");
	say(pipes[2][OUT], "again");
	for (int round = 0; round < 3; round++) {
		seen = 0;
		check(bufpipe_set_wait(set, events, 8, round ? PLENTY : 0) >= 1);
		check_eq(bufpipe_set_wait(set, events, 8, PLENTY), 2);
		for (int i = 0; i < 2; i++) {
			check(events[i].user == pipes[0] || events[i].user == pipes[2]);
			check(events[i].pipe == ((bufpipe_t **)events[i].user)[IN]);
			check_eq(events[i].events, BUFPIPE_IN);
			seen |= events[i].user == pipes[0] ? 1 : 2;
		}
		check_eq(seen, 3);
	}
	hear(pipes[0][IN], "zero");
	hear(pipes[2][IN], "two");
	check_eq(set_expect(set, pipes[2], PLENTY), BUFPIPE_IN);
	hear(pipes[2][IN], "again");
	set_expect_nothing(set);
	bufpipe_set_destroy(set);
	for (int i = 0; i < 3; i++)
		pipe_close(pipes[i]);
}

BOTH(set, reports_room_to_send_and_both_directions_of_a_duplex_end)
{
	struct bufpipe_options options = { .flags = BUFPIPE_DUPLEX, .buffer_size = 2000 };
	bufpipe_set_t *set = set_open(flags);
	bufpipe_t *ends[2];
	char buf[64];

	pipe_open(ends, &options);
	check_eq(bufpipe_set_add(set, ends[0], BUFPIPE_IN | BUFPIPE_OUT, &set), 0);
	check_eq(set_expect(set, &set, PLENTY), BUFPIPE_OUT);
	fill_up(ends[0], 32);
	set_expect_nothing(set);
	say(ends[1], "back");
	check_eq(set_expect(set, &set, PLENTY), BUFPIPE_IN);
	while (bufpipe_recv(ends[1], buf, sizeof(buf), 0) >= 0)
		;
	check_eq(set_expect(set, &set, PLENTY), BUFPIPE_IN | BUFPIPE_OUT);
	hear(ends[0], "back");
	check_eq(set_expect(set, &set, PLENTY), BUFPIPE_OUT);
	bufpipe_set_destroy(set);
	pipe_close(ends);
}

BOTH(set, reports_the_end_of_a_stream_after_its_messages)
{
	bufpipe_set_t *set = set_open(flags);
	bufpipe_t *ends[2];
	char buf[8];

	pipe_open(ends, NULL);
	check_eq(bufpipe_set_add(set, ends[IN], BUFPIPE_IN, ends), 0);
	set_expect_nothing(set);
	say(ends[OUT], "last");
	check_eq(bufpipe_shutdown(ends[OUT]), 0);
	check(set_expect(set, ends, PLENTY) & BUFPIPE_IN);
	hear(ends[IN], "last");
	check_eq(set_expect(set, ends, PLENTY), BUFPIPE_IN | BUFPIPE_HUP);
	check_eq(bufpipe_recv(ends[IN], buf, sizeof(buf), 0), -EPIPE);
	check_eq(set_expect(set, ends, PLENTY), BUFPIPE_IN | BUFPIPE_HUP);
	bufpipe_set_destroy(set);
	pipe_close(ends);
}

BOTH(set, reports_a_peer_that_left_before_the_end_was_added)
{
	bufpipe_set_t *set = set_open(flags);
	bufpipe_t *ends[2][2];

	for (int i = 0; i < 2; i++) {
		pipe_open(ends[i], NULL);
		bufpipe_close(ends[i][!i]);
		check_eq(bufpipe_set_add(set, ends[i][i], i ? BUFPIPE_OUT : BUFPIPE_IN, ends[i]), 0);
		check(set_await(set, ends[i], BUFPIPE_HUP, PROMPT));
		check_eq(bufpipe_set_remove(set, ends[i][i]), 0);
		set_expect_nothing(set);
		bufpipe_close(ends[i][i]);
	}
	bufpipe_set_destroy(set);
}

struct talker {
	bufpipe_t *ends[2];
	pid_t parent;
	pid_t sleeper;
};

static void speak_to_a_sleeper(void *arg)
{
	struct talker *t = arg;

	bufpipe_close(t->ends[IN]);
	for (int i = 0; i < 20; i++) {
		wait_until_asleep(t->parent, t->sleeper, ASLEEP_SET);
		say(t->ends[OUT], "wake up");
	}
	wait_until_asleep(t->parent, t->sleeper, ASLEEP_SET);
	for (;;)
		kill(getpid(), SIGKILL);
}

BOTH(set, wakes_a_sleeper_for_a_message_and_at_the_death_of_the_other_process)
{
	struct talker t = { .parent = getpid(), .sleeper = getpid() };
	bufpipe_set_t *set = set_open(flags);
	struct child child;
	unsigned events;

	pipe_open(t.ends, NULL);
	child = child_start(speak_to_a_sleeper, &t);
	bufpipe_close(t.ends[OUT]);
	check_eq(bufpipe_set_add(set, t.ends[IN], BUFPIPE_IN, &t), 0);
	for (int i = 0; i < 20; i++) {
		check_eq(set_expect(set, &t, PLENTY), BUFPIPE_IN);
		hear(t.ends[IN], "wake up");
	}
	events = set_expect(set, &t, PROMPT);
	check(events & BUFPIPE_HUP);
	check_eq(bufpipe_recv(t.ends[IN], NULL, 0, 0), -EPIPE);
	bufpipe_set_destroy(set);
	bufpipe_close(t.ends[IN]);
	waitpid(child.pid, NULL, 0);
	close(child.report);
}

BOTH(set, takes_turns_when_there_is_more_than_the_caller_asked_for)
{
	enum { PIPES = 50, MOST = 7 };
	bufpipe_set_t *set = set_open(flags);
	struct bufpipe_event events[MOST];
	bufpipe_t *pipes[PIPES][2];
	int seen[PIPES] = { 0 };

	for (int i = 0; i < PIPES; i++) {
		pipe_open(pipes[i], NULL);
		check_eq(bufpipe_set_add(set, pipes[i][IN], BUFPIPE_IN, &seen[i]), 0);
	}
	set_expect_nothing(set);
	for (int i = 0; i < PIPES; i++)
		say(pipes[i][OUT], "flood");
	/* Nothing is ever received, so all of them stay ready. */
	for (int round = 0; round < 3 * PIPES; round++) {
		int n = bufpipe_set_wait(set, events, MOST, PLENTY);

		check(n >= 1);
		for (int i = 0; i < n; i++)
			++*(int *)events[i].user;
	}
	for (int i = 0; i < PIPES; i++)
		check(seen[i] >= 5 && seen[i] <= 3 * MOST + 5);
	bufpipe_set_destroy(set);
	for (int i = 0; i < PIPES; i++)
		pipe_close(pipes[i]);
}

BOTH(set, modify_changes_what_is_waited_for_and_the_pointer)
{
	struct bufpipe_options options = { .flags = BUFPIPE_DUPLEX };
	bufpipe_set_t *set = set_open(flags);
	bufpipe_t *ends[2];
	int a, b, c;

	pipe_open(ends, &options);
	check_eq(bufpipe_set_add(set, ends[0], BUFPIPE_IN, &a), 0);
	set_expect_nothing(set);
	check_eq(bufpipe_set_modify(set, ends[0], BUFPIPE_OUT, &b), 0);
	check_eq(set_expect(set, &b, PLENTY), BUFPIPE_OUT);
	say(ends[1], "x");
	check_eq(set_expect(set, &b, PLENTY), BUFPIPE_OUT);
	check_eq(bufpipe_set_modify(set, ends[0], 0, &c), 0);
	set_expect_nothing(set);
	check_eq(bufpipe_set_modify(set, ends[0], BUFPIPE_IN, &a), 0);
	check_eq(set_expect(set, &a, PLENTY), BUFPIPE_IN);
	hear(ends[0], "x");
	set_expect_nothing(set);
	check_eq(bufpipe_set_modify(set, ends[0], BUFPIPE_HUP, &c), 0);
	say(ends[1], "y");
	set_expect_nothing(set);
	bufpipe_close(ends[1]);
	check(set_expect(set, &c, PROMPT) & BUFPIPE_HUP);
	bufpipe_set_destroy(set);
	bufpipe_close(ends[0]);
}

BOTH(set, refuses_what_makes_no_sense)
{
	bufpipe_set_t *set = set_open(flags);
	bufpipe_set_t *other = set_open(flags);
	struct bufpipe_event event;
	bufpipe_t *ends[2];
	int fds[2];

	pipe_open(ends, NULL);
	check_eq(pipe2(fds, O_CLOEXEC), 0);
	check_eq(bufpipe_set_create(NULL, flags), -EINVAL);
	check_eq(bufpipe_set_create(&other, 1u << 7), -EINVAL);
	check_eq(bufpipe_set_add(NULL, ends[IN], BUFPIPE_IN, NULL), -EINVAL);
	check_eq(bufpipe_set_add(set, NULL, BUFPIPE_IN, NULL), -EINVAL);
	check_eq(bufpipe_set_add(set, ends[IN], 1u << 9, NULL), -EINVAL);
	check_eq(bufpipe_set_add(set, ends[IN], BUFPIPE_OUT, NULL), -EBADF);
	check_eq(bufpipe_set_add(set, ends[OUT], BUFPIPE_IN, NULL), -EBADF);
	check_eq(bufpipe_set_modify(set, ends[IN], BUFPIPE_IN, NULL), -ENOENT);
	check_eq(bufpipe_set_remove(set, ends[IN]), -ENOENT);
	check_eq(bufpipe_set_add(set, ends[IN], BUFPIPE_IN, NULL), 0);
	check_eq(bufpipe_set_add(set, ends[IN], BUFPIPE_IN, NULL), -EEXIST);
	check_eq(bufpipe_set_add(other, ends[IN], BUFPIPE_IN, NULL), -EEXIST);
	check_eq(bufpipe_set_modify(other, ends[IN], BUFPIPE_IN, NULL), -ENOENT);
	check_eq(bufpipe_set_remove(other, ends[IN]), -ENOENT);
	check_eq(bufpipe_set_modify(set, ends[IN], BUFPIPE_OUT, NULL), -EBADF);
	check_eq(bufpipe_set_remove(set, ends[IN]), 0);
	check_eq(bufpipe_set_remove(set, ends[IN]), -ENOENT);
	check_eq(bufpipe_set_add(other, ends[IN], BUFPIPE_IN, NULL), 0);

	check_eq(bufpipe_set_add_fd(set, -1, POLLIN, NULL), -EINVAL);
	check_eq(bufpipe_set_add_fd(set, 1000, POLLIN, NULL), -EBADF);
	check_eq(bufpipe_set_add_fd(set, fds[0], 1u << 20, NULL), -EINVAL);
	check_eq(bufpipe_set_remove_fd(set, fds[0]), -ENOENT);
	check_eq(bufpipe_set_remove_fd(set, 100000), -ENOENT);
	check_eq(bufpipe_set_remove_fd(set, -1), -EINVAL);
	check_eq(bufpipe_set_add_fd(set, fds[0], POLLIN, NULL), 0);
	check_eq(bufpipe_set_add_fd(set, fds[0], POLLIN, NULL), -EEXIST);
	check_eq(bufpipe_set_remove_fd(set, fds[0]), 0);
	check_eq(bufpipe_set_remove_fd(set, fds[0]), -ENOENT);

	check_eq(bufpipe_set_wait(NULL, &event, 1, 0), -EINVAL);
	check_eq(bufpipe_set_wait(set, NULL, 1, 0), -EINVAL);
	check_eq(bufpipe_set_wait(set, &event, 0, 0), -EINVAL);
	check_eq(bufpipe_set_wait(set, &event, 1, -2), -EINVAL);
	bufpipe_set_destroy(NULL);
	bufpipe_set_destroy(set);
	bufpipe_set_destroy(other);
	pipe_close(ends);
	close(fds[0]);
	close(fds[1]);
}

BOTH(set, waits_as_long_as_it_was_told_even_when_empty)
{
	bufpipe_set_t *set = set_open(flags);
	struct bufpipe_event event;
	bufpipe_t *ends[2];
	int64_t begin;

	pipe_open(ends, NULL);
	for (int i = 0; i < 2; i++) {
		begin = clock_ns();
		check_eq(bufpipe_set_wait(set, &event, 1, 30 * MSEC), 0);
		check(clock_ns() - begin >= 30 * MSEC && clock_ns() - begin < PROMPT);
		check_eq(bufpipe_set_wait(set, &event, 1, 1), 0);
		check_eq(bufpipe_set_add(set, ends[IN], BUFPIPE_IN, NULL), i ? -EEXIST : 0);
	}
	bufpipe_set_destroy(set);
	/* An end that was in a destroyed set can be waited for alone, and can join another set. */
	say(ends[OUT], "alone");
	hear(ends[IN], "alone");
	check_eq(bufpipe_recv(ends[IN], NULL, 0, MSEC), -ETIMEDOUT);
	set = set_open(flags);
	check_eq(bufpipe_set_add(set, ends[IN], BUFPIPE_IN, ends), 0);
	say(ends[OUT], "x");
	check_eq(set_expect(set, ends, PLENTY), BUFPIPE_IN);
	bufpipe_set_destroy(set);
	pipe_close(ends);
}

/* An end that is closed while it is in a set leaves the set by that. */
BOTH(set, survives_the_close_of_an_end_in_it)
{
	bufpipe_set_t *set = set_open(flags);
	bufpipe_t *ends[2][2];

	for (int i = 0; i < 2; i++) {
		pipe_open(ends[i], NULL);
		check_eq(bufpipe_set_add(set, ends[i][IN], BUFPIPE_IN, ends[i]), 0);
	}
	set_expect_nothing(set);
	bufpipe_close(ends[0][IN]);
	set_expect_nothing(set);
	say(ends[1][OUT], "x");
	check_eq(set_expect(set, ends[1], PLENTY), BUFPIPE_IN);
	bufpipe_close(ends[1][IN]);
	set_expect_nothing(set);
	bufpipe_set_destroy(set);
	bufpipe_close(ends[0][OUT]);
	bufpipe_close(ends[1][OUT]);
}

/* An event of an end that was removed is not reported for the end that takes its place. */
BOTH(set, forgets_what_fired_for_a_removed_end)
{
	bufpipe_set_t *set = set_open(flags);
	bufpipe_t *old[2];
	bufpipe_t *fresh[2];

	for (int i = 0; i < 50; i++) {
		pipe_open(old, NULL);
		pipe_open(fresh, NULL);
		check_eq(bufpipe_set_add(set, old[IN], BUFPIPE_IN, old), 0);
		check_eq(bufpipe_set_wait(set, &(struct bufpipe_event){ 0 }, 1, MSEC), 0);
		say(old[OUT], "x");
		if (i % 2)
			bufpipe_close(old[OUT]);
		check_eq(bufpipe_set_remove(set, old[IN]), 0);
		check_eq(bufpipe_set_add(set, fresh[IN], BUFPIPE_IN, fresh), 0);
		check_eq(bufpipe_set_wait(set, &(struct bufpipe_event){ 0 }, 1, 0), 0);
		check_eq(bufpipe_set_wait(set, &(struct bufpipe_event){ 0 }, 1, MSEC), 0);
		say(fresh[OUT], "y");
		check_eq(set_expect(set, fresh, PLENTY), BUFPIPE_IN);
		check_eq(bufpipe_set_remove(set, fresh[IN]), 0);
		if (i % 2 == 0)
			bufpipe_close(old[OUT]);
		bufpipe_close(old[IN]);
		pipe_close(fresh);
	}
	bufpipe_set_destroy(set);
}

/* Whether a try to send finds, within a while, that nobody receives any more. */
static bool finds_nobody(bufpipe_t *out)
{
	int64_t end = clock_ns() + PROMPT;

	while (clock_ns() < end) {
		if (bufpipe_send(out, "", 0, 0) == -EPIPE)
			return true;
		sleep_ns(MSEC);
	}
	return false;
}

BOTH(set, an_end_that_was_removed_and_closed_is_gone_for_its_peer)
{
	bufpipe_set_t *set = set_open(flags);
	bufpipe_t *busy[2];
	bufpipe_t *ends[2];

	pipe_open(busy, NULL);
	say(busy[OUT], "always ready");
	for (int i = 0; i < 2; i++) {
		pipe_open(ends, NULL);
		check_eq(bufpipe_set_add(set, ends[IN], BUFPIPE_IN, ends), 0);
		set_expect_nothing(set);
		check_eq(bufpipe_set_add(set, busy[IN], BUFPIPE_IN, busy), 0);
		check_eq(set_expect(set, busy, PLENTY), BUFPIPE_IN);
		check_eq(bufpipe_set_remove(set, ends[IN]), 0);
		bufpipe_close(ends[IN]);
		if (i) /* a set that never sleeps */
			check_eq(set_expect(set, busy, PLENTY), BUFPIPE_IN);
		check(finds_nobody(ends[OUT]));
		check_eq(bufpipe_set_remove(set, busy[IN]), 0);
		bufpipe_close(ends[OUT]);
	}
	bufpipe_set_destroy(set);
	pipe_close(busy);
}
