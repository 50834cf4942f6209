/* SPDX-License-Identifier: MIT */
/*
 * Two programs meet at an address: every form of address, who may listen, who is refused, and that nobody is
 * delayed by others.
 */
#include "asleep.h"
#include "support.h"

#include <fcntl.h>
#include <poll.h>
#include <stddef.h>
#include <sys/stat.h>
#include <sys/un.h>

static char home[] = "/tmp/bufpipe-test-XXXXXX";
static char path[64];

static void leave(void)
{
	unlink(path);
	check_eq(chdir("/"), 0);
	check_eq(rmdir(home), 0); /* nothing else has been left in the directory */
}

static void enter(void)
{
	support_begin();
	support_clean_up = leave;
	check(mkdtemp(home) != NULL);
	check_eq(chdir(home), 0);
	snprintf(path, sizeof(path), "%s/socket", home);
}

TestSuite(address, .init = enter, .timeout = 30 * SLOWER);

static bool exists(const char *name)
{
	struct stat st;

	return lstat(name, &st) == 0;
}

static bufpipe_listener_t *listen_at(const char *address)
{
	bufpipe_listener_t *listener;

	check_eq(bufpipe_listen(&listener, address, NULL), 0);
	return listener;
}

static void close_listener(void *arg)
{
	bufpipe_listener_close(arg);
}

static void visit(void *arg)
{
	bufpipe_t *end;

	check_eq(bufpipe_connect(&end, arg, NULL, PLENTY), 0);
	say(end, "hello");
	bufpipe_close(end);
}

/* A child connects to the address, sends "hello", and leaves. */
static void receive_visit(bufpipe_listener_t *listener, const char *address)
{
	struct child child = child_start(visit, (void *)(uintptr_t)address);
	struct bufpipe_info info;
	bufpipe_t *end;
	char byte;

	check_eq(bufpipe_accept(listener, &end, PLENTY), 0);
	check_eq(bufpipe_get_info(end, &info), 0);
	check_eq(info.pid, child.pid);
	check_eq(info.uid, getuid());
	check_eq(info.gid, getgid());
	hear(end, "hello");
	check_eq(bufpipe_recv(end, &byte, 1, PLENTY), -EPIPE);
	bufpipe_close(end);
	child_join(&child);
}

Test(address, a_path)
{
	bufpipe_listener_t *listener = listen_at(path);

	check(exists(path));
	receive_visit(listener, path);
	receive_visit(listener, path);
	bufpipe_listener_close(listener);
	check(!exists(path));
}

Test(address, a_relative_path)
{
	bufpipe_listener_t *listener = listen_at("./socket");

	check(exists(path));
	receive_visit(listener, "./socket");
	bufpipe_listener_close(listener);
	check(!exists(path));
}

Test(address, an_abstract_name)
{
	char name[64];
	bufpipe_listener_t *listener;
	bufpipe_listener_t *second;

	snprintf(name, sizeof(name), "@bufpipe-test-%d", getpid());
	listener = listen_at(name);
	receive_visit(listener, name);
	check_eq(bufpipe_listen(&second, name, NULL), -EADDRINUSE);
	bufpipe_listener_close(listener);
	listener = listen_at(name);
	receive_visit(listener, name);
	bufpipe_listener_close(listener);
}

/* A socket that already listens at the path, as a service manager makes it. */
static int listening_socket(int type)
{
	struct sockaddr_un at = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, type, 0);

	check(fd >= 0);
	strcpy(at.sun_path, path);
	check_eq(bind(fd, (struct sockaddr *)&at, sizeof(at)), 0);
	if (type != SOCK_DGRAM)
		check_eq(listen(fd, 5), 0);
	return fd;
}

Test(address, a_descriptor)
{
	bufpipe_listener_t *listener;
	char address[32];
	int fd = listening_socket(SOCK_SEQPACKET);

	snprintf(address, sizeof(address), "fd:%d", fd);
	listener = listen_at(address);
	check(fcntl(fd, F_GETFD) & FD_CLOEXEC);
	receive_visit(listener, path);
	bufpipe_listener_close(listener);
	check(fcntl(fd, F_GETFD) < 0); /* the listener owned the descriptor */
	check(exists(path));           /* but not the socket file */
}

Test(address, a_descriptor_that_cannot_listen_is_refused_and_kept)
{
	static const int types[] = { SOCK_STREAM, SOCK_DGRAM };
	bufpipe_listener_t *listener = (void *)1;
	char address[32];
	int sockets[2];
	int fd;

	for (int i = 0; i < 2; i++) {
		fd = listening_socket(types[i]);
		snprintf(address, sizeof(address), "fd:%d", fd);
		check_eq(bufpipe_listen(&listener, address, NULL), -ESOCKTNOSUPPORT);
		check_eq(close(fd), 0);
		unlink(path);
	}
	sockets_open(sockets, SOCK_SEQPACKET); /* connected, not listening */
	snprintf(address, sizeof(address), "fd:%d", sockets[0]);
	check_eq(bufpipe_listen(&listener, address, NULL), -ESOCKTNOSUPPORT);
	sockets_close(sockets);
	fd = open("/dev/null", O_RDONLY);
	snprintf(address, sizeof(address), "fd:%d", fd);
	check_eq(bufpipe_listen(&listener, address, NULL), -ENOTSOCK);
	check_eq(close(fd), 0);
	check_eq(bufpipe_listen(&listener, address, NULL), -ENOTSOCK);
	check(listener == (void *)1);
}

Test(address, a_child_that_closes_its_copy_of_the_listener_leaves_the_address)
{
	bufpipe_listener_t *listener = listen_at(path);
	struct child child = child_start(close_listener, listener);

	child_join(&child);
	check(exists(path));
	receive_visit(listener, path);
	bufpipe_listener_close(listener);
	check(!exists(path));
}

/* Runs in a child: what a service manager does between fork and exec. */
static void be_a_service(void *arg)
{
	bufpipe_listener_t *listener;
	char number[16];
	bufpipe_t *end;
	int fd = fcntl(listening_socket(SOCK_SEQPACKET), F_DUPFD_CLOEXEC, 50);

	(void)arg;
	check_eq(bufpipe_listen(&listener, "systemd:", NULL), -ENOENT);
	check(dup2(fd, 4) == 4);
	check(dup2(open("/dev/null", O_RDONLY), 3) == 3);
	snprintf(number, sizeof(number), "%d", getpid());
	setenv("LISTEN_PID", number, 1);
	setenv("LISTEN_FDS", "2", 1);
	check_eq(bufpipe_listen(&listener, "systemd:pipes", NULL), -ENOENT);
	setenv("LISTEN_FDNAMES", "null:pipes", 1);
	check_eq(bufpipe_listen(&listener, "systemd:pipe", NULL), -ENOENT);
	check_eq(bufpipe_listen(&listener, "systemd:null", NULL), -ENOTSOCK);
	setenv("LISTEN_FDS", "1", 1);
	check_eq(bufpipe_listen(&listener, "systemd:pipes", NULL), -ENOENT);
	setenv("LISTEN_FDS", "2", 1);
	setenv("LISTEN_PID", "1", 1);
	check_eq(bufpipe_listen(&listener, "systemd:pipes", NULL), -ENOENT);
	setenv("LISTEN_PID", number, 1);
	check_eq(bufpipe_listen(&listener, "systemd:pipes", NULL), 0);
	check_eq(bufpipe_accept(listener, &end, PLENTY), 0);
	hear(end, "hello");
	bufpipe_close(end);
	bufpipe_listener_close(listener);
	/* The first descriptor, without a name. */
	check(dup2(fd, 3) == 3);
	check_eq(bufpipe_listen(&listener, "systemd:", NULL), 0);
	check_eq(bufpipe_accept(listener, &end, PLENTY), 0);
	hear(end, "hello");
	bufpipe_close(end);
	bufpipe_listener_close(listener);
}

Test(address, a_socket_that_a_service_manager_passed)
{
	struct child child = child_start(be_a_service, NULL);
	int64_t patience = clock_ns() + PLENTY;
	bufpipe_t *end;

	for (int visits = 0; visits < 2;) {
		int r = bufpipe_connect(&end, path, NULL, PLENTY);

		check(clock_ns() < patience);
		if (r < 0) { /* nobody listens there yet */
			check(r == -ENOENT || r == -ECONNREFUSED);
			sleep_ns(MSEC);
			continue;
		}
		say(end, "hello");
		bufpipe_close(end);
		visits++;
	}
	child_join(&child);
}

Test(address, of_an_unknown_form_is_refused)
{
	static const char *const bad[] = { "", "name", "fd:", "fd:x", "fd:-1", "fd:3x", "fd:99999999999999",
					   "@" };
	bufpipe_listener_t *listener = (void *)1;
	bufpipe_t *end = (void *)1;
	char endless[200] = "/";

	for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		check_eq(bufpipe_listen(&listener, bad[i], NULL), -EINVAL);
		check_eq(bufpipe_connect(&end, bad[i], NULL, 0), -EINVAL);
	}
	check_eq(bufpipe_connect(&end, "fd:3", NULL, 0), -EINVAL);
	check_eq(bufpipe_connect(&end, "systemd:", NULL, 0), -EINVAL);
	memset(endless + 1, 'x', sizeof(endless) - 2);
	check_eq(bufpipe_listen(&listener, endless, NULL), -ENAMETOOLONG);
	check_eq(bufpipe_connect(&end, endless, NULL, 0), -ENAMETOOLONG);
	check_eq(bufpipe_listen(&listener, NULL, NULL), -EINVAL);
	check_eq(bufpipe_listen(NULL, path, NULL), -EINVAL);
	check_eq(bufpipe_connect(&end, NULL, NULL, 0), -EINVAL);
	check_eq(bufpipe_connect(NULL, path, NULL, 0), -EINVAL);
	check_eq(bufpipe_connect(&end, path, NULL, -2), -EINVAL);
	check_eq(bufpipe_listen(&listener, path, &(struct bufpipe_options){ .flags = 1u << 30 }), -EINVAL);
	check_eq(bufpipe_connect(&end, path, &(struct bufpipe_options){ .object_count = 1 }, 0), -EINVAL);
	check_eq(bufpipe_listen(&listener, "/nowhere/at/all", NULL), -ENOENT);
	check(listener == (void *)1 && end == (void *)1);
}

Test(address, a_stale_socket_is_replaced)
{
	bufpipe_listener_t *listener;

	close(listening_socket(SOCK_SEQPACKET));
	check(exists(path));
	listener = listen_at(path);
	receive_visit(listener, path);
	bufpipe_listener_close(listener);
	check(!exists(path));
}

Test(address, a_live_socket_and_a_file_that_is_no_socket_are_not_replaced)
{
	bufpipe_listener_t *listener = listen_at(path);
	bufpipe_listener_t *second = NULL;
	int fd;

	check_eq(bufpipe_listen(&second, path, NULL), -EADDRINUSE);
	receive_visit(listener, path); /* the attempt did the other listener no harm */
	bufpipe_listener_close(listener);
	fd = open(path, O_CREAT | O_WRONLY, 0600);
	close(fd);
	check_eq(bufpipe_listen(&second, path, NULL), -EEXIST);
	unlink(path);
	check_eq(symlink("/nowhere", path), 0);
	check_eq(bufpipe_listen(&second, path, NULL), -EEXIST);
	check(exists(path) && !second);
}

Test(address, a_file_that_somebody_else_has_put_there_stays)
{
	bufpipe_listener_t *listener = listen_at(path);

	unlink(path);
	close(listening_socket(SOCK_SEQPACKET)); /* this file belongs to somebody else */
	bufpipe_listener_close(listener);
	check(exists(path));
}

Test(address, connect_without_a_listener_is_refused_by_an_error_of_its_own)
{
	bufpipe_t *end;

	check_eq(bufpipe_connect(&end, path, NULL, PLENTY), -ENOENT);
	check_eq(bufpipe_connect(&end, "@bufpipe-nobody-there", NULL, PLENTY), -ECONNREFUSED);
	close(listening_socket(SOCK_SEQPACKET));
	check_eq(bufpipe_connect(&end, path, NULL, PLENTY), -ECONNREFUSED);
}

Test(address, a_silent_listener_costs_the_connector_no_more_than_its_timeout)
{
	int fd = listening_socket(SOCK_SEQPACKET);
	bufpipe_t *end;
	int64_t start = clock_ns();

	check_eq(bufpipe_connect(&end, path, NULL, 0), -EAGAIN);
	check_eq(bufpipe_connect(&end, path, NULL, 1), -ETIMEDOUT);
	check_eq(bufpipe_connect(&end, path, NULL, 50 * MSEC), -ETIMEDOUT);
	check(clock_ns() - start >= 50 * MSEC && clock_ns() - start < PROMPT);
	/* The backlog of 5 is full now. */
	for (int i = 0; i < 10; i++)
		check_eq(bufpipe_connect(&end, path, NULL, 10 * MSEC), -ETIMEDOUT);
	check_eq(bufpipe_connect(&end, path, NULL, 0), -EAGAIN);
	close(fd);
}

static void connect_blocked(void *arg)
{
	bufpipe_t *end;

	*(int *)arg = bufpipe_connect(&end, path, NULL, PLENTY);
}

Test(address, a_listener_that_closes_refuses_waiting_clients)
{
	bufpipe_listener_t *listener = listen_at(path);
	struct thread thread;
	int result = 0;

	/* A thread, because a child would hold the listening socket as well. */
	thread_start(&thread, connect_blocked, &result);
	wait_until_asleep(0, thread.tid, ASLEEP_ANY);
	bufpipe_listener_close(listener);
	thread_join(&thread);
	check_eq(result, -ECONNRESET);
}

Test(address, accept_ends_by_its_timeout)
{
	bufpipe_listener_t *listener = listen_at(path);
	struct pollfd p = { .fd = bufpipe_listener_fd(listener), .events = POLLIN };
	int64_t start = clock_ns();
	bufpipe_t *end;

	check_eq(bufpipe_accept(listener, &end, 0), -EAGAIN);
	check_eq(bufpipe_accept(listener, &end, 1), -ETIMEDOUT);
	check_eq(bufpipe_accept(listener, &end, 20 * MSEC), -ETIMEDOUT);
	check(clock_ns() - start >= 20 * MSEC && clock_ns() - start < PROMPT);
	check_eq(bufpipe_accept(listener, &end, -2), -EINVAL);
	check_eq(bufpipe_accept(NULL, &end, 0), -EINVAL);
	check_eq(bufpipe_accept(listener, NULL, 0), -EINVAL);
	check_eq(bufpipe_listener_fd(NULL), -EINVAL);
	check_eq(poll(&p, 1, 0), 0);
	bufpipe_listener_close(listener);
	bufpipe_listener_close(NULL);
}

/* As in an event loop, accept is called only when the descriptor is readable. */
Test(address, the_listener_s_descriptor_tells_when_to_accept)
{
	bufpipe_listener_t *listener = listen_at(path);
	struct pollfd p = { .fd = bufpipe_listener_fd(listener), .events = POLLIN };
	struct child child = child_start(visit, path);
	bufpipe_t *end;
	int r;

	do {
		check_eq(poll(&p, 1, 10000), 1);
		r = bufpipe_accept(listener, &end, 0);
	} while (r == -EAGAIN);
	check_eq(r, 0);
	hear(end, "hello");
	bufpipe_close(end);
	child_join(&child);
	bufpipe_listener_close(listener);
}

static int connect_raw(void)
{
	struct sockaddr_un at = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

	strcpy(at.sun_path, path);
	check_eq(connect(fd, (struct sockaddr *)&at, sizeof(at)), 0);
	return fd;
}

Test(address, silent_and_babbling_connectors_delay_nobody)
{
	bufpipe_listener_t *listener = listen_at(path);
	int64_t start = clock_ns();
	int fds[100];

	for (int i = 0; i < 100; i++) {
		fds[i] = connect_raw();
		if (i % 3 == 1)
			check_eq(send(fds[i], "what is this?", 13, 0), 13);
		if (i % 3 == 2)
			shutdown(fds[i], SHUT_WR);
	}
	receive_visit(listener, path);
	receive_visit(listener, path);
	check(clock_ns() - start < PROMPT);
	for (int i = 0; i < 100; i++)
		close(fds[i]);
	receive_visit(listener, path);
	bufpipe_listener_close(listener);
}

enum { VISITORS = 20 };

Test(address, many_connect_at_once)
{
	bufpipe_listener_t *listener = listen_at(path);
	struct child children[VISITORS];
	bufpipe_t *ends[VISITORS];

	for (int i = 0; i < VISITORS; i++)
		children[i] = child_start(visit, path);
	for (int i = 0; i < VISITORS; i++)
		check_eq(bufpipe_accept(listener, &ends[i], PLENTY), 0);
	for (int i = 0; i < VISITORS; i++) {
		hear(ends[i], "hello");
		bufpipe_close(ends[i]);
		child_join(&children[i]);
	}
	bufpipe_listener_close(listener);
}
