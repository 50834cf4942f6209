/* SPDX-License-Identifier: MIT */
/*
 * A blocked call notices that the other side was killed, whichever way it waits and
 * however long it has waited.  A co-owner that is killed or stopped delays only those
 * that wait for the message or the lock that it has.
 */
#include "bufpipe.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* The promise is 100 ms; the bound is for a busy machine. */
enum { NOTICE_MS = 2000, LONGEST = 100000 };

enum way { RECV, RECV_MANY, PEEK, NEXT, LONG_RECV, SEND, SENDV, RESERVE, LONG_SEND, WAYS };

static const char *const way_names[] = {
	[RECV] = "recv",   [RECV_MANY] = "recv_many", [PEEK] = "peek",
	[NEXT] = "next",   [LONG_RECV] = "long recv", [SEND] = "send",
	[SENDV] = "sendv", [RESERVE] = "reserve",     [LONG_SEND] = "long send",
};

static char buf[LONGEST];

static int64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static void sleep_ms(long ms)
{
	nanosleep(&(struct timespec){ .tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000 }, NULL);
}

static pid_t fork_mortal(void)
{
	pid_t parent = getpid();
	pid_t pid = fork();

	cr_assert(pid >= 0);
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (getppid() != parent)
			_exit(1);
	}
	return pid;
}

/* A call that has to wait. */
static int call(bufpipe_t *end, enum way way, int64_t timeout_ns)
{
	struct iovec pieces[2] = { { buf, 8 }, { buf + 8, 8 } };
	const void *at;
	void *room;

	switch (way) {
	case RECV:
	case LONG_RECV:
		return (int)bufpipe_recv(end, buf, sizeof(buf), timeout_ns);
	case RECV_MANY:
		return (int)bufpipe_recv_many(end, pieces, 2, timeout_ns);
	case PEEK:
		return (int)bufpipe_peek(end, &at, timeout_ns);
	case NEXT:
		return (int)bufpipe_next(end, timeout_ns);
	case SEND:
		return bufpipe_send(end, buf, 16, timeout_ns);
	case SENDV:
		return bufpipe_sendv(end, pieces, 2, timeout_ns);
	case RESERVE:
		return bufpipe_reserve(end, &room, 16, timeout_ns);
	default:
		return bufpipe_send(end, buf, sizeof(buf), timeout_ns);
	}
}

static bool sends(enum way way)
{
	return way >= SEND;
}

/* The process that will be killed. It never does what the survivor waits for. */
static pid_t start_doomed(bufpipe_t *ends[2], enum way way, bool duplex)
{
	pid_t pid = fork_mortal();
	bufpipe_t *mine = ends[!sends(way)];

	if (pid)
		return pid;
	bufpipe_close(ends[sends(way)]);
	if (way == LONG_RECV) {
		/* A message that ends in its middle. */
		bufpipe_send(mine, buf, sizeof(buf), 20000000);
	} else if (duplex) {
		while (call(mine, way, -1) >= 0)
			;
	}
	for (;;)
		pause();
}

/* Blocks, stores when the call ended, and exits with 0 if it ended with -EPIPE. */
static pid_t start_survivor(bufpipe_t *ends[2], enum way way, _Atomic int64_t *noticed)
{
	pid_t pid = fork_mortal();
	bufpipe_t *mine = ends[sends(way)];
	int r;

	if (pid)
		return pid;
	bufpipe_close(ends[!sends(way)]);
	do
		r = call(mine, way, -1);
	while (r >= 0);
	atomic_store(noticed, now_ms());
	_exit(r == -EPIPE ? 0 : 1);
}

static void fill(bufpipe_t *end)
{
	while (bufpipe_send(end, buf, 16, 0) == 0)
		;
}

enum { SURVIVORS = 3 };

/* One pipe: the holder that will be killed, and the waiters at the other end. */
struct wake {
	pid_t doomed;
	pid_t survivors[SURVIVORS];
	_Atomic int64_t noticed[SURVIVORS];
};

static void begin(struct wake *w, enum way way, unsigned flags)
{
	struct bufpipe_options o = { .buffer_size = 1000, .flags = flags };
	bufpipe_t *ends[2];

	cr_assert_eq(bufpipe_create(ends, &o), 0);
	if (way >= SEND && way <= RESERVE) {
		fill(ends[1]);
		if (flags & BUFPIPE_DUPLEX)
			fill(ends[0]);
	}
	w->doomed = start_doomed(ends, way, flags & BUFPIPE_DUPLEX);
	for (int i = 0; i < (flags & BUFPIPE_SHARED ? SURVIVORS : 1); i++)
		w->survivors[i] = start_survivor(ends, way, &w->noticed[i]);
	bufpipe_close(ends[0]);
	bufpipe_close(ends[1]);
}

static void finish(struct wake *w, enum way way, unsigned flags, int64_t killed)
{
	int64_t took;
	int status;

	waitpid(w->doomed, NULL, 0);
	for (int i = 0; i < SURVIVORS && w->survivors[i]; i++) {
		/* A call that waits for ever is ended by the time limit of the test. */
		waitpid(w->survivors[i], &status, 0);
		cr_assert_eq(status, 0, "%s, flags %#x: status %#x", way_names[way], flags, (unsigned)status);
		took = atomic_load(&w->noticed[i]) - killed;
		cr_assert(took >= 0 && took < NOTICE_MS, "%s, flags %#x: noticed after %lld ms",
			  way_names[way], flags, (long long)took);
	}
}

/* All ways at once. */
static void kill_after(long ms)
{
	static const unsigned kinds[] = { 0, BUFPIPE_SHARED, BUFPIPE_DUPLEX,
					  BUFPIPE_DUPLEX | BUFPIPE_SHARED };
	struct wake(*wakes)[4] =
		mmap(NULL, WAYS * sizeof(*wakes), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	int64_t killed;

	cr_assert((void *)wakes != MAP_FAILED);
	for (int way = 0; way < WAYS; way++) {
		for (int k = 0; k < 4; k++)
			begin(&wakes[way][k], (enum way)way, kinds[k]);
	}
	sleep_ms(ms);
	killed = now_ms();
	for (int way = 0; way < WAYS; way++) {
		for (int k = 0; k < 4; k++)
			kill(wakes[way][k].doomed, SIGKILL);
	}
	for (int way = 0; way < WAYS; way++) {
		for (int k = 0; k < 4; k++)
			finish(&wakes[way][k], (enum way)way, kinds[k], killed);
	}
	munmap(wakes, WAYS * sizeof(*wakes));
}

TestSuite(kill_blocked, .timeout = 60);

Test(kill_blocked, a_call_that_has_just_fallen_asleep_notices)
{
	kill_after(30);
}

Test(kill_blocked, a_call_that_has_slept_for_long_notices)
{
	kill_after(400);
}

/* One of three waiters leads the others. When a leader dies, the next one gets the lead. */
Test(kill_blocked, when_leaders_die_the_last_co_owner_gets_the_message)
{
	struct bufpipe_options o = { .flags = BUFPIPE_SHARED };
	bufpipe_t *ends[2];
	pid_t pids[4];
	int status;

	cr_assert_eq(bufpipe_create(ends, &o), 0);
	for (int i = 0; i < 4; i++) {
		pids[i] = fork_mortal();
		if (pids[i] == 0)
			_exit(bufpipe_recv(ends[0], buf, sizeof(buf), -1) != 5);
		sleep_ms(i ? 5 : 150);
	}
	for (int i = 0; i < 3; i++) {
		kill(pids[i], SIGKILL);
		waitpid(pids[i], NULL, 0);
	}
	cr_assert_eq(bufpipe_send(ends[1], "hello", 5, 0), 0);
	waitpid(pids[3], &status, 0);
	cr_assert_eq(status, 0);
	bufpipe_close(ends[0]);
	bufpipe_close(ends[1]);
}

static pid_t start_flood(bufpipe_t *ends[2], bool send)
{
	pid_t pid = fork_mortal();
	uint64_t number = 0;

	if (pid)
		return pid;
	bufpipe_close(ends[!send]);
	if (send) {
		for (;; number++) {
			if (bufpipe_send(ends[1], &number, sizeof(number), -1) != 0)
				_exit(1);
		}
	}
	for (uint64_t got;; number++) {
		if (bufpipe_recv(ends[0], &got, sizeof(got), -1) != sizeof(got) || got != number)
			_exit(1);
	}
}

/*
 * While one side is stopped, the other side can use what is in the ring, and then gets -ETIMEDOUT. After
 * the first side goes on, everything works again.
 */
static void freeze(unsigned flags, bool send)
{
	struct bufpipe_options o = { .buffer_size = 1000, .flags = flags };
	bufpipe_t *ends[2];
	uint64_t number = 0;
	uint64_t got;
	unsigned seed = (unsigned)now_ms();
	pid_t pid;

	cr_assert_eq(bufpipe_create(ends, &o), 0);
	pid = start_flood(ends, send);
	for (int i = 0; i < 300; i++) {
		int64_t begin;
		int moved = 0;
		ssize_t r;

		nanosleep(&(struct timespec){ .tv_nsec = rand_r(&seed) % 300000 }, NULL);
		kill(pid, SIGSTOP);
		waitpid(pid, NULL, WUNTRACED);
		begin = now_ms();
		do {
			r = send ? bufpipe_recv(ends[0], &got, sizeof(got), 1000000)
				 : bufpipe_send(ends[1], &number, sizeof(number), 1000000);
			if (r < 0)
				break;
			cr_assert(!send || got == number);
			number++;
		} while (++moved < 10000);
		cr_assert_eq(r, -ETIMEDOUT, "a stopped side, and the other gets %zd", r);
		cr_assert_lt(now_ms() - begin, NOTICE_MS);
		kill(pid, SIGCONT);
		r = send ? bufpipe_recv(ends[0], &got, sizeof(got), -1)
			 : bufpipe_send(ends[1], &number, sizeof(number), -1);
		cr_assert_geq(r, 0);
		cr_assert(!send || got == number);
		number++;
	}
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	bufpipe_close(ends[0]);
	bufpipe_close(ends[1]);
}

Test(kill_blocked, a_stopped_sender_is_an_empty_ring)
{
	freeze(0, true);
	freeze(BUFPIPE_SHARED, true);
}

Test(kill_blocked, a_stopped_receiver_is_a_full_ring)
{
	freeze(0, false);
	freeze(BUFPIPE_SHARED, false);
}

/*
 * A holder may be stopped while it has the turn. This does not delay the try of another holder, and
 * afterwards everything works again.
 */
Test(kill_blocked, a_stopped_co_owner_holds_up_no_try)
{
	struct bufpipe_options o = { .buffer_size = 1000, .flags = BUFPIPE_SHARED };
	uint64_t word = 0;
	unsigned seed = (unsigned)now_ms();
	bufpipe_t *ends[2];
	pid_t reader;
	pid_t writer;

	cr_assert_eq(bufpipe_create(ends, &o), 0);
	writer = fork_mortal();
	if (writer == 0) {
		while (bufpipe_send(ends[1], &word, sizeof(word), -1) == 0)
			;
		_exit(1);
	}
	reader = fork_mortal();
	if (reader == 0) {
		while (bufpipe_recv(ends[0], &word, sizeof(word), -1) == sizeof(word))
			;
		_exit(1);
	}
	for (int i = 0; i < 300; i++) {
		pid_t stopped = i % 2 ? reader : writer;
		int64_t begin;
		ssize_t r;

		nanosleep(&(struct timespec){ .tv_nsec = rand_r(&seed) % 300000 }, NULL);
		kill(stopped, SIGSTOP);
		waitpid(stopped, NULL, WUNTRACED);
		begin = now_ms();
		r = i % 2 ? bufpipe_recv(ends[0], &word, sizeof(word), 0)
			  : bufpipe_send(ends[1], &word, sizeof(word), 0);
		cr_assert(r >= 0 || r == -EAGAIN, "a try gets %zd", r);
		cr_assert_lt(now_ms() - begin, NOTICE_MS);
		kill(stopped, SIGCONT);
		cr_assert_eq(bufpipe_send(ends[1], &word, sizeof(word), -1), 0);
		cr_assert_eq(bufpipe_recv(ends[0], &word, sizeof(word), -1), (ssize_t)sizeof(word));
	}
	kill(writer, SIGKILL);
	kill(reader, SIGKILL);
	waitpid(writer, NULL, 0);
	waitpid(reader, NULL, 0);
	bufpipe_close(ends[0]);
	bufpipe_close(ends[1]);
}
