/* SPDX-License-Identifier: MIT */
/*
 * bufpipe: buffered pipes through shared memory, for threads and processes
 * on one Linux machine.
 *
 * A pipe has two ends.  In a one-way pipe ends[0] receives and ends[1] sends.  In a
 * duplex pipe both ends do both.  Each message arrives whole, once, and in order.
 *
 * Contents (each section begins with a line of =====)
 *
 *   1  Options        struct bufpipe_options and its flags
 *   2  Life           bufpipe_create, _shutdown, _stop, _close
 *   3  Messages       bufpipe_send, _sendv, _recv, _next; parts; batches
 *   4  In place       bufpipe_reserve, _commit, _cancel, _peek, _release, _unpeek
 *   5  Information    bufpipe_get_info, _get_stats, _drain, _strerror, _version
 *   6  Hand-over      bufpipe_send_end, _recv_end
 *   7  Meeting        bufpipe_listen, _accept, _connect, _listener_*
 *   8  Many pipes     bufpipe_wait, _fd, _room_fd, _set_*
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

/* BUFPIPE_VERSION of the library that the program runs with.  A later version is a larger number. */
unsigned bufpipe_version(void);

/* ===== 1  Options ================================================================================ */

/* Flags of struct bufpipe_options. */
enum {
	/* Both ends send and receive. */
	BUFPIPE_DUPLEX = 1 << 0,
	/* Both ends may be used by many threads and processes at once, in one pid namespace. */
	BUFPIPE_SHARED = 1 << 1,
	/* Ask for transparent huge pages in the ring.  A hint. */
	BUFPIPE_HUGEPAGES = 1 << 2,
	/* Allocate the memory of the ring now, not at first use. */
	BUFPIPE_PREFAULT = 1 << 3,
	/* mlock the ring.  Beyond RLIMIT_MEMLOCK this fails with -ENOMEM or -EPERM. */
	BUFPIPE_LOCKED = 1 << 4,
	/*
	 * A signal handler that runs while a call sleeps ends the call with -EINTR.  It
	 * does not end a call that waits for another holder of a shared end to finish.
	 * See bufpipe_recv for long messages on a shared end.
	 */
	BUFPIPE_INTERRUPTIBLE = 1 << 5,
	/*
	 * For bufpipe_listen and bufpipe_connect of a one-way pipe: this side receives.
	 * If neither side says so, the side that accepts receives.
	 */
	BUFPIPE_RECEIVE = 1 << 6,
	/* For bufpipe_listen and bufpipe_connect of a one-way pipe: this side sends. */
	BUFPIPE_SEND = 1 << 7,
	/*
	 * The end keeps one descriptor (its socket) instead of three, and cannot be handed
	 * over with bufpipe_send_end (-EOPNOTSUPP).  Use it for very many pipes.  Use it also
	 * against a hostile peer: without it, the peer can punch holes into its own memory,
	 * which makes page faults of this side slow.  With bufpipe_listen and bufpipe_connect
	 * it is enough if one side has it: then it holds for both ends.
	 */
	BUFPIPE_NO_HANDOVER = 1 << 8,
	/* bufpipe_connect waits, within its timeout, until somebody listens. */
	BUFPIPE_WAIT_FOR_LISTENER = 1 << 9,
};

/* The longest bufpipe_options.name, in bytes. */
#define BUFPIPE_NAME_MAX 200

/* Special values of bufpipe_options.spin_ns. */
#define BUFPIPE_NO_SPIN     (-1) /* sleep at once */
#define BUFPIPE_SPIN_ALWAYS (-2) /* never sleep: the shortest answer times, at the cost of a CPU */

/*
 * All zero is a good default: a one-way generic pipe of 64 KiB.
 *
 * buffer_size  generic pipes: how many bytes the pipe holds.  Each message takes its
 *              length, rounded up to a multiple of 8, plus 8 bytes; the limit for
 *              all of them together is buffer_size + 8.  So one message of
 *              buffer_size bytes fits.  Up to this length a message can be sent by
 *              a try, reserved and peeked; a longer one streams through in fragments.
 *              If messages are nearly this long, choose twice the size, so that one
 *              can be written while another is read.  0 is 64 KiB; less than 64 is
 *              64.  The memory of the ring is the next power of two above it, at
 *              least a page: 128 KiB for 64 KiB, 64 KiB for 65,520.  Rings of 2 MiB
 *              or more are tuned for streams: between CPUs that share no near cache,
 *              the last message of a burst may arrive about 10 us later.  This also
 *              holds for static pipes.
 * object_size  not 0: a static pipe, in which each message has this many bytes.
 *              buffer_size must be 0 then.
 * object_count static pipes: how many messages the pipe holds; 0 is 64 KiB worth.
 * flags        BUFPIPE_* above.
 * spin_ns      how long this process spins before it sleeps: 0 adapts it to the
 *              waits, > 0 is a number of nanoseconds; or BUFPIPE_NO_SPIN,
 *              BUFPIPE_SPIN_ALWAYS.
 * name         shown in /proc/PID/maps and fd as memfd:NAME; at most 200 bytes.
 *              NULL is "bufpipe".  The string is copied.
 * size_limit   for bufpipe_listen and bufpipe_connect: the largest pipe that the
 *              other side may choose, in bytes of buffer_size.  For a static pipe it
 *              counts each message, rounded up to a multiple of 8, plus 8 bytes.
 *              0 is the size that is given here.  If no size is given, 0 is 16 MiB
 *              (1 MiB with BUFPIPE_PREFAULT or BUFPIPE_LOCKED), or one object if that
 *              is more.  Less than the size given here is -EINVAL.
 * mode         for bufpipe_listen at a path: the permission bits of the socket file,
 *              independent of the umask.  To connect, a user needs the permission to
 *              write.  0 is 0777 without the bits of the umask.
 *
 * Sizes above 2^40 bytes are -EINVAL.  The size of this structure is part of the
 * binary interface, and it may grow at its end until version 1.0.  Fill it by
 * designated initializers, so that new members are 0.
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

/* ===== 2  Life =================================================================================== */

/*
 * Creates a pipe: ends[0] receives and ends[1] sends; with BUFPIPE_DUPLEX each
 * does both.  The caller owns both ends and closes them.  NULL options are the
 * defaults.  On failure ends is not written.
 *
 * The memory for the beginning of the ring (with BUFPIPE_PREFAULT for all of it) is
 * allocated here.  The rest is allocated when the first lap comes to it.
 *
 * Errors: -EINVAL, -EMFILE, -ENFILE, -ENOMEM; -EFBIG: the ring is larger than
 *   RLIMIT_FSIZE; -EPERM: BUFPIPE_LOCKED is not permitted; -ENOSYS: no memfds.
 */
int bufpipe_create(bufpipe_t *ends[2], const struct bufpipe_options *options);

/*
 * Ends the stream from this end, in order, for all who hold it.  The other side
 * receives what was sent and then -EPIPE; a further send here is -EPIPE.  A duplex
 * end can still receive.  On an end that only receives, sends of the other side get
 * -EPIPE, and what has arrived can still be received here.  If a message is being
 * received at the moment when its send finds the shutdown, the send gets -EPIPE and
 * the message may still be delivered; if it is only peeked, it may be gone.
 *
 * Any thread may call this at any time.  It wakes all calls that are blocked in this
 * direction of this end, in this process and others: sends, receives, and waits for
 * many pipes.  They return -EPIPE at once; receivers first get what is there.
 * (Within 100 ms for a call that is just going to sleep and does not get the CPU for
 * 16 ms, and for a wait for many pipes that is just going to sleep; within 200 ms in
 * bufpipe_wait for room; within 5 seconds for a set without io_uring in another process
 * that waits for room on a duplex end, after bufpipe_shutdown.)  On an exclusive end, a
 * send that another thread has begun may be delivered or not.
 *
 * Needs no room and does not wait for the other side.  On a shared end that sends, it
 * waits for a holder that has a reservation open.  A second call does nothing.
 *
 * Errors: -EINVAL; -EBUSY: this thread has a reservation or a message in parts open.
 *   On an exclusive end this is so if any thread has one open.
 */
int bufpipe_shutdown(bufpipe_t *pipe);

/*
 * The same with a timeout.  If it gives up, a send that was blocked may have got -EPIPE
 * already, so call it again.
 *
 * Errors: those of bufpipe_shutdown; -EAGAIN, -ETIMEDOUT: another holder has a
 *   reservation open, or is still inside a sending call.
 */
int bufpipe_shutdown_within(bufpipe_t *pipe, int64_t timeout_ns);

/*
 * The same in both directions: all calls that are blocked on this end wake, and the
 * other side finds this end gone.  Use it to stop a thread that receives from a duplex
 * end.
 *
 * Errors: those of bufpipe_shutdown.
 */
int bufpipe_stop(bufpipe_t *pipe);

/*
 * Closes the end in this process.  The pipe ends when the last process that holds the
 * end has closed it.  An open reservation is cancelled; a peeked message stays unread.
 * The pointer is invalid afterwards.  NULL is ignored.  When the last holder of a
 * receiving end closes it, unread messages are lost.
 */
void bufpipe_close(bufpipe_t *pipe);

/* ===== 3  Messages =============================================================================== */

/*
 * Sends len bytes as one message; buf may be NULL if len is 0.  Blocks while
 * the pipe is full.  A message longer than buffer_size streams through in
 * fragments, so it needs a receiver at the same time.  If the time is up in its middle,
 * the receiver never sees any of it.
 *
 * Errors: -EINVAL, -EBADF, -EAGAIN, -ETIMEDOUT, -EINTR, -EPIPE, -EBUSY, -EPROTO;
 *   -ENOMEM: in the first lap the ring needs memory, and the system has none;
 *   -EMSGSIZE: the pipe is static and len is not object_size; it is a try (timeout 0)
 *   and len is more than buffer_size; or len is more than 2^40.
 */
int bufpipe_send(bufpipe_t *pipe, const void *buf, size_t len, int64_t timeout_ns);

/* The same, for a message gathered from n pieces (at most 1024). */
int bufpipe_sendv(bufpipe_t *pipe, const struct iovec *pieces, int n, int64_t timeout_ns);

/*
 * Sends a message longer than buffer_size in parts.  It is for programs that do other
 * work in between, or do not have all of the message in memory.  Sends the next len
 * bytes, after which 'after' more bytes will follow.  Returns how many of the len
 * bytes it has sent: fewer than len if the time is up or a signal came.  The first
 * call begins the message.  In each further call, len + after must equal what is left
 * of the message.  The receiver sees no difference.
 *
 * From the first part to the last, other sending calls of the thread are -EBUSY, and
 * other holders of a shared end wait, as with an open reservation.  bufpipe_cancel
 * gives the message up; then the receiver never sees any of it.
 *
 * Errors: those of bufpipe_send, if nothing was sent.  -EINVAL also: len is 0, or
 *   len + after is not what is left.  -EMSGSIZE: len + after is at most buffer_size, or
 *   the pipe is static (use bufpipe_send); or it is more than 2^40.  After -EPIPE and
 *   -EPROTO, which come even if a part of the len bytes was sent, the message has
 *   ended; after other errors it can continue.
 */
ssize_t bufpipe_send_part(bufpipe_t *pipe, const void *buf, size_t len, size_t after, int64_t timeout_ns);

/*
 * Receives one message of at most cap bytes into buf; returns its length (0 is
 * a legal length in a generic pipe).  buf may be NULL if cap is 0.
 *
 * Errors: -EINVAL, -EBADF, -EAGAIN, -ETIMEDOUT, -EINTR, -EPIPE, -EBUSY, -EPROTO;
 *   -EMSGSIZE: the message is longer than cap; it stays in place;
 *   -ENOMEM: the message is longer than the ring, and there is no memory to keep its
 *   beginning if this call gives up; it stays in place.
 *
 * If a call gives up in the middle of a message longer than the ring, it keeps what it
 * has received, and a later call continues.  This takes as much memory as the message,
 * and the call that completes or drops it about 0.5 ms for each MiB of it;
 * bufpipe_recv_part needs none.
 *
 * On a shared end the beginning cannot be kept for other holders.  So the call does
 * not give up at its timeout, as long as the sender needs at most 1 second plus 1
 * second for each 16 MiB; if the sender is slower, the message is dropped.  With
 * BUFPIPE_INTERRUPTIBLE the call does give up, and the thread keeps its turn: its next
 * bufpipe_recv continues with that message, or bufpipe_release drops it.  Until then
 * other receiving calls of the thread are -EBUSY, and other holders wait, as with an
 * open peek.
 */
ssize_t bufpipe_recv(bufpipe_t *pipe, void *buf, size_t cap, int64_t timeout_ns);

/*
 * Receives a message longer than buffer_size in parts.  It is for programs that do not
 * want to allocate as much as the sender announces, or do other work in between.
 * Receives the next bytes of the message, at most cap, and returns their number.
 * *after becomes the number of bytes that are still to come; the message is complete
 * when it is 0.  Waits until cap bytes, or all, are there.  If the time is up or a
 * signal came, it returns what it has.  With timeout 0 it returns what is there, but
 * not always all of it.  A message of up to buffer_size bytes comes whole, as with
 * bufpipe_recv.
 *
 * From the first part to the last, other receiving calls of the thread are -EBUSY, and
 * other holders of a shared end wait, as with an open peek.  bufpipe_release drops the
 * rest.
 *
 * Errors: those of bufpipe_recv except -ENOMEM, if nothing was received; the message
 *   can continue.  -EMSGSIZE also: the message is longer than buffer_size, and cap is 0.
 *   -ECANCELED, -EPIPE, -EPROTO in the middle: the rest will not come, and what was
 *   received is not a complete message.  The next call begins with the next message.
 *   -EBUSY also: an earlier bufpipe_recv has kept the beginning of this message.
 */
ssize_t bufpipe_recv_part(bufpipe_t *pipe, void *buf, size_t cap, size_t *after, int64_t timeout_ns);

/*
 * Returns the length of the next message, which stays in place.  Waits for a message
 * as bufpipe_recv does.  The message may be longer than the ring; then its sender may
 * still give it up before it is received.
 *
 * The sender chooses the length, so limit what you allocate for it.
 *
 * Errors: those of bufpipe_recv except -EMSGSIZE and -ENOMEM.
 */
ssize_t bufpipe_next(bufpipe_t *pipe, int64_t timeout_ns);

/*
 * Send or receive up to n messages (n > 0), and return how many they did, at least
 * one.  They wait only for the first.  In send_many each iovec is one message.  In
 * recv_many each iov_len is a capacity and becomes the length that was received.  An
 * error after the first message is returned by the next call.
 *
 * Errors, for the first message: send_many: those of bufpipe_send; recv_many: those
 *   of bufpipe_recv.
 */
ssize_t bufpipe_send_many(bufpipe_t *pipe, const struct iovec *messages, unsigned n, int64_t timeout_ns);
ssize_t bufpipe_recv_many(bufpipe_t *pipe, struct iovec *messages, unsigned n, int64_t timeout_ns);

/* ===== 4  In place =============================================================================== */

/*
 * Zero-copy sending.  *buf becomes room for len bytes (8-byte aligned) inside the
 * ring.  bufpipe_commit sends the message, with any length up to the reserved one (in
 * a static pipe exactly that length).  bufpipe_cancel drops it.  Until then every
 * other sending call on this end is -EBUSY.  A shared end is locked meanwhile: the
 * thread that reserved must finish, and other holders wait.
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
 * Zero-copy receiving.  *buf points to the next message inside the ring, read-only and
 * 8-byte aligned; its length is returned.  bufpipe_release consumes the message.
 * bufpipe_unpeek leaves it as the next message.  Until one of them, every other
 * receiving call on this end is -EBUSY.  A hostile sender can still change the bytes:
 * copy them before you check them.  A shared end is locked meanwhile: the thread that
 * peeked must finish, and other holders wait.  For bufpipe_wait and sets of those holders
 * the message stays ready, so a loop around them goes on until it is released: peek at a
 * shared end for a short time only.
 *
 * Errors of peek: -EINVAL, -EBADF, -EAGAIN, -ETIMEDOUT, -EINTR, -EPIPE, -EBUSY,
 *   -EPROTO; -EMSGSIZE: the message is longer than buffer_size and comes in fragments:
 *   use bufpipe_recv.
 * Errors of release and unpeek: -EINVAL, also when nothing is peeked.
 */
ssize_t bufpipe_peek(bufpipe_t *pipe, const void **buf, int64_t timeout_ns);
int bufpipe_release(bufpipe_t *pipe);
int bufpipe_unpeek(bufpipe_t *pipe);

/*
 * Copies len bytes of the peeked message, from offset on.  It is for a peer that is
 * not trusted: such a peer can change the bytes in the ring between a check and their
 * use.  Copy whatever you decide by (lengths, types, indices), check the copy, and use
 * the copy.  Any thread that may call bufpipe_release may call this; it does not
 * block.  buf may be NULL if len is 0.
 *
 * Errors: -EINVAL: nothing is peeked, or the bytes are not all in the message.
 */
int bufpipe_peek_copy(const bufpipe_t *pipe, void *buf, size_t offset, size_t len);

/* ===== 5  Information ============================================================================ */

/*
 * What this end is.  A one-way end describes its ring, a duplex end the ring that it
 * sends through.
 *
 * buffer_size  0 in a static pipe.
 * object_size, object_count
 *              0 in a generic pipe.
 * pid, uid, gid
 *              of the process that made the other end, at that time, translated into
 *              the namespaces of this process.  A pid of 0 is not visible from here.
 * used         how many bytes unread messages take in the ring now, each with a
 *              header of 8 bytes.  It changes while others send and receive.  If the
 *              other end is hostile, it is any number up to the size of the ring.
 * name         from the options with which this end was made.
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
 * Statistics of one side of a ring since the pipe was made, for all holders of that
 * end together.  Times are nanoseconds.
 *
 * messages   how many were sent, or received.  A message longer than the buffer
 *            counts when its first fragment goes, even if it is given up later.
 * bytes      how many bytes they took in the ring.  Each message takes its length,
 *            rounded up to a multiple of 8, plus 8 bytes, as for buffer_size.
 * waits      how often a call found the ring full (sender) or empty (receiver)
 *            and waited, by spinning, sleeping, or both.
 * refusals   how often a try found the ring full or empty and gave up with -EAGAIN.
 * sleeps     how often such a call slept in the kernel.
 * slept      how long these sleeps took in all.  Sleeps in bufpipe_wait, in a set,
 *            or on bufpipe_fd do not count.
 * asleep     for how long the call that sleeps now has waited; 0 if no call sleeps.
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
 * size        how many bytes the ring holds, counted as 'bytes' above.
 * used        how many bytes unread messages take now.
 * messages    how many unread messages there are now.
 * high_water  the most bytes that the sender has found in the ring.  The sender looks
 *             only when the ring seems to be full, about once a lap, so it does not
 *             see a shorter peak.
 */
struct bufpipe_ring_stats {
	uint64_t size;
	uint64_t used;
	uint64_t messages;
	uint64_t high_water;
	struct bufpipe_side_stats sender;
	struct bufpipe_side_stats receiver;
};

/* The ring that this end sends through, and the ring that it receives from; all 0 if it has none. */
struct bufpipe_stats {
	struct bufpipe_ring_stats out;
	struct bufpipe_ring_stats in;
};

/*
 * Reads the statistics of the pipe.  It takes no lock and makes no system call except
 * to read the clock.  So any holder may call it at any moment, even while other threads
 * use the end.  Each number is from some moment during the call.
 *
 * The position of the other side is checked against the position of this side, so used
 * is at most size, and messages and bytes are within what that allows.  The waits, sleeps
 * and wakeups of the other side cannot be checked.  A process that is killed may leave one
 * message uncounted.
 *
 * Errors: -EINVAL.
 */
int bufpipe_get_stats(const bufpipe_t *pipe, struct bufpipe_stats *stats);

/*
 * Waits until the other side has received (copied or released) everything that this
 * end has sent.  It does not say what the other side has done with it.  Call it before
 * bufpipe_close if a close must not lose anything; it also works after
 * bufpipe_shutdown.  On a shared end, other holders cannot send meanwhile.
 *
 * Errors: -EINVAL, -EBADF (it does not send), -EBUSY (a reservation is open),
 *   -EAGAIN, -ETIMEDOUT, also while another holder of a shared end is sending;
 *   -EINTR; -EPIPE: nobody will receive the rest; -EPROTO.
 */
int bufpipe_drain(bufpipe_t *pipe, int64_t timeout_ns);

/*
 * Returns the meaning of a result: a text for each error that this header names,
 * "success" for 0 and more, and "unknown error" for any other number.  The text is
 * English, static, and never NULL.  Any thread and any signal handler may call this.
 */
const char *bufpipe_strerror(int error);

/* ===== 6  Hand-over ============================================================================== */

/*
 * Hand an end to another process over a connected Unix socket of any type, with
 * SCM_RIGHTS.  The process that sends the end still holds it, until it closes it.
 * Both calls block as the socket does.  The caller of recv_end closes the end that it
 * gets.  The two processes become co-owners of the end, so accept one only from a
 * process that you trust.
 *
 * Errors: -EINVAL; -EAGAIN: the socket is non-blocking and not ready; -EINTR; -EPIPE:
 *   the socket was closed; errors of sendmsg and recvmsg;
 *   send_end: -EBUSY: a reservation or a peek is open, or the beginning of a long
 *     message is kept; -EOPNOTSUPP: the end has BUFPIPE_NO_HANDOVER, or /proc was
 *     missing when it was made;
 *   recv_end: -ENOMEM, -EMFILE; -EBADMSG: what arrived is not an end (descriptors in
 *     it were closed); -EPROTONOSUPPORT: it has another layout version; -EPERM: the
 *     end has BUFPIPE_LOCKED, which is not permitted here.  After any error except one
 *     of recvmsg, what arrived is lost.
 */
int bufpipe_send_end(int socket, bufpipe_t *pipe);
int bufpipe_recv_end(int socket, bufpipe_t **pipe);

/* ===== 7  Meeting ================================================================================ */

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

/* ===== 8  Many pipes ============================================================================= */

/*
 * Events, as bits.  BUFPIPE_HUP is always reported when the other side is gone.  An end
 * of the stream is reported only if BUFPIPE_IN is asked for.  A receiving call after
 * BUFPIPE_IN may still find -EAGAIN: another holder was quicker, or the sender gave up
 * a long message of which only the beginning was there.
 */
enum {
	/* A receiving call has something to return: a message, or the end of the stream. */
	BUFPIPE_IN = 1 << 0,
	/*
	 * The message that was refused last, because there was no room, would fit now.  If
	 * none was refused, or one that had to wait was sent since then: a quarter of the
	 * ring is free, or one object fits.  Of a shared end, each process has its own last
	 * refusal, and another holder may take the room first.
	 */
	BUFPIPE_OUT = 1 << 1,
	BUFPIPE_HUP = 1 << 2,
};

/*
 * Waits until at least one of n pipes is ready, like poll(2).  Sets each revents.
 * Ignores entries whose pipe is NULL.  Returns how many are ready, or 0 if the time is
 * up (also with timeout 0).  An end must not appear twice for the same event.  Unless
 * it is shared, no other call may wait for it at the same time.
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
 * A descriptor for epoll, poll, select and the event loops above them.  It is readable
 * while there is BUFPIPE_IN.  It stops being readable when a receiving try (timeout 0)
 * ends in -EAGAIN.  So take one message per wake-up, or all until -EAGAIN: both work.
 * Only poll it: never read it or close it, because it belongs to the end.  Later calls
 * return the same descriptor.  From the first call on the end has two more
 * descriptors, a shared end three.
 *
 * Each process that holds a shared end calls this itself, the first time while none of
 * its other threads uses the end.  A child that calls it after
 * fork gets a descriptor of its own.  A message makes the descriptors of all holders
 * readable, and holders that come too late find -EAGAIN.  While another holder is
 * receiving the next message, the descriptor becomes readable every 20 ms, because
 * that holder may put the message back.  Apart from that, it is never readable without
 * a reason.
 *
 * If a holder of the other end is killed in the few instructions between sending
 * and ringing, and other holders of that end live on, the message is reported only
 * with the next one.  If a program cannot accept that, it sets a timer and tries.
 *
 * Errors: -EINVAL; -EBADF: the end does not receive; -EMFILE, -ENFILE, -ENOMEM; -ENOSPC:
 *   fs.epoll.max_user_watches.
 */
int bufpipe_fd(bufpipe_t *pipe);

/*
 * The same for BUFPIPE_OUT: readable when there is room, or when nobody will receive
 * any more.  It stops being readable when a sending try (timeout 0) ends in -EAGAIN.
 * On a duplex end, arriving messages make it readable too; then a try finds -EAGAIN.
 * The same happens if several holders of a shared end wait for different sizes, and the
 * smallest of them fits.
 * When another process ends the sending of this end, it becomes readable as well;
 * of a duplex end only after bufpipe_stop there, and not after bufpipe_shutdown.
 *
 * Errors: -EINVAL; -EBADF: the end does not send; -EMFILE, -ENFILE, -ENOMEM; -ENOSPC:
 *   fs.epoll.max_user_watches.
 */
int bufpipe_room_fd(bufpipe_t *pipe);

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
