/* SPDX-License-Identifier: MIT */
/*
 * Many Unix pipes into one epoll.  Each holds a page, like the rings of the sets with
 * which they are compared.  If the length of the messages divides a page, each of them
 * is written and read whole.
 */
#include "../transport.h"
#include "many.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define PIPE_SIZE 4096

struct epolls {
	unsigned count;
	unsigned most; /* messages to take from a pipe before the next one has its turn */
	int socket[2];
	int *pipes;
	int in;
	int out;
	int epoll;
	struct epoll_event events[EVENTS];
	int event_count;
	int next;
	unsigned taken; /* from the pipe of the next event */
};

static void drop(int fd)
{
	if (fd >= 0)
		close(fd);
}

static void close_all(void *state)
{
	struct epolls *s = state;

	for (unsigned i = 0; i < s->count; i++)
		drop(s->pipes[i]);
	drop(s->in);
	drop(s->out);
	drop(s->epoll);
	drop(s->socket[0]);
	drop(s->socket[1]);
	free(s->pipes);
	free(s);
}

static int open_all(void **state, const struct shape *shape)
{
	struct epolls *s;
	int err;

	if (!many_fit(shape->pipes))
		return -EOPNOTSUPP;
	s = calloc(1, sizeof(*s));
	if (!s)
		return -ENOMEM;
	s->count = shape->pipes;
	s->most = shape->stream ? MOST_IN_ONE_GO : 1;
	s->in = s->out = s->epoll = -1;
	s->pipes = malloc(s->count * sizeof(int));
	err = s->pipes ? 0 : -ENOMEM;
	if (!err && socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, s->socket))
		err = -errno;
	if (err) {
		free(s->pipes);
		free(s);
		return err;
	}
	memset(s->pipes, 0xff, s->count * sizeof(int));
	*state = s;
	return 0;
}

/* Room for one descriptor in a control message, aligned as it must be. */
union control {
	struct cmsghdr header;
	char space[CMSG_SPACE(sizeof(int))];
};

static int hand_over(int socket, int fd)
{
	char byte = 0;
	struct iovec piece = { .iov_base = &byte, .iov_len = 1 };
	union control control = { .header = { .cmsg_level = SOL_SOCKET,
					      .cmsg_type = SCM_RIGHTS,
					      .cmsg_len = CMSG_LEN(sizeof(int)) } };
	struct msghdr message = { .msg_iov = &piece,
				  .msg_iovlen = 1,
				  .msg_control = &control,
				  .msg_controllen = sizeof(control.space) };

	memcpy(CMSG_DATA(&control.header), &fd, sizeof(fd));
	return sendmsg(socket, &message, MSG_NOSIGNAL) < 0 ? -errno : 0;
}

static int receive(int socket, int *fd)
{
	char byte;
	struct iovec piece = { .iov_base = &byte, .iov_len = 1 };
	union control control = { .space = { 0 } };
	struct msghdr message = { .msg_iov = &piece,
				  .msg_iovlen = 1,
				  .msg_control = &control,
				  .msg_controllen = sizeof(control.space) };
	ssize_t n = recvmsg(socket, &message, MSG_CMSG_CLOEXEC);

	if (n < 0)
		return -errno;
	if (n == 0)
		return -EPIPE;
	if (control.header.cmsg_type != SCM_RIGHTS)
		return -EBADMSG;
	memcpy(fd, CMSG_DATA(&control.header), sizeof(*fd));
	return 0;
}

static int make(const struct epolls *s, int *own, int kept)
{
	int fds[2], err = 0;

	if (pipe2(fds, O_CLOEXEC))
		return -errno;
	if (fcntl(fds[0], F_SETPIPE_SZ, PIPE_SIZE) < 0)
		err = -errno;
	if (!err)
		err = hand_over(s->socket[SIDE_LEAD], fds[!kept]);
	close(fds[!kept]);
	if (err)
		close(fds[kept]);
	else
		*own = fds[kept];
	return err;
}

static int take_lead(struct epolls *s)
{
	int err = make(s, &s->in, 0);

	for (unsigned i = 0; !err && i < s->count; i++)
		err = make(s, &s->pipes[i], 1);
	return err;
}

static int add(const struct epolls *s, unsigned which)
{
	struct epoll_event event = { .events = EPOLLIN, .data.u32 = which };

	if (fcntl(s->pipes[which], F_SETFL, O_NONBLOCK))
		return -errno;
	return epoll_ctl(s->epoll, EPOLL_CTL_ADD, s->pipes[which], &event) ? -errno : 0;
}

static int take_echo(struct epolls *s)
{
	int err = receive(s->socket[SIDE_ECHO], &s->out);

	if (err)
		return err;
	s->epoll = epoll_create1(EPOLL_CLOEXEC);
	if (s->epoll < 0)
		return -errno;
	for (unsigned i = 0; !err && i < s->count; i++) {
		err = receive(s->socket[SIDE_ECHO], &s->pipes[i]);
		if (!err)
			err = add(s, i);
	}
	return err;
}

static int take(void *state, enum side side)
{
	struct epolls *s = state;

	close(s->socket[!side]);
	s->socket[!side] = -1;
	return side == SIDE_LEAD ? take_lead(s) : take_echo(s);
}

static int write_whole(int fd, const void *buf, size_t len)
{
	ssize_t n;

	do {
		n = write(fd, buf, len);
	} while (n < 0 && errno == EINTR);
	return n < 0 ? -errno : (size_t)n == len ? 0 : -EIO;
}

static ssize_t read_whole(int fd, void *buf, size_t len)
{
	ssize_t n;

	do {
		n = read(fd, buf, len);
	} while (n < 0 && errno == EINTR);
	return n < 0 ? -errno : n ? n : -EPIPE;
}

static int send_back(void *state, const void *buf, size_t len)
{
	return write_whole(((const struct epolls *)state)->out, buf, len);
}

static ssize_t recv_back(void *state, void *buf, size_t len)
{
	return read_whole(((const struct epolls *)state)->in, buf, len);
}

static int send_to(void *state, unsigned which, const void *buf, size_t len)
{
	return write_whole(((const struct epolls *)state)->pipes[which], buf, len);
}

static int await_events(struct epolls *s)
{
	int n = epoll_wait(s->epoll, s->events, EVENTS, -1);

	if (n < 0)
		return errno == EINTR ? 0 : -errno;
	s->event_count = n;
	s->next = 0;
	s->taken = 0;
	return 0;
}

static ssize_t recv_any(void *state, unsigned *which, void *buf, size_t len)
{
	struct epolls *s = state;
	int err = 0;

	while (!err) {
		for (; s->next < s->event_count; s->next++, s->taken = 0) {
			unsigned from = s->events[s->next].data.u32;
			ssize_t n;

			if (s->taken == s->most)
				continue;
			n = read_whole(s->pipes[from], buf, len);
			if (n == -EAGAIN)
				continue;
			s->taken++;
			*which = from;
			return n;
		}
		err = await_events(s);
	}
	return err;
}

const struct transport transport_epoll = {
	.name = "epoll",
	.about = "epoll over Unix pipes of a page; the baseline of sets",
	.room = "a page in each pipe",
	.flags = TRANSPORT_SET,
	.open = open_all,
	.take = take,
	.send = send_back,
	.recv = recv_back,
	.send_to = send_to,
	.recv_any = recv_any,
	.close = close_all,
};
