/* SPDX-License-Identifier: MIT */
/* BUFPIPE_SHARED: many threads and processes on one end. */
#include "asleep.h"
#include "support.h"

#include <sys/mman.h>

SUITE(shared);

enum { WORKERS = 4, EACH = 5000, TOTAL = WORKERS * EACH };

/* How often each number arrived, in memory that all processes of a test share. */
static _Atomic unsigned char *arrived;

static void share_counts(void)
{
	arrived = mmap(NULL, TOTAL, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	check(arrived != MAP_FAILED);
}

static void check_each_once(void)
{
	for (int i = 0; i < TOTAL; i++)
		check_eq(arrived[i], 1);
}

struct worker {
	bufpipe_t *pipe;
	uint64_t first;
	int batch;
	size_t size;
	struct thread thread;
	struct child child;
};

/* A message is a number, and bytes that follow from it. */
static void send_numbers(void *arg)
{
	struct worker *worker = arg;
	char *message = malloc(worker->size);

	for (uint64_t i = worker->first; i < worker->first + EACH; i++) {
		size_t len = worker->size - i % (worker->size / 2 + 1);

		if (len < 8 || worker->size == 8)
			len = 8;
		pattern_fill(message, len, i);
		memcpy(message, &i, 8);
		check_eq(bufpipe_send(worker->pipe, message, len, PLENTY), 0);
	}
	free(message);
}

static void count_one(char *message, size_t len)
{
	uint64_t number;
	uint64_t word;

	memcpy(&number, message, 8);
	check(number < TOTAL);
	pattern_fill(&word, 8, number);
	memcpy(message, &word, 8);
	check(pattern_holds(message, len, number));
	arrived[number]++;
}

static void recv_numbers(void *arg)
{
	struct worker *worker = arg;
	char *bytes = malloc(4 * worker->size);
	struct iovec messages[4];
	ssize_t n;

	for (;;) {
		for (int i = 0; i < 4; i++)
			messages[i] = (struct iovec){ bytes + (size_t)i * worker->size, worker->size };
		if (worker->batch) {
			n = bufpipe_recv_many(worker->pipe, messages, 4, PLENTY);
		} else {
			n = bufpipe_recv(worker->pipe, bytes, worker->size, PLENTY);
			messages[0].iov_len = (size_t)n;
			n = n < 0 ? n : 1;
		}
		if (n == -EPIPE)
			break;
		check(n > 0);
		for (ssize_t i = 0; i < n; i++)
			count_one(messages[i].iov_base, messages[i].iov_len);
	}
	free(bytes);
}

static void crowd(const struct bufpipe_options *options, size_t size, int threads)
{
	struct worker senders[WORKERS];
	struct worker receivers[WORKERS];
	bufpipe_t *ends[2];

	share_counts();
	pipe_open(ends, options);
	for (int i = 0; i < WORKERS; i++) {
		senders[i] = (struct worker){ .pipe = ends[OUT], .first = (uint64_t)i * EACH, .size = size };
		receivers[i] = (struct worker){ .pipe = ends[IN], .batch = i % 2, .size = size };
		if (threads) {
			thread_start(&receivers[i].thread, recv_numbers, &receivers[i]);
			thread_start(&senders[i].thread, send_numbers, &senders[i]);
		} else {
			receivers[i].child = child_start(recv_numbers, &receivers[i]);
			senders[i].child = child_start(send_numbers, &senders[i]);
		}
	}
	for (int i = 0; i < WORKERS; i++) {
		if (threads)
			thread_join(&senders[i].thread);
		else
			child_join(&senders[i].child);
	}
	check_eq(bufpipe_shutdown(ends[OUT]), 0);
	for (int i = 0; i < WORKERS; i++) {
		if (threads)
			thread_join(&receivers[i].thread);
		else
			child_join(&receivers[i].child);
	}
	check_each_once();
	pipe_close(ends);
	munmap((void *)(uintptr_t)arrived, TOTAL);
}

Test(shared, threads_get_each_message_once)
{
	crowd(&(struct bufpipe_options){ .flags = BUFPIPE_SHARED, .buffer_size = 4096 }, 100, 1);
}

Test(shared, processes_get_each_message_once)
{
	crowd(&(struct bufpipe_options){ .flags = BUFPIPE_SHARED, .buffer_size = 4096 }, 100, 0);
}

Test(shared, sleepers_get_each_message_once)
{
	crowd(&(struct bufpipe_options){ .flags = BUFPIPE_SHARED,
					 .object_size = 8,
					 .object_count = 16,
					 .spin_ns = BUFPIPE_NO_SPIN },
	      8, 0);
}

Test(shared, long_messages_of_two_senders_do_not_mix)
{
	enum { LONG = 20000 };
	struct bufpipe_options options = { .flags = BUFPIPE_SHARED, .buffer_size = 4096 };
	bufpipe_t *ends[2];
	int pids[2];
	char *message = malloc(LONG + 1);
	int status;

	pipe_open(ends, &options);
	for (int i = 0; i < 2; i++) {
		pids[i] = fork();
		if (pids[i] == 0) {
			for (uint64_t n = 0; n < 50; n++) {
				message[0] = (char)i;
				pattern_fill(message + 1, LONG, n);
				if (bufpipe_send(ends[OUT], message, LONG + 1, PLENTY) < 0)
					_exit(1);
			}
			_exit(0);
		}
	}
	for (uint64_t n[2] = { 0, 0 }; n[0] + n[1] < 100;) {
		check_eq(bufpipe_recv(ends[IN], message, LONG + 1, PLENTY), LONG + 1);
		check(message[0] == 0 || message[0] == 1);
		check(pattern_holds(message + 1, LONG, n[(int)message[0]]++));
	}
	for (int i = 0; i < 2; i++) {
		check_eq(waitpid(pids[i], &status, 0), pids[i]);
		check_eq(status, 0);
	}
	free(message);
	pipe_close(ends);
}

struct caller {
	bufpipe_t *pipe;
	int sends;
	int shuts;
	int64_t timeout;
	int64_t result;
};

static void call(void *arg)
{
	struct caller *caller = arg;
	char object[8] = { 0 };

	if (caller->shuts)
		caller->result = bufpipe_shutdown_within(caller->pipe, caller->timeout);
	else
		caller->result = caller->sends ? bufpipe_send(caller->pipe, object, 8, caller->timeout)
					       : bufpipe_recv(caller->pipe, object, 8, caller->timeout);
}

static const struct bufpipe_options narrow = { .flags = BUFPIPE_SHARED, .object_size = 8, .object_count = 2 };

Test(shared, each_caller_keeps_its_own_time)
{
	for (int sends = 0; sends < 2; sends++) {
		struct caller callers[3];
		struct thread threads[3];
		bufpipe_t *ends[2];
		int64_t start;

		pipe_open(ends, &narrow);
		if (sends)
			fill_up(ends[OUT], 8);
		start = clock_ns();
		for (int i = 0; i < 3; i++) {
			callers[i] = (struct caller){ .pipe = ends[sends ? OUT : IN],
						      .sends = sends,
						      .timeout = (300 - 100 * i) * MSEC };
			thread_start(&threads[i], call, &callers[i]);
			wait_until_asleep(0, threads[i].tid, ASLEEP_ANY);
		}
		/* A call that only tries waits for nobody. */
		check_eq(sends ? bufpipe_send(ends[OUT], "12345678", 8, 0) : bufpipe_next(ends[IN], 0),
			 -EAGAIN);
		for (int i = 2; i >= 0; i--) {
			thread_join(&threads[i]);
			check_eq(callers[i].result, -ETIMEDOUT);
			check(clock_ns() - start >= callers[i].timeout);
		}
		check(clock_ns() - start < PROMPT);
		pipe_close(ends);
	}
}

Test(shared, one_message_wakes_one_sleeper_and_the_end_of_the_stream_wakes_all)
{
	struct caller callers[3];
	struct thread threads[3];
	bufpipe_t *ends[2];
	int got = 0;

	pipe_open(ends, &narrow);
	for (int i = 0; i < 3; i++) {
		callers[i] = (struct caller){ .pipe = ends[IN], .timeout = -1, .result = 1 };
		thread_start(&threads[i], call, &callers[i]);
		wait_until_asleep(0, threads[i].tid, ASLEEP_ANY);
	}
	say(ends[OUT], "just one");
	check_eq(bufpipe_shutdown(ends[OUT]), 0);
	for (int i = 0; i < 3; i++) {
		thread_join(&threads[i]);
		check(callers[i].result == 8 || callers[i].result == -EPIPE);
		got += callers[i].result == 8;
	}
	check_eq(got, 1);
	pipe_close(ends);
}

Test(shared, shutdown_waits_for_a_reservation_no_longer_than_it_is_told)
{
	struct caller caller;
	struct thread thread;
	bufpipe_t *ends[2];
	char object[8];
	int64_t start;
	void *room;

	pipe_open(ends, &narrow);
	check_eq(bufpipe_reserve(ends[OUT], &room, 8, 0), 0);
	memcpy(room, "reserved", 8);
	caller = (struct caller){ .pipe = ends[OUT], .shuts = 1, .timeout = 0 };
	thread_start(&thread, call, &caller);
	thread_join(&thread);
	check_eq(caller.result, -EAGAIN);
	start = clock_ns();
	caller.timeout = 20 * MSEC;
	thread_start(&thread, call, &caller);
	thread_join(&thread);
	check_eq(caller.result, -ETIMEDOUT);
	check(clock_ns() - start >= 20 * MSEC);
	/* Nothing has changed. */
	check_eq(bufpipe_commit(ends[OUT], 8), 0);
	say(ends[OUT], "and more");
	hear(ends[IN], "reserved");
	hear(ends[IN], "and more");
	check_eq(bufpipe_shutdown_within(ends[OUT], 0), 0);
	check_eq(bufpipe_send(ends[OUT], "too late", 8, -1), -EPIPE);
	check_eq(bufpipe_recv(ends[IN], object, 8, -1), -EPIPE);
	pipe_close(ends);
}

Test(shared, what_one_unpeeks_another_receives)
{
	struct caller caller;
	struct thread thread;
	bufpipe_t *ends[2];
	const void *there;

	pipe_open(ends, &narrow);
	say(ends[OUT], "for both");
	check_eq(bufpipe_peek(ends[IN], &there, 0), 8);
	caller = (struct caller){ .pipe = ends[IN], .timeout = -1, .result = 1 };
	thread_start(&thread, call, &caller);
	wait_until_asleep(0, thread.tid, ASLEEP_ANY);
	check_eq(bufpipe_unpeek(ends[IN]), 0);
	thread_join(&thread);
	check_eq(caller.result, 8);
	check_eq(bufpipe_next(ends[IN], 0), -EAGAIN);
	pipe_close(ends);
}

static void reserve_and_stay(void *arg)
{
	bufpipe_t **ends = arg;
	void *room;

	check_eq(bufpipe_reserve(ends[OUT], &room, 8, PLENTY), 0);
	memset(room, 0xee, 8);
	say(ends[2], "has it"); /* another pipe, to tell the parent */
	for (;;)
		pause();
}

static void peek_and_stay(void *arg)
{
	bufpipe_t **ends = arg;
	const void *there;

	check_eq(bufpipe_peek(ends[IN], &there, PLENTY), 8);
	say(ends[2], "has it");
	for (;;)
		pause();
}

/* A holder dies during its turn. The next one goes on, and nothing is lost, doubled or torn. */
Test(shared, a_co_owner_killed_in_its_turn_stops_nobody)
{
	for (int peeks = 0; peeks < 2; peeks++) {
		bufpipe_t *ends[3];
		bufpipe_t *line[2];
		struct child child;

		pipe_open(ends, &narrow);
		pipe_open(line, NULL);
		ends[2] = line[OUT];
		if (peeks)
			say(ends[OUT], "to be se");
		child = child_start(peeks ? peek_and_stay : reserve_and_stay, ends);
		hear(line[IN], "has it");
		if (peeks)
			check_eq(bufpipe_next(ends[IN], 10 * MSEC), -ETIMEDOUT);
		else
			check_eq(bufpipe_send(ends[OUT], "not yet.", 8, 0), -EAGAIN);
		child_kill(&child);
		if (!peeks)
			say(ends[OUT], "to be se");
		hear(ends[IN], "to be se");
		check_eq(bufpipe_next(ends[IN], 0), -EAGAIN);
		pipe_close(ends);
		pipe_close(line);
	}
}

/* The sleeper that has the lead is killed. The one that waits behind it takes over. */
Test(shared, a_co_owner_killed_in_its_sleep_hands_on_the_lead)
{
	for (int sends = 0; sends < 2; sends++) {
		struct caller caller = { .sends = sends, .timeout = PLENTY };
		struct child first;
		struct thread second;
		bufpipe_t *ends[2];
		char object[8];
		int64_t start;

		pipe_open(ends, &narrow);
		if (sends)
			fill_up(ends[OUT], 8);
		caller.pipe = ends[sends ? OUT : IN];
		first = child_start(call, &caller);
		wait_until_asleep(first.pid, first.pid, ASLEEP_SOCKET);
		thread_start(&second, call, &caller);
		wait_until_asleep(0, second.tid, ASLEEP_ANY);
		start = clock_ns();
		child_kill(&first);
		if (sends)
			check_eq(bufpipe_recv(ends[IN], object, 8, 0), 8);
		else
			say(ends[OUT], "for who?");
		thread_join(&second);
		check(clock_ns() - start < PROMPT);
		check_eq(caller.result, sends ? 0 : 8);
		pipe_close(ends);
	}
}

static void other_thread_finishes(void *arg)
{
	bufpipe_t **ends = arg;

	check_eq(bufpipe_commit(ends[OUT], 8), -EINVAL);
	check_eq(bufpipe_cancel(ends[OUT]), -EINVAL);
	check_eq(bufpipe_send(ends[OUT], "12345678", 8, 0), -EAGAIN);
	check_eq(bufpipe_send(ends[OUT], "12345678", 8, 5 * MSEC), -ETIMEDOUT);
}

Test(shared, the_thread_that_reserved_must_finish)
{
	struct thread thread;
	bufpipe_t *ends[2];
	void *room;

	pipe_open(ends, &narrow);
	check_eq(bufpipe_reserve(ends[OUT], &room, 8, 0), 0);
	memcpy(room, "reserved", 8);
	thread_start(&thread, other_thread_finishes, ends);
	thread_join(&thread);
	check_eq(bufpipe_commit(ends[OUT], 8), 0);
	hear(ends[IN], "reserved");
	pipe_close(ends);
}

static void reserve_and_end(void *arg)
{
	bufpipe_t **ends = arg;
	void *room;

	check_eq(bufpipe_reserve(ends[OUT], &room, 8, PLENTY), 0);
}

static void peek_and_end(void *arg)
{
	bufpipe_t **ends = arg;
	const void *message;

	check_eq(bufpipe_peek(ends[IN], &message, PLENTY), 8);
}

static void send_and_receive(void *arg)
{
	bufpipe_t **ends = arg;

	say(ends[OUT], "12345678");
	hear(ends[IN], "12345678");
}

Test(shared, what_a_thread_leaves_open_ends_with_it)
{
	/* The next thread may well get the same stack, and the same objects at the same addresses. */
	void (*const threads[])(void *) = { send_and_receive, reserve_and_end, send_and_receive,
					    reserve_and_end,  reserve_and_end, send_and_receive };
	bufpipe_t *ends[2];
	struct thread thread;

	pipe_open(ends, &narrow);
	for (int i = 0; i < 6; i++) {
		thread_start(&thread, threads[i], ends);
		thread_join(&thread);
	}
	say(ends[OUT], "12345678");
	thread_start(&thread, peek_and_end, ends);
	thread_join(&thread);
	hear(ends[IN], "12345678");
	thread_start(&thread, send_and_receive, ends);
	thread_join(&thread);
	pipe_close(ends);
}

static void other_thread_releases(void *arg)
{
	bufpipe_t **ends = arg;
	char message[8];

	check_eq(bufpipe_release(ends[IN]), -EINVAL);
	check_eq(bufpipe_recv(ends[IN], message, 8, 0), -EAGAIN);
	check_eq(bufpipe_recv(ends[IN], message, 8, 5 * MSEC), -ETIMEDOUT);
}

static void close_copies(void *arg)
{
	pipe_close(arg);
}

/* What is open in the parent stays the parent's after a fork, even if the child closes its copies. */
Test(shared, an_open_reservation_or_peek_is_not_inherited_by_a_child)
{
	struct child child;
	const void *message;
	bufpipe_t *ends[2];
	void *room;

	pipe_open(ends, &narrow);
	check_eq(bufpipe_reserve(ends[OUT], &room, 8, 0), 0);
	memcpy(room, "reserved", 8);
	child = child_start(close_copies, ends);
	child_join(&child);
	child = child_start(other_thread_finishes, ends);
	child_join(&child);
	check_eq(bufpipe_commit(ends[OUT], 8), 0);

	check_eq(bufpipe_peek(ends[IN], &message, 0), 8);
	child = child_start(close_copies, ends);
	child_join(&child);
	child = child_start(other_thread_releases, ends);
	child_join(&child);
	check(memcmp(message, "reserved", 8) == 0);
	check_eq(bufpipe_release(ends[IN]), 0);
	send_and_receive(ends);
	pipe_close(ends);
}
