/* SPDX-License-Identifier: MIT */
/* A TCP connection over the loopback device, with TCP_NODELAY. */
#include "../transport.h"
#include "stream.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>

struct connection {
	int fd[2];
	int own;
};

static void drop(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

static void tcp_close(void *state)
{
	struct connection *c = state;

	drop(&c->fd[0]);
	drop(&c->fd[1]);
	free(c);
}

/* Half of the bytes on each side.  Called before connect, which negotiates the window. */
static int prepare(int fd, size_t ring)
{
	int err = set_buffer(fd, SO_SNDBUF, SO_SNDBUFFORCE, ring / 2);

	return err ? err : set_buffer(fd, SO_RCVBUF, SO_RCVBUFFORCE, ring / 2);
}

static int no_delay(int fd)
{
	return setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){ 1 }, sizeof(int)) ? -errno : 0;
}

static int meet(struct connection *c, int listener, size_t ring)
{
	struct sockaddr_in address = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof(address);
	int err = prepare(listener, ring);

	if (!err && (bind(listener, (struct sockaddr *)&address, len) || listen(listener, 1) ||
		     getsockname(listener, (struct sockaddr *)&address, &len)))
		err = -errno;
	if (err)
		return err;
	c->fd[0] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (c->fd[0] < 0)
		return -errno;
	err = prepare(c->fd[0], ring);
	if (!err && connect(c->fd[0], (struct sockaddr *)&address, len))
		err = -errno;
	if (err)
		return err;
	c->fd[1] = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	if (c->fd[1] < 0)
		return -errno;
	err = no_delay(c->fd[0]);
	return err ? err : no_delay(c->fd[1]);
}

static int tcp_open(void **state, const struct shape *shape)
{
	struct connection *c = malloc(sizeof(*c));
	int listener, err;

	if (!c)
		return -ENOMEM;
	*c = (struct connection){ .fd = { -1, -1 }, .own = -1 };
	listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	err = listener < 0 ? -errno : meet(c, listener, shape->ring);
	drop(&listener);
	if (err) {
		tcp_close(c);
		return err;
	}
	*state = c;
	return 0;
}

static int tcp_take(void *state, enum side side)
{
	struct connection *c = state;

	c->own = c->fd[side];
	drop(&c->fd[!side]);
	return 0;
}

static int tcp_send(void *state, const void *buf, size_t len)
{
	return stream_send(((const struct connection *)state)->own, buf, len);
}

static ssize_t tcp_recv(void *state, void *buf, size_t len)
{
	return stream_recv(((const struct connection *)state)->own, buf, len);
}

const struct transport transport_tcp = {
	.name = "tcp",
	.about = "TCP over loopback, TCP_NODELAY",
	.room = "SO_SNDBUF and SO_RCVBUF, half of the bytes each",
	.flags = TRANSPORT_EXTRA,
	.open = tcp_open,
	.take = tcp_take,
	.send = tcp_send,
	.recv = tcp_recv,
	.close = tcp_close,
};
