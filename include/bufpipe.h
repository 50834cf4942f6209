/* SPDX-License-Identifier: MIT */
/*
 * bufpipe: buffered pipes through shared memory, for threads and processes
 * on one Linux machine.
 *
 * A pipe has two ends.  One-way: ends[0] receives, ends[1] sends.  Duplex:
 * both do both.  A message arrives whole, once, and in the order it was sent.
 *
 * Rules that hold for every call
 *
 *   Results    0, a count or a length; or a negative errno.  A call that fails
 *              has changed nothing and leaks nothing.  errno means nothing.
 *   Timeouts   nanoseconds on CLOCK_MONOTONIC.  0 tries once and gives up with
 *              -EAGAIN, > 0 gives up with -ETIMEDOUT, -1 waits for ever.  Any
 *              other negative value is -EINVAL.
 *   Threads    an end may be used by one thread at a time for sending and by
 *              one (the same or another) for receiving, unless it was created
 *              with BUFPIPE_SHARED.  Different ends are independent.  Closing
 *              an end while another thread of the process uses it is an error
 *              of the program, as it is with free().
 *   Fork       an end survives fork; it lives until every process that has it
 *              has closed it.  Parent and child take turns as threads do.  A
 *              child of the raw system calls fork and clone must not use a
 *              shared end: the C library has not told the kernel of its locks,
 *              and if it died in a call the other holders would wait for ever.
 *   Exec       every descriptor is close-on-exec.  A thread other than the
 *              first of its process must not call execve while it has a
 *              reservation or a peek of a shared end open: the kernel would not
 *              free the lock, and the other holders would wait for ever.
 *   Standard streams
 *              no call makes or receives a descriptor 0, 1 or 2, also where
 *              these are closed: what a program prints never gets into a pipe.
 *   Signals    a blocking call goes on after a signal handler ran, unless the
 *              end has BUFPIPE_INTERRUPTIBLE.  No call is async-signal-safe.
 *   Death      when the last process that holds an end is gone, by
 *              bufpipe_close, exit or SIGKILL, the other end gets what had
 *              been sent and then -EPIPE.  A call that is blocked notices
 *              within 100 ms, and at once when it has been blocked for longer.
 *              A send into free room and a try may take one ring of messages
 *              or a few milliseconds longer to notice a SIGKILL.
 *   Trust      the other end may be hostile: whatever it writes costs at most
 *              -EPROTO or garbage in its own messages.  Holders of the *same*
 *              end trust each other.
 *
 * Errors that any call may return, with one meaning each
 *
 *   -EINVAL     an argument is invalid: NULL, out of range, contradictory
 *   -EBADF      the end does not go that way: send on a receiving end, or
 *               receive on a sending one
 *   -EAGAIN     timeout 0: not now
 *   -ETIMEDOUT  the time is up
 *   -EINTR      a signal handler ran (BUFPIPE_INTERRUPTIBLE only)
 *   -EPIPE      the stream has ended: receiving, it is closed and drained;
 *               sending, nobody will receive, or this end has been shut down
 *   -EMSGSIZE   the message does not fit: see each call
 *   -EBUSY      something is open and must be finished first: a reservation, a
 *               peek, or another thread's wait in the same set
 *   -ECANCELED  the sender gave up the message that was being received in parts
 *   -EPROTO     the other end broke the protocol of the shared memory
 *   -ENOMEM, -EMFILE, -ENFILE, -EPERM, ...  what the kernel said
 */
#ifndef BUFPIPE_H
#define BUFPIPE_H

#if !defined(__linux__) || !defined(__LP64__)
#error "bufpipe needs 64-bit Linux"
#endif

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The version of this header.  bufpipe_version tells that of the library. */
#define BUFPIPE_VERSION_MAJOR                       0
#define BUFPIPE_VERSION_MINOR                       1
#define BUFPIPE_VERSION_PATCH                       0
#define BUFPIPE_VERSION_NUMBER(major, minor, patch) ((major) << 16 | (minor) << 8 | (patch))
#define BUFPIPE_VERSION \
	BUFPIPE_VERSION_NUMBER(BUFPIPE_VERSION_MAJOR, BUFPIPE_VERSION_MINOR, BUFPIPE_VERSION_PATCH)

typedef struct bufpipe bufpipe_t;
typedef struct bufpipe_listener bufpipe_listener_t;

/* BUFPIPE_VERSION of the library that the program runs with; a later one has a larger number. */
unsigned bufpipe_version(void);

/* Flags of struct bufpipe_options. */
enum {
	/* Both ends send and receive. */
	BUFPIPE_DUPLEX = 1 << 0,
	/* Both ends may be used by many threads and processes at once, in one pid namespace. */
	BUFPIPE_SHARED = 1 << 1,
	/* Ask for transparent huge pages in the ring.  A hint. */
	BUFPIPE_HUGEPAGES = 1 << 2,
	/* Touch the ring's memory now, not at first use. */
	BUFPIPE_PREFAULT = 1 << 3,
	/* mlock the ring: -ENOMEM or -EPERM beyond RLIMIT_MEMLOCK. */
	BUFPIPE_LOCKED = 1 << 4,
	/*
	 * A signal handler that runs while a call sleeps ends it with -EINTR; not
	 * while it waits for another holder of a shared end to finish.  See
	 * bufpipe_recv for an end that is shared too.
	 */
	BUFPIPE_INTERRUPTIBLE = 1 << 5,
	/*
	 * bufpipe_listen and bufpipe_connect of a one-way pipe: this side
	 * receives.  Neither side says: the one that accepts receives.
	 */
	BUFPIPE_RECEIVE = 1 << 6,
	/* bufpipe_listen and bufpipe_connect of a one-way pipe: this side sends. */
	BUFPIPE_SEND = 1 << 7,
	/*
	 * The end keeps one descriptor, its socket, and not three; then it cannot be
	 * handed over with bufpipe_send_end (-EOPNOTSUPP).  For very many pipes; and
	 * against a peer that punches holes into its memory to make this side's page
	 * faults slow, which it then cannot do.  One side of bufpipe_listen and
	 * bufpipe_connect that has it is enough, and it counts for both ends.
	 */
	BUFPIPE_NO_HANDOVER = 1 << 8,
	/* bufpipe_connect: waits, within its timeout, until somebody listens. */
	BUFPIPE_WAIT_FOR_LISTENER = 1 << 9,
};

/* The longest bufpipe_options.name, in bytes. */
#define BUFPIPE_NAME_MAX 200

/* Values of bufpipe_options.spin_ns beside a number of nanoseconds. */
#define BUFPIPE_NO_SPIN     (-1) /* sleep at once */
#define BUFPIPE_SPIN_ALWAYS (-2) /* never sleep; burns a CPU, answers soonest */

/*
 * All zero is a good default: a one-way generic pipe of 64 KiB.
 *
 * buffer_size  Generic: how much is on the way at once.  Each message counts as
 *              its length, rounded up to a multiple of 8, and 8 bytes; the pipe
 *              holds as many as are buffer_size and 8 bytes together.  So one
 *              message of buffer_size bytes fits, and can be sent by a try,
 *              reserved and peeked; a longer one streams through in pieces.  For
 *              messages of nearly that length take twice as much, so that one can
 *              be written while another is read.  0 is 64 KiB, and less than 64 is
 *              64.  In memory the ring is the next power of two above it, at least
 *              a page: 128 KiB for 64 KiB, 64 KiB for 65,520.  A ring of 2 MiB or
 *              more, also a static one, is for streams: between CPUs that share
 *              no close cache, the last of many may be received some 10 us later.
 * object_size  not 0: a static pipe, each message has this many bytes.
 *              buffer_size must be 0 then.
 * object_count static only: how many the pipe holds; 0 is 64 KiB worth.
 * flags        BUFPIPE_* above.
 * spin_ns      how long this process spins before it sleeps: 0 adaptive,
 *              > 0 that many nanoseconds, BUFPIPE_NO_SPIN, BUFPIPE_SPIN_ALWAYS.
 * name         shown in /proc/PID/maps and fd as memfd:NAME; at most 200 bytes.
 *              NULL: "bufpipe".  Copied.
 * size_limit   bufpipe_listen and bufpipe_connect: how large a pipe the other
 *              side may choose, in bytes of buffer_size, or of a static pipe's
 *              messages with 8 bytes for each and rounded up to 8.  0: the size
 *              that is named here; where none is, 16 MiB, or 1 MiB with
 *              BUFPIPE_PREFAULT or BUFPIPE_LOCKED, or one object if that is more.
 *              Less than the size named here is -EINVAL.
 * mode         bufpipe_listen at a path: the permission bits of the socket file,
 *              whatever the umask; to connect one must be allowed to write.
 *              0: what the umask leaves of 0777.
 *
 * Sizes above 2^40 bytes are -EINVAL.  The size of this structure is part of the
 * binary interface, and until 1.0 it may grow at its end: fill it by designated
 * initializers, so that what is not named is 0.
 */
struct bufpipe_options {
	size_t buffer_size;
	size_t object_size;
	size_t object_count;
	unsigned flags;
	int64_t spin_ns;
	const char *name;
	size_t size_limit;
	unsigned mode;
};

/*
 * Creates a pipe: ends[0] receives and ends[1] sends; with BUFPIPE_DUPLEX each
 * does both.  Each end belongs to the caller, who closes it.  NULL options are
 * the defaults.  On failure ends is not written.
 *
 * Memory for the beginning of the ring is reserved here, with BUFPIPE_PREFAULT
 * for all of it; the rest when the first lap through the ring comes to it.
 *
 * Errors: -EINVAL, -EMFILE, -ENFILE, -ENOMEM; -EFBIG: the ring is larger than
 *   RLIMIT_FSIZE; -EPERM: BUFPIPE_LOCKED is not permitted; -ENOSYS: no memfds.
 */
int bufpipe_create(bufpipe_t *ends[2], const struct bufpipe_options *options);

/*
 * Ends the stream from this end, in order, for all who hold it: the other side
 * receives what was sent and then -EPIPE; a further send is -EPIPE.  A duplex
 * end still receives.  On an end that only receives: the other side's sends
 * get -EPIPE, and here what has arrived can still be received.  A message that
 * is being received while its send finds this may be delivered although that
 * got -EPIPE, or be gone after a mere peek.
 *
 * Any thread may call it at any time.  Whoever is blocked in this direction of this
 * end, in this process or another, sending, receiving, or in a wait of many, wakes
 * at once with -EPIPE; receivers after what is there.  (Before Linux 5.16, and in a
 * wait of many that is just going to sleep, within 100 ms; in bufpipe_wait for room
 * within 200 ms.)  A send that is under
 * way in another thread on an exclusive end may be delivered or not.
 *
 * Needs no room and does not wait for the other side.  On a shared end that sends it
 * waits for a holder that has something reserved.  A second call does nothing.
 *
 * Errors: -EINVAL; -EBUSY with an open reservation of this thread.
 */
int bufpipe_shutdown(bufpipe_t *pipe);

/*
 * The same, waiting no longer than this.
 *
 * Errors: those of bufpipe_shutdown; -EAGAIN, -ETIMEDOUT: another holder has something
 *   reserved.
 */
int bufpipe_shutdown_within(bufpipe_t *pipe, int64_t timeout_ns);

/*
 * The same in both directions: every call that is blocked on this end wakes, and
 * the other side finds it gone.  It is the way to stop a thread that receives from a
 * duplex end.
 *
 * Errors: those of bufpipe_shutdown.
 */
int bufpipe_stop(bufpipe_t *pipe);

/*
 * This process lets go of the end; the last one to let go ends the pipe.  An
 * open reservation is cancelled, an open peek stays unread.  The pointer is
 * invalid afterwards.  NULL is ignored.  Closing a receiving end drops what
 * is unread, if no other process holds that end.
 */
void bufpipe_close(bufpipe_t *pipe);

/*
 * Sends len bytes as one message; buf may be NULL if len is 0.  Blocks while
 * the pipe is full.  A message longer than buffer_size streams through in
 * pieces and needs a receiver to finish; if the time is up in its middle, the
 * receiver never sees any of it, and the next call begins anew.
 *
 * Errors: -EINVAL, -EBADF, -EAGAIN, -ETIMEDOUT, -EINTR, -EPIPE, -EBUSY, -EPROTO;
 *   -ENOMEM: the ring needs memory that the system refuses, in its first lap;
 *   -EMSGSIZE: a static pipe and len is not object_size; a try (timeout 0) and
 *   len is more than buffer_size; or more than 2^40 bytes.
 */
int bufpipe_send(bufpipe_t *pipe, const void *buf, size_t len, int64_t timeout_ns);

/* The same, for a message gathered from n pieces (at most 1024). */
int bufpipe_sendv(bufpipe_t *pipe, const struct iovec *pieces, int n, int64_t timeout_ns);

/*
 * Sends a message longer than buffer_size in parts: for a caller that looks at
 * something else in between, or has not all of the message in memory.  Sends the
 * next len bytes, of which after more follow, and returns how many of the len
 * it has sent: fewer when the time is up or a signal came.  The first call
 * begins the message, and each further one must have len + after equal to what
 * is left of it.  The receiver sees nothing special.  From the first part to the
 * last, other sending calls of the thread are -EBUSY, and other holders of a
 * shared end wait, as with an open reservation.  bufpipe_cancel gives the
 * message up; the receiver then never sees any of it.
 *
 * Errors: those of bufpipe_send, if nothing was sent.  -EINVAL also: len is 0, or
 *   len + after is not what is left.  -EMSGSIZE: len + after is no more than buffer_size,
 *   or the pipe is static: use bufpipe_send; or more than 2^40 bytes.  After
 *   -EPIPE and -EPROTO the message has ended; after the others it goes on.
 */
ssize_t bufpipe_send_part(bufpipe_t *pipe, const void *buf, size_t len, size_t after, int64_t timeout_ns);

/*
 * Receives one message of at most cap bytes into buf; returns its length (0 is
 * a legal length in a generic pipe).  buf may be NULL if cap is 0.
 *
 * Errors: -EINVAL, -EBADF, -EAGAIN, -ETIMEDOUT, -EINTR, -EPIPE, -EBUSY, -EPROTO;
 *   -EMSGSIZE: the message is longer than cap; it stays in place;
 *   -ENOMEM: a message longer than the ring, and no memory to keep its beginning
 *   for a later call, should this one give up; it stays in place.
 *
 * A call that has begun to receive a message longer than the ring and gives up
 * keeps what it has, and a later call goes on.  Not so on a shared end: there
 * the call stays, beyond its timeout, while the sender is no slower than 16 MiB
 * a second after the first second; else the message is dropped.  With
 * BUFPIPE_INTERRUPTIBLE it does give up, and the thread keeps its turn: its next
 * bufpipe_recv goes on with that message, bufpipe_release drops it, and until
 * then other receiving calls of the thread are -EBUSY and other holders wait,
 * as with an open peek.  What is kept takes as much memory again; in parts, see
 * bufpipe_recv_part, it does not.
 */
ssize_t bufpipe_recv(bufpipe_t *pipe, void *buf, size_t cap, int64_t timeout_ns);

/*
 * Receives a message longer than buffer_size in parts: for a caller that does
 * not want to allocate what the sender announces, or looks at something else in
 * between.  Receives the next bytes of the next message, at most cap, and
 * returns how many, with *after the number of those that are still to come: the
 * message is whole when that is 0.  Waits until cap bytes are there or all, but
 * returns what it has when the time is up or a signal came; with timeout 0,
 * what is there, though not always all of it.  From the first part to the last,
 * other receiving calls of the thread are -EBUSY, and other holders of a shared
 * end wait, as with an open peek.  bufpipe_release drops the rest.  A message of
 * up to buffer_size bytes comes whole, as with bufpipe_recv.
 *
 * Errors: those of bufpipe_recv but -ENOMEM, if nothing was received, and the message
 *   goes on.  -EMSGSIZE also: the message is longer than buffer_size, and cap is 0.
 *   -ECANCELED, -EPIPE, -EPROTO in the middle: the rest will not come, and
 *   what was received is no message; the next call begins with the next one.
 *   -EBUSY also: bufpipe_recv has the beginning of this message.
 */
ssize_t bufpipe_recv_part(bufpipe_t *pipe, void *buf, size_t cap, size_t *after, int64_t timeout_ns);

/*
 * The length of the next message, which stays in place.  Waits for one as
 * bufpipe_recv does; also for a message that is longer than the ring, which
 * until it is received may yet be given up by its sender.
 *
 * The sender chooses it: bound what you allocate for it.
 *
 * Errors: those of bufpipe_recv but -EMSGSIZE and -ENOMEM.
 */
ssize_t bufpipe_next(bufpipe_t *pipe, int64_t timeout_ns);

/*
 * The batch forms move up to n messages (n > 0) and return how many they did,
 * at least one; they wait for the first only.  In send_many each iovec is one
 * message.  In recv_many each iov_len is a capacity and becomes the length
 * received.  An error that comes after the first message is left for the next
 * call to find.
 *
 * Errors, for the first message: send_many: those of bufpipe_send; recv_many: those
 *   of bufpipe_recv.
 */
ssize_t bufpipe_send_many(bufpipe_t *pipe, const struct iovec *messages, unsigned n, int64_t timeout_ns);
ssize_t bufpipe_recv_many(bufpipe_t *pipe, struct iovec *messages, unsigned n, int64_t timeout_ns);

/*
 * Zero-copy sending: *buf becomes room for len bytes (8-byte aligned) inside the
 * ring.  The message leaves at bufpipe_commit, with any length up to the one
 * reserved (in a static pipe: the one reserved); bufpipe_cancel drops it.
 * Until then every other sending call on this end is -EBUSY.  A shared end is
 * locked for the time: the thread that reserved must finish.
 *
 * Errors of reserve: -EINVAL, -EBADF, -EAGAIN, -ETIMEDOUT, -EINTR, -EPIPE,
 *   -EBUSY, -EPROTO, -ENOMEM; -EMSGSIZE: len is more than buffer_size, or not object_size.
 * Errors of commit and cancel: -EINVAL, also when nothing is reserved; commit:
 *   -EPIPE: nobody will receive it; the reservation has ended.
 */
int bufpipe_reserve(bufpipe_t *pipe, void **buf, size_t len, int64_t timeout_ns);
int bufpipe_commit(bufpipe_t *pipe, size_t len);
int bufpipe_cancel(bufpipe_t *pipe);

/*
 * Zero-copy receiving: *buf points to the next message inside the ring, read
 * only, 8-byte aligned; its length is returned.  It stays until bufpipe_release,
 * which consumes it, or bufpipe_unpeek, after which it is the next message as
 * before; until then every other receiving call on this end is -EBUSY.  The
 * sender can still change these bytes if it is hostile: copy before you check.
 * A shared end is locked for the time: the thread that peeked must end it.
 *
 * Errors of peek: -EINVAL, -EBADF, -EAGAIN, -ETIMEDOUT, -EINTR, -EPIPE, -EBUSY,
 *   -EPROTO; -EMSGSIZE: the message came in pieces, as it is longer than buffer_size:
 *   use bufpipe_recv.
 * Errors of release and unpeek: -EINVAL, also when nothing is peeked.
 */
ssize_t bufpipe_peek(bufpipe_t *pipe, const void **buf, int64_t timeout_ns);
int bufpipe_release(bufpipe_t *pipe);
int bufpipe_unpeek(bufpipe_t *pipe);

/*
 * Copies len bytes of the message that is peeked, from offset on.  For a peer that
 * is not trusted: it can change the bytes in the ring between a check and their
 * use, as often as it likes.  Copy out what decides (lengths, types, indices),
 * check the copy, use the copy.  Any thread that could release may call it; it
 * does not block.  buf may be NULL if len is 0.
 *
 * Errors: -EINVAL: nothing is peeked, or the bytes are not all in the message.
 */
int bufpipe_peek_copy(const bufpipe_t *pipe, void *buf, size_t offset, size_t len);

/*
 * What this end is.  buffer_size is 0 in a static pipe, object_size and
 * object_count are 0 in a generic one; a one-way end describes the one ring it
 * uses, a duplex end the ring that it sends through.  pid, uid and gid are
 * those of the process that made the other end, as the kernel saw them then
 * (translated into this process's namespaces; 0 is a pid that is not visible).
 * used is how many bytes of that ring unread messages take now, with a header of
 * 8 bytes each; while others send and receive it is soon another number, and where
 * the other end is hostile it is any number up to the size of the ring.
 * name is that of the options with which this end was made.
 */
struct bufpipe_info {
	size_t buffer_size;
	size_t object_size;
	size_t object_count;
	unsigned flags;
	int can_send;
	int can_recv;
	pid_t pid;
	uid_t uid;
	gid_t gid;
	size_t used;
	char name[BUFPIPE_NAME_MAX + 1];
};

/* Errors: -EINVAL. */
int bufpipe_get_info(const bufpipe_t *pipe, struct bufpipe_info *info);

/*
 * How one side of a ring has fared since the pipe was made, all its holders
 * together.  Times are nanoseconds.
 *
 * messages   sent, or received.  A message longer than the buffer counts when its
 *            first piece goes, whatever becomes of the rest.
 * bytes      that they took in the ring: each message 8 more than its length
 *            rounded up to a multiple of 8, as for buffer_size.
 * waits      how often a call found the ring full (sender) or empty (receiver),
 *            and waited: by spinning, sleeping, or both.
 * refusals   how often a try found it so, and gave up with -EAGAIN.
 * sleeps     how often such a call slept in the kernel; and
 * slept      for how long in all.  Sleeps in bufpipe_wait, in a set, or on
 *            bufpipe_fd do not count.
 * asleep     for how long the call that sleeps now has waited; 0 if none does.
 * wakeups    how often this side woke the other one.
 */
struct bufpipe_side_stats {
	uint64_t messages;
	uint64_t bytes;
	uint64_t waits;
	uint64_t refusals;
	uint64_t sleeps;
	uint64_t slept;
	uint64_t asleep;
	uint64_t wakeups;
};

/*
 * One ring.
 *
 * size        how many bytes it holds, counted as 'bytes' above.
 * used        how many unread messages take now.
 * messages    how many those are.
 * high_water  the most that the sender has found in it.  It looks only when the
 *             ring seems to be full, about once a lap: a peak that is over by
 *             then remains unseen.
 */
struct bufpipe_ring_stats {
	uint64_t size;
	uint64_t used;
	uint64_t messages;
	uint64_t high_water;
	struct bufpipe_side_stats sender;
	struct bufpipe_side_stats receiver;
};

/* The ring that this end sends through, and the one it receives from; all 0 where it has none. */
struct bufpipe_stats {
	struct bufpipe_ring_stats out;
	struct bufpipe_ring_stats in;
};

/*
 * What goes on in the pipe.  It takes no lock and enters no kernel but for the
 * time, so any holder may call it at any moment, also beside other threads
 * that use the end; each number is that of some moment during the call.
 *
 * What the other side says of itself is checked: its position by this side's, so
 * that used is at most size, and messages and bytes follow from that.  Its waits,
 * sleeps and wakeups can only be believed, or not.  A process that is killed may
 * leave one message uncounted.
 *
 * Errors: -EINVAL.
 */
int bufpipe_get_stats(const bufpipe_t *pipe, struct bufpipe_stats *stats);

/*
 * Waits until everything that this end has sent has been received, that is
 * copied or released by the other side.  It does not say what the other side has
 * done with it.  Call it before bufpipe_close to linger, also after
 * bufpipe_shutdown.  On a shared end other holders cannot send meanwhile.
 *
 * Errors: -EINVAL, -EBADF (it does not send), -EBUSY (a reservation is open),
 *   -EAGAIN, -ETIMEDOUT, -EINTR; -EPIPE: nobody will receive the rest; -EPROTO.
 */
int bufpipe_drain(bufpipe_t *pipe, int64_t timeout_ns);

/*
 * What a result of this library means: in words of this library for the errors
 * named above, "success" for 0 and more, "unknown error" for any other number.
 * The text is English, static, and never NULL.  Any thread may call it, and a
 * signal handler too.
 */
const char *bufpipe_strerror(int error);

/*
 * Hands an end to another process over a connected Unix socket of any type,
 * with SCM_RIGHTS.  The sender keeps its own hold until it closes it.  Blocks as
 * the socket does.  recv_end gives an end that the caller closes.  The receiver
 * of an end becomes its co-owner, so take one only from those you trust.
 *
 * Errors: -EINVAL; -EAGAIN: the socket is non-blocking and not ready; -EINTR; -EPIPE:
 *   the socket was closed; what sendmsg and recvmsg say;
 *   send_end: -EBUSY with an open reservation, an open peek or half of a long
 *     message; -EOPNOTSUPP with BUFPIPE_NO_HANDOVER, or when /proc
 *     was missing at creation;
 *   recv_end: -ENOMEM, -EMFILE; -EBADMSG: what arrived is no end (any descriptors in it have been
 *     closed); -EPROTONOSUPPORT: it is of another layout version.  After any
 *     error but one of recvmsg, what arrived is gone.
 */
int bufpipe_send_end(int socket, bufpipe_t *pipe);
int bufpipe_recv_end(int socket, bufpipe_t **pipe);

/*
 * Two strangers meet at an address:
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
 * The options of listen are the limits and the defaults, those of connect are
 * wishes: a size of 0 takes the listener's, another must be within the
 * listener's size_limit; static or generic, and an object_size, must agree; so
 * must BUFPIPE_DUPLEX, if the connector gives options at all, and the directions.
 * The connector's size_limit is for what the listener chooses.  The other flags,
 * spin_ns and name are each side's own.  Neither side makes, touches or locks
 * memory for more than it allows; a listener also bounds what it keeps for all
 * clients together whose handshake is under way.
 *
 * A client whose bufpipe_connect returned 0 has a pipe: what it sends is received
 * when the listener accepts, however late that is.  If the listener is closed or
 * dies first, the client finds its peer gone: -EPIPE.
 *
 * bufpipe_accept returns the next client whose handshake is complete.  One that
 * connects and says nothing never delays another; it is dropped after 5 seconds,
 * or after 0.1 when others need its place.  When too many wait, or descriptors
 * have run out, clients wait in the backlog of the socket.  Then bufpipe_accept
 * returns -EMFILE or -ENFILE once, later calls wait, and service goes on when
 * there are descriptors again (three for each client).
 *
 * bufpipe_connect waits until the listener has answered.  With timeout 0 it
 * succeeds only if the answer comes at once, so give it time.  With
 * BUFPIPE_WAIT_FOR_LISTENER it also waits for a listener to appear, and begins
 * anew when one hangs up in the middle; with timeout 0 that flag does nothing.
 * BUFPIPE_INTERRUPTIBLE counts for all three calls.
 *
 * A listener is used by one thread at a time.  A child of fork may go on with the
 * listener that it inherited, beside its parent and other children: each client
 * is served by one of them, and those whose handshake is under way at the fork
 * stay with the parent.  A child that does not accept closes the listener, which
 * lets go of what was inherited.  The address belongs to the process that called
 * bufpipe_listen.
 *
 * Cancellation (pthread_cancel): bufpipe_accept and bufpipe_connect are
 * cancellation points while they sleep, and then leave nothing behind and the
 * listener usable; bufpipe_listen and bufpipe_listener_close are none.
 *
 * Errors: -EINVAL, also an address of no known form; -ENOMEM, -EMFILE, -ENFILE, -EFBIG,
 *     ... what the kernel said
 *   listen, connect: -ENAMETOOLONG: no Unix socket has so long an address; -EACCES: this
 *     user may not do so at that path
 *   listen: -EADDRINUSE: somebody listens there, or begins to, or a child of a dead
 *     one still has the listener that it inherited; -EEXIST: what is
 *     there is no socket; -EINTR; -ENOENT: no such directory, or nothing was
 *     passed under that name; descriptor N is no socket: -ENOTSOCK, or none of
 *     that kind that listens: -ESOCKTNOSUPPORT
 *   accept: -EAGAIN, -ETIMEDOUT, -EINTR; -ESHUTDOWN: the process that made the
 *     listener has closed it
 *   connect: -ENOENT: no such path; -ECONNREFUSED: nobody listens; -EAGAIN,
 *     -ETIMEDOUT, -EINTR; -EACCES also: the listener does not let this user in; -EUSERS: not let in, as too many of this user wait; -ENOBUFS: the
 *     listener has no memory or descriptors for another pipe; -ECONNRESET: it hung
 *     up; -EBADMSG: it speaks something else; -EPROTONOSUPPORT: another version;
 *     -EPROTOTYPE: kind, direction or mode of the pipe differ; -EMSGSIZE: a wish
 *     is larger than the listener's size_limit; -E2BIG: the listener's pipe is
 *     larger than this side's size_limit
 */
int bufpipe_listen(bufpipe_listener_t **listener, const char *address, const struct bufpipe_options *options);
int bufpipe_accept(bufpipe_listener_t *listener, bufpipe_t **pipe, int64_t timeout_ns);
int bufpipe_connect(bufpipe_t **pipe, const char *address, const struct bufpipe_options *options,
		    int64_t timeout_ns);
/* Who wants to come in.  The kernel knows; translated into this process's namespaces. */
struct bufpipe_client {
	pid_t pid; /* 0: not visible from here */
	uid_t uid; /* the overflow uid, 65534, where it has none here: nobody in particular */
	gid_t gid;
	int pidfd; /* -1 before Linux 6.5; valid during the call */
	unsigned
		waiting; /* connections of this uid that were let in and not returned by bufpipe_accept yet */
};

/*
 * 0 lets the client in.  Else it is refused: its bufpipe_connect returns -EUSERS
 * or -ENOBUFS if the policy does, and -EACCES for any other negative number.
 */
typedef int bufpipe_policy_t(void *data, const struct bufpipe_client *client);

/*
 * From now on bufpipe_accept asks the policy about each connection that it takes,
 * in the thread that calls it, before it reads a byte from the client or makes
 * anything for it.  The policy must not use the listener.  NULL lets all in.
 *
 * Errors: -EINVAL.
 */
int bufpipe_listener_set_policy(bufpipe_listener_t *listener, bufpipe_policy_t *policy, void *data);

/*
 * Readable when bufpipe_accept has something to do.  Belongs to the listener.
 *
 * Errors: -EINVAL; in a child of fork, which gets one of its own: -EMFILE, -ENFILE, -ENOMEM.
 */
int bufpipe_listener_fd(bufpipe_listener_t *listener);

/*
 * In the process that made the listener: it ends for all who have it.  Clients
 * that were not accepted yet learn at once that it has gone, and so do those
 * that come later, also while another process has inherited the descriptors; an
 * abstract name is free again when that process has closed or ended, too.  A
 * socket of "fd:N" or "systemd:" goes on to listen for others who hold it.
 * Elsewhere only this process lets go.  NULL is ignored.
 */
void bufpipe_listener_close(bufpipe_listener_t *listener);

/*
 * Events, as bits.  BUFPIPE_HUP is always reported when the other side is gone;
 * a stream that was ended is seen where BUFPIPE_IN is asked for.  Who receives
 * after BUFPIPE_IN may find -EAGAIN: another holder was quicker, or what was
 * there is the beginning of a long message whose sender gave it up.
 */
enum {
	/* A receiving call has something to return: a message, or the end of the stream. */
	BUFPIPE_IN = 1 << 0,
	/*
	 * The message that was refused last for want of room would now fit.  If none was,
	 * or one that needed room was sent since: a quarter of the ring is free, or one
	 * object fits.
	 */
	BUFPIPE_OUT = 1 << 1,
	BUFPIPE_HUP = 1 << 2,
};

/*
 * Waits until at least one of n pipes is ready, like poll(2).  Sets each
 * revents; entries whose pipe is NULL are ignored.  Returns how many are ready,
 * 0 when the time is up (also with timeout 0).  An end must not appear twice
 * for the same event, nor be waited for elsewhere at the same time unless it
 * is shared.
 *
 * Errors: -EINVAL, also when no entry has a pipe; -EINTR: any entry is interruptible;
 *   -ENOMEM; -EBADF: an entry asks for a direction that its end does not have.
 */
struct bufpipe_pollfd {
	bufpipe_t *pipe;
	short events;
	short revents;
};

int bufpipe_wait(struct bufpipe_pollfd *pipes, unsigned n, int64_t timeout_ns);

/*
 * A descriptor for epoll, poll, select and the event loops above them: readable
 * while there is BUFPIPE_IN.  It turns
 * quiet at the next receiving try (timeout 0) that ends in -EAGAIN.  So take one
 * message per wake-up, or all until -EAGAIN: both work.  Only poll it: never read
 * it, and do not close it, it belongs to the end.  Calling again returns the same
 * one.  The end has two more descriptors from the first call on, a shared one
 * three.
 *
 * Each process that holds a shared end calls this for itself, after the fork: a
 * child that calls it gets a descriptor of its own.  A message makes the
 * descriptors of all holders readable, and those that come too late find -EAGAIN.
 * While another holder has the next message in its hands, the descriptor turns
 * readable every 20 ms, since that holder may put it back.  Nothing else makes it
 * readable without a reason.
 *
 * If a holder of the other end is killed in the few instructions between sending
 * and ringing, and other holders of that end live on, the message is told of with
 * the next one; a program that cannot bear that sets a timer and tries.
 *
 * Errors: -EINVAL; -EBADF: the end does not receive; -EMFILE, -ENFILE, -ENOMEM; -ENOSPC:
 *   fs.epoll.max_user_watches.
 */
int bufpipe_fd(bufpipe_t *pipe);

/*
 * The same for BUFPIPE_OUT: readable when there is room, or nobody will receive any
 * more.  It turns quiet at the next sending try (timeout 0) that ends in -EAGAIN.
 * On a duplex end messages that arrive make it readable too: then a try says so.
 *
 * Errors: -EINVAL; -EBADF: the end does not send; -EMFILE, -ENFILE, -ENOMEM; -ENOSPC:
 *   fs.epoll.max_user_watches.
 */
int bufpipe_room_fd(bufpipe_t *pipe);

/*
 * A set waits for very many pipes at a cost that does not grow with their
 * number, like epoll.  Level-triggered: what is ready is reported until it no
 * longer is.  Ready entries take turns, so none starves.  Plain descriptors may
 * join; their events are those of poll(2).
 *
 * A set may be changed by any thread at any time, also while another waits in
 * it; one thread at a time waits.  An end, or a descriptor, must be removed
 * before it is closed.  Changes that concern one end must not overlap.  An end
 * is in at most one set of a process, and while it is in a set no blocking call
 * waits on it for the same direction.  A set does not survive fork: in the
 * child every call but bufpipe_set_destroy is -EINVAL.
 *
 * A shared end may be in the sets of several processes: a message wakes all that
 * sleep, one takes it, the others find -EAGAIN.
 *
 * For very many pipes create them with BUFPIPE_NO_HANDOVER and a small ring: each
 * end then takes one descriptor and three mappings; bufpipe(7) names the limits.
 *
 * Errors: -EINVAL, also in a child of fork
 *   create: -ENOMEM, -EMFILE, -ENFILE
 *   add, modify: -EBADF: the end does not go that way
 *   add, add_fd: -EEXIST: it is there already; -ENOMEM; -ENOSPC: fs.epoll.max_user_watches
 *   add_fd: -EBADF: no such descriptor; -EPERM: a regular file or a directory is
 *     always ready
 *   modify, remove, remove_fd: -ENOENT: it is not there
 *   wait: -EBUSY: another thread waits in it; -ENOMEM, -EMFILE, -ENFILE, -ENOSPC: io_uring
 *     was refused, and so was what epoll needs to take its place; -EINTR: a signal handler ran; or,
 *     without one, something has become of a set that this thread waited in last,
 *     or of one that another thread destroyed.  The same may befall epoll_wait and
 *     other calls that are never restarted, see bufpipe_set_create(3).
 *
 * Where io_uring is refused, from the beginning or later, epoll takes its place.
 * To destroy a set takes some 10 to 30 ms, until nothing is left of its io_uring.
 */
typedef struct bufpipe_set bufpipe_set_t;

struct bufpipe_event {
	bufpipe_t *pipe; /* NULL for a plain descriptor */
	void *user;
	unsigned events; /* BUFPIPE_*, or POLL* for a plain descriptor */
};

/* flags: 0, or BUFPIPE_NO_URING to do without io_uring, as happens by itself where that is refused. */
#define BUFPIPE_NO_URING 1u
/* For bufpipe_set_fd; the set then does without io_uring too. */
#define BUFPIPE_POLLABLE 2u
int bufpipe_set_create(bufpipe_set_t **set, unsigned flags);
void bufpipe_set_destroy(bufpipe_set_t *set);
int bufpipe_set_add(bufpipe_set_t *set, bufpipe_t *pipe, unsigned events, void *user);
int bufpipe_set_modify(bufpipe_set_t *set, bufpipe_t *pipe, unsigned events, void *user);
int bufpipe_set_remove(bufpipe_set_t *set, bufpipe_t *pipe);
int bufpipe_set_add_fd(bufpipe_set_t *set, int fd, unsigned events, void *user);
int bufpipe_set_remove_fd(bufpipe_set_t *set, int fd);
/* How many events it wrote, at most max; 0 when the time is up (also with timeout 0). */
int bufpipe_set_wait(bufpipe_set_t *set, struct bufpipe_event *events, unsigned max, int64_t timeout_ns);

/*
 * A descriptor for the event loop of somebody else: readable when bufpipe_set_wait
 * has something to report.  It turns quiet when bufpipe_set_wait with timeout 0
 * returns 0, so call that until it does.  Only poll it; it belongs to the set.
 *
 * Errors: -EINVAL, also if the set was created without BUFPIPE_POLLABLE.
 */
int bufpipe_set_fd(const bufpipe_set_t *set);

#ifdef __cplusplus
}
#endif
#endif
