/* SPDX-License-Identifier: MIT */
/*
 * One socket is the doorbell of both directions of an end. A waiter was woken and has not run yet. A waiter
 * of the other direction runs first, takes its own event, and arms again and again. The first waiter must
 * not lose its event. All pairs of kinds of waiters are tested.
 */
#include "asleep.h"
#include "end/end.h"
#include "kill/waiter.h"
#include "support.h"

#include <stdatomic.h>
#include <sys/mman.h>

/* Waiters look by themselves every 5 s. They must be woken sooner. */
#define AT_ONCE (3500 * MSEC)
/* How often the quick waiter arms: so often that somebody trims the queue of the socket. */
enum { TURNS = 70, LARGE = 1000, SMALL = 8 };

/* In memory that all processes share. */
struct actor {
	enum waiter_kind kind;
	bool room; /* what it waits for */
	bool arms; /* after it was told */
	atomic_int told;
	atomic_int armed;
};

enum { SLOW, QUICK };
static struct actor *actors;
static bufpipe_t *ends[2];

static void fill(bufpipe_t *end)
{
	static const char bytes[LARGE] = "";

	for (size_t len = LARGE; len; len = len > SMALL ? SMALL : 0) {
		while (bufpipe_send(end, bytes, len, 0) == 0)
			;
	}
}

/* What the actor waits for and does not take: a full ring, or an empty one. */
static void use_up(const struct actor *a)
{
	char bytes[LARGE] = "";

	if (a->room)
		fill(ends[IN]);
	else
		while (bufpipe_recv(ends[IN], bytes, sizeof(bytes), 0) >= 0)
			;
}

static void arm_again_and_again(const struct actor *a, struct waiter *w)
{
	char bytes[LARGE] = "";

	for (int i = 0; i < TURNS; i++) {
		use_up(a);
		if (w->kind != BLOCKED)
			waiter_sleep(w, 100 * USEC);
		else if (a->room)
			bufpipe_send(ends[IN], bytes, SMALL, 100 * USEC);
		else
			bufpipe_recv(ends[IN], bytes, sizeof(bytes), 100 * USEC);
	}
}

static void act(void *arg)
{
	struct actor *a = arg;
	char bytes[LARGE] = "";
	struct waiter w;
	ssize_t r;

	bufpipe_close(ends[OUT]);
	/* Without patience the waiter goes to its longest sleep at once, which is on the socket. */
	ends[IN]->in.wait.patience = MSEC;
	ends[IN]->out.wait.patience = MSEC;
	check_eq(waiter_open(&w, a->kind, ends[IN], a->room), 0);
	r = waiter_transfer(&w, bytes, a->room ? SMALL : sizeof(bytes), -1);
	check(r == 0 || r == SMALL);
	atomic_store(&a->told, 1);
	if (a->arms)
		arm_again_and_again(a, &w);
	atomic_store(&a->armed, 1);
	for (;;)
		pause();
}

static void publish_for(const struct actor *a)
{
	char bytes[LARGE] = "";

	if (a->room)
		while (bufpipe_recv(ends[OUT], bytes, sizeof(bytes), 0) >= 0)
			;
	else
		check_eq(bufpipe_send(ends[OUT], bytes, SMALL, 0), 0);
}

static void await(const struct actor *a, const atomic_int *flag, int64_t limit)
{
	int64_t end = clock_ns() + limit;

	while (!atomic_load(flag)) {
		if (clock_ns() > end)
			support_fail(__FILE__, __LINE__, "%s for %s is not told beside %s",
				     waiter_names[a->kind], a->room ? "room" : "a message",
				     waiter_names[actors[QUICK].kind]);
		sleep_ns(100 * USEC);
	}
}

/* Long enough for the waiter to sleep on the socket, if it does that. */
static void await_sleep(const struct child *child)
{
	int64_t end = clock_ns() + PLENTY;

	while (sleeping_call(child->pid, child->pid) < 0) {
		check(clock_ns() < end);
		sleep_ns(200 * USEC);
	}
	sleep_ns(3 * MSEC);
}

static void hold_one_up_while_the_other_arms(enum waiter_kind slow, enum waiter_kind quick, bool room,
					     unsigned flags)
{
	struct bufpipe_options o = { .buffer_size = 1024, .flags = flags };
	struct child children[2];
	int status;

	pipe_open(ends, &o);
	actors[SLOW] = (struct actor){ .kind = slow, .room = room };
	actors[QUICK] = (struct actor){ .kind = quick, .room = !room, .arms = true };
	fill(ends[IN]);
	for (int i = SLOW; i <= QUICK; i++) {
		children[i] = child_start(act, &actors[i]);
		await_sleep(&children[i]);
	}
	kill(children[SLOW].pid, SIGSTOP);
	check_eq(waitpid(children[SLOW].pid, &status, WUNTRACED), children[SLOW].pid);
	check(WIFSTOPPED(status));
	publish_for(&actors[SLOW]);
	publish_for(&actors[QUICK]);
	await(&actors[QUICK], &actors[QUICK].told, AT_ONCE);
	await(&actors[QUICK], &actors[QUICK].armed, PLENTY);
	kill(children[SLOW].pid, SIGCONT);
	await(&actors[SLOW], &actors[SLOW].told, AT_ONCE);
	for (int i = SLOW; i <= QUICK; i++)
		child_kill(&children[i]);
	pipe_close(ends);
}

static void run_all(unsigned flags)
{
	bool requests = waiter_works(REQUEST);

	actors = mmap(NULL, 2 * sizeof(*actors), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	check(actors != MAP_FAILED);
	for (int i = 0; i < 2 * WAITER_KINDS * WAITER_KINDS; i++) {
		enum waiter_kind slow = i / 2 / WAITER_KINDS;
		enum waiter_kind quick = i / 2 % WAITER_KINDS;

		if (requests || (slow != REQUEST && quick != REQUEST))
			hold_one_up_while_the_other_arms(slow, quick, i % 2, flags);
	}
	munmap(actors, 2 * sizeof(*actors));
}

TestSuite(kill_doorbell, .init = support_begin, .timeout = 100000);

Test(kill_doorbell, no_waiter_takes_the_news_of_the_other_direction)
{
	run_all(BUFPIPE_DUPLEX);
}

Test(kill_doorbell, no_waiter_takes_the_news_of_the_other_direction_of_a_shared_end)
{
	run_all(BUFPIPE_DUPLEX | BUFPIPE_SHARED);
}
