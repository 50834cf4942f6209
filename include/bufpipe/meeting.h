/* SPDX-License-Identifier: MIT */
/*
 * Processes that meet at an address.
 * A part of <bufpipe.h>, which has the rules that hold for every call.
 */
#ifndef BUFPIPE_MEETING_H
#define BUFPIPE_MEETING_H

#include <bufpipe/pipe.h>

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct bufpipe_listener bufpipe_listener_t;

/*
 * Two processes without a common parent meet at an address:
 *
 *   a path, with at least one slash ("/run/name", "./name", "../name")
 *                        a socket in the filesystem, at most 108 bytes.  A stale
 *                        one, on which nobody listens, is replaced; a live one
 *                        never.  It is removed at close, also after a chdir.
 *                        While bufpipe_listen runs there is a file ".name.lock".
 *   "@name"              an abstract name of at most 107 bytes; nothing to clean up
 *   "fd:N"               listen only: descriptor N, a listening SOCK_SEQPACKET
 *                        Unix socket; the listener owns it from then on
 *   "systemd:" or "systemd:NAME"
 *                        listen only: the first socket, or the one called NAME,
 *                        that the service manager passed (LISTEN_FDS)
 *
 * The options of listen are limits and defaults.  The options of connect are wishes:
 * a size of 0 takes the size of the listener; any other size must be within the
 * listener's size_limit.  Both sides must agree on static or generic, on object_size,
 * and on the directions; also on BUFPIPE_DUPLEX, if the connector gives options at
 * all.  The connector's size_limit limits what the listener may choose.  The other
 * flags, spin_ns and name hold for one side only.  Neither side creates, touches or
 * locks more memory than it allows.  A listener also limits the total memory for clients
 * whose handshake is not complete.
 *
 * When bufpipe_connect has returned 0, the client has a pipe.  The listener receives
 * what the client sends when it accepts, however late that is.  If the listener is
 * closed or dies first, the client gets -EPIPE.
 *
 * bufpipe_accept returns the next client whose handshake is complete.  A client that
 * connects and sends nothing does not keep others out; it is dropped after 5 seconds,
 * or after 0.1 seconds if others need its place.  (Thousands of them still delay others
 * for seconds, unless a policy limits the connections of each user.)  If too many clients
 * wait, or descriptors have run out, new clients wait in the backlog of the socket.
 * Without descriptors bufpipe_accept returns -EMFILE or -ENFILE once, later calls
 * wait, and service continues when there are descriptors again (three for each client).
 *
 * bufpipe_connect waits until the listener has answered.  With timeout 0 it succeeds
 * only if the answer comes at once, so give it time.  With BUFPIPE_WAIT_FOR_LISTENER
 * it also waits for a listener to appear, and starts again if a listener hangs up in
 * the middle.  With timeout 0 that flag has no effect.  BUFPIPE_INTERRUPTIBLE holds
 * for all three calls.
 *
 * One thread at a time may use a listener.  A child of fork may use the listener that
 * it inherited, at the same time as its parent and other children: each client is
 * served by one of them.  Clients whose handshake was not complete at the fork stay with
 * the parent.  A child that does not accept must close the listener, which closes its
 * copies.  The address belongs to the process that called bufpipe_listen.
 *
 * Cancellation (pthread_cancel): bufpipe_accept and bufpipe_connect are cancellation
 * points while they sleep.  Then they leave nothing behind, and the listener can still
 * be used.  bufpipe_set_wait is a cancellation point too; no other call is one.
 *
 * Errors: -EINVAL, also an address of no known form; -ENOMEM, -EMFILE, -ENFILE, -EFBIG,
 *     -ENOSPC (fs.epoll.max_user_watches), ... errors of the kernel
 *   listen, connect: -ENAMETOOLONG: no Unix socket has so long an address; -EACCES: this
 *     user may not do so at that path
 *   listen: -EADDRINUSE: another process listens there, or is about to, or died and
 *     left the listener to a child that still has it; -EEXIST: the file at that path
 *     is not a socket; -EINTR; -ENOENT: no such directory, or nothing was passed under
 *     that name; -ENOTSOCK, -EBADF: descriptor N is not a socket, or does not exist;
 *     -ESOCKTNOSUPPORT: it is not a listening socket of that kind
 *   accept: -EAGAIN, -ETIMEDOUT, -EINTR; -ESHUTDOWN: the process that made the
 *     listener has closed it
 *   connect: -ENOENT: no such path; -ECONNREFUSED: nobody listens; -EAGAIN,
 *     -ETIMEDOUT, -EINTR; -EACCES also: the listener refuses this user; -EUSERS: it
 *     refuses, because too many clients of this user wait, or because this user left
 *     too many of its offers unread; -ENOBUFS: the listener has no memory or descriptors
 *     for another pipe; -ECONNRESET: it hung up; -EBADMSG: it speaks another protocol;
 *     -EPROTONOSUPPORT: it has another layout version;
 *     -EPERM: BUFPIPE_LOCKED is not permitted;
 *     -EPROTOTYPE: the two sides want different kinds or directions of a pipe;
 *     -EMSGSIZE: a wish is larger than the listener's size_limit; -E2BIG: the
 *     listener's pipe is larger than this side's size_limit
 */
int bufpipe_listen(bufpipe_listener_t **listener, const char *address, const struct bufpipe_options *options);
int bufpipe_accept(bufpipe_listener_t *listener, bufpipe_t **pipe, int64_t timeout_ns);
int bufpipe_connect(bufpipe_t **pipe, const char *address, const struct bufpipe_options *options,
		    int64_t timeout_ns);

/*
 * A client that wants to connect, as the kernel knows it, translated into the
 * namespaces of this process.
 *
 * pid      0 if it is not visible from here
 * uid, gid the overflow ids (65534) if they have no mapping here: then they say nothing
 * pidfd    -1 before Linux 6.5; valid during the call
 * waiting  how many clients of this uid were let in and not yet returned by accept
 */
struct bufpipe_client {
	pid_t pid;
	uid_t uid;
	gid_t gid;
	int pidfd;
	unsigned waiting;
};

/*
 * A policy returns 0 to let the client in, or another number to refuse it.  Then
 * the bufpipe_connect of the client returns -EUSERS or -ENOBUFS if the policy returned
 * that, and -EACCES otherwise.
 */
typedef int bufpipe_policy_t(void *data, const struct bufpipe_client *client);

/*
 * From now on bufpipe_accept asks the policy about each new connection, in the thread
 * that calls bufpipe_accept, before it reads a byte from the client or makes anything
 * for it.  The policy must not use the listener.  NULL lets all clients in.
 *
 * The policy is also asked about a process that calls bufpipe_listen with the path of
 * this listener: to find out whether anybody listens there, that call connects and hangs
 * up at once.  It gets -EADDRINUSE, whatever the policy returns.
 *
 * Errors: -EINVAL.
 */
int bufpipe_listener_set_policy(bufpipe_listener_t *listener, bufpipe_policy_t *policy, void *data);

/*
 * A descriptor that is readable when bufpipe_accept has something to do.  It belongs
 * to the listener: do not close it.
 *
 * Errors: -EINVAL; in a child of fork, which gets its own: -EMFILE, -ENFILE, -ENOMEM, -ENOSPC.
 */
int bufpipe_listener_fd(bufpipe_listener_t *listener);

/*
 * Closes a listener.  NULL is ignored.
 *
 * In the process that made it, this ends the listener for all processes.  Clients that
 * were not accepted yet, and clients that come later, learn at once that it has gone,
 * even if another process has inherited the descriptors.  (An abstract name is free
 * again only when that process has closed the listener too, or has ended.)  A socket
 * of "fd:N" or "systemd:" still listens for other processes that hold it.
 *
 * In a child that has inherited the listener, this closes only the copies of the child.
 */
void bufpipe_listener_close(bufpipe_listener_t *listener);

#ifdef __cplusplus
}
#endif
#endif
