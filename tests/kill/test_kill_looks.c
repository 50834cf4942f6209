/* SPDX-License-Identifier: MIT */
/*
 * One holder looks while another one is held up between two instructions, or has died there. The look never
 * finds what was not there, and never misses what is there.
 */
#include "end/end.h"
#include "kill/stepper.h"
#include "support.h"

#include <poll.h>
#include <sys/mman.h>

/* Waiters look by themselves every 5 s. They must be woken sooner. */
enum { AT_ONCE_MS = 3500 };

/* In memory that the processes of one trial share. */
struct scene {
	atomic_int between; /* two sends */
	atomic_int done;
	atomic_int result;
};

static struct scene *scene;
static bufpipe_t *ends[2];

static void open_scene(const struct bufpipe_options *options)
{
	int r;

	if (!scene)
		scene = mmap(NULL, sizeof(*scene), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	*scene = (struct scene){ 0 };
	r = bufpipe_create(ends, options);
	trial_assert(r == 0, "create: %d", r);
}

static void close_scene(void)
{
	bufpipe_close(ends[IN]);
	bufpipe_close(ends[OUT]);
}

static void take_all(void)
{
	static char bytes[8192];

	while (bufpipe_recv(ends[IN], bytes, sizeof(bytes), 0) >= 0)
		;
}

static void look_once(void *arg)
{
	struct bufpipe_pollfd one = { .pipe = ends[IN], .events = BUFPIPE_IN };

	(void)arg;
	bufpipe_wait(&one, 1, 0);
	atomic_store(&scene->result, one.revents);
	atomic_store(&scene->done, 1);
}

/* Each word of the payload would be the end of the stream if it were taken for a header. */
static int run_lap(const void *plan, struct trial *t)
{
	struct bufpipe_options o = { .flags = BUFPIPE_SHARED, .buffer_size = 1024 };
	uint64_t size;
	char payload[1000];
	char word[1024];
	pid_t victim;

	(void)plan;
	open_scene(&o);
	memset(payload, 'o', sizeof(payload));
	size = ends[IN]->receiver.mask + 1;
	victim = victim_start(NULL, look_once, NULL);
	victim_step(victim, t);
	while (receiver_head(&ends[IN]->receiver) < size + 64) {
		trial_assert(bufpipe_send(ends[OUT], payload, sizeof(payload), 0) == 0, "send");
		trial_assert(bufpipe_recv(ends[IN], word, sizeof(word), 0) == sizeof(payload), "recv");
	}
	victim_go_on(victim, t);
	flag_await(&scene->done, "the look");
	trial_assert(!(atomic_load(&scene->result) & BUFPIPE_HUP), "a live stream is reported as hung up");
	end_actor(victim);
	close_scene();
	return -1;
}

static void send_one(void *arg)
{
	(void)arg;
	trial_assert(bufpipe_send(ends[OUT], "message", 8, -1) == 0, "send");
}

/* The sender may die between the header and its tail. The receiver may then be ahead of the tail. */
static int run_tail(const void *plan, struct trial *t)
{
	struct bufpipe_options o = { .flags = *(const unsigned *)plan, .buffer_size = 1024 };
	struct bufpipe_pollfd one = { .events = BUFPIPE_OUT };

	open_scene(&o);
	victim_step_and_kill(victim_start(NULL, send_one, NULL), t);
	take_all();
	one.pipe = ends[OUT];
	trial_assert(bufpipe_wait(&one, 1, 0) == 1 && one.revents == BUFPIPE_OUT,
		     "the ring is empty, and there is no room");
	trial_assert(bufpipe_send(ends[OUT], "message", 8, 0) == 0, "send");
	close_scene();
	return -1;
}

static void send_twice(void *arg)
{
	(void)arg;
	bufpipe_send(ends[OUT], "message", 8, 0);
	atomic_store(&scene->between, 1);
	atomic_store(&scene->result, bufpipe_send(ends[OUT], "message", 8, 0));
	atomic_store(&scene->done, 1);
}

/*
 * An exclusive end is shut down while another holder sends. That holder also looks at the receiver's head,
 * because it clears space in advance. For its next send the stream must have ended.
 */
static int run_shutdown(const void *plan, struct trial *t)
{
	struct bufpipe_options o = { .buffer_size = 65000 };
	static const char large[8000];
	static char bytes[sizeof(large)];
	const struct sender *s;
	bool in_time;
	pid_t victim;

	(void)plan;
	open_scene(&o);
	s = &ends[OUT]->sender;
	while (sender_tail(s) < 2 * (s->mask + 1)) {
		trial_assert(bufpipe_send(ends[OUT], large, sizeof(large), 0) == 0, "send");
		take_all();
	}
	/*
	 * So much is unread that the sender looks at the head, and has no space to clear, which would take
	 * many instructions.
	 */
	atomic_store(&s->own->head_seen, sender_tail(s));
	for (int i = 0; i < 8; i++)
		trial_assert(bufpipe_send(ends[OUT], large, sizeof(large), 0) == 0, "send");
	trial_assert(bufpipe_recv(ends[IN], bytes, sizeof(bytes), 0) == sizeof(bytes), "recv");
	atomic_store(&s->own->settled, sender_tail(s));
	atomic_store(&s->waiter->clearing, INT32_MAX);
	atomic_store(&s->meter->steps, 1);
	victim = victim_start(NULL, send_twice, NULL);
	victim_step(victim, t);
	in_time = atomic_load(&scene->between);
	trial_assert(bufpipe_shutdown(ends[OUT]) == 0, "shutdown");
	victim_go_on(victim, t);
	flag_await(&scene->done, "the second send");
	if (!in_time)
		trial_assert(atomic_load(&scene->result) == -EPIPE, "the second send: %d",
			     atomic_load(&scene->result));
	trial_assert(bufpipe_send(ends[OUT], "message", 8, 0) == -EPIPE, "one more send");
	end_actor(victim);
	close_scene();
	return -1;
}

TestSuite(kill_looks, .init = stepper_require, .timeout = 100000);

Test(kill_looks, a_look_that_is_held_up_for_a_lap_does_not_see_the_end_of_a_live_stream)
{
	struct campaign c = { .name = "a look", .run = run_lap, .workers = 4, .budget = 500000 };

	stepper_campaign(&c);
}

Test(kill_looks, room_is_seen_when_a_sender_has_died_before_it_moved_its_tail)
{
	for (unsigned flags = 0; flags <= BUFPIPE_SHARED; flags += BUFPIPE_SHARED) {
		struct campaign c = {
			.name = "a sender", .run = run_tail, .plan = &flags, .workers = 4, .budget = 200000
		};

		stepper_campaign(&c);
	}
}

Test(kill_looks, nothing_is_sent_after_a_shutdown_that_came_in_the_middle_of_a_send)
{
	struct campaign c = { .name = "a send", .run = run_shutdown, .workers = 4, .budget = 500000 };

	stepper_campaign(&c);
}

static void peek_for_a_while(void *arg)
{
	const void *message;

	(void)arg;
	check_eq(bufpipe_peek(ends[IN], &message, -1), 8);
	atomic_store(&scene->result, 1);
	while (!atomic_load(&scene->done))
		sched_yield();
	check_eq(bufpipe_unpeek(ends[IN]), 0);
}

/* A try that finds nothing because another holder has the turn arms the descriptor as any other try does. */
Test(kill_looks, a_loop_is_told_of_a_message_that_another_holder_put_back)
{
	struct pollfd p = { .events = POLLIN };
	int64_t until;
	struct child child;
	char word[8];
	int tries = 0;

	open_scene(&(struct bufpipe_options){ .flags = BUFPIPE_SHARED });
	p.fd = bufpipe_fd(ends[IN]);
	child = child_start(peek_for_a_while, NULL);
	check_eq(bufpipe_send(ends[OUT], "message", 8, 0), 0);
	while (!atomic_load(&scene->result))
		sched_yield();
	for (until = clock_ns() + 300 * MSEC; clock_ns() < until; tries++) {
		poll(&p, 1, (int)((until - clock_ns()) / MSEC) + 1);
		check_eq(bufpipe_recv(ends[IN], word, sizeof(word), 0), -EAGAIN);
	}
	/* The loop wakes every 20 ms. Without the timer it would spin, about a hundred thousand times. */
	check(tries < 1000);
	atomic_store(&scene->done, 1);
	while (bufpipe_recv(ends[IN], word, sizeof(word), 0) < 0)
		check_eq(poll(&p, 1, AT_ONCE_MS), 1);
	child_join(&child);
	close_scene();
}
