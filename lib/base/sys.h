/* SPDX-License-Identifier: MIT */
/*
 * The system calls that the C library does not wrap, negative errnos, and the one clock
 * that the library uses.
 */
#ifndef BUFPIPE_BASE_SYS_H
#define BUFPIPE_BASE_SYS_H

#include <errno.h>
#include <linux/futex.h>
#include <linux/membarrier.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/* musl 1.2.3 does not know it.  New system calls have the same number on all architectures. */
#ifndef SYS_futex_waitv
#define SYS_futex_waitv 449
#endif

#define likely(x)   __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)
#define slow_path   __attribute__((noinline))

#define NSEC_PER_SEC 1000000000ll
#define TIME_FOREVER INT64_MAX
#define TIME_TRY     0 /* a deadline in the past: do not wait at all */

static inline int64_t sys_result(int64_t result)
{
	return result < 0 ? -errno : result;
}

/* memcpy, but the addresses may be NULL when there is nothing to copy. */
static inline void copy_bytes(void *to, const void *from, size_t len)
{
	if (likely(len))
		memcpy(to, from, len);
}

static inline int64_t time_of(clockid_t clock)
{
	struct timespec t;

	clock_gettime(clock, &t);
	return t.tv_sec * NSEC_PER_SEC + t.tv_nsec;
}

static inline int64_t time_now(void)
{
	return time_of(CLOCK_MONOTONIC);
}

static inline struct timespec time_spec(int64_t ns)
{
	return (struct timespec){ .tv_sec = ns / NSEC_PER_SEC, .tv_nsec = ns % NSEC_PER_SEC };
}

/* The deadline of a timeout that starts now: TIME_TRY for 0, TIME_FOREVER for -1 and if the sum overflows. */
static inline int64_t time_deadline(int64_t timeout_ns)
{
	int64_t deadline;

	if (timeout_ns == 0)
		return TIME_TRY;
	if (timeout_ns < 0 || __builtin_add_overflow(time_now(), timeout_ns, &deadline))
		return TIME_FOREVER;
	return deadline;
}

/* Whether the deadline has passed; false for a try. */
static inline bool time_is_past(int64_t deadline)
{
	return deadline != TIME_FOREVER && deadline != TIME_TRY && time_now() >= deadline;
}

static inline int64_t time_sooner(int64_t a, int64_t b)
{
	return a < b ? a : b;
}

static inline int sys_membarrier(int command)
{
	return (int)sys_result(syscall(SYS_membarrier, command, 0, 0));
}

/*
 * How many sleepers to wake.  A process that can read a word can put sleepers on
 * it, with io_uring by the thousand, and the process that wakes them pays for each.
 * So a wake-up is limited to the number of sleepers that an honest peer has: few if
 * its end has one holder, many if its end is shared.
 */
#define FUTEX_FEW  16
#define FUTEX_MANY 1024

/* Not FUTEX_PRIVATE_FLAG: the other side is in another process. */
static inline void sys_futex_wake(const _Atomic uint32_t *word, int most)
{
	syscall(SYS_futex, word, FUTEX_WAKE, most, NULL, NULL, 0);
}

/*
 * Like the functions of these names, but not cancellation points.  A thread that
 * is cancelled in one could run its clean-up handlers while it holds the quick lock
 * of a shared end.
 */
static inline int sys_poll(struct pollfd *p, int64_t timeout_ns)
{
	struct timespec limit = time_spec(timeout_ns);

	return (int)sys_result(syscall(SYS_ppoll, p, 1, &limit, NULL, 0));
}

static inline int sys_close(int fd)
{
	return (int)sys_result(syscall(SYS_close, fd));
}

/* Takes what has happened already. */
static inline int sys_epoll_take(int epoll, struct epoll_event *events, int n)
{
	return (int)sys_result(syscall(SYS_epoll_pwait, epoll, events, n, 0, NULL, 0));
}

static inline void sys_event_ring(int event)
{
	const uint64_t one = 1;

	syscall(SYS_write, event, &one, sizeof(one));
}

static inline void sys_event_quiet(int event)
{
	uint64_t count;

	syscall(SYS_read, event, &count, sizeof(count));
}

static inline ssize_t sys_sendmsg(int socket, const struct msghdr *message, int flags)
{
	return sys_result(syscall(SYS_sendmsg, socket, message, flags));
}

static inline ssize_t sys_recvmsg(int socket, struct msghdr *message, int flags)
{
	return sys_result(syscall(SYS_recvmsg, socket, message, flags));
}

static inline ssize_t sys_recv(int socket, void *buf, size_t len, int flags)
{
	return sys_result(syscall(SYS_recvfrom, socket, buf, len, flags, NULL, NULL));
}

static inline ssize_t sys_send(int socket, const void *buf, size_t len, int flags)
{
	return sys_result(syscall(SYS_sendto, socket, buf, len, flags, NULL, 0));
}

/* Sleeps while *word is value, until an absolute time: 0, -EAGAIN, -ETIMEDOUT, -EINTR. */
int sys_futex_wait(const _Atomic uint32_t *word, uint32_t value, int64_t deadline);

#endif
