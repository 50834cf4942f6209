/* SPDX-License-Identifier: MIT */
/*
 * Several holders of a shared end sleep in loops of their own, on bufpipe_fd. One of them is killed after
 * any instruction of a call that takes the event of its descriptor. The descriptors of the others stay
 * readable.
 */
#include "end/end.h"
#include "kill/stepper.h"

#include <criterion/criterion.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/wait.h>

enum { IN, OUT };

/*
 * The victim's call: its first bufpipe_fd, or, if it has a descriptor already, a try or a look at the
 * descriptor.
 */
enum verb { OPEN, TRY, LOOK };

static bufpipe_t *ends[2];

static void victim_prepare(void *arg)
{
	if (*(const enum verb *)arg != OPEN)
		trial_assert(bufpipe_fd(ends[IN]) >= 0, "the victim's bufpipe_fd");
}

static void victim_call(void *arg)
{
	struct bufpipe_pollfd one = { .pipe = ends[IN], .events = BUFPIPE_IN };
	char word[8];

	switch (*(const enum verb *)arg) {
	case OPEN:
		bufpipe_fd(ends[IN]);
		break;
	case TRY:
		bufpipe_recv(ends[IN], word, sizeof(word), 0);
		break;
	case LOOK:
		bufpipe_wait(&one, 1, 0);
		break;
	}
}

static bool readable(int fd, int ms)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };

	return poll(&p, 1, ms) == 1 && p.revents & POLLIN;
}

static void send_one(void)
{
	int r = bufpipe_send(ends[OUT], "message", 8, 0);

	trial_assert(r == 0, "send: %d", r);
}

static void expect_one(int fd, const char *when)
{
	char word[8];
	ssize_t n;

	/* Sooner than the holders look by themselves. */
	trial_assert(readable(fd, 1000), "nobody tells of a message %s", when);
	n = bufpipe_recv(ends[IN], word, sizeof(word), 0);
	trial_assert(n == 8, "recv %s: %zd", when, n);
}

static int run(const void *plan, struct trial *t)
{
	struct bufpipe_options o = { .flags = BUFPIPE_SHARED };
	enum verb verb = *(const enum verb *)plan;
	int r = bufpipe_create(ends, &o);
	pid_t victim;
	int fd;

	trial_assert(r == 0, "create: %d", r);
	victim = victim_start(victim_prepare, victim_call, &verb);
	fd = bufpipe_fd(ends[IN]);
	trial_assert(fd >= 0, "bufpipe_fd: %d", fd);
	trial_assert(!readable(fd, 0), "readable with nothing there");
	if (verb != TRY)
		send_one();
	victim_step_and_kill(victim, t);
	if (verb == TRY)
		send_one();
	expect_one(fd, "when the victim is dead");
	r = (int)bufpipe_recv(ends[IN], NULL, 0, 0);
	trial_assert(r == -EAGAIN, "a try: %d", r);
	trial_assert(!readable(fd, 0), "readable again with nothing there");
	send_one();
	expect_one(fd, "later");
	bufpipe_close(ends[IN]);
	bufpipe_close(ends[OUT]);
	return -1;
}

TestSuite(kill_fd, .init = stepper_require, .timeout = 100000);

Test(kill_fd, a_holder_that_dies_leaves_the_descriptors_of_the_others_readable)
{
	static const char *const names[] = {
		[OPEN] = "bufpipe_fd", [TRY] = "a try", [LOOK] = "bufpipe_wait"
	};

	for (enum verb verb = OPEN; verb <= LOOK; verb++) {
		struct campaign c = {
			.name = names[verb], .run = run, .plan = &verb, .workers = 6, .budget = 200000
		};

		stepper_campaign(&c);
	}
}

static pid_t child_that(void (*act)(void))
{
	pid_t pid = fork();

	if (pid == 0) {
		act();
		_exit(0);
	}
	return pid;
}

static void publish_and_die(void)
{
	struct control *ours = ends[OUT]->ours.control;

	/* As if the sender died between publishing and ringing. */
	ends[OUT]->out.wait.theirs = &ours->send_waiter;
	bufpipe_send(ends[OUT], "message", 8, 0);
}

/* Before the next message nobody rings for the dead sender, and no descriptor becomes readable. */
Test(kill_fd, a_message_for_which_nobody_rang_comes_with_the_next)
{
	struct bufpipe_options o = { .flags = BUFPIPE_SHARED };
	char word[8];
	int status;
	int fd;

	cr_assert_eq(bufpipe_create(ends, &o), 0);
	fd = bufpipe_fd(ends[IN]);
	cr_assert(fd >= 0);
	cr_assert(waitpid(child_that(publish_and_die), &status, 0) > 0 && status == 0);
	cr_assert(!readable(fd, 0), "the doorbell was rung: nothing is tested");
	send_one();
	cr_assert(readable(fd, 20000));
	for (int i = 0; i < 2; i++)
		cr_assert_eq(bufpipe_recv(ends[IN], word, sizeof(word), 0), 8);
	cr_assert_eq(bufpipe_recv(ends[IN], word, sizeof(word), 0), -EAGAIN);
	cr_assert(!readable(fd, 0));
	bufpipe_close(ends[IN]);
	bufpipe_close(ends[OUT]);
}

static void die_in_its_turn(void)
{
	struct control *ours = ends[OUT]->ours.control;

	publish_and_die();
	pthread_mutex_lock(&ours->send_lock.mutex);
}

Test(kill_fd, a_holder_that_takes_a_lock_from_the_dead_rings)
{
	struct bufpipe_options o = { .flags = BUFPIPE_SHARED };
	char word[8];
	void *room;
	int status;
	int fd;

	cr_assert_eq(bufpipe_create(ends, &o), 0);
	fd = bufpipe_fd(ends[IN]);
	cr_assert(waitpid(child_that(die_in_its_turn), &status, 0) > 0 && status == 0);
	cr_assert(!readable(fd, 0), "the doorbell was rung: nothing is tested");
	/* The co-owner takes the lock and sends nothing. */
	cr_assert_eq(bufpipe_reserve(ends[OUT], &room, 8, -1), 0);
	cr_assert(readable(fd, 20000));
	cr_assert_eq(bufpipe_cancel(ends[OUT]), 0);
	cr_assert_eq(bufpipe_recv(ends[IN], word, sizeof(word), 0), 8);
	bufpipe_close(ends[IN]);
	bufpipe_close(ends[OUT]);
}
