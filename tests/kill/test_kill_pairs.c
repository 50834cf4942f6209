/* SPDX-License-Identifier: MIT */
/*
 * One process is held up or killed between any two instructions, another one acts, and the first goes on. A
 * waiter of each kind is still woken at once for a message, for room and for a hang-up, and not only by a
 * look that it takes by itself now and then.
 */
#include "asleep.h"
#include "end/end.h"
#include "kill/stepper.h"
#include "kill/waiter.h"
#include "support.h"

#include <sys/mman.h>

/* Waiters look by themselves every 5 s. They must be woken sooner. */
enum { AT_ONCE_MS = 3500, LARGE = 1000, SMALL = 8 };

/* What the process does that is held up: it publishes a message, or room, or it waits. */
enum verb { SEND, COMMIT, RECV, RELEASE, UNPEEK, WAITS };
static const char *const verb_names[] = { "send", "commit", "recv", "release", "unpeek", "a wait" };

struct plan {
	enum waiter_kind kind;
	enum verb verb;
	bool room; /* what is waited for: room, or else a message */
	unsigned flags;
};

/* In memory that the processes of one trial share. */
struct scene {
	struct plan plan;
	atomic_int armed;
	atomic_int told; /* of how many */
	atomic_int over; /* and that the other side has hung up */
};

static struct scene *scene;
static bufpipe_t *ends[2];
static struct waiter waiter;

/* What happens to the victim. The number of its point selects one, so that a few points cover all. */
static unsigned variant(const struct trial *t)
{
	return (unsigned)(t->point * 2654435761u >> 16) % 4;
}

static int act(enum verb verb, int64_t timeout_ns)
{
	char bytes[LARGE] = "message";
	const void *at;
	void *room;
	int r;

	switch (verb) {
	case SEND:
		return bufpipe_send(ends[OUT], bytes, SMALL, timeout_ns);
	case COMMIT:
		r = bufpipe_reserve(ends[OUT], &room, SMALL, timeout_ns);
		return r < 0 ? r : bufpipe_commit(ends[OUT], SMALL);
	case RECV:
		r = (int)bufpipe_recv(ends[IN], bytes, sizeof(bytes), timeout_ns);
		break;
	default:
		r = (int)bufpipe_peek(ends[IN], &at, timeout_ns);
		if (r >= 0)
			r = verb == UNPEEK ? bufpipe_unpeek(ends[IN]) : bufpipe_release(ends[IN]);
		break;
	}
	return r < 0 ? r : 0;
}

/* The ring is filled by one large message and some small ones. */
static void fill(void)
{
	static const char bytes[LARGE];

	for (size_t len = LARGE; len; len = len > SMALL ? SMALL : 0) {
		while (bufpipe_send(ends[OUT], bytes, len, 0) == 0)
			;
	}
}

static void open_scene(const struct plan *plan)
{
	struct bufpipe_options o = { .flags = plan->flags, .buffer_size = 1024 };
	int r;

	if (!scene)
		scene = mmap(NULL, sizeof(*scene), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	*scene = (struct scene){ .plan = *plan };
	r = bufpipe_create(ends, &o);
	trial_assert(r == 0, "create: %d", r);
	/* Without patience the waiter goes to its longest sleep at once, which is on the socket. */
	for (int i = IN; i <= OUT; i++) {
		ends[i]->in.wait.patience = MSEC;
		ends[i]->out.wait.patience = MSEC;
	}
}

static void close_scene(void)
{
	bufpipe_close(ends[IN]);
	bufpipe_close(ends[OUT]);
}

/* The waiter. */

static void prepare_to_wait(void *arg)
{
	int r;

	(void)arg;
	r = waiter_open(&waiter, scene->plan.kind, ends[scene->plan.room ? OUT : IN], scene->plan.room);
	trial_assert(r == 0, "%s: %d", waiter_names[scene->plan.kind], r);
}

static void wait_once(void *arg)
{
	char bytes[LARGE];
	ssize_t r;

	(void)arg;
	atomic_store(&scene->armed, 1);
	r = waiter_transfer(&waiter, bytes, scene->plan.room ? SMALL : sizeof(bytes), -1);
	trial_assert(r == 0 || r == SMALL, "the wait: %zd", r);
	atomic_fetch_add(&scene->told, 1);
}

static void wait_as_an_actor(void *arg)
{
	prepare_to_wait(arg);
	raise(SIGSTOP);
	wait_once(arg);
	raise(SIGSTOP);
}

static void await(const atomic_int *flag, int value, const char *what)
{
	struct timespec little = { .tv_nsec = 200000 };
	int64_t limit = clock_ns() + AT_ONCE_MS * MSEC;

	while (atomic_load(flag) < value) {
		trial_assert(clock_ns() < limit, "%s is not told of %s", waiter_names[scene->plan.kind],
			     what);
		nanosleep(&little, NULL);
	}
}

static void await_told(int times)
{
	await(&scene->told, times, scene->plan.room ? "room" : "a message");
}

/* Waits until the waiter sleeps, for the first time or for longer, or has been told already. */
static void await_rest(pid_t pid, bool longer)
{
	struct timespec little = { .tv_nsec = 200000 };
	int64_t limit = clock_ns() + PLENTY;

	while (!atomic_load(&scene->told) && (!atomic_load(&scene->armed) || sleeping_call(pid, pid) < 0)) {
		trial_assert(clock_ns() < limit, "the waiter does not fall asleep");
		nanosleep(&little, NULL);
	}
	if (longer)
		sleep_ns(3 * MSEC);
}

/* The publisher is held up or killed. */

static void publish_as_planned(void *arg)
{
	(void)arg;
	trial_assert(act(scene->plan.verb, -1) == 0, "%s", verb_names[scene->plan.verb]);
}

/*
 * The waiter falls asleep while the publisher is held up. Then the publisher goes on; or it is killed, and
 * another holder of its end publishes next.
 */
static int run_publisher(const void *plan, struct trial *t)
{
	unsigned how = variant(t);
	pid_t victim;
	pid_t pid;

	open_scene(plan);
	if (scene->plan.room)
		fill();
	victim = victim_start(NULL, publish_as_planned, NULL);
	pid = actor_start(wait_as_an_actor, NULL);
	if (how == 3) {
		actor_continue(pid);
		await_rest(pid, true);
	}
	victim_step(victim, t);
	if (how < 3) {
		actor_continue(pid);
		await_rest(pid, how % 2);
	}
	if (how < 2) {
		victim_go_on(victim, t);
	} else {
		victim_kill(victim);
		act(scene->plan.room ? RECV : SEND, -1);
	}
	await_told(1);
	if (how < 2)
		end_actor(victim);
	end_actor(pid);
	close_scene();
	return -1;
}

/* The waiter is held up on its way to sleep. Something is published, and it goes on. */
static int run_waiter(const void *plan, struct trial *t)
{
	pid_t victim;

	open_scene(plan);
	if (scene->plan.room)
		fill();
	victim = victim_start(prepare_to_wait, wait_once, NULL);
	victim_step_awake(victim, t);
	publish_as_planned(NULL);
	victim_go_on(victim, t);
	await_told(1);
	end_actor(victim);
	close_scene();
	return -1;
}

/* A co-owner of the waiter is held up or killed. */

static void prepare_as_planned(void *arg)
{
	if (scene->plan.verb == WAITS)
		prepare_to_wait(arg);
}

static void act_as_planned(void *arg)
{
	if (scene->plan.verb == WAITS)
		wait_once(arg);
	else
		publish_as_planned(arg);
}

/*
 * The co-owner waits as the waiter does; or it has a message or some room, and uses it. In the end there is
 * enough for both.
 */
static int run_co_owner(const void *plan, struct trial *t)
{
	unsigned how = variant(t);
	pid_t victim;
	pid_t pid;

	open_scene(plan);
	if (scene->plan.verb == WAITS && scene->plan.room)
		fill();
	if (scene->plan.verb != WAITS && !scene->plan.room)
		trial_assert(act(SEND, 0) == 0, "send");
	victim = victim_start(prepare_as_planned, act_as_planned, NULL);
	pid = actor_start(wait_as_an_actor, NULL);
	victim_step_awake(victim, t);
	if (how % 2)
		victim_kill(victim);
	actor_continue(pid);
	/*
	 * The waiter need not sleep: while another holder has peeked at a message, it is woken for that
	 * message again and again.
	 */
	sleep_ns(how / 2 ? 5 * MSEC : 0);
	if (how % 2 == 0)
		victim_go_on(victim, t);
	if (!scene->plan.room) {
		trial_assert(act(SEND, -1) == 0 && act(SEND, -1) == 0, "send");
	} else if (scene->plan.verb == WAITS) {
		while (act(RECV, 0) == 0)
			;
	}
	await_told(how % 2 == 0 && scene->plan.verb == WAITS ? 2 : 1);
	if (how % 2 == 0)
		end_actor(victim);
	end_actor(pid);
	close_scene();
	return -1;
}

/* The last holder of the other end dies. */

static void wait_for_the_end(void *arg)
{
	char bytes[LARGE];
	ssize_t r;

	bufpipe_close(ends[scene->plan.room ? IN : OUT]);
	prepare_to_wait(arg);
	raise(SIGSTOP);
	atomic_store(&scene->armed, 1);
	do
		r = waiter_transfer(&waiter, bytes, scene->plan.room ? SMALL : sizeof(bytes), -1);
	while (r >= 0);
	trial_assert(r == -EPIPE, "the wait: %zd", r);
	atomic_store(&scene->over, 1);
	raise(SIGSTOP);
}

static int run_last(const void *plan, struct trial *t)
{
	unsigned how = variant(t);
	int other;
	pid_t victim;
	pid_t pid;

	open_scene(plan);
	if (scene->plan.room)
		fill();
	other = scene->plan.room ? IN : OUT;
	victim = victim_start(NULL, publish_as_planned, NULL);
	pid = actor_start(wait_for_the_end, NULL);
	bufpipe_close(ends[other]);
	ends[other] = NULL;
	if (how % 2 == 0) {
		actor_continue(pid);
		await_rest(pid, how / 2);
	}
	victim_step(victim, t);
	if (how % 2)
		actor_continue(pid);
	victim_kill(victim);
	await(&scene->over, 1, "the hang-up");
	end_actor(pid);
	close_scene();
	return -1;
}

/* The campaigns. */

/* Runs each kind of waiter for one of these verbs, on exclusive or shared ends.  Without a budget: before each system call. */
static void run_kinds(int (*run)(const void *, struct trial *), enum verb verb, bool room, unsigned flags,
		      const char *what, unsigned long budget)
{
	for (enum waiter_kind kind = BLOCKED; kind < WAITER_KINDS; kind++) {
		struct plan plan = { .kind = kind, .verb = verb, .room = room, .flags = flags };
		char name[128];
		struct campaign c = { .name = name,
				      .run = run,
				      .plan = &plan,
				      .workers = 4,
				      .budget = budget,
				      .at_calls = !budget };

		if (!waiter_works(kind))
			continue;
		snprintf(name, sizeof(name), "%s for %s%s, %s%s", waiter_names[kind],
			 room ? "room" : "a message", flags ? ", shared" : "", verb_names[verb], what);
		stepper_campaign(&c);
	}
}

static const unsigned modes[] = { 0, BUFPIPE_SHARED };

TestSuite(kill_pairs, .init = stepper_require, .timeout = 100000);

Test(kill_pairs, a_sleeper_whose_publisher_is_held_up_or_dies_is_told_by_it_or_the_next)
{
	for (enum verb verb = SEND; verb <= RELEASE; verb++) {
		for (int i = 0; i < 2; i++)
			run_kinds(run_publisher, verb, verb >= RECV, modes[i], "", 12000);
	}
}

Test(kill_pairs, a_waiter_held_up_on_the_way_to_sleep_is_told_of_what_came_meanwhile)
{
	for (int i = 0; i < 4; i++)
		run_kinds(run_waiter, i % 2 ? RECV : SEND, i % 2, modes[i / 2], " beside it", 60000);
}

/* Each of them does one step on the way to sleep: takes its own news, orders its flag, asks the socket, sleeps. */
Test(kill_pairs, a_waiter_held_up_before_a_system_call_on_the_way_to_sleep_is_told)
{
	for (int i = 0; i < 4; i++)
		run_kinds(run_waiter, i % 2 ? RECV : SEND, i % 2, modes[i / 2], " before a system call", 0);
}

Test(kill_pairs, a_waiter_beside_a_holder_that_is_held_up_or_dies_is_told)
{
	for (enum verb verb = SEND; verb <= WAITS; verb++)
		run_kinds(run_co_owner, verb, verb <= COMMIT, BUFPIPE_SHARED, " of a co-owner",
			  verb == WAITS ? 40000 : 8000);
	run_kinds(run_co_owner, WAITS, true, BUFPIPE_SHARED, " of a co-owner", 40000);
}

Test(kill_pairs, each_waiter_is_told_that_the_last_holder_died)
{
	for (int i = 0; i < 4; i++)
		run_kinds(run_last, i % 2 ? RECV : SEND, i % 2, modes[i / 2], " of the last holder", 6000);
}
