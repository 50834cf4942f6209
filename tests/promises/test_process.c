/* SPDX-License-Identifier: MIT */
/* Fork and exec: an end lives as long as somebody holds it. */
#include "asleep.h"
#include "sanitized.h"
#include "support.h"

#include <sys/mman.h>
#include <sys/resource.h>

SUITE(process);

static void hold(void *arg)
{
	(void)arg;
	for (;;)
		pause();
}

static void let_go_of_out(void *arg)
{
	bufpipe_t **ends = arg;

	bufpipe_close(ends[OUT]);
	bufpipe_close(ends[IN]);
}

Test(process, a_child_that_closes_first_does_not_end_the_stream)
{
	struct child child;
	bufpipe_t *ends[2];

	pipe_open(ends, NULL);
	say(ends[OUT], "before");
	child = child_start(let_go_of_out, ends);
	child_join(&child);
	hear(ends[IN], "before");
	say(ends[OUT], "after");
	hear(ends[IN], "after");
	pipe_close(ends);
}

static void send_late(void *arg)
{
	bufpipe_t **ends = arg;

	bufpipe_close(ends[IN]);
	say(ends[OUT], "from the child");
}

Test(process, a_parent_that_closes_first_does_not_end_the_stream)
{
	struct child child;
	bufpipe_t *ends[2];
	char byte;

	pipe_open(ends, NULL);
	say(ends[OUT], "from the parent");
	child = child_start(send_late, ends);
	bufpipe_close(ends[OUT]);
	hear(ends[IN], "from the parent");
	hear(ends[IN], "from the child");
	child_join(&child);
	check_eq(bufpipe_recv(ends[IN], &byte, 1, -1), -EPIPE);
	bufpipe_close(ends[IN]);
}

Test(process, the_last_holder_ends_the_stream)
{
	struct child children[3];
	bufpipe_t *ends[2];
	char byte;

	pipe_open(ends, NULL);
	for (int i = 0; i < 3; i++)
		children[i] = child_start(hold, NULL);
	bufpipe_close(ends[OUT]);
	for (int i = 0; i < 3; i++) {
		check_eq(bufpipe_recv(ends[IN], &byte, 1, 0), -EAGAIN);
		check_eq(bufpipe_recv(ends[IN], &byte, 1, 150 * MSEC), -ETIMEDOUT);
		child_kill(&children[i]);
	}
	check_eq(bufpipe_recv(ends[IN], &byte, 1, PROMPT), -EPIPE);
	bufpipe_close(ends[IN]);
}

Test(process, the_last_receiver_breaks_the_pipe)
{
	struct bufpipe_options options = { .object_size = 1, .object_count = 3 };
	struct child children[2];
	bufpipe_t *ends[2];

	pipe_open(ends, &options);
	fill_up(ends[OUT], 1);
	for (int i = 0; i < 2; i++)
		children[i] = child_start(hold, NULL);
	bufpipe_close(ends[IN]);
	for (int i = 0; i < 2; i++) {
		check_eq(bufpipe_send(ends[OUT], "x", 1, 150 * MSEC), -ETIMEDOUT);
		child_kill(&children[i]);
	}
	check_eq(bufpipe_send(ends[OUT], "x", 1, PROMPT), -EPIPE);
	bufpipe_close(ends[OUT]);
}

/* A holder leaves while another one stays. This must not end a blocked call. */
static void recv_the_last(void *arg)
{
	char byte;

	check_eq(bufpipe_recv(arg, &byte, 1, -1), 1);
}

Test(process, a_sleeper_stays_asleep_while_one_holder_is_left)
{
	struct child holder;
	struct child sleeper;
	bufpipe_t *ends[2];

	pipe_open(ends, NULL);
	for (int closes = 0; closes < 2; closes++) {
		holder = child_start(closes ? let_go_of_out : hold, ends);
		sleeper = child_start(recv_the_last, ends[IN]);
		wait_until_asleep(sleeper.pid, sleeper.pid, ASLEEP_SOCKET);
		if (closes)
			child_join(&holder);
		else
			child_kill(&holder);
		wait_until_asleep(sleeper.pid, sleeper.pid, ASLEEP_SOCKET);
		say(ends[OUT], "x");
		child_join(&sleeper);
	}
	pipe_close(ends);
}

static void shut_down(void *arg)
{
	check_eq(bufpipe_shutdown(arg), 0);
}

Test(process, shutdown_by_one_holder_is_for_all)
{
	struct child child;
	bufpipe_t *ends[2];
	char byte;

	pipe_open(ends, NULL);
	say(ends[OUT], "x");
	child = child_start(shut_down, ends[OUT]);
	child_join(&child);
	check_eq(bufpipe_send(ends[OUT], "y", 1, -1), -EPIPE);
	hear(ends[IN], "x");
	check_eq(bufpipe_recv(ends[IN], &byte, 1, -1), -EPIPE);
	pipe_close(ends);
}

static void take_turn(void *arg)
{
	bufpipe_t **ends = arg;
	char number[16];

	for (int i = 0; i < 100; i++) {
		snprintf(number, sizeof(number), "%d", i);
		say(ends[OUT], number);
		hear(ends[IN], number);
	}
	say(ends[OUT], "left over");
}

Test(process, parent_and_child_take_turns_on_both_ends)
{
	struct bufpipe_options options = { .buffer_size = 512 };
	bufpipe_t *ends[2];

	pipe_open(ends, &options);
	for (int i = 0; i < 5; i++) {
		struct child child = child_start(take_turn, ends);

		child_join(&child);
		hear(ends[IN], "left over");
		take_turn(ends);
		hear(ends[IN], "left over");
	}
	pipe_close(ends);
}

static void become_another(void *arg)
{
	(void)arg;
	execlp("sleep", "sleep", "1000", (char *)NULL);
	check(!"exec");
}

Test(process, exec_closes_the_ends)
{
	struct child child;
	bufpipe_t *ends[2];
	char byte;

	pipe_open(ends, NULL);
	child = child_start(become_another, NULL);
	bufpipe_close(ends[OUT]);
	check_eq(bufpipe_recv(ends[IN], &byte, 1, PLENTY), -EPIPE);
	check_eq(kill(child.pid, 0), 0);
	child_kill(&child);
	bufpipe_close(ends[IN]);
}

static void exit_without_close(void *arg)
{
	say(arg, "bye");
	exit(0);
}

Test(process, exit_closes_the_ends)
{
	struct child child;
	bufpipe_t *ends[2];
	char byte;

	pipe_open(ends, NULL);
	child = child_start(exit_without_close, ends[OUT]);
	bufpipe_close(ends[OUT]);
	hear(ends[IN], "bye");
	check_eq(bufpipe_recv(ends[IN], &byte, 1, PLENTY), -EPIPE);
	child_join(&child);
	bufpipe_close(ends[IN]);
}

/* Sends back each byte that it receives. */
static void echo(void *arg)
{
	bufpipe_t **ends = arg;
	char byte;

	while (bufpipe_recv(ends[0], &byte, 1, PLENTY) == 1)
		check_eq(bufpipe_send(ends[1], &byte, 1, PLENTY), 0);
}

Test(process, a_stopped_peer_goes_on_where_it_was)
{
	bufpipe_t *there[2];
	bufpipe_t *back[2];
	bufpipe_t *of_child[2];
	struct child child;
	char byte;

	pipe_open(there, NULL);
	pipe_open(back, NULL);
	of_child[0] = there[IN];
	of_child[1] = back[OUT];
	child = child_start(echo, of_child);
	for (int i = 0; i < 20; i++) {
		check_eq(kill(child.pid, SIGSTOP), 0);
		check_eq(waitpid(child.pid, NULL, WUNTRACED), child.pid);
		say(there[OUT], "a");
		check_eq(bufpipe_recv(back[IN], &byte, 1, 1 * MSEC), -ETIMEDOUT);
		check_eq(kill(child.pid, SIGCONT), 0);
		check_eq(bufpipe_recv(back[IN], &byte, 1, PLENTY), 1);
		if (i % 2) /* sometimes the process is asleep when it is stopped, and sometimes not */
			wait_until_asleep(child.pid, child.pid, ASLEEP_ANY);
	}
	check_eq(bufpipe_shutdown(there[OUT]), 0);
	child_join(&child);
	pipe_close(there);
	pipe_close(back);
}

#ifndef SANITIZED /* sanitizers need address space */
static void limit_address_space(rlim_t bytes)
{
	struct rlimit limit;

	check_eq(getrlimit(RLIMIT_AS, &limit), 0);
	limit.rlim_cur = bytes;
	check_eq(setrlimit(RLIMIT_AS, &limit), 0);
}

/* Lets the heap and the stack grow now, because they cannot grow later. */
static void touch_memory(void)
{
	volatile char stack[65536];
	void *volatile heap = malloc(100000);

	for (size_t i = 0; i < sizeof(stack); i += 4096)
		stack[i] = 1;
	check(heap);
	free(heap);
}

static void begin_without_mappings(void *arg)
{
	char address[64];
	bufpipe_listener_t *listener;
	bufpipe_set_t *set;
	bufpipe_t *ends[2];
	int listened;
	int r;

	(void)arg;
	snprintf(address, sizeof(address), "/tmp/bufpipe-test-process-%d", getpid());
	touch_memory();
	limit_address_space(4096);
	check(mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED);
	r = bufpipe_set_create(&set, BUFPIPE_NO_URING);
	listened = bufpipe_listen(&listener, address, NULL);
	check_eq(bufpipe_create(ends, NULL), -ENOMEM);
	limit_address_space(RLIM_INFINITY);
	pipe_open(ends, NULL);
	check(r == 0 || r == -ENOMEM);
	check(listened == 0 || listened == -ENOMEM);
	if (r == 0) {
		check_eq(bufpipe_set_add(set, ends[IN], BUFPIPE_IN, NULL), 0);
		bufpipe_set_destroy(set);
	}
	if (listened == 0) {
		bufpipe_listener_close(listener);
		check_eq(access(address, F_OK), -1);
	}
	pipe_close(ends);
}

Test(process, is_not_mistaken_for_a_child_if_its_first_call_can_map_nothing)
{
	struct child child = child_start(begin_without_mappings, NULL);

	child_join(&child);
}
#endif
