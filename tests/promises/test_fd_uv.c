/* SPDX-License-Identifier: MIT */
/* The descriptors of pipes and sets in the loop of libuv, with its timers beside them. */
#include "loops.h"

#include <uv.h>

SUITE(fd_uv);

static void on_message(uv_poll_t *poll, int status, int events)
{
	check_eq(status, 0);
	check(events & UV_READABLE);
	if (!station_take(poll->data))
		uv_close((uv_handle_t *)poll, NULL);
}

static void on_set(uv_poll_t *poll, int status, int events)
{
	check_eq(status, 0);
	check(events & UV_READABLE);
	if (!crowd_serve(poll->data))
		uv_close((uv_handle_t *)poll, NULL);
}

static void on_room(uv_poll_t *poll, int status, int events)
{
	check_eq(status, 0);
	check(events & UV_READABLE);
	if (!talker_send(poll->data))
		uv_close((uv_handle_t *)poll, NULL);
}

static void on_timer(uv_timer_t *timer)
{
	++*(unsigned *)timer->data;
}

static void add(uv_loop_t *loop, uv_poll_t *poll, int fd, uv_poll_cb call, void *data)
{
	check(fd >= 0);
	check_eq(uv_poll_init(loop, poll, fd), 0);
	poll->data = data;
	check_eq(uv_poll_start(poll, UV_READABLE, call), 0);
}

/* Runs the loop until all handles are closed. */
static void run(uv_loop_t *loop)
{
	uv_run(loop, UV_RUN_DEFAULT);
	check_eq(uv_loop_close(loop), 0);
	uv_library_shutdown();
}

Test(fd_uv, pipes_and_timers_are_served_by_one_loop)
{
	struct speakers all;
	uv_poll_t polls[PIPES];
	unsigned ticks = 0;
	uv_timer_t timer;
	uv_loop_t loop;

	speakers_start(&all);
	check_eq(uv_loop_init(&loop), 0);
	check_eq(uv_timer_init(&loop, &timer), 0);
	timer.data = &ticks;
	check_eq(uv_timer_start(&timer, on_timer, 1, 1), 0);
	uv_unref((uv_handle_t *)&timer);
	for (int i = 0; i < PIPES; i++) {
		struct station *s = &all.stations[i];

		add(&loop, &polls[i], bufpipe_fd(s->ends[IN]), on_message, s);
	}
	uv_run(&loop, UV_RUN_DEFAULT);
	speakers_end(&all);
	check(ticks > 0);
	uv_close((uv_handle_t *)&timer, NULL);
	run(&loop);
}

Test(fd_uv, a_set_is_one_source)
{
	struct crowd crowd;
	uv_poll_t poll;
	uv_loop_t loop;

	crowd_start(&crowd);
	check_eq(uv_loop_init(&loop), 0);
	add(&loop, &poll, bufpipe_set_fd(crowd.set), on_set, &crowd);
	run(&loop);
	crowd_end(&crowd);
}

Test(fd_uv, room_is_reported)
{
	struct talker talker;
	uv_poll_t poll;
	uv_loop_t loop;

	talker_start(&talker);
	check_eq(uv_loop_init(&loop), 0);
	add(&loop, &poll, bufpipe_room_fd(talker.ends[OUT]), on_room, &talker);
	run(&loop);
	talker_end(&talker);
}
