/* SPDX-License-Identifier: MIT */
/* A signal handler runs while a call sleeps. The call goes on, or ends if the end is interruptible. */
#include "asleep.h"
#include "support.h"

#include <sys/mman.h>
#include <sys/time.h>

SUITE(signals);

/* How often the handler ran, seen by all processes of a test. */
static _Atomic int *handled;

static void on_signal(int number)
{
	(void)number;
	(*handled)++;
}

struct job {
	bufpipe_t *pipe;
	int sends;
	int restart;
	int expected;
};

static void catch_signals(int restart)
{
	struct sigaction action = { .sa_handler = on_signal, .sa_flags = restart ? SA_RESTART : 0 };

	check_eq(sigaction(SIGUSR1, &action, NULL), 0);
}

static void blocked_call(void *arg)
{
	const struct job *job = arg;
	char object[8] = { 0 };

	catch_signals(job->restart);
	if (job->sends)
		check_eq(bufpipe_send(job->pipe, object, 8, -1), job->expected);
	else
		check_eq(bufpipe_recv(job->pipe, object, 8, -1), job->expected < 0 ? job->expected : 8);
}

static void share_counter(void)
{
	handled = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	check(handled != MAP_FAILED);
}

static void signal_and_wait(const struct child *child)
{
	int before = *handled;
	int64_t end = clock_ns() + PLENTY;

	check_eq(kill(child->pid, SIGUSR1), 0);
	while (*handled == before) {
		check(clock_ns() < end);
		sleep_ns(100 * USEC);
	}
}

static const struct bufpipe_options plain = { .object_size = 8,
					      .object_count = 2,
					      .spin_ns = BUFPIPE_NO_SPIN };

static void goes_on(struct job job, enum asleep how)
{
	char object[8] = { 0 };
	struct child child;
	bufpipe_t *ends[2];

	pipe_open(ends, &plain);
	if (job.sends)
		fill_up(ends[OUT], 8);
	job.pipe = ends[job.sends ? OUT : IN];
	child = child_start(blocked_call, &job);
	for (int i = 0; i < 3; i++) {
		wait_until_asleep(child.pid, child.pid, how);
		signal_and_wait(&child);
	}
	wait_until_asleep(child.pid, child.pid, how);
	if (job.sends)
		check_eq(bufpipe_recv(ends[IN], object, 8, 0), 8);
	else
		check_eq(bufpipe_send(ends[OUT], object, 8, 0), 0);
	child_join(&child);
	pipe_close(ends);
}

Test(signals, a_call_goes_on_after_a_handler)
{
	share_counter();
	for (int i = 0; i < 8; i++)
		goes_on((struct job){ .sends = i & 1, .restart = i & 2 }, i & 4 ? ASLEEP_SOCKET : ASLEEP_ANY);
}

static void gives_way(struct job job, unsigned flags, enum asleep how)
{
	struct bufpipe_options options = plain;
	struct child child;
	bufpipe_t *ends[2];

	options.flags = BUFPIPE_INTERRUPTIBLE | flags;
	pipe_open(ends, &options);
	if (job.sends)
		fill_up(ends[OUT], 8);
	job.pipe = ends[job.sends ? OUT : IN];
	job.expected = -EINTR;
	child = child_start(blocked_call, &job);
	wait_until_asleep(child.pid, child.pid, how);
	signal_and_wait(&child);
	child_join(&child);
	pipe_close(ends);
}

/*
 * The signal comes only when the call sleeps on the socket. Before that, the handler could run between two
 * short sleeps, and would end neither of them.
 */
Test(signals, a_handler_ends_an_interruptible_call)
{
	share_counter();
	for (int i = 0; i < 4; i++)
		gives_way((struct job){ .sends = i & 1, .restart = i & 2 }, 0, ASLEEP_SOCKET);
}

Test(signals, a_handler_ends_an_interruptible_call_of_a_shared_end)
{
	share_counter();
	for (int i = 0; i < 4; i++)
		gives_way((struct job){ .sends = i & 1, .restart = i & 2 }, BUFPIPE_SHARED, ASLEEP_SOCKET);
}

/*
 * The second sleeper waits for its turn behind the first. The signal does not end its wait, and it
 * gets its turn.
 */
Test(signals, a_handler_does_not_end_a_wait_for_a_co_owner)
{
	share_counter();
	for (int sends = 0; sends < 2; sends++) {
		struct bufpipe_options options = plain;
		struct job job = { .sends = sends };
		struct child first;
		struct child second;
		bufpipe_t *ends[2];
		char object[8] = { 0 };

		options.flags = BUFPIPE_INTERRUPTIBLE | BUFPIPE_SHARED;
		pipe_open(ends, &options);
		if (sends)
			fill_up(ends[OUT], 8);
		job.pipe = ends[sends ? OUT : IN];
		first = child_start(blocked_call, &job);
		wait_until_asleep(first.pid, first.pid, ASLEEP_SOCKET);
		second = child_start(blocked_call, &job);
		wait_until_asleep(second.pid, second.pid, ASLEEP_ANY);
		signal_and_wait(&second);
		wait_until_asleep(second.pid, second.pid, ASLEEP_ANY);
		for (int i = 0; i < 2; i++) {
			if (sends)
				check_eq(bufpipe_recv(ends[IN], object, 8, PLENTY), 8);
			else
				check_eq(bufpipe_send(ends[OUT], object, 8, PLENTY), 0);
		}
		child_join(&first);
		child_join(&second);
		pipe_close(ends);
	}
}

static char message[100000];

struct long_message {
	bufpipe_t *pipe;
	const void *data;
	size_t len;
};

static void send_long_message(void *arg)
{
	const struct long_message *m = arg;

	check_eq(bufpipe_send(m->pipe, m->data, m->len, PLENTY), 0);
}

static void send_message(void *pipe)
{
	check_eq(bufpipe_send(pipe, message, sizeof(message), PLENTY), 0);
}

/* A sender that is stopped in the middle of a long message, with the ring full of it. */
static struct child stopped_sender(bufpipe_t *ends[2])
{
	struct child sender;

	pattern_fill(message, sizeof(message), 3);
	sender = child_start(send_message, ends[OUT]);
	wait_until_asleep(sender.pid, sender.pid, ASLEEP_SOCKET);
	check_eq(kill(sender.pid, SIGSTOP), 0);
	check_eq(waitpid(sender.pid, NULL, WUNTRACED), sender.pid);
	memset(message, 0, sizeof(message));
	return sender;
}

/*
 * Receives part of a long message from a sender that was stopped, until a signal arrives. Returns the sender.
 */
static struct child interrupted_receive(bufpipe_t *ends[2])
{
	struct itimerspec soon = { .it_value.tv_nsec = 50 * MSEC, .it_interval.tv_nsec = 50 * MSEC };
	struct child sender;
	timer_t timer;

	share_counter();
	catch_signals(0);
	sender = stopped_sender(ends);
	check_eq(timer_create(CLOCK_MONOTONIC,
			      &(struct sigevent){ .sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR1 },
			      &timer),
		 0);
	check_eq(timer_settime(timer, 0, &soon, NULL), 0);
	check_eq(bufpipe_recv(ends[IN], message, sizeof(message), -1), -EINTR);
	timer_delete(timer);
	return sender;
}

static void receive_all_of_it(bufpipe_t *pipe, struct child *sender)
{
	check_eq(kill(sender->pid, SIGCONT), 0);
	memset(message, 0, sizeof(message));
	check_eq(bufpipe_recv(pipe, message, sizeof(message), PLENTY), sizeof(message));
	check(pattern_holds(message, sizeof(message), 3));
	child_join(sender);
}

Test(signals, an_interrupted_receive_keeps_what_it_has_of_a_long_message)
{
	const struct bufpipe_options options = { .buffer_size = 4096, .flags = BUFPIPE_INTERRUPTIBLE };
	struct child sender;
	bufpipe_t *ends[2];

	pipe_open(ends, &options);
	sender = interrupted_receive(ends);
	receive_all_of_it(ends[IN], &sender);
	pipe_close(ends);
}

static const struct bufpipe_options shared = { .buffer_size = 4096,
					       .flags = BUFPIPE_INTERRUPTIBLE | BUFPIPE_SHARED };

Test(signals, an_interrupted_receive_of_a_shared_end_keeps_its_turn)
{
	struct child sender;
	bufpipe_t *ends[2];
	const void *at;

	pipe_open(ends, &shared);
	sender = interrupted_receive(ends);
	check_eq(bufpipe_recv(ends[IN], message, sizeof(message) - 1, 0), -EMSGSIZE);
	check_eq(bufpipe_next(ends[IN], 0), -EBUSY);
	check_eq(bufpipe_peek(ends[IN], &at, 0), -EBUSY);
	receive_all_of_it(ends[IN], &sender);
	check_eq(bufpipe_release(ends[IN]), -EINVAL);
	say(ends[OUT], "next");
	hear(ends[IN], "next");
	pipe_close(ends);
}

struct co_owner {
	bufpipe_t *pipe;
	int go;
};

static void hear_next(void *arg)
{
	const struct co_owner *o = arg;
	char c;

	check_eq(read(o->go, &c, 1), 1);
	hear(o->pipe, "next");
}

/* The co-owner waits for its turn. Then it skips the rest, and receives what is sent after it. */
static void an_interrupted_message_is_given_up(void (*give_up)(bufpipe_t *))
{
	struct child sender, other;
	struct co_owner owner;
	bufpipe_t *ends[2];
	int fds[2];

	check_eq(pipe(fds), 0);
	pipe_open(ends, &shared);
	owner = (struct co_owner){ ends[IN], fds[0] };
	other = child_start(hear_next, &owner);
	sender = interrupted_receive(ends);
	check_eq(write(fds[1], "x", 1), 1);
	wait_until_asleep(other.pid, other.pid, ASLEEP_ANY);
	give_up(ends[IN]);
	check_eq(kill(sender.pid, SIGCONT), 0);
	child_join(&sender);
	say(ends[OUT], "next");
	child_join(&other);
	bufpipe_close(ends[OUT]);
	close(fds[0]);
	close(fds[1]);
}

static void release(bufpipe_t *pipe)
{
	check_eq(bufpipe_release(pipe), 0);
	check_eq(bufpipe_release(pipe), -EINVAL);
	bufpipe_close(pipe);
}

Test(signals, an_interrupted_message_can_be_released)
{
	an_interrupted_message_is_given_up(release);
}

Test(signals, an_interrupted_message_goes_with_its_end)
{
	an_interrupted_message_is_given_up(bufpipe_close);
}

static void send_numbers(void *arg)
{
	bufpipe_t *pipe = arg;

	catch_signals(0);
	for (uint64_t i = 0; i < 20000; i++)
		check_eq(bufpipe_send(pipe, &i, 8, -1), 0);
}

Test(signals, a_storm_of_handlers_loses_nothing)
{
	struct itimerspec often = { .it_value.tv_nsec = 100 * USEC, .it_interval.tv_nsec = 100 * USEC };
	struct child child;
	bufpipe_t *ends[2];
	uint64_t number;
	timer_t timer;

	share_counter();
	catch_signals(0);
	pipe_open(ends, &plain);
	child = child_start(send_numbers, ends[OUT]);
	check_eq(timer_create(CLOCK_MONOTONIC,
			      &(struct sigevent){ .sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR1 },
			      &timer),
		 0);
	check_eq(timer_settime(timer, 0, &often, NULL), 0);
	for (uint64_t i = 0; i < 20000; i++) {
		check_eq(bufpipe_recv(ends[IN], &number, 8, -1), 8);
		check_eq(number, i);
	}
	timer_delete(timer);
	child_join(&child);
	check(*handled > 0);
	pipe_close(ends);
}

Test(signals, a_receive_of_an_interruptible_shared_end_whose_time_is_up_keeps_its_turn)
{
	struct child sender;
	bufpipe_t *ends[2];

	pipe_open(ends, &shared);
	sender = stopped_sender(ends);
	check_eq(bufpipe_recv(ends[IN], message, sizeof(message), 0), -EAGAIN);
	check_eq(bufpipe_recv(ends[IN], message, sizeof(message), MSEC), -ETIMEDOUT);
	check_eq(bufpipe_next(ends[IN], 0), -EBUSY);
	check_eq(bufpipe_recv(ends[IN], message, sizeof(message), 0), -EAGAIN);
	receive_all_of_it(ends[IN], &sender);
	check_eq(bufpipe_release(ends[IN]), -EINVAL);

	sender = stopped_sender(ends);
	check_eq(bufpipe_recv(ends[IN], message, sizeof(message), MSEC), -ETIMEDOUT);
	check_eq(bufpipe_release(ends[IN]), 0);
	check_eq(kill(sender.pid, SIGCONT), 0);
	/* The rest of the message is skipped. */
	check_eq(bufpipe_recv(ends[IN], message, sizeof(message), 200 * MSEC), -ETIMEDOUT);
	child_join(&sender);
	say(ends[OUT], "next");
	hear(ends[IN], "next");
	pipe_close(ends);
}

/* This holds for any announced length. */
Test(signals, a_stopped_sender_keeps_a_receiver_of_a_shared_end_for_a_second)
{
	const struct bufpipe_options uninterruptible = { .buffer_size = 4096, .flags = BUFPIPE_SHARED };
	const size_t announced = (size_t)1 << 30;
	char *huge = mmap(NULL, announced, PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	struct long_message long_message;
	struct child sender;
	bufpipe_t *ends[2];
	int64_t begin;

	check(huge != MAP_FAILED);
	pipe_open(ends, &uninterruptible);
	long_message = (struct long_message){ ends[OUT], huge, announced };
	sender = child_start(send_long_message, &long_message);
	wait_until_asleep(sender.pid, sender.pid, ASLEEP_SOCKET);
	check_eq(kill(sender.pid, SIGSTOP), 0);
	begin = clock_ns();
	check_eq(bufpipe_recv(ends[IN], huge, announced, MSEC), -ETIMEDOUT);
	check(clock_ns() - begin < SEC + PROMPT);
	child_kill(&sender);
	say(ends[OUT], "next");
	hear(ends[IN], "next");
	pipe_close(ends);
	munmap(huge, announced);
}

/* Calls bufpipe_wait with a timeout of 0 while signals arrive at any moment of the call. */
static void look_under_signals(void *arg)
{
	const struct itimerval often = { { 0, 250 }, { 0, 250 } };
	const struct itimerval never = { 0 };
	struct sigaction action = { .sa_handler = on_signal };
	struct bufpipe_pollfd p = { .events = BUFPIPE_IN };
	bufpipe_t *ends[2];
	int64_t end;
	int r = 0;

	(void)arg;
	pipe_open(ends, NULL);
	p.pipe = ends[IN];
	check_eq(sigaction(SIGALRM, &action, NULL), 0);
	check_eq(setitimer(ITIMER_REAL, &often, NULL), 0);
	end = clock_ns() + 100 * MSEC;
	while (r == 0 && (clock_ns() < end || !*handled))
		r = bufpipe_wait(&p, 1, 0);
	check_eq(setitimer(ITIMER_REAL, &never, NULL), 0);
	check_eq(r, 0);
	check(*handled > 0);
	pipe_close(ends);
}

Test(signals, do_not_end_a_wait_for_many_that_only_tries)
{
	struct child child;

	share_counter();
	child = child_start(look_under_signals, NULL);
	child_join(&child);
}
