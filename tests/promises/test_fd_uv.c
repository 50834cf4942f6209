/* SPDX-License-Identifier: MIT */
/* bufpipe_fd in the loop of libuv, with its timers and several pipes beside each other. */
#include "sets.h"

#include <uv.h>

SUITE(fd_uv);

enum { PIPES = 8, MESSAGES = 3000 };

struct station {
	bufpipe_t *ends[2];
	uv_poll_t poll;
	unsigned next;
	bool one_each; /* takes one message per wake-up, not all */
};

struct speakers {
	struct station stations[PIPES];
};

static void on_readable(uv_poll_t *poll, int status, int events)
{
	struct station *s = poll->data;
	unsigned number;
	ssize_t n;

	check_eq(status, 0);
	check(events & UV_READABLE);
	do {
		n = bufpipe_recv(s->ends[IN], &number, sizeof(number), 0);
		if (n == sizeof(number))
			check_eq(number, s->next++);
	} while (n >= 0 && !s->one_each);
	if (n == -EPIPE)
		uv_close((uv_handle_t *)poll, NULL);
	else
		check(n == -EAGAIN || n == sizeof(number));
}

static void speak(void *arg)
{
	struct speakers *all = arg;

	for (unsigned i = 0; i < MESSAGES; i++) {
		for (int j = 0; j < PIPES; j++)
			check_eq(bufpipe_send(all->stations[j].ends[OUT], &i, sizeof(i), PLENTY), 0);
		if (i % 100 == 0)
			sleep_ns(MSEC);
	}
	for (int j = 0; j < PIPES; j++)
		pipe_close(all->stations[j].ends);
}

static void on_timer(uv_timer_t *timer)
{
	++*(unsigned *)timer->data;
}

Test(fd_uv, pipes_and_timers_are_served_by_one_loop)
{
	struct speakers all = { 0 };
	struct child child;
	unsigned ticks = 0;
	uv_timer_t timer;
	uv_loop_t loop;

	for (int i = 0; i < PIPES; i++)
		pipe_open(all.stations[i].ends, NULL);
	child = child_start(speak, &all);
	check_eq(uv_loop_init(&loop), 0);
	check_eq(uv_timer_init(&loop, &timer), 0);
	timer.data = &ticks;
	check_eq(uv_timer_start(&timer, on_timer, 1, 1), 0);
	uv_unref((uv_handle_t *)&timer);
	for (int i = 0; i < PIPES; i++) {
		struct station *s = &all.stations[i];

		bufpipe_close(s->ends[OUT]);
		s->one_each = i % 2;
		s->poll.data = s;
		check_eq(uv_poll_init(&loop, &s->poll, bufpipe_fd(s->ends[IN])), 0);
		check_eq(uv_poll_start(&s->poll, UV_READABLE, on_readable), 0);
	}
	uv_run(&loop, UV_RUN_DEFAULT);
	for (int i = 0; i < PIPES; i++) {
		check_eq(all.stations[i].next, MESSAGES);
		bufpipe_close(all.stations[i].ends[IN]);
	}
	check(ticks > 0);
	uv_close((uv_handle_t *)&timer, NULL);
	uv_run(&loop, UV_RUN_DEFAULT);
	check_eq(uv_loop_close(&loop), 0);
	child_join(&child);
	uv_library_shutdown();
}
