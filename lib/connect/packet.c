/* SPDX-License-Identifier: MIT */
#include "connect/packet.h"

#include "base/fd.h"

#include <poll.h>
#include <string.h>
#include <sys/socket.h>

#ifndef SCM_PIDFD
#define SCM_PIDFD 4
#endif

/* More than we want, to find that there were too many, and for credentials that the socket may add. */
#define CONTROL_SIZE 256
/* How long the rest of a packet may take on a stream socket when its beginning has come. */
#define REST_MS 1000

/*
 * Half a packet went through a stream socket, then errno came: to leave it at
 * that would leave the stream out of step.
 */
static int may_go_on(int socket, short events)
{
	struct pollfd p = { .fd = socket, .events = events };

	if (errno == EINTR)
		return 1;
	return errno == EAGAIN && poll(&p, 1, REST_MS) > 0;
}

int packet_send(int socket, const void *bytes, size_t len, const int *fds, int n, int flags)
{
	_Alignas(struct cmsghdr) char control[CONTROL_SIZE] = { 0 };
	struct iovec piece = { .iov_base = (void *)(uintptr_t)bytes, .iov_len = len };
	struct msghdr message = { .msg_iov = &piece, .msg_iovlen = 1 };
	struct cmsghdr *header;
	ssize_t sent;

	if (n) {
		message.msg_control = control;
		message.msg_controllen = CMSG_SPACE((size_t)n * sizeof(int));
		header = CMSG_FIRSTHDR(&message);
		header->cmsg_level = SOL_SOCKET;
		header->cmsg_type = SCM_RIGHTS;
		header->cmsg_len = CMSG_LEN((size_t)n * sizeof(int));
		memcpy(CMSG_DATA(header), fds, (size_t)n * sizeof(int));
	}
	sent = sendmsg(socket, &message, flags | MSG_NOSIGNAL);
	if (sent < 0)
		return -errno;
	/* A stream socket may take less; the descriptors went with the first byte. */
	while ((size_t)sent < len) {
		ssize_t more =
			send(socket, (const char *)bytes + sent, len - (size_t)sent, flags | MSG_NOSIGNAL);

		if (more >= 0)
			sent += more;
		else if (!may_go_on(socket, POLLOUT))
			return -errno;
	}
	return 0;
}

/* Moves the descriptors of a message into fds while there is room, and closes the rest.  How many there were. */
static int collect(struct msghdr *message, int *fds, int room)
{
	int count = 0;

	for (struct cmsghdr *c = CMSG_FIRSTHDR(message); c; c = CMSG_NXTHDR(message, c)) {
		size_t n;

		if (c->cmsg_level != SOL_SOCKET || (c->cmsg_type != SCM_RIGHTS && c->cmsg_type != SCM_PIDFD))
			continue;
		n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		for (size_t i = 0; i < n; i++) {
			int fd;

			memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof(fd));
			if (c->cmsg_type == SCM_RIGHTS && count++ < room)
				fds[count - 1] = fd;
			else
				close(fd);
		}
	}
	return count;
}

static void close_all(const int *fds, int n)
{
	for (int i = 0; i < n; i++) {
		if (fds[i] >= 0)
			close(fds[i]);
	}
}

/* Makes them ours; those for which there is no number become negative errnos, the last of which is returned. */
static int own_all(int *fds, int n)
{
	int r = 0;

	for (int i = 0; i < n; i++) {
		fds[i] = fd_own(fds[i]);
		if (fds[i] < 0)
			r = fds[i];
	}
	return r;
}

/* The bytes that did not come with the first part; only a stream socket leaves any. */
static int receive_rest(int socket, char *bytes, size_t len, int flags)
{
	while (len) {
		ssize_t n = recv(socket, bytes, len, flags);

		if (n == 0 || (n < 0 && !may_go_on(socket, POLLIN)))
			return -EBADMSG;
		if (n > 0) {
			bytes += n;
			len -= (size_t)n;
		}
	}
	return 0;
}

static int is_stream(int socket)
{
	int type = 0;
	socklen_t len = sizeof(type);

	return getsockopt(socket, SOL_SOCKET, SO_TYPE, &type, &len) == 0 && type == SOCK_STREAM;
}

/*
 * Whether descriptors are missing though there was room to say more of them:
 * then the kernel could not give us more, most likely for want of numbers.
 * Without room, the sender sent too many.
 */
static int out_of_numbers(const struct msghdr *message)
{
	return message->msg_flags & MSG_CTRUNC &&
	       message->msg_controllen + CMSG_SPACE(sizeof(int)) <= CONTROL_SIZE;
}

int packet_recv(int socket, void *bytes, size_t len, int *fds, int n, int flags)
{
	_Alignas(struct cmsghdr) char control[CONTROL_SIZE];
	struct iovec piece = { .iov_base = bytes, .iov_len = len };
	struct msghdr message = {
		.msg_iov = &piece,
		.msg_iovlen = 1,
		.msg_control = control,
		.msg_controllen = sizeof(control),
	};
	int got[PACKET_FDS];
	int count;
	int r = 0;
	ssize_t received = recvmsg(socket, &message, flags | MSG_CMSG_CLOEXEC);

	if (received < 0)
		return -errno;
	count = collect(&message, got, PACKET_FDS);
	r = own_all(got, count < PACKET_FDS ? count : PACKET_FDS);
	if (r < 0)
		;
	else if (received == 0)
		r = -EPIPE;
	else if (count < n && out_of_numbers(&message))
		r = -EMFILE;
	else if (count != n || message.msg_flags & (MSG_CTRUNC | MSG_TRUNC))
		r = -EBADMSG;
	else if ((size_t)received < len)
		r = is_stream(socket)
			    ? receive_rest(socket, (char *)bytes + received, len - (size_t)received, flags)
			    : -EBADMSG;
	if (r < 0) {
		close_all(got, count < PACKET_FDS ? count : PACKET_FDS);
		return r;
	}
	copy_bytes(fds, got, (size_t)n * sizeof(int));
	return 0;
}

int packet_check_socket(int fd)
{
	struct sockaddr_storage peer;
	int domain = 0;
	int type = 0;
	socklen_t len = sizeof(int);

	if (getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &len) < 0 || domain != AF_UNIX)
		return -EBADMSG;
	if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &len) < 0 || type != SOCK_SEQPACKET)
		return -EBADMSG;
	/* Not connected any more is no error: the other side may be gone. */
	len = sizeof(peer);
	if (getpeername(fd, (struct sockaddr *)&peer, &len) < 0 && errno != ENOTCONN)
		return -EBADMSG;
	return 0;
}
