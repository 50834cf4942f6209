/* SPDX-License-Identifier: MIT */
/*
 * One shared end is in the sets of several processes. Each message wakes at least one of them, and a death
 * leaves no message behind.
 */
#include "asleep.h"
#include "sets.h"

SUITE(set_shared);

enum { WORKERS = 4, MANY = 10000 };

struct shop {
	unsigned flags;
	bufpipe_t *work[2];
	bufpipe_t *done[2];
};

static void work(void *arg)
{
	struct shop *s = arg;
	bufpipe_set_t *set;
	unsigned number;
	ssize_t n;

	bufpipe_close(s->work[OUT]);
	bufpipe_close(s->done[IN]);
	set = set_open(s->flags);
	check_eq(bufpipe_set_add(set, s->work[IN], BUFPIPE_IN, s), 0);
	for (;;) {
		set_expect(set, s, PLENTY);
		n = bufpipe_recv(s->work[IN], &number, sizeof(number), 0);
		if (n == -EPIPE)
			break;
		if (n == -EAGAIN)
			continue; /* another was quicker */
		check_eq(n, sizeof(number));
		check_eq(bufpipe_send(s->done[OUT], &number, sizeof(number), PLENTY), 0);
	}
	bufpipe_set_destroy(set);
}

static struct shop shop_open(unsigned flags, struct child workers[WORKERS], unsigned flags_of_the_odd)
{
	struct bufpipe_options options = { .flags = BUFPIPE_SHARED };
	struct shop s;

	pipe_open(s.work, &options);
	pipe_open(s.done, &options);
	for (int i = 0; i < WORKERS; i++) {
		s.flags = i % 2 ? flags_of_the_odd : flags;
		workers[i] = child_start(work, &s);
	}
	s.flags = flags;
	bufpipe_close(s.done[OUT]);
	return s;
}

static void one_by_one(const struct shop *s, unsigned count)
{
	unsigned number;

	for (unsigned i = 0; i < count; i++) {
		check_eq(bufpipe_send(s->work[OUT], &i, sizeof(i), PLENTY), 0);
		check_eq(bufpipe_recv(s->done[IN], &number, sizeof(number), PLENTY), sizeof(number));
		check_eq(number, i);
	}
}

static void shop_close(struct shop *s)
{
	bufpipe_close(s->work[IN]);
	bufpipe_close(s->work[OUT]);
	bufpipe_close(s->done[IN]);
}

BOTH(set_shared, each_message_is_taken_once_by_one_of_those_who_wait)
{
	struct child workers[WORKERS];
	struct shop s = shop_open(flags, workers, flags);
	static unsigned char seen[20000];
	unsigned number;

	one_by_one(&s, 1000);
	for (unsigned sent = 0, heard = 0; heard < sizeof(seen);) {
		if (sent < sizeof(seen) && bufpipe_send(s.work[OUT], &sent, sizeof(sent), 0) == 0)
			sent++;
		while (bufpipe_recv(s.done[IN], &number, sizeof(number), sent == sizeof(seen) ? PLENTY : 0) >
		       0) {
			check(number < sizeof(seen) && !seen[number]);
			seen[number] = 1;
			heard++;
			if (heard == sizeof(seen))
				break;
		}
	}
	check_eq(bufpipe_shutdown(s.work[OUT]), 0);
	for (int i = 0; i < WORKERS; i++)
		child_join(&workers[i]);
	shop_close(&s);
}

/*
 * Each process finds now and then that another one was quicker. It still goes on waiting for what comes next.
 */
BOTH(set_shared, nobody_sleeps_past_the_end_because_another_was_quicker_before)
{
	for (int round = 0; round < 10; round++) {
		struct child workers[WORKERS];
		struct shop s = shop_open(flags, workers, flags);
		unsigned sent = 0, heard = 0, number;
		int64_t begin;

		one_by_one(&s, 100);
		while (heard < MANY) {
			if (sent < MANY && bufpipe_send(s.work[OUT], &sent, sizeof(sent), 0) == 0)
				sent++;
			while (heard < MANY && bufpipe_recv(s.done[IN], &number, sizeof(number),
							    sent == MANY ? PLENTY : 0) > 0)
				heard++;
		}
		begin = clock_ns();
		check_eq(bufpipe_shutdown(s.work[OUT]), 0);
		for (int i = 0; i < WORKERS; i++)
			child_join(&workers[i]);
		/*
		 * A set looks at all of its pipes every five seconds. No message may have to wait for that.
		 */
		check(clock_ns() - begin < 3 * SEC);
		shop_close(&s);
	}
}

Test(set_shared, both_kinds_of_sets_wait_for_the_same_end)
{
	struct child workers[WORKERS];
	struct shop s = shop_open(0, workers, BUFPIPE_NO_URING);

	one_by_one(&s, 1000);
	check_eq(bufpipe_shutdown(s.work[OUT]), 0);
	for (int i = 0; i < WORKERS; i++)
		child_join(&workers[i]);
	shop_close(&s);
}

/*
 * One process after the other is killed at whatever it is doing, and the others take what comes. A message
 * that the dead one had taken and not answered is lost with it.
 */
BOTH(set_shared, the_death_of_those_who_wait_strands_nobody)
{
	for (int round = 0; round < 5; round++) {
		struct child workers[WORKERS];
		struct shop s = shop_open(flags, workers, flags);
		unsigned number;

		one_by_one(&s, 20);
		for (int i = 0; i < WORKERS - 1; i++) {
			for (unsigned j = 0; j < 50; j++) {
				check_eq(bufpipe_send(s.work[OUT], &j, sizeof(j), PLENTY), 0);
				if (j == 25 + (unsigned)round)
					child_kill(&workers[i]);
			}
			for (unsigned j = 0; j < 49; j++)
				check_eq(bufpipe_recv(s.done[IN], &number, sizeof(number), PLENTY),
					 sizeof(number));
			while (bufpipe_recv(s.done[IN], &number, sizeof(number), 50 * MSEC) > 0)
				;
			one_by_one(&s, 20);
		}
		check_eq(bufpipe_shutdown(s.work[OUT]), 0);
		child_join(&workers[WORKERS - 1]);
		shop_close(&s);
	}
}

static void sleep_for_ever(void *arg)
{
	struct shop *s = arg;
	bufpipe_set_t *set = set_open(s->flags);

	check_eq(bufpipe_set_add(set, s->work[IN], BUFPIPE_IN, s), 0);
	for (;;)
		bufpipe_set_wait(set, &(struct bufpipe_event){ 0 }, 1, -1);
}

BOTH(set_shared, those_who_were_killed_asleep_are_not_waited_for)
{
	struct bufpipe_options options = { .flags = BUFPIPE_SHARED };
	struct shop s = { .flags = flags };
	bufpipe_set_t *set = set_open(flags);
	struct child child[2];

	pipe_open(s.work, &options);
	check_eq(bufpipe_set_add(set, s.work[IN], BUFPIPE_IN, &s), 0);
	for (int i = 0; i < 20; i++) {
		for (int j = 0; j < 2; j++) {
			struct shop own = { .flags = flags };

			own.work[IN] = s.work[IN];
			if (i == 0 || j == 0) {
				check_eq(bufpipe_set_remove(set, s.work[IN]), 0);
				child[j] = child_start(sleep_for_ever, &own);
				check_eq(bufpipe_set_add(set, s.work[IN], BUFPIPE_IN, &s), 0);
				wait_until_asleep(child[j].pid, child[j].pid, ASLEEP_SET);
				child_kill(&child[j]);
			}
		}
		set_expect_nothing(set);
		say(s.work[OUT], "x");
		check(set_expect(set, &s, PROMPT) & BUFPIPE_IN);
		hear(s.work[IN], "x");
	}
	bufpipe_set_destroy(set);
	pipe_close(s.work);
}
