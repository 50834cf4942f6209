/* SPDX-License-Identifier: MIT */
/* The descriptors of pipes and sets in the loop of libevent, with its timers beside them. */
#include "loops.h"

#include <event2/event.h>

SUITE(fd_event);

/*
 * One source, and the function that is called when it is readable. It returns false when the source has ended.
 */
struct source {
	struct event *event;
	bool (*serve)(void *what);
	void *what;
};

static void on_readable(evutil_socket_t fd, short events, void *arg)
{
	struct source *source = arg;

	(void)fd;
	check_eq(events, EV_READ);
	if (!source->serve(source->what))
		check_eq(event_del(source->event), 0);
}

static void on_timer(evutil_socket_t fd, short events, void *arg)
{
	(void)fd;
	(void)events;
	++*(unsigned *)arg;
}

static struct event_base *open_loop(void)
{
	struct event_base *loop = event_base_new();

	check(loop);
	return loop;
}

/* Runs the loop until no source is left. */
static void run(struct event_base *loop)
{
	check(event_base_dispatch(loop) >= 0);
}

static void close_loop(struct event_base *loop)
{
	event_base_free(loop);
	libevent_global_shutdown();
}

static void add(struct event_base *loop, struct source *source, int fd)
{
	check(fd >= 0);
	source->event = event_new(loop, fd, EV_READ | EV_PERSIST, on_readable, source);
	check(source->event);
	check_eq(event_add(source->event, NULL), 0);
}

static bool serve_station(void *station)
{
	return station_take(station);
}

static bool serve_crowd(void *crowd)
{
	return crowd_serve(crowd);
}

static bool serve_talker(void *talker)
{
	return talker_send(talker);
}

Test(fd_event, pipes_and_timers_are_served_by_one_loop)
{
	struct timeval interval = { .tv_usec = 1000 };
	struct source sources[PIPES];
	struct event_base *loop;
	struct speakers all;
	struct event *timer;
	unsigned ticks = 0;
	unsigned open = 0;

	speakers_start(&all);
	loop = open_loop();
	timer = event_new(loop, -1, EV_PERSIST, on_timer, &ticks);
	check(timer);
	check_eq(event_add(timer, &interval), 0);
	for (int i = 0; i < PIPES; i++) {
		sources[i] = (struct source){ .serve = serve_station, .what = &all.stations[i] };
		add(loop, &sources[i], bufpipe_fd(all.stations[i].ends[IN]));
	}
	do {
		check_eq(event_base_loop(loop, EVLOOP_ONCE), 0);
		open = 0;
		for (int i = 0; i < PIPES; i++)
			open += event_pending(sources[i].event, EV_READ, NULL) != 0;
	} while (open);
	check(ticks > 0);
	for (int i = 0; i < PIPES; i++)
		event_free(sources[i].event);
	event_free(timer);
	close_loop(loop);
	speakers_end(&all);
}

Test(fd_event, a_set_is_one_source)
{
	struct crowd crowd;
	struct source source = { .serve = serve_crowd, .what = &crowd };
	struct event_base *loop;

	crowd_start(&crowd);
	loop = open_loop();
	add(loop, &source, bufpipe_set_fd(crowd.set));
	run(loop);
	event_free(source.event);
	close_loop(loop);
	crowd_end(&crowd);
}

Test(fd_event, room_is_reported)
{
	struct talker talker;
	struct source source = { .serve = serve_talker, .what = &talker };
	struct event_base *loop;

	talker_start(&talker);
	loop = open_loop();
	add(loop, &source, bufpipe_room_fd(talker.ends[OUT]));
	run(loop);
	event_free(source.event);
	close_loop(loop);
	talker_end(&talker);
}
