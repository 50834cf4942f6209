/* SPDX-License-Identifier: MIT */
/* Each system call and each allocation of the library fails in turn, with each error that it can have. */
#include "hostile/hostile.h"
#include "promises/fault_wrap.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/stat.h>

TestSuite(fault, .timeout = 60);

/* The call under test. Returns 0 or more, or the error of that call. */
typedef int scenario(void);

static int strike_n;
static int strike_choice;
static bool strike_all;
static struct fault struck;

/* These surround the call under test alone, so that only the library's own calls are counted. */
static void fail_from_here(void)
{
	(strike_all ? fault_arm_all : fault_arm)(strike_n, strike_choice);
}

static void fail_no_more(void)
{
	struct fault f = fault_disarm();

	if (f.struck)
		struck = f;
}

/* A failing call returns the errno of the kernel, or another one that the header promises. */
static void assert_documented(int r, const int *besides)
{
	if (r >= 0 || r == -struck.error)
		return;
	for (; *besides; besides++) {
		if (r == -*besides)
			return;
	}
	cr_assert_fail("%s failing with %s gave %s", struck.name, strerrorname_np(struck.error),
		       strerrorname_np(-r));
}

/* Runs a scenario once for each call that it makes and for each error that this call can have. */
static void fail_each(scenario *run, const int *besides, int most)
{
	for (strike_n = 1; strike_n <= most; strike_n++) {
		for (strike_choice = 0;; strike_choice++) {
			struct tally before = tally_now();
			char what[128];
			int r;

			struck = (struct fault){ .struck = false };
			r = run();
			if (!struck.struck)
				break;
			snprintf(what, sizeof(what), "call %d, %s failing with %s, result %d", strike_n,
				 struck.name, strerrorname_np(struck.error), r);
			tally_assert(before, what);
			assert_documented(r, besides);
		}
		if (strike_choice == 0)
			break;
	}
	cr_assert_gt(strike_n, 1, "no call was ever reached");
}

#define UNTOUCHED ((void *)&struck)

static struct bufpipe_options create_options;

static int create(void)
{
	bufpipe_t *ends[2] = { UNTOUCHED, UNTOUCHED };
	int r;

	fail_from_here();
	r = bufpipe_create(ends, &create_options);
	fail_no_more();
	if (r < 0) {
		cr_assert(ends[0] == UNTOUCHED && ends[1] == UNTOUCHED, "a failed create wrote its result");
		cr_assert_eq(bufpipe_create(ends, &create_options), 0, "and again without a fault");
	}
	say(ends[1], "works");
	hear(ends[0], "works");
	pipe_close(ends);
	return r;
}

/* What create may return besides the injected errno. */
static const int create_besides[] = { EBADMSG, ENOMEM, 0 };

Test(fault, wrapping_reaches_the_library)
{
	static const char *const names[] = { "memfd_create", "ftruncate", "mmap",         "fcntl",
					     "fchmod",       "open",      "socketpair",   "pread",
					     "fstat",        "fstatfs",   "aligned_alloc" };
	bufpipe_t *ends[2];

	fault_arm(1000000, 0);
	pipe_open(ends, NULL);
	fault_disarm();
	for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++)
		cr_assert_gt(fault_count(names[i]), 0, "%s was not seen", names[i]);
	pipe_close(ends);
}

Test(fault, create)
{
	fail_each(create, create_besides, 1000);
	create_options.flags =
		BUFPIPE_DUPLEX | BUFPIPE_SHARED | BUFPIPE_HUGEPAGES | BUFPIPE_PREFAULT | BUFPIPE_LOCKED;
	create_options.buffer_size = 4096;
	fail_each(create, create_besides, 1000);
}

Test(fault, create_when_the_fault_stays)
{
	strike_all = true;
	fail_each(create, create_besides, 1000);
}

static const char *listen_address;

static int listen_there(void)
{
	const struct bufpipe_options options = { .mode = 0700 };
	bufpipe_listener_t *listener = UNTOUCHED;
	struct stat st;
	int r;

	fail_from_here();
	r = bufpipe_listen(&listener, listen_address, &options);
	fail_no_more();
	if (r < 0) {
		cr_assert_eq(listener, UNTOUCHED, "a failed listen wrote its result");
		if (listen_address[0] == '/' && struck.name && strcmp(struck.name, "unlinkat"))
			cr_assert_eq(lstat(listen_address, &st), -1, "a failed listen left its socket");
		cr_assert_eq(bufpipe_listen(&listener, listen_address, NULL), 0, "and again without a fault");
	}
	honest_visit(listener, listen_address, NULL);
	bufpipe_listener_close(listener);
	unlink(listen_address);
	return r;
}

Test(fault, listen)
{
	static const int besides[] = { EADDRINUSE, 0 };
	char directory[] = "/tmp/bufpipe-test-XXXXXX";
	char address[64];

	snprintf(address, sizeof(address), "@bufpipe-test-fault-%d", getpid());
	listen_address = address;
	fail_each(listen_there, besides, 1000);
	cr_assert_not_null(mkdtemp(directory));
	snprintf(address, sizeof(address), "%s/socket", directory);
	fail_each(listen_there, besides, 1000);
	cr_assert_eq(rmdir(directory), 0);
}

/* A socket that was passed on belongs to the caller until listen has succeeded. */
static int listen_on_descriptor(void)
{
	bufpipe_listener_t *listener = UNTOUCHED;
	char name[64];
	char address[32];
	int fd = rogue_listen(name);
	int r;

	snprintf(address, sizeof(address), "fd:%d", fd);
	fail_from_here();
	r = bufpipe_listen(&listener, address, NULL);
	fail_no_more();
	if (r < 0) {
		cr_assert_eq(listener, UNTOUCHED);
		cr_assert_geq(fcntl(fd, F_GETFD), 0, "a failed listen closed the caller's descriptor");
		cr_assert_eq(bufpipe_listen(&listener, address, NULL), 0, "and again without a fault");
	}
	bufpipe_listener_close(listener);
	return r;
}

Test(fault, listen_on_descriptor)
{
	static const int besides[] = { ENOTSOCK, EBADF, 0 };

	fail_each(listen_on_descriptor, besides, 1000);
}

static const int accept_besides[] = { EAGAIN, ENOMEM, 0 };

/* The two halves of a handshake. The test plays the other side by hand. */
static int accept_one(void)
{
	struct handshake wishes = handshake_make(WISHES);
	struct handshake region = handshake_make(REGION);
	struct identity id = honest_identity(LAYOUT_SENDS);
	bufpipe_listener_t *listener;
	bufpipe_t *pipe = NULL;
	char address[64];
	struct pollfd answer = { .events = POLLIN };
	int fd = forge_region(&id, honest_size(&id), F_SEAL_SHRINK | F_SEAL_GROW);
	int offered = -1;
	int r;

	snprintf(address, sizeof(address), "@bufpipe-test-accept-%d", getpid());
	cr_assert_eq(bufpipe_listen(&listener, address, NULL), 0);
	answer.fd = rogue_connect(address);
	wishes.flags = WISH_ANY;
	rogue_send(answer.fd, &wishes, sizeof(wishes), NULL, 0);
	fail_from_here();
	r = bufpipe_accept(listener, &pipe, 0);
	fail_no_more();
	cr_assert_lt(r, 0);
	if (struck.struck)
		assert_documented(r, accept_besides);
	if (poll(&answer, 1, 0) > 0 && rogue_recv(answer.fd, &wishes, sizeof(wishes), &offered) > 0)
		rogue_send(answer.fd, &region, sizeof(region), &fd, 1);
	fault_resume();
	r = bufpipe_accept(listener, &pipe, 0);
	fail_no_more();
	bufpipe_close(pipe);
	close(answer.fd);
	if (offered >= 0)
		close(offered);
	close(fd);
	honest_visit(listener, address, NULL);
	bufpipe_listener_close(listener);
	return r;
}

Test(fault, accept)
{
	fail_each(accept_one, accept_besides, 1000);
}

static char server_address[64];

static int connect_once(void)
{
	const struct bufpipe_options options = { .flags = BUFPIPE_SHARED };
	bufpipe_t *pipe = UNTOUCHED;
	int r;

	fail_from_here();
	r = bufpipe_connect(&pipe, server_address, &options, 10 * NSEC_PER_SEC);
	fail_no_more();
	if (r < 0) {
		cr_assert_eq(pipe, UNTOUCHED, "a failed connect wrote its result");
		cr_assert_eq(bufpipe_connect(&pipe, server_address, &options, 10 * NSEC_PER_SEC), 0);
	}
	say(pipe, "works");
	bufpipe_close(pipe);
	return r;
}

Test(fault, connect)
{
	static const int besides[] = { EBADMSG, ENOMEM, ETIMEDOUT, ECONNRESET, 0 };
	bufpipe_listener_t *listener;
	bufpipe_t *pipe;
	char byte[8];
	pid_t pid;

	snprintf(server_address, sizeof(server_address), "@bufpipe-test-connect-%d", getpid());
	cr_assert_eq(bufpipe_listen(&listener, server_address, NULL), 0);
	pid = fork();
	if (!pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		/*
		 * Waits until each client is gone, because a send that meets our close may end with -EPIPE.
		 */
		while (bufpipe_accept(listener, &pipe, -1) == 0) {
			while (bufpipe_recv(pipe, byte, sizeof(byte), -1) >= 0)
				;
			bufpipe_close(pipe);
		}
		_exit(1);
	}
	fail_each(connect_once, besides, 1000);
	flipper_stop(pid);
	bufpipe_listener_close(listener);
}

static int send_end(void)
{
	bufpipe_t *ends[2];
	bufpipe_t *moved;
	int sockets[2];
	int r;

	pipe_open(ends, NULL);
	sockets_open(sockets, SOCK_SEQPACKET);
	fail_from_here();
	r = bufpipe_send_end(sockets[0], ends[0]);
	fail_no_more();
	if (r < 0)
		cr_assert_eq(bufpipe_send_end(sockets[0], ends[0]), 0, "and again without a fault");
	cr_assert_eq(bufpipe_recv_end(sockets[1], &moved), 0);
	say(ends[1], "works");
	hear(moved, "works");
	bufpipe_close(moved);
	pipe_close(ends);
	sockets_close(sockets);
	return r;
}

/*
 * If recvmsg itself fails, the parcel stays in the socket. A later failure loses it, with all that was in it.
 */
static int recv_end(void)
{
	bufpipe_t *ends[2];
	bufpipe_t *moved = UNTOUCHED;
	int sockets[2];
	int r;

	pipe_open(ends, NULL);
	sockets_open(sockets, SOCK_SEQPACKET);
	cr_assert_eq(bufpipe_send_end(sockets[0], ends[0]), 0);
	fail_from_here();
	r = bufpipe_recv_end(sockets[1], &moved);
	fail_no_more();
	if (r < 0) {
		cr_assert_eq(moved, UNTOUCHED, "a failed recv_end wrote its result");
		if (strcmp(struck.name, "recvmsg"))
			cr_assert_eq(bufpipe_send_end(sockets[0], ends[0]), 0);
		cr_assert_eq(bufpipe_recv_end(sockets[1], &moved), 0, "and again without a fault");
	}
	say(ends[1], "works");
	hear(moved, "works");
	bufpipe_close(moved);
	pipe_close(ends);
	sockets_close(sockets);
	return r;
}

Test(fault, send_end)
{
	static const int besides[] = { EOPNOTSUPP, 0 };

	fail_each(send_end, besides, 1000);
}

Test(fault, recv_end)
{
	static const int besides[] = { EBADMSG, ENOMEM, 0 };

	fail_each(recv_end, besides, 1000);
	strike_all = true;
	fail_each(recv_end, besides, 1000);
}

static int get_info(void)
{
	struct bufpipe_info info = { .pid = -7 };
	bufpipe_t *ends[2];
	int r;

	pipe_open(ends, NULL);
	fail_from_here();
	r = bufpipe_get_info(ends[0], &info);
	fail_no_more();
	cr_assert_eq(info.pid, r < 0 ? -7 : getpid());
	pipe_close(ends);
	return r;
}

Test(fault, get_info)
{
	fail_each(get_info, (const int[]){ 0 }, 1000);
}

/* Neither call can fail, so the other side learns of the end. */
static int shut_down(void)
{
	bufpipe_t *ends[2];
	char byte;

	pipe_open(ends, NULL);
	say(ends[1], "last");
	fail_from_here();
	cr_assert_eq(bufpipe_shutdown(ends[1]), 0);
	bufpipe_close(ends[1]);
	fail_no_more();
	hear(ends[0], "last");
	cr_assert_eq(bufpipe_recv(ends[0], &byte, 1, -1), -EPIPE);
	bufpipe_close(ends[0]);
	return 0;
}

Test(fault, shutdown_and_close)
{
	fail_each(shut_down, (const int[]){ 0 }, 1000);
}

/* Sends back what it receives, each time after a while, so that the other side has fallen asleep. */
static void echo(bufpipe_t *pipe, size_t cap, int64_t delay)
{
	char *buf = malloc(cap);
	ssize_t n;

	while ((n = bufpipe_recv(pipe, buf, cap, -1)) >= 0) {
		sleep_ns(delay);
		if (bufpipe_send(pipe, buf, (size_t)n, -1) < 0)
			break;
	}
	_exit(n == -EPIPE ? 0 : 1);
}

static size_t echo_len;
static unsigned echo_flags;
static int64_t echo_delay;

/*
 * A call that fails in a wait has done nothing. When it is repeated it goes on, and every message arrives
 * once and whole.
 */
static int exchange(void)
{
	const struct bufpipe_options options = { .buffer_size = 1024,
						 .flags = BUFPIPE_DUPLEX | echo_flags,
						 .spin_ns = BUFPIPE_NO_SPIN };
	char *out = malloc(echo_len);
	char *in = malloc(echo_len);
	bufpipe_t *ends[2];
	int status;
	int first = 0;
	pid_t pid;
	ssize_t r;

	pipe_open(ends, &options);
	pid = fork();
	if (!pid) {
		bufpipe_close(ends[0]);
		echo(ends[1], echo_len, echo_delay);
	}
	bufpipe_close(ends[1]);
	for (int i = 0; i < 2; i++) {
		pattern_fill(out, echo_len, (uint64_t)i);
		i ? fault_resume() : fail_from_here();
		while ((r = bufpipe_send(ends[0], out, echo_len, PLENTY)) < 0) {
			cr_assert_eq(first, 0, "it failed twice: %zd", r);
			first = (int)r;
		}
		while ((r = bufpipe_recv(ends[0], in, echo_len, PLENTY)) < 0) {
			cr_assert_eq(first, 0, "it failed twice: %zd", r);
			first = (int)r;
		}
		fail_no_more();
		cr_assert_eq(r, (ssize_t)echo_len);
		cr_assert(pattern_holds(in, echo_len, (uint64_t)i), "message %d was torn", i);
	}
	bufpipe_close(ends[0]);
	cr_assert(waitpid(pid, &status, 0) == pid && status == 0, "the echo: %x", status);
	cr_assert_neq(first, -EINTR, "a signal ended a call that is not interruptible");
	free(out);
	free(in);
	return first;
}

Test(fault, blocking_exchange)
{
	echo_len = 64;
	echo_delay = 2 * MSEC;
	fail_each(exchange, (const int[]){ 0 }, 30);
	echo_flags = BUFPIPE_SHARED;
	fail_each(exchange, (const int[]){ 0 }, 30);
}

/* The answer is so late that the wait has moved to the socket. */
Test(fault, blocking_exchange_by_doorbell)
{
	echo_len = 64;
	echo_delay = 120 * MSEC;
	fail_each(exchange, (const int[]){ 0 }, 10);
}

Test(fault, long_messages)
{
	echo_len = 20000;
	fail_each(exchange, (const int[]){ 0 }, 40);
}

/*
 * A peer can increment the word on which we sleep again and again, so that the kernel never lets us fall
 * asleep.
 */
Test(fault, a_sleep_that_never_begins_does_not_stretch_a_timeout)
{
	struct fault f = { .name = "" };
	bufpipe_t *ends[2];
	char byte;

	pipe_open(ends, &(struct bufpipe_options){ .spin_ns = BUFPIPE_NO_SPIN });
	for (int n = 1; n < 20 && (!f.struck || strcmp(f.name, "syscall")); n++) {
		int64_t begin = time_now();

		fault_arm_all(n, 4); /* the system call's EAGAIN */
		cr_assert_eq(bufpipe_recv(ends[0], &byte, 1, 50 * MSEC), -ETIMEDOUT);
		f = fault_disarm();
		cr_assert_lt(elapsed(begin), SOON);
	}
	cr_assert_eq(f.error, EAGAIN, "no sleep was refused");
	pipe_close(ends);
}
