/* SPDX-License-Identifier: MIT */
/* The descriptors of pipes and sets in the loop of GLib, with its timers beside them. */
#include "loops.h"

#include <glib-unix.h>

SUITE(fd_glib);

static gboolean on_message(gint fd, GIOCondition condition, gpointer station)
{
	(void)fd;
	check_eq(condition, G_IO_IN);
	return station_take(station);
}

static gboolean on_set(gint fd, GIOCondition condition, gpointer crowd)
{
	(void)fd;
	check_eq(condition, G_IO_IN);
	return crowd_serve(crowd);
}

static gboolean on_room(gint fd, GIOCondition condition, gpointer talker)
{
	(void)fd;
	check_eq(condition, G_IO_IN);
	return talker_send(talker);
}

static gboolean on_timer(gpointer ticks)
{
	++*(unsigned *)ticks;
	return G_SOURCE_CONTINUE;
}

/* The loop holds the source until its function returns false; the caller lets go of it. */
static GSource *add(GMainContext *loop, int fd, GUnixFDSourceFunc call, void *data)
{
	GSource *source;

	check(fd >= 0);
	source = g_unix_fd_source_new(fd, G_IO_IN);
	g_source_set_callback(source, G_SOURCE_FUNC(call), data, NULL);
	g_source_attach(source, loop);
	return source;
}

/* Runs the loop until the source has ended. */
static void run(GMainContext *loop, GSource *source)
{
	while (!g_source_is_destroyed(source))
		g_main_context_iteration(loop, true);
	g_source_unref(source);
}

Test(fd_glib, pipes_and_timers_are_served_by_one_loop)
{
	GMainContext *loop = g_main_context_new();
	GSource *timer = g_timeout_source_new(1);
	struct speakers all;
	unsigned ticks = 0;

	speakers_start(&all);
	g_source_set_callback(timer, on_timer, &ticks, NULL);
	g_source_attach(timer, loop);
	for (int i = 0; i < PIPES; i++) {
		struct station *s = &all.stations[i];

		s->source = add(loop, bufpipe_fd(s->ends[IN]), on_message, s);
	}
	for (int i = 0; i < PIPES; i++)
		run(loop, all.stations[i].source);
	check(ticks > 0);
	g_source_destroy(timer);
	g_source_unref(timer);
	g_main_context_unref(loop);
	speakers_end(&all);
}

Test(fd_glib, a_set_is_one_source)
{
	GMainContext *loop = g_main_context_new();
	struct crowd crowd;

	crowd_start(&crowd);
	run(loop, add(loop, bufpipe_set_fd(crowd.set), on_set, &crowd));
	g_main_context_unref(loop);
	crowd_end(&crowd);
}

Test(fd_glib, room_is_reported)
{
	GMainContext *loop = g_main_context_new();
	struct talker talker;

	talker_start(&talker);
	run(loop, add(loop, bufpipe_room_fd(talker.ends[OUT]), on_room, &talker));
	g_main_context_unref(loop);
	talker_end(&talker);
}
