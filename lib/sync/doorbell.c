/* SPDX-License-Identifier: MIT */
#include "sync/doorbell.h"

#include "base/fd.h"
#include "base/packet.h"
#include "base/sys.h"
#include "sync/lock.h"

#include <linux/sockios.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

/*
 * More bytes than a queue holds.  The limit is for a hostile peer, which may fill the queue as
 * fast as we empty it.
 */
#define TRIM_MOST 512
/* Where the kernel does not tell how many there are: at most so many came from an honest peer since the last time. */
#define TRIM_BLINDLY 64

int doorbell_open(void)
{
	return fd_own((int)syscall(SYS_epoll_create1, EPOLL_CLOEXEC));
}

void doorbell_close(int bell)
{
	syscall(SYS_close, bell);
}

int doorbell_join(int bell, int socket)
{
	struct epoll_event event = { .events = EPOLLIN | EPOLLRDHUP | EPOLLET };

	return (int)sys_result(syscall(SYS_epoll_ctl, bell, EPOLL_CTL_ADD, socket, &event));
}

void doorbell_take(int bell)
{
	struct epoll_event events[64];
	int64_t n;

	do
		n = syscall(SYS_epoll_pwait, bell, events, 64, 0, NULL, 0);
	while (n == 64);
}

int doorbell_sleep(int bell, int64_t timeout_ns)
{
	struct pollfd p = { .fd = bell, .events = POLLIN };
	int r = sys_poll(&p, timeout_ns);

	if (r == 0)
		return -ETIMEDOUT;
	return r < 0 ? r : 0;
}

void doorbell_trim(int socket, struct lock *lock)
{
	struct lock_habit none = { 0 };
	int bytes = 0;

	/*
	 * Nobody waits for this lock, so it is not healed.  If a child of a bare clone dies in it,
	 * nobody trims any more, and the queue fills up: then blocked calls look every 5 s, and
	 * bufpipe_fd is not told.
	 */
	if (lock_try(lock, &none) < 0)
		return;
	/*
	 * A sandbox may refuse the question.  Then the queue is perhaps emptied, which takes
	 * the news from another holder that is about to sleep: that one looks within 5 s.
	 */
	if (ioctl(socket, SIOCINQ, &bytes) < 0)
		bytes = TRIM_BLINDLY;
	if (bytes > TRIM_MOST)
		bytes = TRIM_MOST;
	for (; bytes > 1; bytes--) {
		if (packet_discard(socket) < 0)
			break;
	}
	lock_drop(lock, &none);
}
