/* SPDX-License-Identifier: MIT */
/* Two programs meet, and one of them is busy, stopped or gone: nothing is lost, and nobody hangs. */
#include "asleep.h"
#include "support.h"

#include <fcntl.h>
#include <poll.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/un.h>

static char address[64];

static void begin(void)
{
	support_begin();
	snprintf(address, sizeof(address), "@bufpipe-test-meeting-%d", getpid());
}

TestSuite(meeting, .init = begin, .timeout = 60 * SLOWER);

static bufpipe_listener_t *listen_there(const struct bufpipe_options *options)
{
	bufpipe_listener_t *listener;

	check_eq(bufpipe_listen(&listener, address, options), 0);
	return listener;
}

static socklen_t address_of(struct sockaddr_un *at)
{
	*at = (struct sockaddr_un){ .sun_family = AF_UNIX };
	memcpy(at->sun_path + 1, address + 1, strlen(address) - 1);
	return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(address));
}

static int connect_silently(void)
{
	struct sockaddr_un at;
	socklen_t len = address_of(&at);
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

	check_eq(connect(fd, (struct sockaddr *)&at, len), 0);
	return fd;
}

static void send_and_go(void *arg)
{
	bufpipe_t *pipe;

	(void)arg;
	check_eq(bufpipe_connect(&pipe, address, NULL, PLENTY), 0);
	say(pipe, "hello");
	bufpipe_close(pipe);
}

enum { CLIENTS = 8 };

static void accept_all(bufpipe_listener_t *listener, int n)
{
	bufpipe_t *pipe;

	for (int i = 0; i < n; i++) {
		check_eq(bufpipe_accept(listener, &pipe, PLENTY), 0);
		hear(pipe, "hello");
		bufpipe_close(pipe);
	}
}

/* Longer than a connector may be silent. */
#define AWAY (5500 * MSEC)

/*
 * The server accepts its first client while all others finish their handshakes. Then it is away for a long
 * time.
 */
Test(meeting, what_was_sent_while_the_server_was_away_arrives)
{
	bufpipe_listener_t *listener = listen_there(NULL);
	struct child children[CLIENTS];
	int silent = connect_silently();
	char byte;

	for (int i = 0; i < CLIENTS; i++)
		children[i] = child_start(send_and_go, NULL);
	accept_all(listener, 1);
	sleep_ns(AWAY);
	accept_all(listener, CLIENTS - 1);
	for (int i = 0; i < CLIENTS; i++)
		child_join(&children[i]);
	/* By then the client that was only silent has been sent away. */
	check_eq(recv(silent, &byte, 1, MSG_DONTWAIT), 0);
	close(silent);
	bufpipe_listener_close(listener);
}

/*
 * An event loop may call nothing for a long time. The descriptor wakes it so that silent clients are sent
 * away.
 */
Test(meeting, the_descriptor_tells_that_somebody_was_silent_for_too_long)
{
	bufpipe_listener_t *listener = listen_there(NULL);
	struct pollfd p = { .fd = bufpipe_listener_fd(listener), .events = POLLIN };
	int silent = connect_silently();
	bufpipe_t *pipe;
	char byte;

	check_eq(bufpipe_accept(listener, &pipe, 0), -EAGAIN);
	check_eq(poll(&p, 1, 100), 0);
	check_eq(poll(&p, 1, 10000), 1);
	check_eq(bufpipe_accept(listener, &pipe, 0), -EAGAIN);
	check_eq(recv(silent, &byte, 1, MSG_DONTWAIT), 0);
	check_eq(poll(&p, 1, 100), 0);
	close(silent);
	bufpipe_listener_close(listener);
}

static void serve(void *arg)
{
	accept_all(arg, CLIENTS);
}

Test(meeting, what_was_sent_while_the_server_was_stopped_arrives)
{
	bufpipe_listener_t *listener = listen_there(NULL);
	struct child server = child_start(serve, listener);
	struct child children[CLIENTS];

	for (int i = 0; i < CLIENTS; i++) {
		children[i] = child_start(send_and_go, NULL);
		if (i == CLIENTS / 2)
			check_eq(kill(server.pid, SIGSTOP), 0);
	}
	sleep_ns(AWAY);
	check_eq(kill(server.pid, SIGCONT), 0);
	for (int i = 0; i < CLIENTS; i++)
		child_join(&children[i]);
	child_join(&server);
	bufpipe_listener_close(listener);
}

/* A client in a child. It has a pipe, and must learn that the listener is gone. */
static void learn(void *arg)
{
	bufpipe_t *pipe;
	int r = bufpipe_connect(&pipe, address, NULL, PLENTY);

	(void)arg;
	if (r == 0) {
		while ((r = bufpipe_send(pipe, "?", 1, PLENTY)) == 0)
			;
		bufpipe_close(pipe);
		check_eq(r, -EPIPE);
	} else {
		check(r == -ECONNRESET || r == -ECONNREFUSED);
	}
}

Test(meeting, clients_that_were_not_accepted_learn_that_the_listener_closed)
{
	bufpipe_listener_t *listener = listen_there(NULL);
	struct child children[CLIENTS];
	bufpipe_t *pipe;

	for (int i = 0; i < CLIENTS; i++)
		children[i] = child_start(learn, NULL);
	check_eq(bufpipe_accept(listener, &pipe, PLENTY), 0);
	sleep_ns(20 * MSEC);
	bufpipe_listener_close(listener);
	bufpipe_close(pipe);
	for (int i = 0; i < CLIENTS; i++)
		child_join(&children[i]);
}

static _Atomic int *handled;

static void on_signal(int number)
{
	(void)number;
	(*handled)++;
}

struct call {
	bufpipe_listener_t *listener; /* NULL: connect */
	unsigned flags;
	int64_t timeout;
	int restart;
	int expected;
};

static void call(void *arg)
{
	const struct call *c = arg;
	const struct bufpipe_options options = { .flags = c->flags };
	const struct sigaction action = { .sa_handler = on_signal, .sa_flags = c->restart ? SA_RESTART : 0 };
	bufpipe_t *pipe;

	sigaction(SIGUSR1, &action, NULL);
	if (c->listener)
		check_eq(bufpipe_accept(c->listener, &pipe, c->timeout), c->expected);
	else
		check_eq(bufpipe_connect(&pipe, address, &options, c->timeout), c->expected);
}

/* A plain socket on which nobody ever accepts. */
static int listen_deafly(int backlog)
{
	struct sockaddr_un at;
	socklen_t len = address_of(&at);
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

	check_eq(bind(fd, (struct sockaddr *)&at, len), 0);
	check_eq(listen(fd, backlog), 0);
	return fd;
}

static void interrupt(struct call c)
{
	struct child child = child_start(call, &c);

	wait_until_asleep(child.pid, child.pid, ASLEEP_ANY);
	check_eq(kill(child.pid, SIGUSR1), 0);
	child_join(&child);
}

/* Neither a signal handler that only runs nor a stop and continue ends a call before its time. */
static void do_not_interrupt(struct call c)
{
	struct child child = child_start(call, &c);

	wait_until_asleep(child.pid, child.pid, ASLEEP_ANY);
	if (!(c.flags & BUFPIPE_INTERRUPTIBLE))
		check_eq(kill(child.pid, SIGUSR1), 0);
	check_eq(kill(child.pid, SIGSTOP), 0);
	check_eq(waitpid(child.pid, NULL, WUNTRACED), child.pid);
	check_eq(kill(child.pid, SIGCONT), 0);
	child_join(&child);
}

static void each_interruption(struct call c)
{
	for (c.restart = 0; c.restart < 2; c.restart++) {
		c.flags |= BUFPIPE_INTERRUPTIBLE;
		c.timeout = -1;
		c.expected = -EINTR;
		interrupt(c);
		c.timeout = PLENTY;
		interrupt(c);
		c.timeout = 300 * MSEC;
		c.expected = -ETIMEDOUT;
		do_not_interrupt(c);
		if (!c.listener) {
			c.flags &= ~(unsigned)BUFPIPE_INTERRUPTIBLE;
			do_not_interrupt(c);
		}
	}
}

static void share_counter(void)
{
	handled = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	check(handled != MAP_FAILED);
}

Test(meeting, signals_while_accept_waits)
{
	const struct bufpipe_options options = { .flags = BUFPIPE_INTERRUPTIBLE };
	bufpipe_listener_t *listener = listen_there(&options);

	share_counter();
	each_interruption((struct call){ .listener = listener });
	bufpipe_listener_close(listener);
	listener = listen_there(NULL);
	do_not_interrupt(
		(struct call){ .listener = listener, .timeout = 300 * MSEC, .expected = -ETIMEDOUT });
	bufpipe_listener_close(listener);
}

Test(meeting, signals_while_connect_waits_for_an_answer)
{
	int fd = listen_deafly(100);

	share_counter();
	each_interruption((struct call){ 0 });
	close(fd);
}

Test(meeting, signals_while_connect_waits_for_a_place_in_the_backlog)
{
	int fd = listen_deafly(0);
	int filler = connect_silently();

	share_counter();
	each_interruption((struct call){ 0 });
	close(filler);
	close(fd);
}

Test(meeting, signals_while_connect_waits_for_a_listener)
{
	share_counter();
	each_interruption((struct call){ .flags = BUFPIPE_WAIT_FOR_LISTENER });
}

static const struct bufpipe_options patient = { .flags = BUFPIPE_WAIT_FOR_LISTENER };

static void wait_for_listener(void *arg)
{
	bufpipe_t *pipe;

	check_eq(bufpipe_connect(&pipe, arg, &patient, PLENTY), 0);
	say(pipe, "hello");
	bufpipe_close(pipe);
}

static void appear(const char *where)
{
	struct child child = child_start(wait_for_listener, (void *)(uintptr_t)where);
	bufpipe_listener_t *listener;

	wait_until_asleep(child.pid, child.pid, ASLEEP_ANY);
	check_eq(bufpipe_listen(&listener, where, NULL), 0);
	accept_all(listener, 1);
	child_join(&child);
	bufpipe_listener_close(listener);
}

Test(meeting, a_client_may_wait_until_somebody_listens)
{
	char directory[] = "/tmp/bufpipe-test-XXXXXX";
	char path[64];
	bufpipe_t *pipe;

	check(mkdtemp(directory) != NULL);
	snprintf(path, sizeof(path), "%s/socket", directory);
	appear(address);
	appear(path);
	check_eq(bufpipe_connect(&pipe, address, &patient, 30 * MSEC), -ETIMEDOUT);
	check_eq(bufpipe_connect(&pipe, path, &patient, 30 * MSEC), -ETIMEDOUT);
	check_eq(bufpipe_connect(&pipe, address, &patient, 0), -ECONNREFUSED);
	check_eq(bufpipe_connect(&pipe, path, &patient, 0), -ENOENT);
	check_eq(rmdir(directory), 0);
}

/* A listener that disappears while a client waits for its answer may come back. */
Test(meeting, a_patient_client_outlasts_a_restart)
{
	char directory[] = "/tmp/bufpipe-test-XXXXXX";
	bufpipe_listener_t *listener;
	struct child child;

	check(mkdtemp(directory) != NULL);
	snprintf(address, sizeof(address), "%s/socket", directory);
	listener = listen_there(NULL);
	child = child_start(wait_for_listener, address);
	for (int i = 0; i < 3; i++) {
		wait_until_asleep(child.pid, child.pid, ASLEEP_ANY);
		bufpipe_listener_close(listener);
		listener = listen_there(NULL);
	}
	accept_all(listener, 1);
	child_join(&child);
	bufpipe_listener_close(listener);
	check_eq(rmdir(directory), 0);
}

Test(meeting, waiting_for_a_listener_is_for_clients)
{
	bufpipe_listener_t *listener;
	bufpipe_t *ends[2];

	check_eq(bufpipe_listen(&listener, address, &patient), -EINVAL);
	check_eq(bufpipe_create(ends, &patient), -EINVAL);
}

static void accept_for_ever(void *arg)
{
	bufpipe_t *pipe;

	bufpipe_accept(arg, &pipe, -1);
	support_fail(__FILE__, __LINE__, "it was not cancelled");
}

static void connect_for_ever(void *arg)
{
	bufpipe_t *pipe;

	bufpipe_connect(&pipe, address, arg, -1);
	support_fail(__FILE__, __LINE__, "it was not cancelled");
}

static void cancel(void (*run)(void *), void *arg)
{
	struct thread thread;

	thread_start(&thread, run, arg);
	wait_until_asleep(0, thread.tid, ASLEEP_ANY);
	check_eq(pthread_cancel(thread.handle), 0);
	thread_join(&thread);
}

/* The fixture finds what would have been left behind. */
Test(meeting, a_cancelled_thread_leaves_nothing_behind)
{
	bufpipe_listener_t *listener = listen_there(NULL);
	struct child child;
	int silent = connect_silently();
	int fd;

	cancel(accept_for_ever, listener);
	child = child_start(send_and_go, NULL);
	accept_all(listener, 1);
	child_join(&child);
	close(silent);
	bufpipe_listener_close(listener);
	cancel(connect_for_ever, (void *)(uintptr_t)&patient);
	fd = listen_deafly(0);
	cancel(connect_for_ever, NULL); /* waits for an answer */
	cancel(connect_for_ever,
	       NULL); /* waits for a place in the backlog, which the call before has filled */
	close(fd);
}
