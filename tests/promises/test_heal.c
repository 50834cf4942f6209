/* SPDX-License-Identifier: MIT */
/*
 * The kernel may fail to release the turn of a thread that has ended. Another thread then takes that turn.
 * The turn of a thread that is alive is never taken.
 */
#include "kill/waiter.h"
#include "support.h"

#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

SUITE(heal);

static const struct bufpipe_options shared = { .buffer_size = 1000, .flags = BUFPIPE_SHARED };

/* In memory that all processes share. */
struct stage {
	_Atomic int has_turn;
	_Atomic pid_t grandchild;
};

static struct stage *stage_new(void)
{
	struct stage *s = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	check(s != MAP_FAILED);
	return s;
}

static void open_something(bufpipe_t *const ends[2], int which)
{
	const void *message;
	void *room;

	if (which == OUT)
		check_eq(bufpipe_reserve(ends[OUT], &room, 8, 0), 0);
	else
		check_eq(bufpipe_peek(ends[IN], &message, 0), 8);
}

static bufpipe_t *pair[2];
static int what;

static void *open_and_exec(void *arg)
{
	(void)arg;
	open_something(pair, what);
	execl("/bin/sleep", "sleep", "100", (char *)0);
	_exit(1);
}

static void exec_in_a_thread(void *arg)
{
	pthread_t thread;

	(void)arg;
	check_eq(pthread_create(&thread, NULL, open_and_exec, NULL), 0);
	for (;;)
		pause();
}

static bool runs_sleep(pid_t pid)
{
	char path[64];
	char name[16] = "";
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%d/comm", pid);
	file = fopen(path, "re");
	check(file);
	check(fgets(name, sizeof(name), file));
	fclose(file);
	return strcmp(name, "sleep\n") == 0;
}

/* Leaves a turn behind that no thread has; the process lives on. */
static struct child leave_by_exec(int which)
{
	struct child child;

	what = which;
	child = child_start(exec_in_a_thread, NULL);
	while (!runs_sleep(child.pid))
		sleep_ns(MSEC);
	return child;
}

/* The C library does not notice this clone: in the child it still has the parent's thread id. */
static pid_t clone_raw(void)
{
	return (pid_t)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
}

static _Noreturn void open_and_stay(struct stage *s, int which)
{
	prctl(PR_SET_PDEATHSIG, 0);
	alarm(60); /* if the test fails before it kills this process */
	open_something(pair, which);
	s->has_turn = 1;
	for (;;)
		pause();
}

static void leave_by_clone(int which)
{
	struct stage *s = stage_new();
	int status;
	pid_t pid = clone_raw();

	check(pid >= 0);
	if (pid == 0)
		open_and_stay(s, which);
	while (!s->has_turn)
		sleep_ns(MSEC);
	kill(pid, SIGKILL);
	check_eq(waitpid(pid, &status, 0), pid);
	munmap(s, 4096);
}

static void all_goes_on(void)
{
	say(pair[OUT], "87654321");
	hear(pair[IN], "12345678");
	hear(pair[IN], "87654321");
}

/* One kind of waiter, in a process of its own, on a pipe of its own. */
struct heir {
	enum waiter_kind kind;
	bool room;
	bufpipe_t *ends[2];
	struct child last;  /* whose turn was lost, if it lives on */
	struct child child; /* the waiter */
};

/* The table of promises says 4 s. The test allows twice as much, for a busy machine. */
#define LOST_FOR (8 * SEC * SLOWER)

static void inherit(void *arg)
{
	struct heir *h = arg;
	int64_t begin = clock_ns();
	char bytes[16] = "87654321";
	struct waiter w;

	check_eq(waiter_open(&w, h->kind, h->ends[h->room ? OUT : IN], h->room), 0);
	check_eq(waiter_transfer(&w, bytes, h->room ? 8 : sizeof(bytes), -1), h->room ? 0 : 8);
	if (clock_ns() - begin > LOST_FOR)
		support_fail(__FILE__, __LINE__, "%s for %s gets a lost turn after %lld ms",
			     waiter_names[h->kind], h->room ? "room" : "a message",
			     (long long)((clock_ns() - begin) / MSEC));
	waiter_close(&w);
}

/* The first message was there when the turn was lost. Where the waiter sends, its own message follows. */
static void each_waiter_inherits(bool by_exec)
{
	struct heir heirs[2 * WAITER_KINDS] = { 0 };

	for (int i = 0; i < 2 * WAITER_KINDS; i++) {
		struct heir *h = &heirs[i];

		h->kind = i / 2;
		h->room = i % 2;
		if (!waiter_works(h->kind))
			h->kind = BLOCKED;
		pipe_open(h->ends, &shared);
		memcpy(pair, h->ends, sizeof(pair));
		say(pair[OUT], "12345678");
		if (by_exec)
			h->last = leave_by_exec(h->room ? OUT : IN);
		else
			leave_by_clone(h->room ? OUT : IN);
	}
	for (int i = 0; i < 2 * WAITER_KINDS; i++)
		heirs[i].child = child_start(inherit, &heirs[i]);
	for (int i = 0; i < 2 * WAITER_KINDS; i++) {
		struct heir *h = &heirs[i];

		child_join(&h->child);
		if (h->room) {
			hear(h->ends[IN], "12345678");
			hear(h->ends[IN], "87654321");
		}
		if (by_exec)
			child_kill(&h->last);
		pipe_close(h->ends);
	}
}

Test(heal, each_waiter_gets_the_turn_of_a_thread_that_called_exec)
{
	each_waiter_inherits(true);
}

Test(heal, each_waiter_gets_the_turn_of_a_dead_child_of_clone)
{
	each_waiter_inherits(false);
}

Test(heal, the_turn_of_a_thread_that_called_exec_passes_to_the_next)
{
	for (int which = IN; which <= OUT; which++) {
		struct child child;

		pipe_open(pair, &shared);
		say(pair[OUT], "12345678");
		child = leave_by_exec(which);
		all_goes_on();
		child_kill(&child);
		pipe_close(pair);
	}
}

Test(heal, the_turn_of_a_dead_child_of_clone_passes_to_the_next)
{
	for (int which = IN; which <= OUT; which++) {
		pipe_open(pair, &shared);
		say(pair[OUT], "12345678");
		leave_by_clone(which);
		all_goes_on();
		pipe_close(pair);
	}
}

/* The program tries, or waits for 100 ms at most. */
Test(heal, a_lost_turn_passes_to_a_program_that_only_tries)
{
	int64_t end = clock_ns() + PLENTY;
	int r;

	pipe_open(pair, &shared);
	leave_by_clone(OUT);
	while ((r = bufpipe_send(pair[OUT], "12345678", 8, 0)) == -EAGAIN && clock_ns() < end)
		sleep_ns(10 * MSEC);
	check_eq(r, 0);
	hear(pair[IN], "12345678");
	leave_by_clone(OUT);
	while ((r = bufpipe_send(pair[OUT], "12345678", 8, 100 * MSEC)) == -ETIMEDOUT && clock_ns() < end)
		;
	check_eq(r, 0);
	hear(pair[IN], "12345678");
	pipe_close(pair);
}

static void clone_and_exit(void *arg)
{
	struct stage *s = arg;
	pid_t pid = clone_raw();

	check(pid >= 0);
	if (pid == 0)
		open_and_stay(s, OUT);
	s->grandchild = pid;
}

/* The thread id in the lock is that of the child's parent, which does not exist any more. */
Test(heal, the_turn_of_a_live_thread_is_never_taken)
{
	struct stage *s = stage_new();
	struct child child;

	pipe_open(pair, &shared);
	child = child_start(clone_and_exit, s);
	child_join(&child);
	while (!s->has_turn)
		sleep_ns(MSEC);
	check_eq(bufpipe_send(pair[OUT], "12345678", 8, 5 * SEC), -ETIMEDOUT);
	check_eq(bufpipe_send(pair[OUT], "12345678", 8, 0), -EAGAIN);
	kill(s->grandchild, SIGKILL);
	pipe_close(pair);
	munmap(s, 4096);
}
