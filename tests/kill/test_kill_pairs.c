/* SPDX-License-Identifier: MIT */
/*
 * Stop and go.  One process is held up between any two instructions, another
 * one acts, and the first goes on: a waiter of each kind is told of a message
 * or of room all the same, and at once, not by a look that it takes now and
 * then.
 */
#include "end/end.h"
#include "kill/stepper.h"
#include "support.h"

#include <poll.h>
#include <sys/mman.h>

/* The looks that waiters take now and then come after 5 s. */
enum { AT_ONCE_MS = 3500 };

enum kind { BLOCKED, WAIT, SET, SET_EPOLL, FD, KINDS };
static const char *const kind_names[] = { "a blocked call", "bufpipe_wait", "a set", "a set without io_uring",
					  "bufpipe_fd" };

struct plan {
	enum kind kind;
	bool room;        /* what is waited for: room, or else a message */
	bool held_waiter; /* who is held up: the waiter, or else the publisher */
	unsigned flags;
};

/* In memory that the processes of one trial share. */
struct scene {
	struct plan plan;
	atomic_int armed;
	atomic_int told;
	atomic_uint events;
};

static struct scene *scene;
static bufpipe_t *ends[2];
static bufpipe_set_t *set;
static int fd;

static void take_all(void)
{
	char word[1024];

	while (bufpipe_recv(ends[IN], word, sizeof(word), 0) >= 0)
		;
}

static void publish(void *arg)
{
	(void)arg;
	if (scene->plan.room)
		take_all();
	else
		trial_assert(bufpipe_send(ends[OUT], "message", 8, -1) == 0, "send");
}

/* What can be done before the wait, undisturbed. */
static void prepare_to_wait(void *arg)
{
	unsigned events = scene->plan.room ? BUFPIPE_OUT : BUFPIPE_IN;
	bufpipe_t *end = ends[scene->plan.room ? OUT : IN];

	(void)arg;
	/* The sleep on the socket is the one that lasts. */
	end->in.wait.patience = MSEC;
	end->out.wait.patience = MSEC;
	if (scene->plan.kind == SET || scene->plan.kind == SET_EPOLL) {
		unsigned flags = scene->plan.kind == SET_EPOLL ? BUFPIPE_NO_URING : 0;

		trial_assert(bufpipe_set_create(&set, flags) == 0, "set_create");
		trial_assert(bufpipe_set_add(set, end, events, NULL) == 0, "set_add");
	}
	if (scene->plan.kind == FD) {
		fd = scene->plan.room ? bufpipe_room_fd(end) : bufpipe_fd(end);
		trial_assert(fd >= 0, "bufpipe_fd: %d", fd);
	}
}

static int try_once(bufpipe_t *end)
{
	char word[8];
	ssize_t r;

	if (scene->plan.room)
		return bufpipe_send(end, "message", 8, 0);
	r = bufpipe_recv(end, word, sizeof(word), 0);
	return r < 0 ? (int)r : 0;
}

static void wait_once(void *arg)
{
	unsigned events = scene->plan.room ? BUFPIPE_OUT : BUFPIPE_IN;
	struct bufpipe_pollfd one = { .pipe = ends[scene->plan.room ? OUT : IN], .events = (short)events };
	struct bufpipe_event event = { 0 };
	struct pollfd p = { .fd = fd, .events = POLLIN };
	char word[8];
	int r = 0;

	(void)arg;
	atomic_store(&scene->armed, 1);
	switch (scene->plan.kind) {
	case BLOCKED:
		r = scene->plan.room ? bufpipe_send(one.pipe, "message", 8, -1) == 0
				     : bufpipe_recv(one.pipe, word, sizeof(word), -1) == 8;
		event.events = events;
		break;
	case WAIT:
		r = bufpipe_wait(&one, 1, -1);
		event.events = (unsigned)one.revents;
		break;
	case SET:
	case SET_EPOLL:
		r = bufpipe_set_wait(set, &event, 1, -1);
		break;
	default:
		while ((r = try_once(one.pipe)) == -EAGAIN)
			poll(&p, 1, -1);
		r = r == 0;
		event.events = events;
		break;
	}
	trial_assert(r == 1 && event.events == events, "the wait: %d, events %#x", r, event.events);
	atomic_store(&scene->told, 1);
}

static void wait_as_an_actor(void *arg)
{
	prepare_to_wait(arg);
	raise(SIGSTOP);
	wait_once(arg);
	raise(SIGSTOP);
}

static void await_told(void)
{
	struct timespec little = { .tv_nsec = 200000 };
	int64_t limit = clock_ns() + AT_ONCE_MS * MSEC;

	while (!atomic_load(&scene->told)) {
		trial_assert(clock_ns() < limit, "%s is not told of %s", kind_names[scene->plan.kind],
			     scene->plan.room ? "room" : "a message");
		nanosleep(&little, NULL);
	}
}

/* Until the waiter sleeps, for the first time or for longer; or has been told
 * already. */
static void await_rest(pid_t waiter, bool longer)
{
	struct timespec little = { .tv_nsec = 200000 };
	int64_t limit = clock_ns() + PLENTY;

	while (!atomic_load(&scene->told) &&
	       (!atomic_load(&scene->armed) || sleeping_call(waiter, waiter) < 0)) {
		trial_assert(clock_ns() < limit, "the waiter does not fall asleep");
		nanosleep(&little, NULL);
	}
	if (longer)
		sleep_ns(3 * MSEC);
}

static void open_scene(const struct plan *plan)
{
	struct bufpipe_options o = { .flags = plan->flags, .buffer_size = 1024 };
	char filling[200] = "";
	int r;

	if (!scene)
		scene = mmap(NULL, sizeof(*scene), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	*scene = (struct scene){ .plan = *plan };
	r = bufpipe_create(ends, &o);
	trial_assert(r == 0, "create: %d", r);
	for (size_t len = sizeof(filling); plan->room && len; len = len > 8 ? 8 : 0) {
		while (bufpipe_send(ends[OUT], filling, len, 0) == 0)
			;
	}
}

static void close_scene(void)
{
	bufpipe_close(ends[IN]);
	bufpipe_close(ends[OUT]);
}

static void end_actor(pid_t pid)
{
	int status;

	kill(pid, SIGKILL);
	trial_assert(waitpid(pid, &status, __WALL) == pid, "waitpid: %s", strerror(errno));
}

/* The publisher is held up, the waiter falls asleep, the publisher goes on. */
static void hold_the_publisher(struct trial *t)
{
	pid_t victim = victim_start(NULL, publish, NULL);
	pid_t waiter = actor_start(wait_as_an_actor, NULL);

	victim_step(victim, t);
	actor_continue(waiter);
	await_rest(waiter, t->point % 2);
	victim_go_on(victim, t);
	await_told();
	end_actor(victim);
	end_actor(waiter);
}

/* The waiter is held up on its way to sleep, something is published, and it
 * goes on. */
static void hold_the_waiter(struct trial *t)
{
	pid_t victim = victim_start(prepare_to_wait, wait_once, NULL);

	victim_step_awake(victim, t);
	publish(NULL);
	victim_go_on(victim, t);
	await_told();
	end_actor(victim);
}

static int run(const void *plan, struct trial *t)
{
	open_scene(plan);
	if (scene->plan.held_waiter)
		hold_the_waiter(t);
	else
		hold_the_publisher(t);
	close_scene();
	return -1;
}

static void run_kinds(bool held_waiter)
{
	static const unsigned modes[] = { 0, BUFPIPE_SHARED };

	for (int i = 0; i < 4 * KINDS; i++) {
		struct plan plan = { .kind = (enum kind)(i % KINDS),
				     .room = i / KINDS % 2,
				     .held_waiter = held_waiter,
				     .flags = modes[i / KINDS / 2] };
		char name[128];
		struct campaign c = {
			.name = name, .run = run, .plan = &plan, .workers = 4, .budget = 60000
		};

		snprintf(name, sizeof(name), "%s for %s%s, %s held up", kind_names[plan.kind],
			 plan.room ? "room" : "a message", plan.flags ? ", shared" : "",
			 held_waiter ? "it" : "the publisher");
		stepper_campaign(&c);
	}
}

TestSuite(kill_pairs, .init = stepper_require, .timeout = 100000);

Test(kill_pairs, whoever_sleeps_while_a_publisher_is_held_up_is_told_when_it_goes_on)
{
	run_kinds(false);
}

Test(kill_pairs, whoever_is_held_up_on_the_way_to_sleep_is_told_of_what_came_meanwhile)
{
	run_kinds(true);
}

static void look_once(void *arg)
{
	struct bufpipe_pollfd one = { .pipe = ends[IN], .events = BUFPIPE_IN };

	(void)arg;
	bufpipe_wait(&one, 1, 0);
	atomic_store(&scene->events, (unsigned)one.revents);
	atomic_store(&scene->told, 1);
}

/* Each word of the payload looks like the end of the stream to whoever takes it
 * for a header. */
static int run_lap(const void *plan, struct trial *t)
{
	uint64_t size;
	char payload[1000];
	char word[1024];
	pid_t victim;

	(void)plan;
	open_scene(&(struct plan){ .flags = BUFPIPE_SHARED });
	memset(payload, 'o', sizeof(payload));
	size = ends[IN]->receiver.mask + 1;
	victim = victim_start(NULL, look_once, NULL);
	victim_step(victim, t);
	while (receiver_head(&ends[IN]->receiver) < size + 64) {
		trial_assert(bufpipe_send(ends[OUT], payload, sizeof(payload), 0) == 0, "send");
		trial_assert(bufpipe_recv(ends[IN], word, sizeof(word), 0) == sizeof(payload), "recv");
	}
	victim_go_on(victim, t);
	await_told();
	trial_assert(!(atomic_load(&scene->events) & BUFPIPE_HUP), "a live stream is reported as hung up");
	end_actor(victim);
	close_scene();
	return -1;
}

Test(kill_pairs, a_look_that_is_held_up_for_a_lap_does_not_see_the_end_of_a_live_stream)
{
	struct campaign c = { .name = "a look", .run = run_lap, .workers = 4, .budget = 500000 };

	stepper_campaign(&c);
}

/* It may die between the header and its tail, and the receiver may then be in
 * front of the tail. */
static int run_tail(const void *plan, struct trial *t)
{
	struct bufpipe_pollfd one = { .pipe = ends[OUT], .events = BUFPIPE_OUT };

	open_scene(plan);
	victim_step_and_kill(victim_start(NULL, publish, NULL), t);
	take_all();
	one.pipe = ends[OUT];
	trial_assert(bufpipe_wait(&one, 1, 0) == 1 && one.revents == BUFPIPE_OUT,
		     "the ring is empty, and there is no room");
	trial_assert(bufpipe_send(ends[OUT], "message", 8, 0) == 0, "send");
	close_scene();
	return -1;
}

Test(kill_pairs, room_is_seen_when_a_sender_has_died_before_it_moved_its_tail)
{
	for (int shared = 0; shared < 2; shared++) {
		struct plan plan = { .flags = shared ? BUFPIPE_SHARED : 0 };
		struct campaign c = {
			.name = "a sender", .run = run_tail, .plan = &plan, .workers = 4, .budget = 200000
		};

		stepper_campaign(&c);
	}
}

static void peek_for_a_while(void *arg)
{
	const void *message;

	(void)arg;
	check_eq(bufpipe_peek(ends[IN], &message, -1), 8);
	atomic_store(&scene->armed, 1);
	while (!atomic_load(&scene->told))
		sched_yield();
	check_eq(bufpipe_unpeek(ends[IN]), 0);
}

/* A try that finds nothing because another holder has the turn arms as any
 * other. */
Test(kill_pairs, a_loop_is_told_of_a_message_that_another_holder_put_back)
{
	struct pollfd p = { .events = POLLIN };
	int64_t until;
	struct child child;
	char word[8];
	int tries = 0;

	open_scene(&(struct plan){ .flags = BUFPIPE_SHARED });
	p.fd = bufpipe_fd(ends[IN]);
	child = child_start(peek_for_a_while, NULL);
	check_eq(bufpipe_send(ends[OUT], "message", 8, 0), 0);
	while (!atomic_load(&scene->armed))
		sched_yield();
	for (until = clock_ns() + 300 * MSEC; clock_ns() < until; tries++) {
		poll(&p, 1, (int)((until - clock_ns()) / MSEC) + 1);
		check_eq(bufpipe_recv(ends[IN], word, sizeof(word), 0), -EAGAIN);
	}
	/* Every 20 ms; without that it spins, a hundred thousand times. */
	check(tries < 1000);
	atomic_store(&scene->told, 1);
	while (bufpipe_recv(ends[IN], word, sizeof(word), 0) < 0)
		check_eq(poll(&p, 1, AT_ONCE_MS), 1);
	child_join(&child);
	close_scene();
}
