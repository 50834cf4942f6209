/* SPDX-License-Identifier: MIT */
#include "connect/address.h"

#include "base/fd.h"
#include "base/packet.h"

#include <fcntl.h>
#include <limits.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#define LISTEN_FDS_START 3
#define BACKLOG          SOMAXCONN
/* The pause between two attempts to connect, while nobody listens or the backlog is full.  It grows. */
#define PAUSE_FIRST (NSEC_PER_SEC / 1000)
#define PAUSE_LAST  (NSEC_PER_SEC / 20)

/* Fills in the address.  The kernel accepts a path that fills sun_path without a final 0. */
static int fill(struct sockaddr_un *to, socklen_t *len, const char *address)
{
	size_t n = strlen(address);

	*to = (struct sockaddr_un){ .sun_family = AF_UNIX };
	if (address[0] != '@' && !strchr(address, '/'))
		return -EINVAL;
	if (address[0] == '@' && n == 1)
		return -EINVAL; /* for an empty name the kernel would choose one */
	if (n > sizeof(to->sun_path))
		return -ENAMETOOLONG;
	memcpy(to->sun_path, address, n);
	if (address[0] == '@')
		to->sun_path[0] = '\0';
	else if (n < sizeof(to->sun_path))
		n++;
	*len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + n);
	return 0;
}

static int new_socket(int flags)
{
	return fd_own(socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | flags, 0));
}

static int listen_abstract(const struct listening *l, const struct sockaddr_un *at, socklen_t len)
{
	if (bind(l->fd, (const struct sockaddr *)at, len) < 0 || listen(l->fd, BACKLOG) < 0)
		return -errno;
	return 0;
}

static int check_option(int fd, int option, int wanted, int error)
{
	int value = 0;
	socklen_t len = sizeof(value);

	if (getsockopt(fd, SOL_SOCKET, option, &value, &len) < 0)
		return errno == EBADF ? -EBADF : -ENOTSOCK;
	return value == wanted ? 0 : error;
}

static int adopt(struct listening *l, int fd)
{
	int r = check_option(fd, SO_DOMAIN, AF_UNIX, -ESOCKTNOSUPPORT);

	if (r == 0)
		r = check_option(fd, SO_TYPE, SOCK_SEQPACKET, -ESOCKTNOSUPPORT);
	if (r == 0)
		r = check_option(fd, SO_ACCEPTCONN, 1, -ESOCKTNOSUPPORT);
	if (r == 0 && fcntl(fd, F_SETFD, FD_CLOEXEC) < 0)
		r = -errno;
	if (r == 0) {
		l->fd = fd;
		l->adopted = 1;
	}
	return r;
}

static int parse_number(const char *text, long *number)
{
	char *end;

	if (*text < '0' || *text > '9')
		return -EINVAL;
	errno = 0;
	*number = strtol(text, &end, 10);
	return *end || errno || *number > INT_MAX ? -EINVAL : 0;
}

/* The index of a name in a list separated by colons; -1 if it is not there. */
static long find_name(const char *names, const char *wanted)
{
	size_t len = strlen(wanted);

	for (long i = 0; names; i++) {
		const char *end = strchrnul(names, ':');

		if ((size_t)(end - names) == len && !memcmp(names, wanted, len))
			return i;
		names = *end ? end + 1 : NULL;
	}
	return -1;
}

/*
 * Adopts a socket that a service manager passed on, see sd_listen_fds(3).  Leaves the environment
 * as it is.
 */
static int adopt_passed(struct listening *l, const char *name)
{
	const char *pid = getenv("LISTEN_PID");
	const char *count = getenv("LISTEN_FDS");
	long number;
	long n;
	long i;

	if (!pid || !count || parse_number(pid, &number) < 0 || number != getpid() ||
	    parse_number(count, &n) < 0)
		return -ENOENT;
	i = *name ? find_name(getenv("LISTEN_FDNAMES"), name) : 0;
	if (i < 0 || i >= n)
		return -ENOENT;
	return adopt(l, LISTEN_FDS_START + (int)i);
}

static int open_listening(struct listening *l, const char *address, unsigned mode,
			  const struct sleeper *sleeper)
{
	struct sockaddr_un at;
	socklen_t len;
	long number;
	int r;

	if (!strncmp(address, "fd:", 3))
		return parse_number(address + 3, &number) < 0 ? -EINVAL : adopt(l, (int)number);
	if (!strncmp(address, "systemd:", 8))
		return adopt_passed(l, address + 8);
	r = fill(&at, &len, address);
	if (r < 0)
		return r;
	l->fd = new_socket(0);
	if (l->fd < 0)
		return l->fd;
	if (at.sun_path[0])
		return path_listen(&l->path, l->fd, &at, len, address, mode, sleeper);
	return listen_abstract(l, &at, len);
}

int address_listen(struct listening *l, const char *address, unsigned mode, const struct sleeper *sleeper)
{
	int r;

	*l = (struct listening){ .fd = -1, .path = PATH_NONE };
	r = open_listening(l, address, mode, sleeper);
	/* Other processes may accept from the same socket first, and then accept must not block. */
	if (r == 0 && fcntl(l->fd, F_SETFL, O_NONBLOCK) < 0)
		r = -errno;
	if (r < 0)
		address_give_up(l);
	return r;
}

/*
 * Stops listening for good.  A process that has inherited the socket keeps it open,
 * so shutdown is needed: from then on connect(2) is refused at once.  Connections in
 * the backlog are taken out and closed, because otherwise nobody would tell them.  A
 * socket that was passed on is left alone: the service manager goes on using it.
 */
static void stop_listening(const struct listening *l)
{
	int left = 2 * BACKLOG;

	if (l->adopted || shutdown(l->fd, SHUT_RDWR) < 0)
		return;
	while (left--) {
		int fd = accept4(l->fd, NULL, NULL, SOCK_CLOEXEC);

		if (fd >= 0)
			packet_close(fd);
		else if (errno != EINTR && errno != ECONNABORTED)
			return;
	}
}

void address_unlisten(struct listening *l)
{
	path_remove(&l->path);
	if (l->fd >= 0) {
		stop_listening(l);
		close(l->fd);
	}
	*l = (struct listening){ .fd = -1, .path = PATH_NONE };
}

void address_leave(struct listening *l)
{
	path_forget(&l->path);
	close(l->fd);
	*l = (struct listening){ .fd = -1, .path = PATH_NONE };
}

void address_give_up(struct listening *l)
{
	if (l->adopted)
		l->fd = -1;
	address_unlisten(l);
}

/* Whether the same attempt may succeed later. */
static bool may_come_later(int error, bool for_listener)
{
	return error == -EAGAIN || (for_listener && (error == -ENOENT || error == -ECONNREFUSED));
}

static int connect_once(int fd, const struct sockaddr_un *at, socklen_t len)
{
	if (connect(fd, (const struct sockaddr *)at, len) == 0)
		return 0;
	return errno == EPROTOTYPE ? -EBADMSG : -errno;
}

/*
 * A blocking connect(2) would wait while the backlog is full.  But it ends with EINTR
 * after SIGSTOP and SIGCONT, it may be restarted after a signal handler, and it does
 * not wait for a listener.  So each attempt is non-blocking, with a pause in between.
 */
static int connect_patiently(int fd, const struct sockaddr_un *at, socklen_t len, bool for_listener,
			     const struct sleeper *sleeper)
{
	int64_t pause = PAUSE_FIRST;

	for (;;) {
		int r = connect_once(fd, at, len);

		if (r == -EINTR)
			continue;
		if (!may_come_later(r, for_listener) || (sleeper->deadline == TIME_TRY && r != -EAGAIN))
			return r;
		r = sleep_until(sleeper, -1, time_now() + pause, fd);
		if (r < 0)
			return r;
		pause = time_sooner(2 * pause, PAUSE_LAST);
	}
}

int address_connect(const char *address, bool for_listener, const struct sleeper *sleeper)
{
	struct sockaddr_un at;
	socklen_t len;
	int fd;
	int r = fill(&at, &len, address);

	if (r < 0)
		return r;
	fd = new_socket(SOCK_NONBLOCK);
	if (fd < 0)
		return fd;
	r = connect_patiently(fd, &at, len, for_listener, sleeper);
	if (r < 0) {
		close(fd);
		return r;
	}
	return fd;
}
