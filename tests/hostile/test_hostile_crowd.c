/* SPDX-License-Identifier: MIT */
/*
 * There are more silent connections than a listener has places, and honest clients wait behind them in the
 * backlog.
 */
#include "hostile/hostile.h"

#include "connect/pending.h"

#include <sys/prctl.h>

TestSuite(hostile_crowd, .timeout = 120);

enum { CROWD = 900 };

/* A process that opens CROWD connections, reports that it has, and never sends anything. */
static pid_t crowd_start(bufpipe_listener_t *listener, const char *address, uid_t uid)
{
	int told[2];
	char byte;
	pid_t pid;

	cr_assert_eq(pipe(told), 0);
	pid = fork();
	cr_assert_geq(pid, 0);
	if (!pid) {
		bufpipe_listener_close(listener);
		if (uid && (setgid(uid) < 0 || setuid(uid) < 0))
			_exit(1);
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		for (int i = 0; i < CROWD; i++)
			rogue_connect(address);
		if (write(told[1], "", 1) != 1)
			_exit(2);
		for (;;)
			pause();
	}
	close(told[1]);
	cr_assert_eq(read(told[0], &byte, 1), 1);
	close(told[0]);
	return pid;
}

static void visit(void *address)
{
	bufpipe_t *pipe;

	check_eq(bufpipe_connect(&pipe, address, NULL, 60 * SEC), 0);
	say(pipe, "hello");
	bufpipe_close(pipe);
}

/*
 * How long this thread slept until it accepted a client behind the crowd. The time in which it waits for a
 * CPU on a busy machine is not part of that.
 */
static int64_t slept_for_a_visit(bufpipe_listener_t *listener, char *address)
{
	int64_t cpu = time_of(CLOCK_THREAD_CPUTIME_ID);
	int64_t queued = time_queued();
	int64_t begin = time_now();
	struct child child = child_start(visit, address);
	bufpipe_t *pipe;

	cr_assert_eq(bufpipe_accept(listener, &pipe, 60 * SEC), 0);
	begin = elapsed(begin) - (time_of(CLOCK_THREAD_CPUTIME_ID) - cpu) - (time_queued() - queued);
	hear(pipe, "hello");
	bufpipe_close(pipe);
	child_join(&child);
	return begin;
}

/* If each silent connection kept its place for 100 ms, a client behind them would wait for four seconds. */
static void come_behind_a_crowd(uid_t uid)
{
	struct tally before = tally_now();
	bufpipe_listener_t *listener;
	char address[64];
	pid_t crowd[3];
	int64_t slept;

	name_address(address);
	cr_assert_eq(bufpipe_listen(&listener, address, NULL), 0);
	for (int i = 0; i < 3; i++)
		crowd[i] = crowd_start(listener, address, uid);
	slept = slept_for_a_visit(listener, address);
	cr_assert_lt(slept, 2 * SEC, "%lld ns", (long long)slept);
	for (int i = 0; i < 3; i++)
		flipper_stop(crowd[i]);
	bufpipe_listener_close(listener);
	tally_assert(before, "after the crowd");
}

static bool kernel_tells_the_queue(void)
{
	return time_queued() >= 0;
}

Test(hostile_crowd, silent_connections_of_another_user_do_not_delay_for_long)
{
	if (geteuid())
		cr_skip_test("only root can be somebody else");
	if (!kernel_tells_the_queue())
		cr_skip_test("this kernel does not tell how long a thread waits for a CPU");
	come_behind_a_crowd(NOBODY);
}

Test(hostile_crowd, silent_connections_of_the_same_user_do_not_delay_for_long)
{
	if (!kernel_tells_the_queue())
		cr_skip_test("this kernel does not tell how long a thread waits for a CPU");
	come_behind_a_crowd(0);
}

static struct pending *place_of(bufpipe_listener_t *listener, uid_t uid)
{
	for (int i = 0; i < PENDING_MAX; i++) {
		if (listener->pending[i].socket >= 0 && listener->pending[i].uid == uid)
			return &listener->pending[i];
	}
	return NULL;
}

/*
 * Many silent connections of one user shorten the time limit for this user only. A client of another user
 * that is slow to send its wishes keeps its place for the full time.
 */
Test(hostile_crowd, the_time_of_another_user_does_not_become_shorter)
{
	struct pending *place = NULL;
	bufpipe_listener_t *listener;
	char address[64];
	pid_t crowd[2];
	int64_t since = 0;
	bufpipe_t *pipe;
	int slow;

	if (geteuid())
		cr_skip_test("only root can be somebody else");
	name_address(address);
	cr_assert_eq(bufpipe_listen(&listener, address, NULL), 0);
	crowd[0] = crowd_start(listener, address, NOBODY);
	slow = rogue_connect(address);
	crowd[1] = crowd_start(listener, address, NOBODY);
	while (!place) {
		cr_assert_eq(bufpipe_accept(listener, &pipe, MSEC), -ETIMEDOUT);
		place = place_of(listener, geteuid());
	}
	cr_assert_eq(listener->grace, GRACE / 32, "%lld", (long long)listener->grace);
	since = place->since;
	while (place_of(listener, geteuid()) && elapsed(since) < 2 * GRACE)
		cr_assert_eq(bufpipe_accept(listener, &pipe, MSEC), -ETIMEDOUT);
	cr_assert_geq(elapsed(since), GRACE, "it was dropped after %lld ns", (long long)elapsed(since));
	close(slow);
	flipper_stop(crowd[0]);
	flipper_stop(crowd[1]);
	bufpipe_listener_close(listener);
}
