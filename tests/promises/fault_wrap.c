/* SPDX-License-Identifier: MIT */
#include "promises/fault_wrap.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/types.h>
#include <sys/vfs.h>

#define ERRORS_MAX 8

/* What may fail, and how: the errnos in the manual pages that a program without a bug can get. */
static const struct {
	const char *name;
	int errors[ERRORS_MAX];
} table[] = {
	{ "accept4", { EMFILE, ENFILE, ENOMEM, ENOBUFS, EAGAIN, EINTR, ECONNABORTED } },
	{ "aligned_alloc", { ENOMEM } },
	{ "bind", { EADDRINUSE, EACCES, ENOMEM, EROFS } },
	{ "calloc", { ENOMEM } },
	{ "connect", { ECONNREFUSED, EAGAIN, EINTR, ENOMEM, EACCES } },
	{ "epoll_create1", { EMFILE, ENFILE, ENOMEM } },
	{ "epoll_ctl", { ENOMEM, ENOSPC } },
	{ "epoll_wait", { EINTR } },
	{ "fchmod", { EPERM, EIO } },
	{ "fchmodat", { EPERM, EROFS } },
	{ "fcntl", { EMFILE, EPERM, EINTR } },
	{ "flock", { EINTR, ENOLCK } },
	{ "fstat", { ENOMEM } },
	{ "fstatat", { ENOMEM, EACCES } },
	{ "fstatfs", { ENOMEM, EINTR } },
	{ "ftruncate", { EINTR, EPERM, EFBIG } },
	{ "getpeername", { ENOBUFS } },
	{ "getsockopt", { ENOMEM } },
	{ "listen", { EADDRINUSE } },
	{ "madvise", { ENOMEM, EINVAL } },
	{ "malloc", { ENOMEM } },
	{ "memfd_create", { EMFILE, ENFILE, ENOMEM, EPERM, EINVAL, ENOSYS } },
	{ "mlock", { ENOMEM, EPERM, EAGAIN } },
	{ "mmap", { ENOMEM, ENFILE, EPERM, EAGAIN } },
	{ "openat", { EMFILE, ENFILE, ENOMEM, ENOENT, EACCES } },
	{ "open", { EMFILE, ENFILE, ENOMEM, ENOENT, EACCES, EINTR } },
	{ "poll", { EINTR, ENOMEM } },
	{ "ppoll", { EINTR, ENOMEM } },
	{ "pread", { EINTR, EIO } },
	{ "recv", { EAGAIN, EINTR, ENOMEM, ECONNRESET } },
	{ "recvmsg", { EAGAIN, EINTR, ENOMEM, ECONNRESET } },
	{ "send", { EAGAIN, EINTR, ENOMEM, ENOBUFS, EPIPE, ECONNRESET } },
	{ "sendmsg", { EAGAIN, EINTR, ENOMEM, ENOBUFS, EPIPE, ECONNRESET, ETOOMANYREFS, EPERM } },
	{ "setsockopt", { ENOMEM } },
	{ "socket", { EMFILE, ENFILE, ENOMEM, EACCES } },
	{ "socketpair", { EMFILE, ENFILE, ENOMEM } },
	{ "syscall", { ENOSYS, EPERM, ENOMEM, EINTR, EAGAIN } },
	{ "timerfd_create", { EMFILE, ENFILE, ENOMEM, EPERM, ENOSYS } },
	{ "timerfd_settime", { ECANCELED } },
	{ "unlinkat", { EACCES, EBUSY } },
};

#define CALLS (sizeof(table) / sizeof(*table))

static _Thread_local struct {
	bool armed;
	bool all;
	int left;
	int choice;
	struct fault fault;
	int counts[CALLS];
} plan;

static void arm(int n, int choice, bool all)
{
	memset(&plan, 0, sizeof(plan));
	plan.left = n;
	plan.choice = choice;
	plan.all = all;
	plan.armed = true;
}

void fault_arm(int n, int choice)
{
	arm(n, choice, false);
}

void fault_arm_all(int n, int choice)
{
	arm(n, choice, true);
}

struct fault fault_disarm(void)
{
	plan.armed = false;
	return plan.fault;
}

void fault_resume(void)
{
	plan.armed = true;
}

static size_t find(const char *name)
{
	size_t i = 0;

	while (i < CALLS - 1 && strcmp(table[i].name, name))
		i++;
	return i;
}

int fault_count(const char *name)
{
	return plan.counts[find(name)];
}

static bool strikes(const char *name)
{
	size_t i;

	if (!plan.armed)
		return false;
	i = find(name);
	plan.counts[i]++;
	if (plan.fault.struck && !(plan.all && plan.fault.name == table[i].name))
		return false;
	if (!plan.fault.struck) {
		if (--plan.left || plan.choice >= ERRORS_MAX || !table[i].errors[plan.choice])
			return false;
		plan.fault = (struct fault){ true, table[i].errors[plan.choice], table[i].name };
	}
	errno = plan.fault.error;
	return true;
}

/*
 * The two halves of a wrapped function. Support of large files may choose its 64-bit name, which leads to the
 * same code.
 */
#define WRAP(type, failure, name, parameters, ...) \
	type __real_##name parameters;             \
	type __wrap_##name parameters;             \
	type __wrap_##name parameters              \
	{                                          \
		if (strikes(#name))                \
			return failure;            \
		return __real_##name(__VA_ARGS__); \
	}

#define WRAP_64(type, failure, name, parameters, ...)      \
	WRAP(type, failure, name, parameters, __VA_ARGS__) \
	type __wrap_##name##64 parameters;                 \
	type __wrap_##name##64 parameters                  \
	{                                                  \
		return __wrap_##name(__VA_ARGS__);         \
	}

#define FAILED ((void *)-1)

WRAP(int, -1, accept4, (int fd, struct sockaddr *at, socklen_t *len, int flags), fd, at, len, flags)
WRAP(void *, NULL, aligned_alloc, (size_t alignment, size_t size), alignment, size)
WRAP(int, -1, bind, (int fd, const struct sockaddr *at, socklen_t len), fd, at, len)
WRAP(void *, NULL, calloc, (size_t n, size_t size), n, size)
WRAP(int, -1, connect, (int fd, const struct sockaddr *at, socklen_t len), fd, at, len)
WRAP(int, -1, epoll_create1, (int flags), flags)
WRAP(int, -1, epoll_ctl, (int fd, int what, int other, struct epoll_event *event), fd, what, other, event)
WRAP(int, -1, epoll_wait, (int fd, struct epoll_event *events, int n, int timeout), fd, events, n, timeout)
WRAP(int, -1, fchmod, (int fd, mode_t mode), fd, mode)
WRAP(int, -1, fchmodat, (int fd, const char *path, mode_t mode, int flags), fd, path, mode, flags)
WRAP(int, -1, flock, (int fd, int how), fd, how)
WRAP_64(int, -1, fstat, (int fd, struct stat *st), fd, st)
WRAP_64(int, -1, fstatat, (int fd, const char *path, struct stat *st, int flags), fd, path, st, flags)
WRAP_64(int, -1, fstatfs, (int fd, struct statfs *st), fd, st)
WRAP_64(int, -1, ftruncate, (int fd, off_t size), fd, size)
WRAP(int, -1, getpeername, (int fd, struct sockaddr *at, socklen_t *len), fd, at, len)
WRAP(int, -1, getsockopt, (int fd, int level, int option, void *value, socklen_t *len), fd, level, option,
     value, len)
WRAP(int, -1, listen, (int fd, int backlog), fd, backlog)
WRAP(int, -1, madvise, (void *at, size_t len, int advice), at, len, advice)
WRAP(void *, NULL, malloc, (size_t size), size)
WRAP(int, -1, memfd_create, (const char *name, unsigned flags), name, flags)
WRAP(int, -1, mlock, (const void *at, size_t len), at, len)
WRAP_64(void *, FAILED, mmap, (void *at, size_t len, int protection, int flags, int fd, off_t offset), at,
	len, protection, flags, fd, offset)
WRAP(int, -1, poll, (struct pollfd * fds, nfds_t n, int timeout), fds, n, timeout)
WRAP(int, -1, ppoll, (struct pollfd * fds, nfds_t n, const struct timespec *limit, const sigset_t *mask), fds,
     n, limit, mask)
WRAP_64(ssize_t, -1, pread, (int fd, void *buf, size_t len, off_t offset), fd, buf, len, offset)
WRAP(ssize_t, -1, recv, (int fd, void *buf, size_t len, int flags), fd, buf, len, flags)
WRAP(ssize_t, -1, recvmsg, (int fd, struct msghdr *message, int flags), fd, message, flags)
WRAP(ssize_t, -1, send, (int fd, const void *buf, size_t len, int flags), fd, buf, len, flags)
WRAP(ssize_t, -1, sendmsg, (int fd, const struct msghdr *message, int flags), fd, message, flags)
WRAP(int, -1, setsockopt, (int fd, int level, int option, const void *value, socklen_t len), fd, level,
     option, value, len)
WRAP(int, -1, socket, (int domain, int type, int protocol), domain, type, protocol)
WRAP(int, -1, socketpair, (int domain, int type, int protocol, int fds[2]), domain, type, protocol, fds)
WRAP(int, -1, timerfd_create, (int clock, int flags), clock, flags)
WRAP(int, -1, timerfd_settime, (int fd, int flags, const struct itimerspec *to, struct itimerspec *old), fd,
     flags, to, old)
WRAP(int, -1, unlinkat, (int fd, const char *path, int flags), fd, path, flags)

/*
 * These four have a variable number of arguments. One argument too many is passed and ignored on the machines
 * that we know.
 */
int __real_fcntl(int fd, int command, ...);
int __wrap_fcntl(int fd, int command, ...);
int __wrap_fcntl64(int fd, int command, ...);
int __real_open(const char *path, int flags, ...);
int __wrap_open(const char *path, int flags, ...);
int __wrap_open64(const char *path, int flags, ...);
int __real_openat(int fd, const char *path, int flags, ...);
int __wrap_openat(int fd, const char *path, int flags, ...);
int __wrap_openat64(int fd, const char *path, int flags, ...);
long __real_syscall(long number, ...);
long __wrap_syscall(long number, ...);

#define LAST_ARGUMENT(after, to)           \
	do {                               \
		va_list list;              \
		va_start(list, after);     \
		(to) = va_arg(list, long); \
		va_end(list);              \
	} while (0)

int __wrap_fcntl(int fd, int command, ...)
{
	long argument;

	LAST_ARGUMENT(command, argument);
	return strikes("fcntl") ? -1 : __real_fcntl(fd, command, argument);
}

int __wrap_fcntl64(int fd, int command, ...)
{
	long argument;

	LAST_ARGUMENT(command, argument);
	return __wrap_fcntl(fd, command, argument);
}

int __wrap_open(const char *path, int flags, ...)
{
	long mode;

	LAST_ARGUMENT(flags, mode);
	return strikes("open") ? -1 : __real_open(path, flags, (mode_t)mode);
}

int __wrap_open64(const char *path, int flags, ...)
{
	long mode;

	LAST_ARGUMENT(flags, mode);
	return __wrap_open(path, flags, mode);
}

int __wrap_openat(int fd, const char *path, int flags, ...)
{
	long mode;

	LAST_ARGUMENT(flags, mode);
	return strikes("openat") ? -1 : __real_openat(fd, path, flags, (mode_t)mode);
}

int __wrap_openat64(int fd, const char *path, int flags, ...)
{
	long mode;

	LAST_ARGUMENT(flags, mode);
	return __wrap_openat(fd, path, flags, mode);
}

/* Some have wrappers in the C library; others may be missing in the kernel. */
static const char *name_of(long number)
{
	switch (number) {
	case SYS_ppoll:
		return "ppoll";
	case SYS_openat:
		return "open";
	case SYS_pread64:
		return "pread";
	case SYS_recvfrom:
		return "recv";
	case SYS_recvmsg:
		return "recvmsg";
	case SYS_sendmsg:
		return "sendmsg";
	case SYS_sendto:
		return "send";
	case SYS_epoll_create1:
		return "epoll_create1";
	case SYS_epoll_ctl:
		return "epoll_ctl";
	case SYS_epoll_pwait:
		return "epoll_wait";
	default:
		return "syscall";
	}
}

long __wrap_syscall(long number, ...)
{
	long a[6];
	va_list list;

	va_start(list, number);
	for (int i = 0; i < 6; i++)
		a[i] = va_arg(list, long);
	va_end(list);
	/* A close that fails has closed the descriptor nonetheless. */
	if (number == SYS_close)
		return __real_syscall(number, a[0]);
	/* The library reads and writes only eventfds in this way, which cannot fail. */
	if (number == SYS_read || number == SYS_write)
		return __real_syscall(number, a[0], a[1], a[2]);
	return strikes(name_of(number)) ? -1 : __real_syscall(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}
