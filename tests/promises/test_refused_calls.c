/* SPDX-License-Identifier: MIT */
/*
 * System calls that few pipes need are refused with any errno. Either there is another way, or the call that
 * needs it returns an error and has done nothing.
 */
#include "sandbox.h"
#include "support.h"

#include <poll.h>
#include <sys/resource.h>
#include <sys/un.h>

SUITE(refused_calls);

static const int errors[] = { EPERM, EACCES, ENOSYS, EINVAL, ENOMEM };

enum { ERRORS = sizeof(errors) / sizeof(errors[0]) };

static void run_in_child(void (*run)(void *), void *arg)
{
	struct child child = child_start(run, arg);

	child_join(&child);
}

/* Runs the function in a child for each errno, with the rule as its argument. */
static void with_each_error(void (*run)(void *), struct forbidden rule)
{
	for (int i = 0; i < ERRORS; i++) {
		rule.error = errors[i];
		run_in_child(run, &rule);
	}
}

static bool readable(int fd, int64_t timeout_ns)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };

	return poll(&p, 1, (int)(timeout_ns / MSEC)) == 1;
}

/* A thread that takes the turn to receive and ends without giving it back. The next holder gets the message. */
struct taker {
	bufpipe_t *end;
	_Atomic int has_it;
	_Atomic int may_end;
};

static void take_turn(void *arg)
{
	struct taker *taker = arg;
	const void *text;

	check_eq(bufpipe_peek(taker->end, &text, PLENTY), 3);
	taker->has_it = 1;
	while (!taker->may_end)
		sleep_ns(MSEC);
}

static void hear_on_readable(bufpipe_t *end, int fd, const char *text)
{
	char got[16];
	ssize_t n;

	while ((n = bufpipe_recv(end, got, sizeof(got), 0)) == -EAGAIN)
		check(readable(fd, PLENTY));
	check_eq(n, strlen(text));
	check(!memcmp(got, text, (size_t)n));
}

/* The timer of a shared end fires when another holder may have put a message back. */
static void descriptor_without_timer(void *arg)
{
	const struct bufpipe_options shared = { .flags = BUFPIPE_SHARED };
	const struct forbidden *rule = arg;
	struct taker taker = { 0 };
	struct thread thread;
	bufpipe_t *ends[2];
	char got[16];
	int fd;

	if (rule->call == SYS_timerfd_create)
		forbid(rule, 1);
	pipe_open(ends, &shared);
	taker.end = ends[IN];
	fd = bufpipe_fd(ends[IN]);
	check(fd >= 0);
	check(!readable(fd, 0));
	say(ends[OUT], "one");
	thread_start(&thread, take_turn, &taker);
	while (!taker.has_it)
		sleep_ns(MSEC);
	check_eq(bufpipe_recv(ends[IN], got, sizeof(got), 0), -EAGAIN);
	/* This has set the timer, and it can no longer be stopped. */
	if (rule->call == SYS_timerfd_settime)
		forbid(rule, 1);
	check(readable(fd, PLENTY));
	taker.may_end = 1;
	thread_join(&thread);
	hear_on_readable(ends[IN], fd, "one");
	check_eq(bufpipe_recv(ends[IN], got, sizeof(got), 0), -EAGAIN);
	check(!readable(fd, 100 * MSEC));
	say(ends[OUT], "two");
	check(readable(fd, PLENTY));
	hear_on_readable(ends[IN], fd, "two");
	pipe_close(ends);
}

Test(refused_calls, a_shared_end_works_without_timers)
{
	with_each_error(descriptor_without_timer, (struct forbidden){ .call = SYS_timerfd_create });
	with_each_error(descriptor_without_timer, (struct forbidden){ .call = SYS_timerfd_settime });
}

static char address[64];

static void name_address(void)
{
	snprintf(address, sizeof(address), "@bufpipe-test-refused-%d", getpid());
}

static void visit(void *arg)
{
	bufpipe_t *pipe;

	(void)arg;
	check_eq(bufpipe_connect(&pipe, address, NULL, PLENTY), 0);
	say(pipe, "hello");
	bufpipe_close(pipe);
}

static void receive_visit(bufpipe_listener_t *listener)
{
	struct child child = child_start(visit, NULL);
	bufpipe_t *pipe;

	check(readable(bufpipe_listener_fd(listener), PLENTY));
	check_eq(bufpipe_accept(listener, &pipe, PLENTY), 0);
	hear(pipe, "hello");
	bufpipe_close(pipe);
	child_join(&child);
}

static void listener_without_timer(void *arg)
{
	bufpipe_listener_t *listener;

	forbid(arg, 1);
	name_address();
	check_eq(bufpipe_listen(&listener, address, NULL), 0);
	receive_visit(listener);
	bufpipe_listener_close(listener);
}

/* Connects and says nothing. */
static int knock(void)
{
	struct sockaddr_un at = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	size_t len = strlen(address);

	memcpy(at.sun_path + 1, address + 1, len - 1);
	check_eq(connect(fd, (struct sockaddr *)&at, (socklen_t)(sizeof(sa_family_t) + len)), 0);
	return fd;
}

static void hold_what_is_open(void *arg)
{
	(void)arg;
	for (;;)
		pause();
}

/* A worker has a copy of the listener, so the timer, which can no longer be set, fires for both. */
static void timer_runs_on(void *arg)
{
	bufpipe_listener_t *listener;
	struct child worker;
	bufpipe_t *pipe;
	double before;
	int silent;

	name_address();
	check_eq(bufpipe_listen(&listener, address, NULL), 0);
	silent = knock();
	check_eq(bufpipe_accept(listener, &pipe, 0), -EAGAIN);
	worker = child_start(hold_what_is_open, NULL);
	forbid(arg, 1);
	/* The timer for the silent connector fires. */
	check(readable(bufpipe_listener_fd(listener), PLENTY));
	before = cpu_seconds();
	check_eq(bufpipe_accept(listener, &pipe, SEC), -ETIMEDOUT);
	check(cpu_seconds() - before < 0.3);
	receive_visit(listener);
	child_kill(&worker);
	close(silent);
	bufpipe_listener_close(listener);
}

Test(refused_calls, a_listener_works_without_timers)
{
	struct forbidden late = { .call = SYS_timerfd_settime, .error = EPERM };

	with_each_error(listener_without_timer, (struct forbidden){ .call = SYS_timerfd_create });
	with_each_error(listener_without_timer, (struct forbidden){ .call = SYS_timerfd_settime });
	run_in_child(timer_runs_on, &late);
}

/*
 * Sends more bytes than the queue of a socket holds. The receiver must remove them without knowing how many
 * there are.
 */
static void many_rings(void *arg)
{
	bufpipe_t *ends[2];
	char got[8];
	int fd;

	forbid(arg, 1);
	pipe_open(ends, NULL);
	fd = bufpipe_fd(ends[IN]);
	check(fd >= 0);
	for (int i = 0; i < 1000; i++) {
		check_eq(bufpipe_recv(ends[IN], got, sizeof(got), 0), -EAGAIN);
		say(ends[OUT], "ring");
		check(readable(fd, PLENTY));
		hear(ends[IN], "ring");
	}
	pipe_close(ends);
}

Test(refused_calls, doorbell_bytes_are_removed_without_ioctl)
{
	with_each_error(many_rings, (struct forbidden){ .call = SYS_ioctl });
}

static int ask_who(void *data, const struct bufpipe_client *client)
{
	check_eq(client->uid, geteuid());
	check_eq(client->pidfd, -1);
	++*(int *)data;
	return 0;
}

/* The mask of the rule matches SO_PEERPIDFD, and no other socket option that the library reads. */
static void no_pidfd(void *arg)
{
	bufpipe_listener_t *listener;
	int asked = 0;

	name_address();
	check_eq(bufpipe_listen(&listener, address, NULL), 0);
	check_eq(bufpipe_listener_set_policy(listener, ask_who, &asked), 0);
	forbid(arg, 1);
	receive_visit(listener);
	check_eq(asked, 1);
	bufpipe_listener_close(listener);
}

Test(refused_calls, the_policy_is_asked_without_a_pidfd)
{
	with_each_error(no_pidfd, (struct forbidden){ .call = SYS_getsockopt, .argument = 2, .mask = 0x40 });
}

static void no_flag_of_memfd(void *arg)
{
	bufpipe_t *ends[2];

	forbid(arg, 1);
	pipe_open(ends, NULL);
	say(ends[OUT], "hello");
	hear(ends[IN], "hello");
	pipe_close(ends);
}

Test(refused_calls, a_pipe_is_made_without_the_noexec_flag_of_memfds)
{
	with_each_error(no_flag_of_memfd,
			(struct forbidden){ .call = SYS_memfd_create, .argument = 1, .mask = 0x8 });
}

/*
 * System calls for which there is no other way. Each function below makes one call of the library that needs
 * them, and returns its result: 0, or the error.
 */

static bufpipe_t *standing[2];

static int try_create(void)
{
	bufpipe_t *ends[2];
	int r = bufpipe_create(ends, NULL);

	if (r == 0)
		pipe_close(ends);
	return r;
}

static int try_set(unsigned flags)
{
	bufpipe_set_t *set;
	int r = bufpipe_set_create(&set, flags);

	if (r < 0)
		return r;
	r = bufpipe_set_add(set, standing[IN], BUFPIPE_IN, NULL);
	bufpipe_set_destroy(set);
	return r;
}

static int try_any_set(void)
{
	return try_set(0);
}

static int try_epoll_set(void)
{
	return try_set(BUFPIPE_NO_URING);
}

static int try_fd(void)
{
	int r = bufpipe_fd(standing[IN]);

	return r < 0 ? r : 0;
}

static int try_listen(void)
{
	bufpipe_listener_t *listener;
	int r = bufpipe_listen(&listener, address, NULL);

	if (r == 0)
		bufpipe_listener_close(listener);
	return r;
}

static int try_connect(void)
{
	bufpipe_t *pipe;
	int r = bufpipe_connect(&pipe, address, NULL, 0);

	/* Nobody listens at this address. */
	return r == -ECONNREFUSED ? 0 : r;
}

static const struct need {
	int call;
	int (*of)(void);
} needs[] = {
	{ SYS_memfd_create, try_create },
	{ SYS_ftruncate, try_create },
	{ SYS_socketpair, try_create },
	{ SYS_epoll_create1, try_any_set },
	{ SYS_eventfd2, try_any_set },
	{ SYS_epoll_ctl, try_any_set },
	{ SYS_epoll_create1, try_epoll_set },
	{ SYS_epoll_ctl, try_epoll_set },
	{ SYS_epoll_create1, try_fd },
	{ SYS_epoll_ctl, try_fd },
	{ SYS_eventfd2, try_fd },
	{ SYS_epoll_create1, try_listen },
	{ SYS_epoll_ctl, try_listen },
	{ SYS_socket, try_listen },
	{ SYS_bind, try_listen },
	{ SYS_listen, try_listen },
	{ SYS_socket, try_connect },
	{ SYS_connect, try_connect },
};

static void do_without(void *arg)
{
	const struct forbidden *rule = arg;
	int before;

	name_address();
	pipe_open(standing, NULL);
	forbid(rule, 1);
	before = descriptors_open();
	for (unsigned i = 0; i < sizeof(needs) / sizeof(needs[0]); i++) {
		int r;

		if (needs[i].call != rule->call)
			continue;
		r = needs[i].of();
		if (r != -rule->error)
			support_fail(__FILE__, __LINE__, "call %d refused with %d: need %u returns %d",
				     rule->call, rule->error, i, r);
		check_eq(descriptors_open(), before);
	}
	say(standing[OUT], "as before");
	hear(standing[IN], "as before");
	pipe_close(standing);
}

Test(refused_calls, an_error_where_there_is_no_other_way)
{
	for (unsigned i = 0; i < sizeof(needs) / sizeof(needs[0]); i++) {
		bool done = false;

		for (unsigned k = 0; k < i; k++)
			done |= needs[k].call == needs[i].call;
		if (!done)
			with_each_error(do_without, (struct forbidden){ .call = needs[i].call });
	}
}

static void need_nothing(void *arg)
{
	(void)arg;
	name_address();
	pipe_open(standing, NULL);
	for (unsigned i = 0; i < sizeof(needs) / sizeof(needs[0]); i++)
		check_eq(needs[i].of(), 0);
	pipe_close(standing);
}

Test(refused_calls, no_error_where_nothing_is_refused)
{
	run_in_child(need_nothing, NULL);
}
