/* SPDX-License-Identifier: MIT */
/*
 * An echo daemon with one io_uring of its own. It sends back what comes through pipes of bufpipe and through
 * a Unix socket, and it has a timer.
 *
 *   echo-daemon PIPE-ADDRESS SOCKET-PATH MILLISECONDS
 *
 * PIPE-ADDRESS is an address for bufpipe_listen. At each tick of the timer the daemon prints how many
 * messages it has served. It ends at SIGTERM or SIGINT.
 *
 * The requests of <bufpipe_uring.h> need Linux 6.7. On an older kernel the daemon polls the descriptors of
 * bufpipe_fd and bufpipe_room_fd, which cost more for each message.
 */
#include <bufpipe.h>
#include <bufpipe_uring.h>
#include <errno.h>
#include <liburing.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <sys/un.h>
#include <unistd.h>

/* prep_wait_room waits for a quarter of the ring. That is room for the longest message. */
enum { PIPE_BUFFER = 4096, LONGEST = 1000 };
/* How many messages of one pipe are echoed before the others have their turn. */
enum { TURN = 64 };

/* What a completion is for. This is in the low bits of user_data; the bits above are a pointer. */
enum what {
	NOTHING,
	PIPE_CALLS,
	SOCKET_CALLS,
	TICK,
	STOP,
	PIPE_READY,
	PIPE_GONE,
	SOCKET_READ,
	SOCKET_WRITTEN
};
#define WHAT_MASK 15u

struct client {
	_Alignas(16) struct client *next;
	struct client *previous;
	bufpipe_t *pipe; /* or, if it is NULL, the socket */
	int socket;
	bool waits;   /* a request for data or for room is under way, */
	bool watched; /* and one for the hang-up */
	bool leaving;
	size_t len; /* of what is still to be sent back, plus 1, so that 0 means nothing */
	char buf[LONGEST];
};

static struct io_uring ring;
static bufpipe_listener_t *listener;
static struct client clients = { .next = &clients, .previous = &clients };
static unsigned long served;
static uint64_t ticks;

static void fail(const char *what, int error)
{
	fprintf(stderr, "echo-daemon: %s: %s\n", what, strerror(-error));
	exit(1);
}

static struct io_uring_sqe *get_sqe(void)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(&ring);

	if (sqe)
		return sqe;
	io_uring_submit(&ring);
	sqe = io_uring_get_sqe(&ring);
	if (!sqe)
		fail("no room in the ring", -EBUSY);
	return sqe;
}

static uint64_t tag(const void *pointer, enum what what)
{
	return (uintptr_t)pointer | what;
}

static struct client *client_new(void)
{
	struct client *c = aligned_alloc(_Alignof(struct client), sizeof(*c));

	if (!c)
		return NULL;
	memset(c, 0, sizeof(*c));
	c->socket = -1;
	c->next = &clients;
	c->previous = clients.previous;
	c->previous->next = c->next->previous = c;
	return c;
}

static void client_free(struct client *c)
{
	c->previous->next = c->next;
	c->next->previous = c->previous;
	bufpipe_close(c->pipe);
	if (c->socket >= 0)
		close(c->socket);
	free(c);
}

static void cancel(uint64_t user_data)
{
	struct io_uring_sqe *sqe = get_sqe();

	io_uring_prep_cancel64(sqe, user_data, 0);
	io_uring_sqe_set_data64(sqe, NOTHING);
}

/* Pipes. */

/* An end must not be closed while its requests are under way, so the last of them to complete closes it. */
static void pipe_leave(struct client *c)
{
	if (!c->waits && !c->watched) {
		client_free(c);
		return;
	}
	if (!c->leaving && c->waits)
		cancel(tag(c, PIPE_READY));
	if (!c->leaving && c->watched)
		cancel(tag(c, PIPE_GONE));
	c->leaving = true;
}

static int prepare_poll(struct io_uring_sqe *sqe, int fd)
{
	if (fd < 0)
		return fd;
	io_uring_prep_poll_add(sqe, fd, POLLIN);
	return 0;
}

static void pipe_wait(struct client *c, bool room)
{
	struct io_uring_sqe *sqe;
	int r;

	if (c->waits)
		return;
	sqe = get_sqe();
	r = room ? bufpipe_prep_wait_room(sqe, c->pipe) : bufpipe_prep_wait(sqe, c->pipe);
	if (r == -ENOSYS)
		r = prepare_poll(sqe, room ? bufpipe_room_fd(c->pipe) : bufpipe_fd(c->pipe));
	if (r < 0)
		fail("prep_wait", r);
	io_uring_sqe_set_data64(sqe, tag(c, PIPE_READY));
	c->waits = true;
}

/* Tries until there is nothing to read or no room, and then makes a request for that. */
static void pipe_serve(struct client *c)
{
	ssize_t r = 0;

	for (int i = 0; i < TURN; i++) {
		if (!c->len) {
			r = bufpipe_recv(c->pipe, c->buf, sizeof(c->buf), 0);
			if (r < 0)
				break;
			c->len = (size_t)r + 1;
		}
		r = bufpipe_send(c->pipe, c->buf, c->len - 1, 0);
		if (r < 0)
			break;
		c->len = 0;
		served++;
	}
	/* After a whole turn: if there is more, the request completes at once. */
	if (r == -EAGAIN || r >= 0)
		pipe_wait(c, c->len);
	else
		pipe_leave(c);
}

static void pipe_ready(struct client *c)
{
	c->waits = false;
	if (c->leaving)
		pipe_leave(c);
	else
		pipe_serve(c);
}

/* The client is gone, so nobody receives the answers to what it sent before. */
static void pipe_gone(struct client *c)
{
	c->watched = false;
	pipe_leave(c);
}

/* Where there is no such request, the descriptors of the pipe report that the client is gone. */
static void pipe_watch(struct client *c)
{
	struct io_uring_sqe *sqe = get_sqe();

	c->watched = bufpipe_prep_wait_hup(sqe, c->pipe) == 0;
	if (!c->watched)
		io_uring_prep_nop(sqe);
	io_uring_sqe_set_data64(sqe, c->watched ? tag(c, PIPE_GONE) : NOTHING);
}

static void pipes_accept(void)
{
	struct io_uring_sqe *sqe;
	struct client *c;
	bufpipe_t *pipe;

	while (bufpipe_accept(listener, &pipe, 0) == 0) {
		c = client_new();
		if (!c) {
			bufpipe_close(pipe);
			continue;
		}
		c->pipe = pipe;
		pipe_watch(c);
		pipe_serve(c);
	}
	sqe = get_sqe();
	io_uring_prep_poll_add(sqe, bufpipe_listener_fd(listener), POLLIN);
	io_uring_sqe_set_data64(sqe, PIPE_CALLS);
}

/* Sockets. */

static void socket_read(struct client *c)
{
	struct io_uring_sqe *sqe = get_sqe();

	io_uring_prep_recv(sqe, c->socket, c->buf, sizeof(c->buf), 0);
	io_uring_sqe_set_data64(sqe, tag(c, SOCKET_READ));
}

static void socket_has_read(struct client *c, int len)
{
	struct io_uring_sqe *sqe;

	if (len <= 0) {
		client_free(c);
		return;
	}
	sqe = get_sqe();
	io_uring_prep_send(sqe, c->socket, c->buf, (size_t)len, MSG_WAITALL | MSG_NOSIGNAL);
	io_uring_sqe_set_data64(sqe, tag(c, SOCKET_WRITTEN));
	served++;
}

static void socket_has_written(struct client *c, int result)
{
	if (result < 0)
		client_free(c);
	else
		socket_read(c);
}

static void sockets_accept(int listening)
{
	struct io_uring_sqe *sqe = get_sqe();

	io_uring_prep_accept(sqe, listening, NULL, NULL, SOCK_CLOEXEC);
	io_uring_sqe_set_data64(sqe, SOCKET_CALLS);
}

static void socket_accepted(int fd)
{
	struct client *c = fd < 0 ? NULL : client_new();

	if (c) {
		c->socket = fd;
		socket_read(c);
	} else if (fd >= 0) {
		close(fd);
	}
}

/* The timer. */

static void timer_read(int timer)
{
	struct io_uring_sqe *sqe = get_sqe();

	io_uring_prep_read(sqe, timer, &ticks, sizeof(ticks), 0);
	io_uring_sqe_set_data64(sqe, TICK);
}

static void signal_wait(int signals)
{
	struct io_uring_sqe *sqe = get_sqe();

	io_uring_prep_poll_add(sqe, signals, POLLIN);
	io_uring_sqe_set_data64(sqe, STOP);
}

static int listen_at(const char *path)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0 || strlen(path) >= sizeof(address.sun_path))
		fail(path, fd < 0 ? -errno : -ENAMETOOLONG);
	memcpy(address.sun_path, path, strlen(path));
	if (bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0 || listen(fd, 16) < 0)
		fail(path, -errno);
	return fd;
}

static int timer_every(long milliseconds)
{
	struct timespec every = { .tv_sec = milliseconds / 1000, .tv_nsec = milliseconds % 1000 * 1000000 };
	struct itimerspec timer = { .it_interval = every, .it_value = every };
	int fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC);

	if (fd < 0 || timerfd_settime(fd, 0, &timer, NULL) < 0)
		fail("timerfd", -errno);
	return fd;
}

static int signals_to_stop(void)
{
	sigset_t mask;
	int fd;

	sigemptyset(&mask);
	sigaddset(&mask, SIGTERM);
	sigaddset(&mask, SIGINT);
	sigprocmask(SIG_BLOCK, &mask, NULL);
	fd = signalfd(-1, &mask, SFD_CLOEXEC);
	if (fd < 0)
		fail("signalfd", -errno);
	return fd;
}

/* Returns false when it is time to stop. */
static bool dispatch(uint64_t user_data, int result, int listening, int timer)
{
	struct client *c = (struct client *)(uintptr_t)(user_data & ~(uint64_t)WHAT_MASK);

	switch ((enum what)(user_data & WHAT_MASK)) {
	case PIPE_CALLS:
		pipes_accept();
		break;
	case SOCKET_CALLS:
		socket_accepted(result);
		sockets_accept(listening);
		break;
	case TICK:
		printf("served %lu\n", served);
		fflush(stdout);
		timer_read(timer);
		break;
	case PIPE_READY:
		pipe_ready(c);
		break;
	case PIPE_GONE:
		pipe_gone(c);
		break;
	case SOCKET_READ:
		socket_has_read(c, result);
		break;
	case SOCKET_WRITTEN:
		socket_has_written(c, result);
		break;
	case STOP:
		return false;
	case NOTHING:
		break;
	}
	return true;
}

static void run(int listening, int timer)
{
	struct io_uring_cqe *cqe;
	uint64_t user_data;
	int result;

	for (bool going = true; going;) {
		result = io_uring_submit_and_wait(&ring, 1);
		if (result < 0 && result != -EINTR)
			fail("io_uring", result);
		while (going && io_uring_peek_cqe(&ring, &cqe) == 0) {
			user_data = io_uring_cqe_get_data64(cqe);
			result = cqe->res;
			io_uring_cqe_seen(&ring, cqe);
			going = dispatch(user_data, result, listening, timer);
		}
	}
}

int main(int argc, char **argv)
{
	struct bufpipe_options options = { .flags = BUFPIPE_DUPLEX, .buffer_size = PIPE_BUFFER };
	int listening, timer, signals;
	int r;

	if (argc != 4 || atol(argv[3]) <= 0) {
		fprintf(stderr, "usage: echo-daemon PIPE-ADDRESS SOCKET-PATH MILLISECONDS\n");
		return 2;
	}
	r = io_uring_queue_init(256, &ring, 0);
	if (r < 0)
		fail("io_uring", r);
	r = bufpipe_listen(&listener, argv[1], &options);
	if (r < 0)
		fail(argv[1], r);
	listening = listen_at(argv[2]);
	timer = timer_every(atol(argv[3]));
	signals = signals_to_stop();
	pipes_accept();
	sockets_accept(listening);
	timer_read(timer);
	signal_wait(signals);

	run(listening, timer);

	/* All requests end with the ring, so the ends can be closed now. */
	io_uring_queue_exit(&ring);
	while (clients.next != &clients)
		client_free(clients.next);
	bufpipe_listener_close(listener);
	unlink(argv[2]);
	return 0;
}
