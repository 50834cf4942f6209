/* SPDX-License-Identifier: MIT */
#include "connect/address.h"

#include "base/fd.h"

#include <fcntl.h>
#include <limits.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>

#define LISTEN_FDS_START 3
#define BACKLOG          SOMAXCONN

static int fill(struct sockaddr_un *to, socklen_t *len, const char *address)
{
	size_t n = strlen(address);

	*to = (struct sockaddr_un){ .sun_family = AF_UNIX };
	if (address[0] != '@' && !strchr(address, '/'))
		return -EINVAL;
	if (address[0] == '@' && n == 1)
		return -EINVAL; /* the kernel would choose a name */
	if (n >= sizeof(to->sun_path))
		return -ENAMETOOLONG;
	memcpy(to->sun_path, address, n);
	if (address[0] == '@')
		to->sun_path[0] = '\0';
	else
		n++;
	*len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + n);
	return 0;
}

static int new_socket(void)
{
	return fd_own(socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
}

/* Somebody listens there: 0.  -ECONNREFUSED: a file was left behind. */
static int probe(const struct sockaddr_un *at, socklen_t len)
{
	int fd = new_socket();
	int r = 0;

	if (fd < 0)
		return fd;
	if (fcntl(fd, F_SETFL, O_NONBLOCK) < 0 || connect(fd, (const struct sockaddr *)at, len) < 0)
		r = -errno;
	close(fd);
	return r;
}

/* A lock on the directory, so that two who find the same stale file do not both replace it.  Leaves no file. */
static int lock_directory(const char *path)
{
	char directory[sizeof(((struct sockaddr_un *)0)->sun_path)];
	char *slash;
	int fd;

	strcpy(directory, path);
	slash = strrchr(directory, '/');
	slash[slash == directory] = '\0';
	fd = fd_own(open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC));
	if (fd < 0)
		return fd;
	while (flock(fd, LOCK_EX) < 0) {
		if (errno != EINTR) {
			int r = -errno;

			close(fd);
			return r;
		}
	}
	return fd;
}

static int bind_path(int fd, const struct sockaddr_un *at, socklen_t len)
{
	struct stat st;

	if (bind(fd, (const struct sockaddr *)at, len) == 0)
		return 0;
	if (errno != EADDRINUSE)
		return -errno;
	if (lstat(at->sun_path, &st) < 0 || !S_ISSOCK(st.st_mode) || probe(at, len) != -ECONNREFUSED)
		return -EADDRINUSE;
	if (unlink(at->sun_path) < 0 || bind(fd, (const struct sockaddr *)at, len) < 0)
		return -errno;
	return 0;
}

static int listen_path(struct listening *l, const struct sockaddr_un *at, socklen_t len)
{
	struct stat st;
	int directory = lock_directory(at->sun_path);
	int r;

	if (directory < 0)
		return directory;
	r = bind_path(l->fd, at, len);
	if (r == 0) {
		strcpy(l->path, at->sun_path);
		if (lstat(l->path, &st) == 0) {
			l->device = st.st_dev;
			l->inode = st.st_ino;
		}
		/* Within the lock: until it listens it looks stale. */
		if (listen(l->fd, BACKLOG) < 0)
			r = -errno;
	}
	close(directory);
	return r;
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
	int r = check_option(fd, SO_DOMAIN, AF_UNIX, -EPROTOTYPE);

	if (r == 0)
		r = check_option(fd, SO_TYPE, SOCK_SEQPACKET, -EPROTOTYPE);
	if (r == 0)
		r = check_option(fd, SO_ACCEPTCONN, 1, -EPROTOTYPE);
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

/* Which of the names, a list divided by colons, is the one wanted; -1 for none. */
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

/* What a service manager passed on: see sd_listen_fds(3).  The environment stays as it is. */
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

static int open_listening(struct listening *l, const char *address)
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
	l->fd = new_socket();
	if (l->fd < 0)
		return l->fd;
	return at.sun_path[0] ? listen_path(l, &at, len) : listen_abstract(l, &at, len);
}

int address_listen(struct listening *l, const char *address)
{
	int r;

	*l = (struct listening){ .fd = -1 };
	r = open_listening(l, address);
	/* Others may accept from the same socket, and leave us none of what we were told of. */
	if (r == 0 && fcntl(l->fd, F_SETFL, O_NONBLOCK) < 0)
		r = -errno;
	if (r < 0)
		address_give_up(l);
	return r;
}

void address_unlisten(struct listening *l)
{
	struct stat st;

	if (l->path[0] && lstat(l->path, &st) == 0 && st.st_dev == l->device && st.st_ino == l->inode)
		unlink(l->path);
	if (l->fd >= 0)
		close(l->fd);
	*l = (struct listening){ .fd = -1 };
}

void address_give_up(struct listening *l)
{
	if (l->adopted)
		l->fd = -1;
	address_unlisten(l);
}

/* A full backlog blocks connect(2), and only this option bounds that. */
static int limit_connect(int fd, int64_t deadline)
{
	int64_t now = time_now();
	struct timeval limit;

	if (deadline == TIME_FOREVER)
		return 0;
	if (deadline <= now)
		return fcntl(fd, F_SETFL, O_NONBLOCK);
	limit.tv_sec = (deadline - now) / NSEC_PER_SEC;
	limit.tv_usec = (deadline - now) % NSEC_PER_SEC / 1000 + 1;
	if (limit.tv_usec >= 1000000) {
		limit.tv_sec++;
		limit.tv_usec = 0;
	}
	return setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
}

static int connect_to(int fd, const struct sockaddr_un *at, socklen_t len, int64_t deadline)
{
	do {
		if (limit_connect(fd, deadline) < 0)
			return -errno;
		if (connect(fd, (const struct sockaddr *)at, len) == 0)
			return 0;
	} while (errno == EINTR);
	if (errno == EAGAIN)
		return deadline == TIME_TRY ? -EAGAIN : -ETIMEDOUT;
	return -errno;
}

int address_connect(const char *address, int64_t deadline)
{
	struct sockaddr_un at;
	socklen_t len;
	int fd;
	int r = fill(&at, &len, address);

	if (r < 0)
		return r;
	fd = new_socket();
	if (fd < 0)
		return fd;
	r = connect_to(fd, &at, len, deadline);
	if (r < 0) {
		close(fd);
		return r;
	}
	return fd;
}
