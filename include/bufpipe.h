/* SPDX-License-Identifier: MIT */
/*
 * bufpipe: buffered pipes through shared memory, for threads and processes
 * on one Linux machine.
 *
 * A pipe has two ends.  In a one-way pipe ends[0] receives and ends[1] sends.  In a
 * duplex pipe both ends do both.  Each message arrives whole, once, and in order.
 *
 * The parts of this header
 *
 *   bufpipe/options.h   struct bufpipe_options and its flags
 *   bufpipe/pipe.h      bufpipe_create, _shutdown, _stop, _close
 *   bufpipe/message.h   bufpipe_send, _sendv, _recv, _next; parts; batches
 *   bufpipe/in_place.h  bufpipe_reserve, _commit, _cancel, _peek, _release, _unpeek
 *   bufpipe/info.h      bufpipe_get_info, _get_stats, _drain, _strerror
 *   bufpipe/handover.h  bufpipe_send_end, _recv_end
 *   bufpipe/meeting.h   bufpipe_listen, _accept, _connect, _listener_*
 *   bufpipe/wait.h      bufpipe_wait, _fd, _room_fd
 *   bufpipe/set.h       bufpipe_set_*
 *
 * The calls for your own io_uring are in <bufpipe_uring.h>.  Each call also has a
 * manual page with an example; bufpipe(7) is the first one.
 *
 * Rules that hold for every call
 *
 *   Results    0, a count or a length; or a negative errno.  A call that fails
 *              has changed nothing and leaks nothing.  The variable errno has no
 *              meaning after a call.
 *   Timeouts   nanoseconds on CLOCK_MONOTONIC.  0 tries once and gives up with
 *              -EAGAIN, > 0 gives up with -ETIMEDOUT, -1 waits for ever.  Any
 *              other negative value is -EINVAL.  The calls that wait for several
 *              pipes return 0 when the time is up.
 *   Threads    an end may be used by one thread at a time for sending and by
 *              one (the same or another) for receiving, unless it was created
 *              with BUFPIPE_SHARED.  Different ends are independent.  It is a bug
 *              in the program to close an end while another thread of the process
 *              uses it, as it is with free().
 *   Fork       an end survives fork.  It lives until every process that has it
 *              has closed it.  Parent and child share an end by the rules for
 *              threads.  A child made by the raw system calls fork or clone should
 *              not use a shared end: the kernel does not know the locks of such a
 *              child; see Lost turns.
 *   Exec       every descriptor is close-on-exec.  A thread other than the
 *              first of its process should not call execve while it has a
 *              reservation or a peek of a shared end open; see Lost turns.
 *   Lost turns in these two cases the kernel does not free a turn whose thread no
 *              longer exists.  Other holders that wait for the turn, or try again and
 *              again, take it over after two to four seconds.  This needs glibc, and
 *              all holders must have used the end in one pid namespace and be able
 *              to read /proc/self/ns/pid.  Otherwise they keep waiting; also while
 *              another thread has the same id, or a dead child was not waited for.
 *   Standard streams
 *              no call makes or receives a descriptor 0, 1 or 2, even if these
 *              are closed: what a program prints never gets into a pipe.
 *   Signals    a blocking call continues after a signal handler ran, unless the
 *              end has BUFPIPE_INTERRUPTIBLE.  bufpipe_set_wait, bufpipe_send_end and
 *              bufpipe_recv_end end with -EINTR without it too.  No call is
 *              async-signal-safe, except bufpipe_strerror.
 *   Death      when the last process that holds an end is gone, by
 *              bufpipe_close, exit or SIGKILL, the other end receives what had
 *              been sent and then -EPIPE.  A blocked call notices bufpipe_close at
 *              once, and a death within 100 ms, or at once if it has been blocked for
 *              longer.  A try, and a send into free room, may notice a SIGKILL a
 *              few milliseconds or one ring of messages later.
 *   Trust      the other end may be hostile.  The worst that it can cause is
 *              -EPROTO, or garbage in its own messages.  Holders of the *same*
 *              end trust each other.
 *
 * Errors that any call may return, with one meaning each
 *
 *   -EINVAL     an argument is invalid: NULL, out of range, contradictory
 *   -EBADF      the end does not have this direction: send on a receiving end,
 *               or receive on a sending one.  Of a call that takes the number of a
 *               descriptor: there is no such descriptor
 *   -EAGAIN     timeout 0: the call would have to wait
 *   -ETIMEDOUT  the time is up
 *   -EINTR      a signal handler ran; see Signals
 *   -EPIPE      the stream has ended.  Receiving: it is closed and everything was
 *               received.  Sending: nobody will receive, or this end was shut down
 *   -EMSGSIZE   the message does not fit: see each call
 *   -EBUSY      something must be finished first: an open reservation or peek, a
 *               message in parts, or another thread's wait in the same set
 *   -ECANCELED  the sender gave up the message that was being received in parts
 *   -EPROTO     the other end broke the protocol of the shared memory
 *   -ENOMEM, -EMFILE, -ENFILE, -EPERM, ...  the error of the kernel
 */
#ifndef BUFPIPE_H
#define BUFPIPE_H

#include <bufpipe/handover.h>
#include <bufpipe/in_place.h>
#include <bufpipe/info.h>
#include <bufpipe/meeting.h>
#include <bufpipe/message.h>
#include <bufpipe/options.h>
#include <bufpipe/pipe.h>
#include <bufpipe/set.h>
#include <bufpipe/wait.h>

/* The version of this header.  bufpipe_version tells that of the library. */
#define BUFPIPE_VERSION_MAJOR                       0
#define BUFPIPE_VERSION_MINOR                       1
#define BUFPIPE_VERSION_PATCH                       0
#define BUFPIPE_VERSION_NUMBER(major, minor, patch) ((major) << 16 | (minor) << 8 | (patch))
#define BUFPIPE_VERSION \
	BUFPIPE_VERSION_NUMBER(BUFPIPE_VERSION_MAJOR, BUFPIPE_VERSION_MINOR, BUFPIPE_VERSION_PATCH)

#ifdef __cplusplus
extern "C" {
#endif

/* BUFPIPE_VERSION of the library that the program runs with.  A later version is a larger number. */
unsigned bufpipe_version(void);

#ifdef __cplusplus
}
#endif
#endif
