/* SPDX-License-Identifier: MIT */
/* Clients that were answered and are not yet accepted, when the server forks or runs out of descriptors. */
#include "asleep.h"
#include "sandbox.h"
#include "support.h"

#include <poll.h>
#include <sys/mman.h>
#include <sys/resource.h>

static char address[64];

static void begin(void)
{
	support_begin();
	snprintf(address, sizeof(address), "@bufpipe-test-pending-%d", getpid());
}

TestSuite(pending, .init = begin, .timeout = 60 * SLOWER);

static bufpipe_listener_t *listen_there(void)
{
	bufpipe_listener_t *listener;

	check_eq(bufpipe_listen(&listener, address, NULL), 0);
	return listener;
}

static void close_copy(void *arg)
{
	bufpipe_listener_close(arg);
}

static void accept_nobody(void *arg)
{
	bufpipe_t *pipe;

	check_eq(bufpipe_accept(arg, &pipe, 0), -EAGAIN);
	bufpipe_listener_close(arg);
}

/* A client sets this when it has its pipe. */
static _Atomic int *connected;

/* Sends empty messages until nobody receives them any more. */
static void visit_and_wait(void *arg)
{
	bufpipe_t *pipe;

	check_eq(bufpipe_connect(&pipe, arg, NULL, PLENTY), 0);
	if (connected)
		*connected = 1;
	say(pipe, "hello");
	while (bufpipe_send(pipe, "", 0, 0) >= 0)
		sleep_ns(MSEC);
	bufpipe_close(pipe);
}

static void visit(void *arg)
{
	bufpipe_t *pipe;

	check_eq(bufpipe_connect(&pipe, arg, NULL, PLENTY), 0);
	say(pipe, "hello");
	bufpipe_close(pipe);
}

/* Makes a client that was answered and not accepted. What it sends then completes its handshake. */
static struct child start_unfinished(bufpipe_listener_t *listener, void (*run)(void *))
{
	for (;;) {
		struct child child;
		bufpipe_t *pipe;

		if (connected)
			*connected = 0;
		child = child_start(run, address);
		wait_until_asleep(child.pid, child.pid, ASLEEP_ANY);
		if (bufpipe_accept(listener, &pipe, 0) == -EAGAIN)
			return child;
		/* The client was so quick that it already has its pipe. It may have ended too, or failed at the closed pipe. */
		bufpipe_close(pipe);
		kill(child.pid, SIGKILL);
		check_eq(waitpid(child.pid, NULL, 0), child.pid);
		close(child.report);
	}
}

/* The client has its pipe and says nothing more. This does not count as silence. */
Test(pending, a_client_that_has_its_pipe_is_kept_however_late_the_server_comes)
{
	bufpipe_listener_t *listener = listen_there();
	struct child visitor = start_unfinished(listener, visit);
	bufpipe_t *pipe;

	/* Longer than a connector may be silent. */
	sleep_ns(5500 * MSEC);
	check_eq(bufpipe_accept(listener, &pipe, PLENTY), 0);
	hear(pipe, "hello");
	bufpipe_close(pipe);
	child_join(&visitor);
	bufpipe_listener_close(listener);
}

Test(pending, a_child_that_closes_or_uses_it_takes_no_client_from_its_parent)
{
	bufpipe_listener_t *listener = listen_there();
	struct child visitor;
	struct child child;
	bufpipe_t *pipe;
	ssize_t r;
	char byte;

	connected = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	visitor = start_unfinished(listener, visit_and_wait);
	while (!*connected)
		sleep_ns(MSEC);
	child = child_start(close_copy, listener);
	child_join(&child);
	child = child_start(accept_nobody, listener);
	child_join(&child);
	check_eq(bufpipe_accept(listener, &pipe, PLENTY), 0);
	hear(pipe, "hello");
	/* The pipe is alive: after what was sent so far, more arrives. */
	do
		r = bufpipe_recv(pipe, &byte, 1, 0);
	while (r == 0);
	check_eq(r, -EAGAIN);
	check_eq(bufpipe_recv(pipe, &byte, 1, PLENTY), 0);
	bufpipe_close(pipe);
	child_join(&visitor);
	bufpipe_listener_close(listener);
}

/* Takes all but some descriptors, as other parts of a program might. */
static int exhaust(int held[])
{
	int n = 0;

	check_eq(setrlimit(RLIMIT_NOFILE, &(struct rlimit){ 64, 64 }), 0);
	while ((held[n] = dup(0)) >= 0)
		n++;
	return n;
}

Test(pending, a_listener_without_descriptors_says_so_once_and_waits)
{
	bufpipe_listener_t *listener = listen_there();
	struct pollfd p = { .fd = bufpipe_listener_fd(listener), .events = POLLIN };
	struct child child = child_start(visit_and_wait, address);
	double before;
	bufpipe_t *pipe;
	int wakeups = 0;
	int held[64];
	int n;

	need_limits();
	n = exhaust(held);
	check_eq(bufpipe_accept(listener, &pipe, PLENTY), -EMFILE);
	before = cpu_seconds();
	check_eq(bufpipe_accept(listener, &pipe, SEC), -ETIMEDOUT);
	check(cpu_seconds() - before < 0.3);
	/* In an event loop as well: the listener looks again now and then, and does not spin. */
	for (int64_t end = clock_ns() + SEC; clock_ns() < end; wakeups++) {
		if (poll(&p, 1, 1000) == 1)
			check_eq(bufpipe_accept(listener, &pipe, 0), -EAGAIN);
	}
	check(wakeups < 50);
	/* One descriptor is not enough, and the listener begins nothing that it cannot finish. */
	close(held[--n]);
	check_eq(bufpipe_accept(listener, &pipe, 200 * MSEC), -ETIMEDOUT);
	for (int i = 0; i < 2; i++)
		close(held[--n]);
	check_eq(poll(&p, 1, 10000), 1);
	check_eq(bufpipe_accept(listener, &pipe, PLENTY), 0);
	hear(pipe, "hello");
	bufpipe_close(pipe);
	child_join(&child);
	while (n > 0)
		close(held[--n]);
	bufpipe_listener_close(listener);
}

/* A client that has its pipe waits for our side, even if descriptors run out in between. */
Test(pending, a_client_that_has_its_pipe_is_kept_when_descriptors_run_out)
{
	bufpipe_listener_t *listener = listen_there();
	struct child child;
	bufpipe_t *pipe;
	int held[64];
	int n;

	need_limits();
	/* The listener needs one more descriptor. */
	child = start_unfinished(listener, visit_and_wait);
	n = exhaust(held);
	check_eq(bufpipe_accept(listener, &pipe, PLENTY), -EMFILE);
	check_eq(bufpipe_accept(listener, &pipe, 300 * MSEC), -ETIMEDOUT);
	close(held[--n]);
	check_eq(bufpipe_accept(listener, &pipe, PLENTY), 0);
	hear(pipe, "hello");
	bufpipe_close(pipe);
	child_join(&child);
	while (n > 0)
		close(held[--n]);
	bufpipe_listener_close(listener);
}

/* A listener has this many clients under way (PENDING_MAX). The others wait in the backlog. */
enum { PLACES = 64, BEYOND = 16, CLIENTS = PLACES + BEYOND };

/* The first message is the number of the client. */
static void visit_with_number(void *arg)
{
	const struct bufpipe_options options = { .buffer_size = 4096 };
	const int *number = arg;
	bufpipe_t *pipe;

	check_eq(bufpipe_connect(&pipe, address, &options, PLENTY), 0);
	check_eq(bufpipe_send(pipe, number, sizeof(*number), 0), 0);
	++*connected;
	bufpipe_close(pipe);
}

static struct child start_number(int *number)
{
	struct child child = child_start(visit_with_number, number);

	wait_until_asleep(child.pid, child.pid, ASLEEP_ANY);
	return child;
}

/* Gives each place to a client. The clients are stopped, so that none finishes before all are answered. */
static void fill_places(bufpipe_listener_t *listener, struct child children[], int numbers[])
{
	bufpipe_t *pipe;

	for (int i = 0; i < PLACES; i++) {
		children[i] = start_number(&numbers[i]);
		check_eq(kill(children[i].pid, SIGSTOP), 0);
		check_eq(waitpid(children[i].pid, NULL, WUNTRACED), children[i].pid);
	}
	/* A client needs two steps, and a call makes at least eight if there are so many. */
	for (int i = 0; i < PLACES; i++)
		check_eq(bufpipe_accept(listener, &pipe, 0), -EAGAIN);
	for (int i = 0; i < PLACES; i++)
		check_eq(kill(children[i].pid, SIGCONT), 0);
	for (int64_t end = clock_ns() + PLENTY; *connected < PLACES; sched_yield())
		check(clock_ns() < end);
}

/* Clients that have their pipes hold all places when the server comes back, and at first it has no descriptors. */
Test(pending, clients_that_have_their_pipes_are_kept_although_more_wait)
{
	bufpipe_listener_t *listener = listen_there();
	struct child children[CLIENTS];
	bool heard[CLIENTS] = { false };
	int numbers[CLIENTS];
	struct rlimit limit;
	bufpipe_t *pipe;
	int held[PLACES];
	int number;
	int n = 0;

	need_limits();
	connected = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	for (int i = 0; i < CLIENTS; i++)
		numbers[i] = i;
	fill_places(listener, children, numbers);
	for (int i = PLACES; i < CLIENTS; i++)
		children[i] = start_number(&numbers[i]);
	check_eq(getrlimit(RLIMIT_NOFILE, &limit), 0);
	check_eq(setrlimit(RLIMIT_NOFILE, &(struct rlimit){ PLACES, limit.rlim_max }), 0);
	while ((held[n] = dup(0)) >= 0)
		n++;
	check_eq(bufpipe_accept(listener, &pipe, PLENTY), -EMFILE);
	check_eq(bufpipe_accept(listener, &pipe, 300 * MSEC), -ETIMEDOUT);
	/* Those in the backlog got no place. */
	check_eq(*connected, PLACES);
	while (n > 0)
		close(held[--n]);
	check_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
	for (int i = 0; i < CLIENTS; i++) {
		check_eq(bufpipe_accept(listener, &pipe, PLENTY), 0);
		check_eq(bufpipe_recv(pipe, &number, sizeof(number), PLENTY), sizeof(number));
		check(number >= 0 && number < CLIENTS && !heard[number]);
		heard[number] = true;
		/* Clients that already have a pipe come first. */
		check(i >= PLACES || number < PLACES);
		bufpipe_close(pipe);
	}
	for (int i = 0; i < CLIENTS; i++)
		child_join(&children[i]);
	bufpipe_listener_close(listener);
}
