/* SPDX-License-Identifier: MIT */
/*
 * What an end is, what it has done, and what an error means.
 * A part of <bufpipe.h>, which has the rules that hold for every call.
 */
#ifndef BUFPIPE_INFO_H
#define BUFPIPE_INFO_H

#include <bufpipe/pipe.h>

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#ifdef __cplusplus
extern "C" {
#endif

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
 * Returns the meaning of a result: a text for each error that <bufpipe.h> and its parts name,
 * "success" for 0 and more, and "unknown error" for any other number.  The text is
 * English, static, and never NULL.  Any thread and any signal handler may call this.
 */
const char *bufpipe_strerror(int error);

#ifdef __cplusplus
}
#endif
#endif
