/* SPDX-License-Identifier: MIT */
/* bufpipe_wait: what poll(2) is for descriptors. */
#include "asleep.h"
#include "sandbox.h"
#include "sets.h"

#include <stdatomic.h>
#include <sys/resource.h>

SUITE(poll);

static void pipes_open(bufpipe_t *pipes[][2], unsigned n)
{
	struct bufpipe_options options = { .buffer_size = 1000 };

	for (unsigned i = 0; i < n; i++)
		pipe_open(pipes[i], &options);
}

static void pipes_close(bufpipe_t *pipes[][2], unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		pipe_close(pipes[i]);
}

Test(poll, tells_which_pipes_have_messages_and_which_have_room)
{
	bufpipe_t *pipes[3][2];
	struct bufpipe_pollfd p[6];

	pipes_open(pipes, 3);
	for (int i = 0; i < 3; i++) {
		p[2 * i] = (struct bufpipe_pollfd){ pipes[i][IN], BUFPIPE_IN, 7 };
		p[2 * i + 1] = (struct bufpipe_pollfd){ pipes[i][OUT], BUFPIPE_OUT, 7 };
	}
	check_eq(bufpipe_wait(p, 6, 0), 3);
	for (int i = 0; i < 6; i++)
		check_eq(p[i].revents, i % 2 ? BUFPIPE_OUT : 0);
	say(pipes[1][OUT], "x");
	fill_up(pipes[2][OUT], 8);
	check_eq(bufpipe_wait(p, 6, PLENTY), 4);
	check_eq(p[0].revents, 0);
	check_eq(p[1].revents, BUFPIPE_OUT);
	check_eq(p[2].revents, BUFPIPE_IN);
	check_eq(p[3].revents, BUFPIPE_OUT);
	check_eq(p[4].revents, BUFPIPE_IN);
	check_eq(p[5].revents, 0);
	check_eq(bufpipe_wait(&p[5], 1, MOMENT), 0);
	pipes_close(pipes, 3);
}

Test(poll, ignores_entries_without_a_pipe_and_refuses_nonsense)
{
	struct bufpipe_pollfd p[3] = { 0 };
	bufpipe_t *ends[2];

	pipe_open(ends, NULL);
	p[1] = (struct bufpipe_pollfd){ ends[IN], BUFPIPE_IN, 7 };
	check_eq(bufpipe_wait(p, 3, MSEC), 0);
	check_eq(p[1].revents, 0);
	check_eq(bufpipe_wait(NULL, 1, 0), -EINVAL);
	check_eq(bufpipe_wait(p, 0, 0), -EINVAL);
	check_eq(bufpipe_wait(p, 3, -2), -EINVAL);
	p[1].events = BUFPIPE_OUT;
	check_eq(bufpipe_wait(p, 3, 0), -EBADF);
	p[1].events = 1 << 6;
	check_eq(bufpipe_wait(p, 3, 0), -EINVAL);
	pipe_close(ends);
}

/* poll(2) refuses more entries than a process may have descriptors. Here only the ends count. */
Test(poll, takes_a_longer_array_than_descriptors_may_be_open)
{
	enum { N = 300 };
	struct bufpipe_pollfd p[N] = { 0 };
	struct rlimit limit = { 64, 64 };
	bufpipe_t *ends[2];

	pipe_open(ends, NULL);
	check_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
	p[N - 1] = (struct bufpipe_pollfd){ ends[IN], BUFPIPE_IN, 0 };
	check_eq(bufpipe_wait(p, N, 0), 0);
	check_eq(bufpipe_wait(p, N, MSEC), 0);
	say(ends[OUT], "x");
	check_eq(bufpipe_wait(p, N, PLENTY), 1);
	pipe_close(ends);
}

Test(poll, tells_the_end_of_a_stream_and_of_the_other_side)
{
	bufpipe_t *pipes[3][2];
	struct bufpipe_pollfd p[3];

	pipes_open(pipes, 3);
	p[0] = (struct bufpipe_pollfd){ pipes[0][IN], BUFPIPE_IN, 0 };
	p[1] = (struct bufpipe_pollfd){ pipes[1][OUT], BUFPIPE_OUT, 0 };
	p[2] = (struct bufpipe_pollfd){ pipes[2][IN], BUFPIPE_HUP, 0 };
	say(pipes[0][OUT], "last");
	check_eq(bufpipe_shutdown(pipes[0][OUT]), 0);
	check_eq(bufpipe_wait(p, 1, PLENTY), 1);
	check(p[0].revents & BUFPIPE_IN);
	hear(pipes[0][IN], "last");
	check_eq(bufpipe_wait(p, 1, PLENTY), 1);
	check_eq(p[0].revents, BUFPIPE_IN | BUFPIPE_HUP);
	check_eq(bufpipe_wait(&p[2], 1, 0), 0);
	bufpipe_close(pipes[2][OUT]);
	check_eq(bufpipe_wait(&p[2], 1, PLENTY), 1);
	check_eq(p[2].revents, BUFPIPE_HUP);
	fill_up(pipes[1][OUT], 8);
	bufpipe_close(pipes[1][IN]);
	check_eq(bufpipe_wait(&p[1], 1, PLENTY), 1);
	check_eq(p[1].revents, BUFPIPE_OUT | BUFPIPE_HUP);
	pipe_close(pipes[0]);
	bufpipe_close(pipes[1][OUT]);
	bufpipe_close(pipes[2][IN]);
}

struct sleeper {
	struct bufpipe_pollfd *p;
	unsigned n;
	int64_t timeout_ns;
	int result;
};

static void sleep_in_wait(void *arg)
{
	struct sleeper *s = arg;

	s->result = bufpipe_wait(s->p, s->n, s->timeout_ns);
}

/*
 * Fewer and more pipes than one futex_waitv takes. The waiter sleeps on the futexes, and after a while on the
 * sockets.
 */
Test(poll, a_message_in_any_of_few_or_many_pipes_wakes_a_sleeper)
{
	static const unsigned counts[] = { 1, 3, 126, 127, 200 };
	enum { MOST = 200 };
	static bufpipe_t *pipes[MOST][2];
	static struct bufpipe_pollfd p[MOST];

	pipes_open(pipes, MOST);
	for (unsigned i = 0; i < MOST; i++)
		p[i] = (struct bufpipe_pollfd){ pipes[i][IN], BUFPIPE_IN, 0 };
	for (unsigned i = 0; i < 2 * sizeof(counts) / sizeof(*counts); i++) {
		unsigned n = counts[i / 2];
		struct sleeper s = { .p = p, .n = n, .timeout_ns = PLENTY };
		struct thread thread;

		thread_start(&thread, sleep_in_wait, &s);
		wait_until_asleep(0, thread.tid, i % 2 ? ASLEEP_SOCKET : ASLEEP_ANY);
		say(pipes[(n - 1) * (i % 3) / 2][OUT], "x");
		thread_join(&thread);
		check_eq(s.result, 1);
		check_eq(p[(n - 1) * (i % 3) / 2].revents, BUFPIPE_IN);
		hear(pipes[(n - 1) * (i % 3) / 2][IN], "x");
	}
	pipes_close(pipes, MOST);
}

Test(poll, room_wakes_a_sleeper_and_both_directions_can_be_waited_for_at_once)
{
	struct bufpipe_options options = { .flags = BUFPIPE_DUPLEX, .buffer_size = 1000 };
	char buf[64];
	bufpipe_t *ends[2];

	pipe_open(ends, &options);
	for (int i = 0; i < 4; i++) {
		struct bufpipe_pollfd p = { ends[0], BUFPIPE_IN | BUFPIPE_OUT, 0 };
		struct sleeper s = { .p = &p, .n = 1, .timeout_ns = PLENTY };
		struct thread thread;

		fill_up(ends[0], 8);
		thread_start(&thread, sleep_in_wait, &s);
		wait_until_asleep(0, thread.tid, ASLEEP_ANY);
		if (i % 2)
			say(ends[1], "x");
		else
			while (bufpipe_recv(ends[1], buf, sizeof(buf), 0) >= 0)
				;
		thread_join(&thread);
		check_eq(s.result, 1);
		check(p.revents & (i % 2 ? BUFPIPE_IN : BUFPIPE_OUT));
		if (i % 2)
			hear(ends[0], "x");
	}
	pipe_close(ends);
}

static void die_while_asleep(enum asleep how, int64_t spin_ns)
{
	struct bufpipe_options options = { .spin_ns = spin_ns };
	bufpipe_t *pipes[2][2];
	struct bufpipe_pollfd p[2];
	struct sleeper s = { .p = p, .n = 2, .timeout_ns = PLENTY };
	struct thread thread;
	struct child child;
	int64_t begin;

	for (int i = 0; i < 2; i++)
		pipe_open(pipes[i], &options);
	child = child_start(sit_on, pipes[1][IN]);
	bufpipe_close(pipes[1][OUT]);
	for (int i = 0; i < 2; i++)
		p[i] = (struct bufpipe_pollfd){ pipes[i][IN], BUFPIPE_IN, 0 };
	thread_start(&thread, sleep_in_wait, &s);
	if (spin_ns == BUFPIPE_NO_SPIN)
		wait_until_asleep(0, thread.tid, how);
	begin = clock_ns();
	child_kill(&child);
	thread_join(&thread);
	check(clock_ns() - begin < PROMPT);
	check_eq(s.result, 1);
	check_eq(p[0].revents, 0);
	check(p[1].revents & BUFPIPE_HUP);
	check_eq(bufpipe_recv(pipes[1][IN], NULL, 0, 0), -EPIPE);
	pipe_close(pipes[0]);
	bufpipe_close(pipes[1][IN]);
}

Test(poll, the_death_of_another_process_wakes_a_sleeper)
{
	die_while_asleep(ASLEEP_ANY, BUFPIPE_NO_SPIN);
	die_while_asleep(ASLEEP_SOCKET, BUFPIPE_NO_SPIN);
}

Test(poll, the_death_of_another_process_ends_a_spin_without_end)
{
	die_while_asleep(ASLEEP_ANY, BUFPIPE_SPIN_ALWAYS);
}

Test(poll, a_pipe_that_is_always_ready_does_not_hide_a_death)
{
	bufpipe_t *busy[2];
	bufpipe_t *doomed[2];
	struct child child;
	int64_t end;
	struct bufpipe_pollfd p[2];

	pipe_open(busy, NULL);
	pipe_open(doomed, NULL);
	say(busy[OUT], "always");
	child = child_start(sit_on, doomed[IN]);
	bufpipe_close(doomed[OUT]);
	p[0] = (struct bufpipe_pollfd){ busy[IN], BUFPIPE_IN, 0 };
	p[1] = (struct bufpipe_pollfd){ doomed[IN], BUFPIPE_IN, 0 };
	check_eq(bufpipe_wait(p, 2, PLENTY), 1);
	child_kill(&child);
	end = clock_ns() + PROMPT;
	do {
		check(bufpipe_wait(p, 2, PLENTY) >= 1);
		check_eq(p[0].revents, BUFPIPE_IN);
	} while (!p[1].revents && clock_ns() < end);
	check(p[1].revents & BUFPIPE_HUP);
	pipe_close(busy);
	bufpipe_close(doomed[IN]);
}

static void on_signal(int number)
{
	(void)number;
}

Test(poll, a_signal_ends_the_wait_only_if_an_end_is_interruptible)
{
	struct sigaction action = { .sa_handler = on_signal };

	check_eq(sigaction(SIGUSR1, &action, NULL), 0);
	for (int i = 0; i < 4; i++) {
		struct bufpipe_options options = { .flags = i % 2 ? BUFPIPE_INTERRUPTIBLE : 0,
						   .spin_ns = BUFPIPE_NO_SPIN };
		struct sleeper s = { .n = 1, .timeout_ns = PLENTY };
		struct bufpipe_pollfd p = { .events = BUFPIPE_IN };
		struct thread thread;
		bufpipe_t *ends[2];

		pipe_open(ends, &options);
		p.pipe = ends[IN];
		s.p = &p;
		thread_start(&thread, sleep_in_wait, &s);
		wait_until_asleep(0, thread.tid, i < 2 ? ASLEEP_ANY : ASLEEP_SOCKET);
		check_eq(pthread_kill(thread.handle, SIGUSR1), 0);
		if (i % 2 == 0) {
			wait_until_asleep(0, thread.tid, ASLEEP_ANY);
			say(ends[OUT], "x");
		}
		thread_join(&thread);
		check_eq(s.result, i % 2 ? -EINTR : 1);
		pipe_close(ends);
	}
}

Test(poll, works_without_futex_waitv_and_without_membarrier)
{
	static const int errors[] = { ENOSYS, EPERM };
	struct forbidden rules[] = { { .call = SYS_futex_waitv }, { .call = SYS_membarrier } };
	bufpipe_t *pipes[2][2];
	struct bufpipe_pollfd p[2];
	struct sleeper s = { .p = p, .n = 2, .timeout_ns = PLENTY };
	struct thread thread;

	pipes_open(pipes, 2);
	for (int i = 0; i < 2; i++)
		p[i] = (struct bufpipe_pollfd){ pipes[i][IN], BUFPIPE_IN, 0 };
	for (int i = 0; i < 2; i++) {
		rules[0].error = rules[1].error = errors[i];
		forbid(rules, 2);
		check_eq(bufpipe_wait(p, 2, 5 * MSEC), 0);
		for (int round = 0; round < 10; round++) {
			thread_start(&thread, sleep_in_wait, &s);
			wait_until_asleep(0, thread.tid, ASLEEP_ANY);
			say(pipes[round % 2][OUT], "x");
			thread_join(&thread);
			check_eq(s.result, 1);
			hear(pipes[round % 2][IN], "x");
		}
	}
	pipes_close(pipes, 2);
}

struct dialogue {
	bufpipe_t *in[4];
	bufpipe_t *out[4];
	unsigned rounds;
	int64_t spin_ns;
};

static void answer(void *arg)
{
	struct dialogue *d = arg;
	struct bufpipe_pollfd p[4];
	char buf[8];

	for (int i = 0; i < 4; i++)
		p[i] = (struct bufpipe_pollfd){ d->in[i], BUFPIPE_IN, 0 };
	for (unsigned heard = 0; heard < d->rounds;) {
		check(bufpipe_wait(p, 4, PLENTY) > 0);
		for (int i = 0; i < 4; i++) {
			if (!p[i].revents)
				continue;
			check_eq(bufpipe_recv(p[i].pipe, buf, sizeof(buf), 0), 4);
			check_eq(bufpipe_send(d->out[i], buf, 4, PLENTY), 0);
			heard++;
		}
	}
}

Test(poll, no_wake_up_is_lost_in_a_long_dialogue)
{
	for (int spin = 0; spin < 2; spin++) {
		struct bufpipe_options options = { .buffer_size = 1000,
						   .spin_ns = spin ? 0 : BUFPIPE_NO_SPIN };
		struct dialogue d = { .rounds = 4000 };
		bufpipe_t *there[4][2], *back[4][2];
		struct child child;
		char buf[8];

		for (int i = 0; i < 4; i++) {
			pipe_open(there[i], &options);
			pipe_open(back[i], &options);
			d.in[i] = there[i][IN];
			d.out[i] = back[i][OUT];
		}
		child = child_start(answer, &d);
		for (unsigned i = 0; i < d.rounds; i++) {
			unsigned j = i * 7 % 4;
			struct bufpipe_pollfd p = { back[j][IN], BUFPIPE_IN, 0 };

			check_eq(bufpipe_send(there[j][OUT], "ping", 4, PLENTY), 0);
			check_eq(bufpipe_wait(&p, 1, PLENTY), 1);
			check_eq(bufpipe_recv(back[j][IN], buf, sizeof(buf), 0), 4);
		}
		child_join(&child);
		pipes_close(there, 4);
		pipes_close(back, 4);
	}
}
