/* SPDX-License-Identifier: MIT */
#include "base/packet.h"

#include "base/fd.h"
#include "base/probe.h"
#include "base/stray.h"

#include <poll.h>
#include <string.h>
#include <sys/socket.h>

#ifndef SCM_PIDFD
#define SCM_PIDFD 4
#endif

#ifndef SO_PASSPIDFD
#define SO_PASSPIDFD 76
#endif
#ifndef SO_PASSRIGHTS
#define SO_PASSRIGHTS 83
#endif

/* Room for the 253 descriptors that a message can carry, and credentials, so that the kernel closes none. */
#define CONTROL_SIZE 1280
/* More packets than the queue of a socket of the default size holds. */
#define QUEUE_MOST 600
/* How long the rest of a packet may take on a stream socket after its first bytes have arrived. */
#define REST NSEC_PER_SEC

/*
 * A part of a packet went through a stream socket, and then a call failed with
 * this error.  Returns whether to go on: to give up here would leave the two sides of
 * the stream out of step.
 */
static int may_go_on(int socket, int error, short events)
{
	struct pollfd p = { .fd = socket, .events = events };

	if (error == -EINTR)
		return 1;
	return error == -EAGAIN && sys_poll(&p, REST) > 0;
}

int packet_send(int socket, const void *bytes, size_t len, const int *fds, int n, int flags)
{
	_Alignas(struct cmsghdr) char control[CMSG_SPACE(PACKET_FDS * sizeof(int))] = { 0 };
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
	sent = sys_sendmsg(socket, &message, flags | MSG_NOSIGNAL);
	if (sent < 0)
		return (int)sent;
	/* A stream socket may take fewer bytes; the descriptors travelled with the first one. */
	while ((size_t)sent < len) {
		ssize_t more = sys_send(socket, (const char *)bytes + sent, len - (size_t)sent,
					flags | MSG_NOSIGNAL);

		if (more >= 0)
			sent += more;
		else if (!may_go_on(socket, (int)more, POLLOUT))
			return (int)more;
	}
	return 0;
}

/* Moves the descriptors of a message into fds while there is room; closes the rest.  Returns the number. */
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
				stray_close(fd);
		}
	}
	return count;
}

static void close_all(const int *fds, int n)
{
	for (int i = 0; i < n; i++) {
		if (fds[i] >= 0)
			stray_close(fds[i]);
	}
}

/* Passes each descriptor through fd_own.  Those that fail become negative errnos; returns the last one. */
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

/* Receives the bytes that did not come with the first part.  Only a stream socket leaves any. */
static int receive_rest(int socket, char *bytes, size_t len, int flags)
{
	while (len) {
		ssize_t n = sys_recv(socket, bytes, len, flags);

		if (n == 0 || (n < 0 && !may_go_on(socket, (int)n, POLLIN)))
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
 * Whether the kernel dropped descriptors although the control buffer had room for
 * them.  Then it could not install them, most likely because the process has too
 * many open.  If the buffer had no room, the sender sent too many.
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
	ssize_t received = sys_recvmsg(socket, &message, flags | MSG_CMSG_CLOEXEC);

	if (received < 0)
		return (int)received;
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

/*
 * Peeks at the next packet: the result of recvmsg, or a negative errno.  Not a
 * cancellation point, like the functions of sys.h.  A control buffer that is too
 * small loses nothing, because the packet stays in the queue.
 */
static ssize_t peek(int socket, struct msghdr *message)
{
	return sys_recvmsg(socket, message, MSG_PEEK | MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
}

int packet_look(int socket, void *bytes, size_t len, int *fd)
{
	_Alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof(int))];
	struct iovec piece = { .iov_base = bytes, .iov_len = len };
	struct msghdr message = {
		.msg_iov = &piece,
		.msg_iovlen = 1,
		.msg_control = fd ? control : NULL,
		.msg_controllen = fd ? CMSG_LEN(sizeof(int)) : 0,
	};
	ssize_t received = peek(socket, &message);
	int got = -1;
	int count;

	if (received < 0)
		return (int)received;
	count = collect(&message, &got, 1);
	if (received == 0 && !count)
		return -EPIPE;
	if (fd && !count && message.msg_flags & MSG_CTRUNC)
		return -EMFILE;
	if ((size_t)received == len && !(message.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) && count == !!fd) {
		if (!fd)
			return 0;
		if (stray_kind(got) == STRAY_MEMORY) {
			*fd = fd_own(got);
			return *fd < 0 ? *fd : 0;
		}
	}
	if (got >= 0)
		stray_close(got);
	return -EBADMSG;
}

void packet_take(int socket)
{
	/* We hold the descriptor of the packet already, so this is not its last close. */
	while (sys_recv(socket, NULL, 0, MSG_DONTWAIT) == -EINTR)
		;
}

int packet_discard(int socket)
{
	char byte;
	struct iovec piece = { .iov_base = &byte, .iov_len = sizeof(byte) };
	struct msghdr message = { .msg_iov = &piece, .msg_iovlen = 1 };
	ssize_t r = peek(socket, &message);

	if (r < 0)
		return (int)r;
	if (message.msg_flags & MSG_CTRUNC) {
		shutdown(socket, SHUT_RDWR);
		return protocol_error("descriptors on the socket");
	}
	return (int)sys_recv(socket, &byte, sizeof(byte), MSG_DONTWAIT);
}

static void set_option(int socket, int option, int value)
{
	setsockopt(socket, SOL_SOCKET, option, &value, sizeof(value));
}

void packet_forbid_rights(int socket)
{
	set_option(socket, SO_PASSRIGHTS, 0);
	/* If the listening socket was passed to us, the connection may have inherited this option. */
	set_option(socket, SO_PASSCRED, 0);
	set_option(socket, SO_PASSPIDFD, 0);
	set_option(socket, SO_PASSSEC, 0);
}

void packet_allow_rights(int socket)
{
	set_option(socket, SO_PASSRIGHTS, 1);
}

int packet_clear(int socket)
{
	for (int i = 0; i < QUEUE_MOST; i++) {
		int r = packet_discard(socket);

		if (r <= 0)
			return r == -EPROTO ? r : 0;
	}
	return protocol_error("too many packets on the socket");
}

bool packet_forbids_rights(int socket)
{
	int allowed = 1;
	socklen_t len = sizeof(allowed);

	return getsockopt(socket, SOL_SOCKET, SO_PASSRIGHTS, &allowed, &len) == 0 && !allowed;
}

/*
 * Whether nothing is in the queue.  A peek of 0 bytes means either the end, or an
 * empty packet with others behind it.  SO_PASSCRED tells them apart: a packet comes
 * with credentials, the end does not.  The option harms no other holder of the
 * socket: at this point the peer has gone or is hostile.
 */
static bool is_empty(int socket)
{
	_Alignas(struct cmsghdr) char control[CMSG_LEN(sizeof(struct ucred))];
	struct msghdr message = { 0 };
	ssize_t r = peek(socket, &message);

	if (r < 0)
		return r == -EAGAIN || r == -ENOTCONN;
	if (message.msg_flags & (MSG_CTRUNC | MSG_TRUNC))
		return false;
	set_option(socket, SO_PASSCRED, 1);
	message = (struct msghdr){ .msg_control = control, .msg_controllen = sizeof(control) };
	return peek(socket, &message) == 0 && message.msg_controllen == 0;
}

/* Whether the first packet in the queue brings descriptors. */
static bool brings_descriptors(int socket)
{
	char byte;
	struct iovec piece = { .iov_base = &byte, .iov_len = sizeof(byte) };
	struct msghdr message = { .msg_iov = &piece, .msg_iovlen = 1 };

	return peek(socket, &message) >= 0 && message.msg_flags & MSG_CTRUNC;
}

/*
 * A packet with descriptors may have come before the kernel refused them.  Then packet_clear
 * found it, and left it at the head of the queue.
 */
static bool may_close_here(int socket, bool loaded)
{
	return (!loaded && packet_forbids_rights(socket)) || is_empty(socket);
}

void packet_close(int socket)
{
	bool loaded = brings_descriptors(socket);

	if (may_close_here(socket, loaded)) {
		sys_close(socket);
		return;
	}
	/* Keep more from arriving.  The child that closes the socket frees its queue as well. */
	if (loaded)
		shutdown(socket, SHUT_RDWR);
	stray_close(socket);
}

void packet_leave(int socket)
{
	/* This is not the last close, unless the other process has closed the socket in the meantime. */
	if (may_close_here(socket, brings_descriptors(socket)))
		sys_close(socket);
	else
		stray_close(socket);
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
	/* ENOTCONN is fine: the other side may be gone already. */
	len = sizeof(peer);
	if (getpeername(fd, (struct sockaddr *)&peer, &len) < 0 && errno != ENOTCONN)
		return -EBADMSG;
	return 0;
}
