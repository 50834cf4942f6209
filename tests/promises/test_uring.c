/* SPDX-License-Identifier: MIT */
/* Pipes in a program's own io_uring, and the example daemon that shows how to do that. */
#include "need_uring.h"
#include "sandbox.h"
#include "sets.h"

#include <sys/personality.h>
#include <sys/un.h>

SUITE(uring);

enum { DATA = 1, ROOM, HUP, CANCEL };

/* Lengths of messages, and how many small ones are more than a quarter of a ring of 4096 bytes. */
enum { BIG = 3000, SMALL = 100, ENOUGH = 14 };

static struct io_uring *ring_open(void)
{
	static struct io_uring ring;

	need_uring();
	check_eq(io_uring_queue_init(16, &ring, 0), 0);
	return &ring;
}

/* Submits a request, which must have been prepared successfully. */
static void submit(struct io_uring *ring, struct io_uring_sqe *sqe, int prepared, uint64_t user_data)
{
	check_eq(prepared, 0);
	io_uring_sqe_set_data64(sqe, user_data);
	check_eq(io_uring_submit(ring), 1);
}

static void await_data(struct io_uring *ring, bufpipe_t *pipe)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(ring);

	submit(ring, sqe, bufpipe_prep_wait(sqe, pipe), DATA);
}

static void await_hup(struct io_uring *ring, bufpipe_t *pipe)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(ring);

	submit(ring, sqe, bufpipe_prep_wait_hup(sqe, pipe), HUP);
}

/* Returns the next completion within the time, or 0. */
static uint64_t completed(struct io_uring *ring, int64_t timeout_ns)
{
	struct __kernel_timespec limit = { timeout_ns / SEC, timeout_ns % SEC };
	struct io_uring_cqe *cqe;
	uint64_t user_data;

	if (io_uring_wait_cqe_timeout(ring, &cqe, &limit) < 0)
		return 0;
	user_data = cqe->user_data;
	io_uring_cqe_seen(ring, cqe);
	return user_data;
}

Test(uring, a_request_completes_when_a_message_comes_and_at_once_when_one_is_there)
{
	struct io_uring *ring = ring_open();
	bufpipe_t *ends[2];

	pipe_open(ends, NULL);
	for (int i = 0; i < 100; i++) {
		if (i % 2)
			say(ends[OUT], "x");
		await_data(ring, ends[IN]);
		if (i % 2 == 0) {
			check_eq(completed(ring, i < 4 ? MOMENT : 1), 0);
			say(ends[OUT], "x");
		}
		check_eq(completed(ring, PLENTY), DATA);
		hear(ends[IN], "x");
		check_eq(bufpipe_recv(ends[IN], NULL, 0, 0), -EAGAIN);
	}
	io_uring_queue_exit(ring);
	pipe_close(ends);
}

Test(uring, a_request_for_room_completes_when_a_quarter_is_free)
{
	struct io_uring *ring = ring_open();
	struct io_uring_sqe *sqe;
	bufpipe_t *ends[2];
	char buf[64];

	pipe_open(ends, NULL);
	for (int i = 0; i < 3; i++) {
		sqe = io_uring_get_sqe(ring);
		submit(ring, sqe, bufpipe_prep_wait_room(sqe, ends[OUT]), ROOM);
		check_eq(completed(ring, PLENTY), ROOM);
		fill_up(ends[OUT], 40);
		sqe = io_uring_get_sqe(ring);
		submit(ring, sqe, bufpipe_prep_wait_room(sqe, ends[OUT]), ROOM);
		check_eq(completed(ring, MOMENT), 0);
		while (bufpipe_recv(ends[IN], buf, sizeof(buf), 0) >= 0)
			;
		check_eq(completed(ring, PLENTY), ROOM);
	}
	io_uring_queue_exit(ring);
	pipe_close(ends);
}

static void take(bufpipe_t *pipe, int n)
{
	char message[SMALL];

	while (n-- > 0)
		check_eq(bufpipe_recv(pipe, message, SMALL, 0), SMALL);
}

static bool big_fits(bufpipe_t *pipe)
{
	static char message[BIG];
	int r = bufpipe_send(pipe, message, BIG, 0);

	check(r == 0 || r == -EAGAIN);
	return r == 0;
}

/*
 * The request is made in a full ring, or when more than a quarter is free. It stays pending as long as the
 * big message is refused.
 */
Test(uring, a_request_for_room_completes_when_what_was_refused_fits)
{
	struct bufpipe_options options = { .buffer_size = 4096 };

	for (int taken_before = 0; taken_before <= ENOUGH; taken_before += ENOUGH) {
		struct io_uring *ring = ring_open();
		struct io_uring_sqe *sqe;
		bufpipe_t *ends[2];
		int early = 0;

		pipe_open(ends, &options);
		fill_up(ends[OUT], SMALL);
		check(!big_fits(ends[OUT]));
		take(ends[IN], taken_before);
		sqe = io_uring_get_sqe(ring);
		submit(ring, sqe, bufpipe_prep_wait_room(sqe, ends[OUT]), ROOM);
		while (!big_fits(ends[OUT])) {
			check_eq(completed(ring, MSEC), 0);
			take(ends[IN], 1);
			early++;
		}
		check_eq(completed(ring, PLENTY), ROOM);
		/* Some messages were taken while the request stayed. */
		check(early > 1);
		io_uring_queue_exit(ring);
		pipe_close(ends);
	}
}

Test(uring, the_end_of_the_stream_completes_a_request_whenever_it_comes)
{
	for (int how = 0; how < 4; how++) {
		struct io_uring *ring = ring_open();
		bufpipe_t *ends[2];

		pipe_open(ends, NULL);
		if (how % 2)
			await_data(ring, ends[IN]);
		if (how / 2)
			check_eq(bufpipe_shutdown(ends[OUT]), 0);
		else
			bufpipe_close(ends[OUT]);
		if (how % 2 == 0)
			await_data(ring, ends[IN]);
		check_eq(completed(ring, PLENTY), DATA);
		check_eq(bufpipe_recv(ends[IN], NULL, 0, 0), -EPIPE);
		io_uring_queue_exit(ring);
		if (how / 2)
			bufpipe_close(ends[OUT]);
		bufpipe_close(ends[IN]);
	}
}

Test(uring, the_death_of_the_other_process_completes_a_request_for_the_hang_up)
{
	struct io_uring *ring = ring_open();
	struct child child;
	bufpipe_t *ends[2];

	pipe_open(ends, NULL);
	child = child_start(sit_on, ends[IN]);
	bufpipe_close(ends[OUT]);
	await_hup(ring, ends[IN]);
	check_eq(completed(ring, MOMENT), 0);
	child_kill(&child);
	check_eq(completed(ring, PROMPT), HUP);
	check_eq(bufpipe_recv(ends[IN], NULL, 0, 0), -EPIPE);
	io_uring_queue_exit(ring);
	bufpipe_close(ends[IN]);
}

Test(uring, a_cancelled_request_completes_and_the_end_can_be_closed)
{
	struct io_uring *ring = ring_open();
	struct io_uring_sqe *sqe;
	bufpipe_t *ends[2];
	uint64_t seen = 0;

	pipe_open(ends, NULL);
	await_data(ring, ends[IN]);
	await_hup(ring, ends[IN]);
	for (uint64_t what = DATA; what <= HUP; what += HUP - DATA) {
		sqe = io_uring_get_sqe(ring);
		io_uring_prep_cancel64(sqe, what, 0);
		submit(ring, sqe, 0, CANCEL);
	}
	for (int i = 0; i < 4; i++)
		seen |= (uint64_t)1 << completed(ring, PLENTY);
	check_eq(seen, 1 << DATA | 1 << HUP | 1 << CANCEL);
	bufpipe_close(ends[IN]);
	check_eq(bufpipe_send(ends[OUT], "x", 1, 0), -EPIPE);
	bufpipe_close(ends[OUT]);
	io_uring_queue_exit(ring);
}

Test(uring, refuses_what_makes_no_sense)
{
	struct io_uring_sqe sqe;
	bufpipe_t *ends[2];

	pipe_open(ends, NULL);
	check_eq(bufpipe_prep_wait(NULL, ends[IN]), -EINVAL);
	check_eq(bufpipe_prep_wait(&sqe, NULL), -EINVAL);
	check_eq(bufpipe_prep_wait(&sqe, ends[OUT]), -EBADF);
	check_eq(bufpipe_prep_wait_room(&sqe, ends[IN]), -EBADF);
	check_eq(bufpipe_prep_wait_hup(NULL, ends[IN]), -EINVAL);
	check_eq(bufpipe_prep_wait_hup(&sqe, NULL), -EINVAL);
	pipe_close(ends);
}

static void without_io_uring(int call, int error)
{
	struct forbidden rule = { .call = call, .error = error };
	struct io_uring_sqe sqe;
	bufpipe_t *ends[2];

	forbid(&rule, 1);
	pipe_open(ends, NULL);
	check_eq(bufpipe_prep_wait(&sqe, ends[IN]), -ENOSYS);
	check_eq(bufpipe_prep_wait_room(&sqe, ends[OUT]), -ENOSYS);
	check_eq(bufpipe_prep_wait_hup(&sqe, ends[IN]), -ENOSYS);
	pipe_close(ends);
}

Test(uring, is_not_there_where_the_kernel_has_no_io_uring)
{
	without_io_uring(SYS_io_uring_setup, ENOSYS);
}

Test(uring, is_not_there_where_io_uring_is_forbidden)
{
	without_io_uring(SYS_io_uring_setup, EPERM);
}

/* The process sees the version of an old kernel, which does not know the operation. */
Test(uring, is_not_there_where_io_uring_knows_no_futexes)
{
	struct io_uring_sqe sqe;
	bufpipe_t *ends[2];

	if (personality(UNAME26) < 0)
		cr_skip_test("no kernel can be imitated");
	pipe_open(ends, NULL);
	check_eq(bufpipe_prep_wait(&sqe, ends[IN]), -ENOSYS);
	check_eq(bufpipe_prep_wait_room(&sqe, ends[OUT]), -ENOSYS);
	check_eq(bufpipe_prep_wait_hup(&sqe, ends[IN]), -ENOSYS);
	pipe_close(ends);
}

static void answer_all(void *arg)
{
	bufpipe_t **p = arg;
	char buf[8];

	for (int i = 0; i < 20000; i++) {
		check_eq(bufpipe_recv(p[0], buf, sizeof(buf), PLENTY), 4);
		check_eq(bufpipe_send(p[1], buf, 4, PLENTY), 0);
	}
}

Test(uring, no_wake_up_is_lost_in_a_long_dialogue)
{
	struct bufpipe_options options = { .spin_ns = BUFPIPE_NO_SPIN };
	struct io_uring *ring = ring_open();
	bufpipe_t *there[2], *back[2];
	struct child child;
	char buf[8];

	pipe_open(there, &options);
	pipe_open(back, &options);
	child = child_start(answer_all, (bufpipe_t *[]){ there[IN], back[OUT] });
	for (int i = 0; i < 20000; i++) {
		check_eq(bufpipe_send(there[OUT], "ping", 4, PLENTY), 0);
		while (bufpipe_recv(back[IN], buf, sizeof(buf), 0) == -EAGAIN) {
			await_data(ring, back[IN]);
			check_eq(completed(ring, PLENTY), DATA);
		}
	}
	child_join(&child);
	io_uring_queue_exit(ring);
	pipe_close(there);
	pipe_close(back);
}

/* The example. */

static pid_t daemon_start(const char *address, const char *path, int *lines)
{
	const char *program = getenv("ECHO_DAEMON");
	int out[2];
	pid_t pid;

	check_eq(pipe2(out, O_CLOEXEC), 0);
	pid = fork();
	check(pid >= 0);
	if (pid == 0) {
		dup2(out[1], 1);
		execl(program, program, address, path, "20", (char *)NULL);
		_exit(127);
	}
	close(out[1]);
	*lines = out[0];
	return pid;
}

static int call_socket(const char *path)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int64_t end = clock_ns() + PLENTY;
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	memcpy(address.sun_path, path, strlen(path));
	while (connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0) {
		check(clock_ns() < end);
		sleep_ns(5 * MSEC);
	}
	return fd;
}

static void call_and_die(void *arg)
{
	struct bufpipe_options options = { .flags = BUFPIPE_DUPLEX };
	bufpipe_t *pipe;

	check_eq(bufpipe_connect(&pipe, arg, &options, PLENTY), 0);
	say(pipe, "dying");
	kill(getpid(), SIGKILL);
}

Test(uring, the_example_daemon_serves_pipes_a_socket_and_a_timer)
{
	enum { CALLERS = 20 };
	char address[64], path[64], buf[64];
	struct bufpipe_options options = { .flags = BUFPIPE_DUPLEX };
	bufpipe_t *callers[CALLERS];
	struct child child;
	struct io_uring ring;
	int lines, socket, status;
	pid_t pid;

	if (!getenv("ECHO_DAEMON"))
		cr_skip_test("ECHO_DAEMON does not say where the example is");
	/* The daemon has an io_uring of its own. Only its requests for pipes have a fallback. */
	if (io_uring_queue_init(16, &ring, 0) < 0)
		cr_skip_test("io_uring is forbidden here");
	io_uring_queue_exit(&ring);
	snprintf(address, sizeof(address), "@bufpipe-test-echo-%d", getpid());
	snprintf(path, sizeof(path), "/tmp/bufpipe-test-echo-%d", getpid());
	pid = daemon_start(address, path, &lines);
	socket = call_socket(path);
	child = child_start(call_and_die, address);
	for (int i = 0; i < CALLERS; i++)
		check_eq(bufpipe_connect(&callers[i], address, &options, PLENTY), 0);
	for (int round = 0; round < 50; round++) {
		for (int i = 0; i < CALLERS; i++) {
			snprintf(buf, sizeof(buf), "%d of %d", round, i);
			say(callers[i], buf);
		}
		check_eq(send(socket, buf, 8, 0), 8);
		for (int i = 0; i < CALLERS; i++) {
			snprintf(buf, sizeof(buf), "%d of %d", round, i);
			hear(callers[i], buf);
		}
		check_eq(recv(socket, buf, 8, MSG_WAITALL), 8);
	}
	check(read(lines, buf, 6) == 6 && memcmp(buf, "served", 6) == 0);

	/*
	 * A client that sends more than fits before it receives. The daemon waits for room, and serves the
	 * others.
	 */
	fill_up(callers[0], 500);
	say(callers[1], "beside");
	hear(callers[1], "beside");
	while (bufpipe_recv(callers[0], NULL, 0, 0) == -EMSGSIZE) {
		char message[500];

		check_eq(bufpipe_recv(callers[0], message, sizeof(message), PLENTY), 500);
	}
	for (int i = 0; i < CALLERS; i++)
		bufpipe_close(callers[i]);
	waitpid(child.pid, NULL, 0);
	close(child.report);
	close(socket);
	check_eq(kill(pid, SIGTERM), 0);
	check_eq(waitpid(pid, &status, 0), pid);
	check_eq(status, 0);
	close(lines);
	check(access(path, F_OK) < 0);
}
