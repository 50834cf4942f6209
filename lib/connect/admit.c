/* SPDX-License-Identifier: MIT */
#include "connect/admit.h"

#include "base/fd.h"
#include "base/packet.h"

#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#ifndef SO_PEERPIDFD
#define SO_PEERPIDFD 77
#endif

/* The descriptors that a new handshake needs: the socket, and a region in each direction. */
#define DESCRIPTORS 3

/*
 * Shuts the connection down and closes it.  The close alone would not tell the
 * connector, if a child of fork still has the descriptor.
 */
static void hang_up(int socket)
{
	shutdown(socket, SHUT_RDWR);
	packet_close(socket);
}

static struct pending *free_place(struct bufpipe_listener *l)
{
	for (int i = 0; i < PENDING_MAX; i++) {
		if (l->pending[i].socket < 0)
			return &l->pending[i];
	}
	return NULL;
}

/*
 * Called before a connection is taken: 0 if there are enough descriptors to finish its handshake,
 * or the error.
 */
static int descriptors_left(const struct bufpipe_listener *l)
{
	int fds[DESCRIPTORS];
	int n = 0;
	int r = 0;

	while (r == 0 && n < DESCRIPTORS) {
		fds[n] = fcntl(l->epoll, F_DUPFD_CLOEXEC, FD_FIRST);
		if (fds[n] < 0)
			r = -errno;
		else
			n++;
	}
	while (n > 0)
		close(fds[--n]);
	return r;
}

/* Asks the policy whether this connector may come in, before anything is made for it or read from it. */
static int ask_policy(const struct bufpipe_listener *l, int socket, const struct ucred *cred)
{
	struct bufpipe_client client = {
		.pid = cred->pid,
		.uid = cred->uid,
		.gid = cred->gid,
		.pidfd = -1,
		.waiting = (unsigned)pending_count_of(l, cred->uid),
	};
	int pidfd;
	socklen_t len = sizeof(pidfd);
	int r;

	if (!l->policy)
		return 0;
	if (getsockopt(socket, SOL_SOCKET, SO_PEERPIDFD, &pidfd, &len) == 0) {
		pidfd = fd_own(pidfd);
		client.pidfd = pidfd < 0 ? -1 : pidfd;
	}
	r = l->policy(l->policy_data, &client);
	if (client.pidfd >= 0)
		close(client.pidfd);
	if (r == 0 || r == -EUSERS || r == -ENOBUFS)
		return r;
	return -EACCES; /* so that no other number looks like an error of the handshake */
}

static int take(struct bufpipe_listener *l, struct pending *p, int socket)
{
	struct epoll_event event = { .events = EPOLLIN, .data.ptr = p };
	struct ucred cred = { .uid = (uid_t)-1, .gid = (gid_t)-1 };
	socklen_t len = sizeof(cred);
	int r;

	if (getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &cred, &len) < 0)
		return -errno;
	r = unread_too_many(&l->unread, cred.uid, pending_count_of(l, cred.uid))
		    ? -EUSERS
		    : ask_policy(l, socket, &cred);
	if (r < 0) {
		handshake_refuse(socket, r);
		hang_up(socket);
		return 0;
	}
	if (epoll_ctl(l->epoll, EPOLL_CTL_ADD, socket, &event) < 0)
		return -errno;
	p->socket = socket;
	p->uid = cred.uid;
	p->since = time_now();
	return 0;
}

/* Takes no new connections for a while: they wait in the backlog. */
static int pause_listening(struct bufpipe_listener *l, int error)
{
	struct epoll_event event = { .events = 0 };

	if (epoll_ctl(l->epoll, EPOLL_CTL_MOD, l->listening.fd, &event) == 0)
		l->paused = true;
	return pending_schedule_retry(l, NULL, error);
}

int admit_next(struct bufpipe_listener *l, bufpipe_t **pipe)
{
	struct pending *p = free_place(l);
	int shortage = descriptors_left(l);
	int fd;
	int r;

	if (shortage < 0 && unread_forget(&l->unread))
		shortage = descriptors_left(l);
	if (!p || shortage < 0) {
		bool evicted;

		r = pending_evict(l, NULL, pipe, &evicted);
		return r == 0 && !evicted ? pause_listening(l, shortage) : r;
	}
	fd = fd_own(accept4(l->listening.fd, NULL, NULL, SOCK_CLOEXEC));
	if (pending_is_shortage(fd))
		return pause_listening(l, fd);
	if (fd == -EINVAL)
		return -ESHUTDOWN; /* the socket does not listen any more */
	/* Another process may have been quicker, or the client has gone again: neither is an error. */
	if (fd < 0)
		return fd == -EAGAIN || fd == -ECONNABORTED || fd == -EINTR ? 0 : fd;
	l->told = false;
	packet_forbid_rights(fd);
	r = take(l, p, fd);
	if (r < 0)
		hang_up(fd);
	return r;
}
