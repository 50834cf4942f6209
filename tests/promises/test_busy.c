/* SPDX-License-Identifier: MIT */
/*
 * Other programs want the same CPU, or threads of different priority share it. Both sides make progress, and
 * neither wastes its time slices.
 */
#include "support.h"
#include "syscall.h"

#include <stdatomic.h>
#include <sys/mman.h>

SUITE(busy);

/* Counts what the library does in this process. The functions below replace those of the C library. */
static int yields;
static int membarriers;

long syscall(long number, ...)
{
	va_list list;
	long r;

	membarriers += number == SYS_membarrier;
	va_start(list, number);
	r = syscall_pass_on(number, list);
	va_end(list);
	return r;
}

int sched_yield(void)
{
	yields++;
	return (int)syscall(SYS_sched_yield);
}

/* Limits this process, and the children that it starts from now on, to one CPU. */
static void stay_on_one_cpu(void)
{
	cpu_set_t one;

	CPU_ZERO(&one);
	CPU_SET(sched_getcpu(), &one);
	check_eq(sched_setaffinity(0, sizeof(one), &one), 0);
}

static void compute(void *arg)
{
	(void)arg;
	for (;;)
		atomic_signal_fence(memory_order_seq_cst);
}

static bool become_real_time(void)
{
	const struct sched_param param = { .sched_priority = 10 };

	return sched_setscheduler(0, SCHED_FIFO, &param) == 0;
}

static void become_normal(void)
{
	check_eq(sched_setscheduler(0, SCHED_OTHER, &(struct sched_param){ 0 }), 0);
}

static void require_real_time(void)
{
	if (!become_real_time())
		cr_skip_test("real-time priorities are not allowed");
	become_normal();
}

struct echo {
	bufpipe_t *ends[2];
	bool real_time;
};

static void answer(void *arg)
{
	const struct echo *echo = arg;
	char message[64];

	if (echo->real_time)
		check(become_real_time());
	else
		become_normal();
	bufpipe_close(echo->ends[OUT]);
	while (bufpipe_recv(echo->ends[IN], message, sizeof(message), -1) >= 0)
		check_eq(bufpipe_send(echo->ends[IN], message, sizeof(message), -1), 0);
}

enum way { CALL, POLL, SET };

static void await(bufpipe_t *end, bufpipe_set_t *set, enum way way)
{
	struct bufpipe_pollfd one = { .pipe = end, .events = BUFPIPE_IN };
	struct bufpipe_event event;

	if (way == POLL)
		check_eq(bufpipe_wait(&one, 1, PLENTY), 1);
	if (way == SET)
		check_eq(bufpipe_set_wait(set, &event, 1, PLENTY), 1);
}

/* Makes so many round trips with a child on this CPU. Returns by how much *count has grown. */
static int count_of(const int *count, int trips, bool real_time_child, enum way way,
		    const struct bufpipe_options *options)
{
	struct echo echo = { .real_time = real_time_child };
	char message[64] = { 0 };
	bufpipe_set_t *set;
	struct child child;
	int before;

	pipe_open(echo.ends, options);
	check_eq(bufpipe_set_create(&set, 0), 0);
	if (way == SET)
		check_eq(bufpipe_set_add(set, echo.ends[OUT], BUFPIPE_IN, NULL), 0);
	child = child_start(answer, &echo);
	bufpipe_close(echo.ends[IN]);
	before = *count;
	for (int i = 0; i < trips; i++) {
		check_eq(bufpipe_send(echo.ends[OUT], message, sizeof(message), PLENTY), 0);
		await(echo.ends[OUT], set, way);
		check_eq(bufpipe_recv(echo.ends[OUT], message, sizeof(message), PLENTY), sizeof(message));
	}
	before = *count - before;
	bufpipe_set_destroy(set);
	bufpipe_close(echo.ends[OUT]);
	child_join(&child);
	return before;
}

static int yields_of(int trips, bool real_time_child, enum way way)
{
	const struct bufpipe_options options = { .flags = BUFPIPE_DUPLEX };

	return count_of(&yields, trips, real_time_child, way, &options);
}

enum { TRIPS = 500 };

static void stop_yielding(void *arg)
{
	check(yields_of(TRIPS, false, *(const enum way *)arg) < TRIPS / 5);
}

/* Each way of waiting has a process of its own, because a thread remembers what it has learned about its CPU. */
Test(busy, a_waiter_beside_a_busy_program_stops_yielding)
{
	struct child hog;

	stay_on_one_cpu();
	hog = child_start(compute, NULL);
	for (enum way way = CALL; way <= SET; way++) {
		struct child waiter = child_start(stop_yielding, &way);

		child_join(&waiter);
	}
	child_kill(&hog);
}

/*
 * A yield does not let a peer of lower priority run. So two yields for each answer are the most; send never
 * waits here.
 */
Test(busy, a_real_time_waiter_sleeps_for_a_normal_peer)
{
	stay_on_one_cpu();
	require_real_time();
	check(become_real_time());
	check(yields_of(TRIPS, false, CALL) <= 2 * TRIPS);
}

Test(busy, a_normal_waiter_gets_answers_of_a_real_time_peer)
{
	struct child hog;

	stay_on_one_cpu();
	require_real_time();
	hog = child_start(compute, NULL);
	check(yields_of(TRIPS, true, CALL) < TRIPS);
	child_kill(&hog);
}

/* After a few sleeps in a row the waiter asks the other side to fence instead. */
Test(busy, a_waiter_that_sleeps_for_each_message_stops_issuing_membarriers)
{
	for (int shared = 0; shared < 2; shared++) {
		const struct bufpipe_options options = {
			.flags = BUFPIPE_DUPLEX | (shared ? BUFPIPE_SHARED : 0),
			.spin_ns = BUFPIPE_NO_SPIN,
		};

		check(count_of(&membarriers, TRIPS, false, CALL, &options) < TRIPS / 5);
	}
}

/* Many senders and many receivers. */

enum { SIDES = 3, EACH = 2000, SHARE_NS = 2000000000 };

struct crowd {
	bufpipe_t *ends[2];
	_Atomic uint64_t sent[SIDES];
	_Atomic uint64_t received[SIDES];
	_Atomic int ready;
	int real_time; /* how many senders, and as many receivers, from the first on */
	uint64_t most; /* the messages of each sender */
	int64_t until;
};

struct member {
	struct crowd *crowd;
	int index;
};

/* All wait until all have begun, because those with a real-time priority would keep others from starting. */
static void begin(struct crowd *c, int index)
{
	if (index < c->real_time)
		check(become_real_time());
	c->ready++;
	while (c->ready < 2 * SIDES)
		usleep(1000);
}

static void send_some(void *arg)
{
	const struct member *me = arg;
	struct crowd *c = me->crowd;
	char message[64] = { 0 };

	begin(c, me->index);
	bufpipe_close(c->ends[IN]);
	while (c->sent[me->index] < c->most && clock_ns() < c->until) {
		check_eq(bufpipe_send(c->ends[OUT], message, sizeof(message), -1), 0);
		c->sent[me->index]++;
	}
}

static void receive_all(void *arg)
{
	const struct member *me = arg;
	struct crowd *c = me->crowd;
	char message[64];

	begin(c, me->index);
	bufpipe_close(c->ends[OUT]);
	while (bufpipe_recv(c->ends[IN], message, sizeof(message), -1) >= 0)
		c->received[me->index]++;
}

static struct crowd *run_crowd(int real_time, uint64_t most, int64_t until)
{
	struct bufpipe_options options = { .flags = BUFPIPE_SHARED };
	struct crowd *c = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	struct member members[SIDES];
	struct child children[2 * SIDES];
	uint64_t sent = 0;
	uint64_t received = 0;

	check(c != MAP_FAILED);
	c->real_time = real_time;
	c->most = most;
	c->until = until;
	pipe_open(c->ends, &options);
	for (int i = 0; i < SIDES; i++) {
		members[i] = (struct member){ .crowd = c, .index = i };
		children[i] = child_start(receive_all, &members[i]);
		children[SIDES + i] = child_start(send_some, &members[i]);
	}
	pipe_close(c->ends);
	for (int i = 0; i < 2 * SIDES; i++)
		child_join(&children[i]);
	for (int i = 0; i < SIDES; i++) {
		sent += c->sent[i];
		received += c->received[i];
	}
	check_eq(received, sent);
	return c;
}

Test(busy, holders_of_different_priority_do_not_keep_each_other_waiting)
{
	struct crowd *c;

	stay_on_one_cpu();
	require_real_time();
	c = run_crowd(1, EACH, INT64_MAX);
	for (int i = 0; i < SIDES; i++)
		check_eq(c->sent[i], EACH);
	munmap(c, 4096);
}

/* Each holder got at least a twentieth of a fair share. */
static void check_shares(const struct crowd *c)
{
	uint64_t all = 0;

	for (int i = 0; i < SIDES; i++)
		all += c->sent[i];
	for (int i = 0; i < SIDES; i++) {
		check(c->sent[i] > all / (20 * SIDES));
		check(c->received[i] > all / (20 * SIDES));
	}
}

Test(busy, nobody_starves_beside_a_busy_program)
{
	struct child hog;
	struct crowd *c;

	stay_on_one_cpu();
	hog = child_start(compute, NULL);
	c = run_crowd(0, UINT64_MAX, clock_ns() + SHARE_NS);
	check_shares(c);
	child_kill(&hog);
	munmap(c, 4096);
}

/*
 * Under SCHED_FIFO no thread preempts another one of the same priority, so each holder has to give way by
 * itself. The test is short because its threads leave no CPU time to other programs.
 */
Test(busy, nobody_starves_among_real_time_holders)
{
	struct crowd *c;

	stay_on_one_cpu();
	require_real_time();
	c = run_crowd(SIDES, UINT64_MAX, clock_ns() + SHARE_NS / 4);
	check_shares(c);
	munmap(c, 4096);
}
