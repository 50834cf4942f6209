/* SPDX-License-Identifier: MIT */
/*
 * The table of promises in docs/architecture.md, for what the other tests of waiting do not show
 * for each kind of waiter: the end of the stream, a close, and a holder of the other end that dies
 * after it has published and before it has rung, while others live on.
 */
#include "asleep.h"
#include "end/end.h"
#include "kill/waiter.h"
#include "support.h"

#include <linux/sockios.h>
#include <stdatomic.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

/* Some waiters look by themselves every 5 s. */
#define AT_ONCE   (3500 * MSEC)
#define BY_A_LOOK (12 * SEC)
enum { LARGE = 1000, SMALL = 8 };

/* One kind of waiter, in a process of its own, on a pipe of its own. In memory that all share. */
struct actor {
	enum waiter_kind kind;
	bool room;
	bufpipe_t *ends[2];
	atomic_int told; /* how often */
	atomic_int over; /* and that nothing more will come */
};

/*
 * How long a blocked call sleeps on the futex: for a moment, so that it then sleeps on the socket; or until
 * it is woken there.
 */
#define ON_SOCKET MSEC
#define ON_FUTEX  (60 * SEC)

static int64_t patience = ON_SOCKET;
static struct actor *actors;
static struct child children[WAITER_KINDS];

static void act(void *arg)
{
	struct actor *a = arg;
	bufpipe_t *end = a->ends[a->room ? OUT : IN];
	char bytes[LARGE] = "";
	struct waiter w;
	ssize_t r;

	end->in.wait.patience = patience;
	end->out.wait.patience = patience;
	for (int i = 0; i < WAITER_KINDS; i++) {
		for (int e = IN; e <= OUT; e++) {
			if (actors[i].ends[e] != end)
				bufpipe_close(actors[i].ends[e]);
		}
	}
	check_eq(waiter_open(&w, a->kind, end, a->room), 0);
	while ((r = waiter_transfer(&w, bytes, a->room ? SMALL : sizeof(bytes), -1)) >= 0)
		atomic_fetch_add(&a->told, 1);
	check_eq(r, -EPIPE);
	atomic_store(&a->over, 1);
	for (;;)
		pause();
}

static void fill(bufpipe_t *end)
{
	static const char bytes[LARGE];

	for (size_t len = LARGE; len; len = len > SMALL ? SMALL : 0) {
		while (bufpipe_send(end, bytes, len, 0) == 0)
			;
	}
}

static void start_all(bool room, unsigned flags)
{
	const struct bufpipe_options o = { .buffer_size = 1024, .flags = flags };

	actors = mmap(NULL, WAITER_KINDS * sizeof(*actors), PROT_READ | PROT_WRITE,
		      MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	check(actors != MAP_FAILED);
	for (int i = 0; i < WAITER_KINDS; i++) {
		actors[i].kind = waiter_works((enum waiter_kind)i) ? (enum waiter_kind)i : BLOCKED;
		actors[i].room = room;
		pipe_open(actors[i].ends, &o);
		if (room)
			fill(actors[i].ends[OUT]);
	}
	for (int i = 0; i < WAITER_KINDS; i++)
		children[i] = child_start(act, &actors[i]);
	for (int i = 0; i < WAITER_KINDS; i++) {
		while (sleeping_call(children[i].pid, children[i].pid) < 0)
			sleep_ns(MSEC);
	}
	/* Long enough for a waiter to sleep on the socket, if it does that. */
	sleep_ns(10 * MSEC);
}

static void end_all(void)
{
	for (int i = 0; i < WAITER_KINDS; i++) {
		child_kill(&children[i]);
		pipe_close(actors[i].ends);
	}
	munmap(actors, WAITER_KINDS * sizeof(*actors));
}

static void await(const struct actor *a, const atomic_int *flag, int64_t limit, const char *what)
{
	int64_t end = clock_ns() + limit;

	while (!atomic_load(flag)) {
		if (clock_ns() > end)
			support_fail(__FILE__, __LINE__, "%s for %s is not told of %s", waiter_names[a->kind],
				     a->room ? "room" : "a message", what);
		sleep_ns(MSEC);
	}
}

/* A sender that shuts down ends the stream. A receiver that shuts down breaks the pipe. */
static void end_the_stream(bool room, unsigned flags)
{
	start_all(room, flags);
	for (int i = 0; i < WAITER_KINDS; i++)
		check_eq(bufpipe_shutdown(actors[i].ends[room ? IN : OUT]), 0);
	for (int i = 0; i < WAITER_KINDS; i++)
		await(&actors[i], &actors[i].over, AT_ONCE, "the end");
	end_all();
}

/* The last holder of the other end closes it. */
static void close_the_other_end(bool room, unsigned flags)
{
	start_all(room, flags);
	for (int i = 0; i < WAITER_KINDS; i++) {
		bufpipe_close(actors[i].ends[room ? IN : OUT]);
		actors[i].ends[room ? IN : OUT] = NULL;
	}
	for (int i = 0; i < WAITER_KINDS; i++)
		await(&actors[i], &actors[i].over, AT_ONCE, "the close");
	end_all();
}

static void publish(const struct actor *a)
{
	char bytes[LARGE] = "";

	if (a->room)
		check(bufpipe_recv(a->ends[IN], bytes, sizeof(bytes), 0) > 0);
	else
		check_eq(bufpipe_send(a->ends[OUT], bytes, SMALL, 0), 0);
}

/* As if the holder died before it rings: to it the other side seems to be awake. */
static void publish_unheard(void *arg)
{
	const struct actor *a = arg;
	struct bufpipe *in = a->ends[IN];
	struct bufpipe *out = a->ends[OUT];

	in->in.wait.theirs = &in->ours.control->recv_waiter;
	out->out.wait.theirs = &out->ours.control->send_waiter;
	publish(a);
}

static void publish_and_die(bool room, unsigned flags)
{
	start_all(room, flags);
	for (int i = 0; i < WAITER_KINDS; i++) {
		struct child child = child_start(publish_unheard, &actors[i]);

		child_join(&child);
	}
	for (int i = 0; i < WAITER_KINDS; i++)
		check(waiter_looks_again(actors[i].kind) || !atomic_load(&actors[i].told));
	for (int i = 0; i < WAITER_KINDS; i++) {
		if (waiter_looks_again(actors[i].kind)) {
			await(&actors[i], &actors[i].told, BY_A_LOOK, "what a dead holder published");
			continue;
		}
		publish(&actors[i]);
		await(&actors[i], &actors[i].told, AT_ONCE, "what a holder published after another one died");
	}
	end_all();
}

static void receive_one(void *arg)
{
	bufpipe_t *end = arg;
	char byte;

	end->in.wait.patience = patience;
	check_eq(bufpipe_recv(end, &byte, 1, -1), 1);
}

/* Waits until the child sleeps, with this flag of a leader up. */
static void await_mode(const struct child *child, const bufpipe_t *end, uint32_t mode)
{
	int64_t limit = clock_ns() + PLENTY;

	while (!(atomic_load(&end->in.wait.ours->flags) & mode) ||
	       sleeping_call(child->pid, child->pid) < 0) {
		check(clock_ns() < limit);
		sleep_ns(MSEC);
	}
}

/* For messages and for room, on exclusive and on shared ends. */
static void run_all(void (*run)(bool, unsigned))
{
	for (int i = 0; i < 4; i++)
		run(i % 2, i / 2 ? BUFPIPE_SHARED : 0);
}

TestSuite(kill_promise, .init = support_begin, .timeout = 300);

Test(kill_promise, each_waiter_is_told_of_the_end_of_the_stream)
{
	run_all(end_the_stream);
}

/* On the futex a call is told by the one that closes; on the socket by the kernel. */
Test(kill_promise, each_waiter_is_told_of_a_close)
{
	run_all(close_the_other_end);
	patience = ON_FUTEX;
	run_all(close_the_other_end);
	patience = ON_SOCKET;
}

Test(kill_promise, what_a_dead_holder_did_not_ring_for_is_found_by_a_look_or_with_the_next)
{
	run_all(publish_and_die);
}

/*
 * A leader that dies while it sleeps on the socket leaves its flag up. Its successor sleeps on the futex,
 * where a byte on the socket would not wake it.
 */
Test(kill_promise, the_successor_of_a_dead_leader_is_told_where_it_sleeps)
{
	const struct bufpipe_options o = { .flags = BUFPIPE_SHARED };
	bufpipe_t *ends[2];
	struct child child;
	int bytes;

	pipe_open(ends, &o);
	child = child_start(receive_one, ends[IN]);
	await_mode(&child, ends[IN], WAITER_DOORBELL);
	child_kill(&child);
	patience = ON_FUTEX;
	child = child_start(receive_one, ends[IN]);
	await_mode(&child, ends[IN], WAITER_FUTEX);
	say(ends[OUT], "1");
	child_join(&child);
	patience = ON_SOCKET;
	check_eq(ioctl(ends[IN]->socket, SIOCINQ, &bytes), 0);
	check_eq(bytes, 0);
	pipe_close(ends);
}
