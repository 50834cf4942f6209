/* SPDX-License-Identifier: MIT */
/*
 * Waiting for very many pipes.
 * A part of <bufpipe.h>, which has the rules that hold for every call.
 */
#ifndef BUFPIPE_SET_H
#define BUFPIPE_SET_H

#include <bufpipe/wait.h>

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/*
 * A set waits for very many pipes, like epoll: the cost of a wake-up does not grow with
 * their number.  It is level-triggered: what is ready is reported until it is not ready
 * any more.  Ready entries take turns, so none starves.  Plain descriptors may be added
 * too; their events are those of poll(2).
 *
 * Any thread may change a set at any time, even while another thread waits in it.  One
 * thread at a time may wait.  Remove an end or a descriptor before you close it.
 * Changes for the same end must not overlap.  An end may be in at most one set of a
 * process.  While it is in a set, no blocking call may wait on it in the same
 * direction.  A set does not survive fork: in the child every call except
 * bufpipe_set_destroy is -EINVAL.
 *
 * A shared end may be in the sets of several processes.  A message wakes all that
 * sleep; one takes the message, the others find -EAGAIN.
 *
 * For very many pipes create them with BUFPIPE_NO_HANDOVER and a small ring: each
 * end then takes one descriptor and three mappings; bufpipe(7) names the limits.
 *
 * Errors: -EINVAL, also in a child of fork
 *   create: -ENOMEM, -EMFILE, -ENFILE, -ENOSPC: fs.epoll.max_user_watches
 *   add, modify: -EBADF: the end does not have this direction
 *   add, add_fd: -EEXIST: it is there already, or the end is in another set; -ENOMEM; -ENOSPC: fs.epoll.max_user_watches
 *   add_fd: -EBADF: no such descriptor; -EPERM: a regular file or a directory is
 *     always ready; in a set without io_uring also any other file that cannot be polled
 *   modify, remove, remove_fd: -ENOENT: it is not there
 *   wait: -EBUSY: another thread waits in it; -ENOMEM, -EMFILE, -ENFILE, -ENOSPC:
 *     io_uring was refused, and so was what epoll needs to replace it; -EINTR: a signal
 *     handler ran.  Without a handler, the kernel may also interrupt a thread that has
 *     waited in another set, or changed it: when a pipe of that set becomes ready, or
 *     after the set was destroyed.  It may interrupt epoll_wait and other calls that are
 *     never restarted in the same way; see bufpipe_set_create(3).
 *
 * If io_uring is refused, at creation or later, the set uses epoll instead.
 * bufpipe_set_destroy takes 10 to 30 ms, until the kernel has freed the io_uring.
 */
typedef struct bufpipe_set bufpipe_set_t;

struct bufpipe_event {
	bufpipe_t *pipe; /* NULL for a plain descriptor */
	void *user;
	unsigned events; /* BUFPIPE_*, or POLL* for a plain descriptor */
};

/* Flags of bufpipe_set_create: */
#define BUFPIPE_NO_URING 1u /* do not use io_uring, as if it were refused */
#define BUFPIPE_POLLABLE 2u /* allow bufpipe_set_fd; the set does not use io_uring then */
int bufpipe_set_create(bufpipe_set_t **set, unsigned flags);
/* Ignores NULL. */
void bufpipe_set_destroy(bufpipe_set_t *set);
int bufpipe_set_add(bufpipe_set_t *set, bufpipe_t *pipe, unsigned events, void *user);
int bufpipe_set_modify(bufpipe_set_t *set, bufpipe_t *pipe, unsigned events, void *user);
int bufpipe_set_remove(bufpipe_set_t *set, bufpipe_t *pipe);
int bufpipe_set_add_fd(bufpipe_set_t *set, int fd, unsigned events, void *user);
int bufpipe_set_remove_fd(bufpipe_set_t *set, int fd);
/* Returns how many events it wrote, at most max; 0 if the time is up (also with timeout 0). */
int bufpipe_set_wait(bufpipe_set_t *set, struct bufpipe_event *events, unsigned max, int64_t timeout_ns);

/*
 * A descriptor for another event loop.  It is readable when bufpipe_set_wait has
 * something to report.  It stops being readable when bufpipe_set_wait with timeout 0
 * returns 0, so call that until it does.  Only poll it: it belongs to the set.
 *
 * Errors: -EINVAL, also if the set was created without BUFPIPE_POLLABLE.
 */
int bufpipe_set_fd(const bufpipe_set_t *set);

#ifdef __cplusplus
}
#endif
#endif
