/* SPDX-License-Identifier: MIT */
/* Pipes in the event loop of another library. The three tests of loops share this file. */
#ifndef BUFPIPE_TESTS_LOOPS_H
#define BUFPIPE_TESTS_LOOPS_H

#include "sets.h"

enum { PIPES = 8, MESSAGES = 3000 };

/* A pipe from the child. */
struct station {
	bufpipe_t *ends[2];
	void *source; /* what the loop has of it */
	unsigned next;
	bool one_each; /* takes one message per wake-up, and not all that have come */
};

struct speakers {
	struct station stations[PIPES];
	struct child child;
};

static inline void speak(void *arg)
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

static inline void speakers_start(struct speakers *all)
{
	for (int i = 0; i < PIPES; i++) {
		all->stations[i] = (struct station){ .one_each = i % 2 };
		pipe_open(all->stations[i].ends, NULL);
	}
	all->child = child_start(speak, all);
	for (int i = 0; i < PIPES; i++)
		bufpipe_close(all->stations[i].ends[OUT]);
}

static inline void speakers_end(struct speakers *all)
{
	for (int i = 0; i < PIPES; i++) {
		check_eq(all->stations[i].next, MESSAGES);
		bufpipe_close(all->stations[i].ends[IN]);
	}
	child_join(&all->child);
}

/* Called when the pipe is readable. False at the end of its stream. */
static inline bool station_take(struct station *s)
{
	unsigned number;
	ssize_t n;

	do {
		n = bufpipe_recv(s->ends[IN], &number, sizeof(number), 0);
		if (n == sizeof(number))
			check_eq(number, s->next++);
	} while (n >= 0 && !s->one_each);
	check(n == -EPIPE || n == -EAGAIN || n == sizeof(number));
	return n != -EPIPE;
}

/* All pipes in one set, which is one source of the loop. */
struct crowd {
	struct speakers speakers;
	bufpipe_set_t *set;
	unsigned open;
};

static inline void crowd_start(struct crowd *c)
{
	speakers_start(&c->speakers);
	c->set = set_open(BUFPIPE_POLLABLE);
	for (c->open = 0; c->open < PIPES; c->open++) {
		struct station *s = &c->speakers.stations[c->open];

		check_eq(bufpipe_set_add(c->set, s->ends[IN], BUFPIPE_IN, s), 0);
	}
}

static inline void crowd_end(struct crowd *c)
{
	bufpipe_set_destroy(c->set);
	speakers_end(&c->speakers);
}

/* Called when the set's descriptor is readable. False when all streams have ended. */
static inline bool crowd_serve(struct crowd *c)
{
	struct bufpipe_event events[PIPES / 2];
	int n;

	while ((n = bufpipe_set_wait(c->set, events, PIPES / 2, 0)) > 0) {
		for (int i = 0; i < n; i++) {
			if (station_take(events[i].user))
				continue;
			check_eq(bufpipe_set_remove(c->set, events[i].pipe), 0);
			c->open--;
		}
	}
	check_eq(n, 0);
	return c->open;
}

/* A pipe to the child, often full. */
struct talker {
	bufpipe_t *ends[2];
	struct child child;
	unsigned next;
	unsigned refused;
};

static inline void hear_all(void *arg)
{
	struct talker *t = arg;
	unsigned number;

	bufpipe_close(t->ends[OUT]);
	for (unsigned i = 0; i < MESSAGES; i++) {
		if (i % 100 == 0)
			sleep_ns(MSEC);
		check_eq(bufpipe_recv(t->ends[IN], &number, sizeof(number), PLENTY), sizeof(number));
		check_eq(number, i);
	}
	check_eq(bufpipe_recv(t->ends[IN], &number, sizeof(number), PLENTY), -EPIPE);
	bufpipe_close(t->ends[IN]);
}

static inline void talker_start(struct talker *t)
{
	struct bufpipe_options o = { .buffer_size = 256 };

	*t = (struct talker){ 0 };
	pipe_open(t->ends, &o);
	t->child = child_start(hear_all, t);
	bufpipe_close(t->ends[IN]);
}

static inline void talker_end(struct talker *t)
{
	check_eq(t->next, MESSAGES);
	check(t->refused > 0);
	bufpipe_close(t->ends[OUT]);
	child_join(&t->child);
}

/* Called when there is room. False when everything has been sent. */
static inline bool talker_send(struct talker *t)
{
	for (; t->next < MESSAGES; t->next++) {
		int r = bufpipe_send(t->ends[OUT], &t->next, sizeof(t->next), 0);

		if (r == -EAGAIN) {
			t->refused++;
			return true;
		}
		check_eq(r, 0);
	}
	return false;
}
#endif
