/* SPDX-License-Identifier: MIT */
/*
 * A process is killed after any instruction of a call that makes an end, connects, or
 * hands an end over: nothing is left of what it began, and all others go on.  Also:
 * what happens to processes that sleep for the lock of a co-owner that dies.
 */
#include "bufpipe.h"
#include "kill/stepper.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum { IN, OUT };

enum verb { CREATE, SEND_END, RECV_END, RECV_LAST_END, LISTEN, ACCEPT, CONNECT };

struct plan {
	enum verb verb;
	const char *name;
	unsigned flags;
};

/* What the processes of a trial share. */
struct scene {
	const struct plan *plan;
	int result; /* of the victim's call; 1 before it has returned */
	atomic_int accepted;
};

static bufpipe_t *ends[2];
static bufpipe_t *handed;
static bufpipe_listener_t *listener;
static int sockets[2];
static char directory[64];
static char address[80];

static struct bufpipe_options options_of(const struct plan *p)
{
	return (struct bufpipe_options){ .flags = p->flags, .spin_ns = BUFPIPE_NO_SPIN };
}

static void exchange(bufpipe_t *from, bufpipe_t *to, int n)
{
	for (int i = 0; i < n; i++) {
		int got = -1;
		ssize_t r = bufpipe_send(from, &i, sizeof(i), -1);

		trial_assert(r == 0, "send: %zd", r);
		r = bufpipe_recv(to, &got, sizeof(got), -1);
		trial_assert(r == sizeof(got) && got == i, "recv: %zd, %d", r, got);
	}
}

static void victim_call(void *arg)
{
	struct scene *s = arg;
	struct bufpipe_options o = options_of(s->plan);
	bufpipe_t *made[2];

	switch (s->plan->verb) {
	case CREATE:
		s->result = bufpipe_create(made, &o);
		break;
	case SEND_END:
		s->result = bufpipe_send_end(sockets[1], ends[OUT]);
		break;
	case RECV_END:
	case RECV_LAST_END:
		s->result = bufpipe_recv_end(sockets[1], &handed);
		break;
	case LISTEN:
		s->result = bufpipe_listen(&listener, address, &o);
		break;
	case ACCEPT:
		s->result = bufpipe_accept(listener, &handed, -1);
		break;
	case CONNECT:
		s->result = bufpipe_connect(&handed, address, &o, -1);
		break;
	}
}

/* Takes what it is offered, and receives from everybody, until it receives the last word. */
static void listener_role(void *arg)
{
	struct scene *s = arg;
	bufpipe_t *end;
	int last = 0;
	int r;

	raise(SIGSTOP);
	while (!last) {
		r = bufpipe_accept(listener, &end, -1);
		trial_assert(r == 0, "accept: %d", r);
		atomic_store(&s->accepted, 1);
		while (bufpipe_recv(end, &last, sizeof(last), -1) == sizeof(last))
			;
		bufpipe_close(end);
	}
	bufpipe_listener_close(listener);
}

/* A connector that the victim may accept and then leave alone. */
static void connector_role(void *arg)
{
	bufpipe_t *end;
	int word = 0;
	int r;

	(void)arg;
	raise(SIGSTOP);
	r = bufpipe_connect(&end, address, NULL, -1);
	if (r == 0) {
		while (r == 0)
			r = bufpipe_send(end, &word, sizeof(word), -1);
		bufpipe_close(end);
	}
	trial_assert(r == -EPIPE || r == -ECONNRESET || r == -ECONNREFUSED || r == -ENOENT,
		     "the connector got %d", r);
}

/* A survivor meets another at the same address. */
static void meet(struct scene *s, bool listens)
{
	pid_t other = 0;
	int word = 1;
	int r;

	if (listens) {
		r = bufpipe_listen(&listener, address, NULL);
		trial_assert(r == 0, "listen after the death: %d", r);
		other = actor_start(listener_role, s);
		actor_continue(other);
	}
	r = bufpipe_connect(&handed, address, NULL, -1);
	trial_assert(r == 0, "connect after the death: %d", r);
	r = bufpipe_send(handed, &word, sizeof(word), -1);
	trial_assert(r == 0, "send after the death: %d", r);
	bufpipe_close(handed);
	if (listens) {
		actor_await(other, "the new listener");
		bufpipe_listener_close(listener);
	}
}

/* An end that a listener only borrows. It does not end for others when one of them closes it. */
static int listening_socket(void)
{
	struct sockaddr_un at = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

	snprintf(at.sun_path, sizeof(at.sun_path), "%s", address);
	trial_assert(fd >= 0 && bind(fd, (struct sockaddr *)&at, sizeof(at)) == 0 && listen(fd, 5) == 0,
		     "a listening socket: %d", errno);
	return fd;
}

static void meet_after_listener(struct scene *s, struct trial *t)
{
	bool accepts = s->plan->verb == ACCEPT;
	pid_t connector = actor_start(connector_role, s);
	char passed[32];
	pid_t victim;
	int r;

	if (accepts) {
		snprintf(passed, sizeof(passed), "fd:%d", listening_socket());
		r = bufpipe_listen(&listener, passed, NULL);
		trial_assert(r == 0, "listen: %d", r);
	}
	victim = victim_start(NULL, victim_call, s);
	if (accepts) {
		/* From now on only the victim listens. */
		bufpipe_listener_close(listener);
		actor_continue(connector);
	}
	victim_step_and_kill(victim, t);
	if (!accepts)
		actor_continue(connector);
	actor_await(connector, "the connector");
	meet(s, true);
}

static void meet_after_connector(struct scene *s, struct trial *t)
{
	pid_t other;
	pid_t victim;
	int r = bufpipe_listen(&listener, address, NULL);

	trial_assert(r == 0, "listen: %d", r);
	other = actor_start(listener_role, s);
	victim = victim_start(NULL, victim_call, s);
	actor_continue(other);
	victim_step_and_kill(victim, t);
	meet(s, false);
	actor_await(other, "the listener");
	bufpipe_listener_close(listener);
	if (t->finished)
		trial_assert(s->result == 0 && atomic_load(&s->accepted), "the call returned %d", s->result);
}

/* Either others hold the end, or it was in flight and was lost with the victim. */
static void check_handed(struct scene *s, const struct trial *t)
{
	int word;
	ssize_t r;

	if (s->plan->verb == SEND_END) {
		r = bufpipe_recv_end(sockets[0], &handed);
		trial_assert(r == 0 || (r == -EPIPE && !t->finished), "recv_end: %zd", r);
		if (r == 0) {
			exchange(handed, ends[IN], 3);
			bufpipe_close(handed);
		}
	}
	if (s->plan->verb == RECV_LAST_END) {
		r = bufpipe_recv(ends[IN], &word, sizeof(word), -1);
		trial_assert(r == -EPIPE, "recv from the dead: %zd", r);
	} else {
		exchange(ends[OUT], ends[IN], 3);
	}
}

static void hand_over(struct scene *s, struct trial *t)
{
	struct bufpipe_options o = options_of(s->plan);
	bool gone = s->plan->verb == RECV_LAST_END;
	pid_t victim;
	int r = bufpipe_create(ends, &o);

	trial_assert(r == 0 && socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sockets) == 0,
		     "prepare: %d", r);
	if (gone) {
		/* So that the victim does not have this end already. */
		r = bufpipe_send_end(sockets[0], ends[OUT]);
		bufpipe_close(ends[OUT]);
		ends[OUT] = NULL;
	} else if (s->plan->verb == RECV_END) {
		r = bufpipe_send_end(sockets[0], ends[OUT]);
	}
	trial_assert(r == 0, "send_end: %d", r);
	victim = victim_start(NULL, victim_call, s);
	close(sockets[1]);
	victim_step_and_kill(victim, t);
	check_handed(s, t);
	close(sockets[0]);
	bufpipe_close(ends[IN]);
	bufpipe_close(ends[OUT]);
}

static int run_plan(const void *plan, struct trial *t)
{
	const struct plan *p = plan;
	struct belongings before = belongings_count();
	struct belongings after;
	static struct scene *s;

	if (!s)
		s = mmap(NULL, sizeof(*s), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	*s = (struct scene){ .plan = p, .result = 1 };
	snprintf(address, sizeof(address), "%s/%d", directory, (int)getpid());
	if (p->verb == CONNECT)
		meet_after_connector(s, t);
	else if (p->verb == LISTEN || p->verb == ACCEPT)
		meet_after_listener(s, t);
	else
		hand_over(s, t);
	trial_assert(access(address, F_OK) < 0, "%s is left", address);
	trial_assert(!t->finished || s->result == 0, "the call returned %d", s->result);
	after = belongings_count();
	trial_assert(before.fds == after.fds && before.mappings == after.mappings,
		     "%d descriptors and %d mappings are left", after.fds - before.fds,
		     after.mappings - before.mappings);
	return -1;
}

static void run(enum verb verb, const char *name, unsigned flags)
{
	struct plan plan = { .verb = verb, .name = name, .flags = flags };
	struct campaign c = { .name = name, .run = run_plan, .plan = &plan, .workers = 6, .budget = 60000 };

	stepper_campaign(&c);
}

static void *room;

static void victim_reserve(void *arg)
{
	(void)arg;
	if (bufpipe_reserve(ends[OUT], &room, 8, -1) < 0)
		trial_fail("reserve");
}

static void victim_commit(void *arg)
{
	(void)arg;
	bufpipe_commit(ends[OUT], 8);
}

static void sleeper_role(void *arg)
{
	int r;

	(void)arg;
	raise(SIGSTOP);
	r = bufpipe_send(ends[OUT], "sleeper", 8, -1);
	trial_assert(r == 0, "the sleeper got %d", r);
}

/*
 * Three processes want to send. The victim has the lock and dies while it gives the lock up. One process
 * sleeps for the lock. The third takes it just before the victim dies, so that the kernel finds the lock
 * taken and wakes nobody for the victim.
 */
static int run_lock_race(const void *plan, struct trial *t)
{
	struct bufpipe_options o = { .flags = BUFPIPE_SHARED };
	int r = bufpipe_create(ends, &o);
	pid_t sleeper;
	pid_t victim;

	(void)plan;
	trial_assert(r == 0, "create: %d", r);
	sleeper = actor_start(sleeper_role, NULL);
	victim = victim_start(victim_reserve, victim_commit, NULL);
	actor_continue(sleeper);
	actor_await_sleep(sleeper, SLEEP_FUTEX);
	victim_step(victim, t);
	r = bufpipe_reserve(ends[OUT], &room, 8, 0);
	trial_assert(r == 0 || r == -EAGAIN, "reserve: %d", r);
	victim_kill(victim);
	if (r == 0)
		bufpipe_commit(ends[OUT], 8);
	actor_await(sleeper, "who slept for the lock");
	bufpipe_close(ends[IN]);
	bufpipe_close(ends[OUT]);
	return -1;
}

Test(kill_turn, nobody_who_sleeps_for_it_is_forgotten, .init = stepper_require, .timeout = 100000)
{
	struct campaign c = {
		.name = "commit of a shared end", .run = run_lock_race, .workers = 6, .budget = 100000
	};

	stepper_campaign(&c);
}

static void reader_role(void *arg)
{
	struct scene *s = arg;
	char word[8];
	ssize_t r;

	bufpipe_close(ends[OUT]);
	raise(SIGSTOP);
	r = bufpipe_recv(ends[IN], word, sizeof(word), -1);
	trial_assert(r == 8 || r == -EPIPE, "the receiver got %zd", r);
	atomic_store(&s->accepted, 1);
}

static void victim_send(void *arg)
{
	(void)arg;
	bufpipe_send(ends[OUT], "message", 8, -1);
}

/*
 * The sender dies before it could wake the receiver. A co-owner lives on and sends nothing, so nothing tells
 * the receiver. In the end the receiver looks by itself.
 */
static int run_silent(const void *plan, struct trial *t)
{
	struct bufpipe_options o = { .flags = BUFPIPE_SHARED, .spin_ns = BUFPIPE_NO_SPIN };
	int r = bufpipe_create(ends, &o);
	static struct scene *s;
	pid_t victim;
	pid_t reader;

	(void)plan;
	trial_assert(r == 0, "create: %d", r);
	if (!s)
		s = mmap(NULL, sizeof(*s), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	atomic_store(&s->accepted, 0);
	victim = victim_start(NULL, victim_send, NULL);
	reader = actor_start(reader_role, s);
	actor_continue(reader);
	actor_await_sleep(reader, SLEEP_SOCKET);
	victim_step_and_kill(victim, t);
	for (int i = 0; i < 8000 && bufpipe_next(ends[IN], 0) >= 0; i++)
		usleep(1000);
	r = (int)bufpipe_next(ends[IN], 0);
	trial_assert(r == -EAGAIN, "a message lies there, and the receiver sleeps: %d", r);
	bufpipe_close(ends[OUT]);
	actor_await(reader, "the receiver");
	bufpipe_close(ends[IN]);
	return -1;
}

Test(kill_turn, a_message_that_nobody_tells_of_is_found, .init = stepper_require, .timeout = 100000)
{
	struct campaign c = {
		.name = "send, and silence", .run = run_silent, .workers = 48, .budget = 20000
	};

	stepper_campaign(&c);
}

static void make_directory(void)
{
	stepper_require();
	strcpy(directory, "/tmp/bufpipe-kill-XXXXXX");
	cr_assert(mkdtemp(directory));
}

static void remove_directory(void)
{
	cr_assert(rmdir(directory) == 0, "something is left in %s", directory);
}

TestSuite(kill_setup, .init = make_directory, .fini = remove_directory, .timeout = 100000);

Test(kill_setup, a_killed_create_leaves_nothing)
{
	run(CREATE, "create", 0);
	run(CREATE, "create, shared and duplex", BUFPIPE_SHARED | BUFPIPE_DUPLEX);
}

Test(kill_setup, a_killed_hand_over_leaves_nothing_and_other_holders_go_on)
{
	run(SEND_END, "send_end", BUFPIPE_SHARED);
	run(RECV_END, "recv_end", BUFPIPE_SHARED);
	run(RECV_LAST_END, "recv_end of an end that is nowhere else", 0);
}

Test(kill_setup, a_killed_stranger_leaves_nothing_and_others_can_meet)
{
	run(LISTEN, "listen", 0);
	run(ACCEPT, "accept", 0);
	run(CONNECT, "connect", 0);
}
