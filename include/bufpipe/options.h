/* SPDX-License-Identifier: MIT */
/*
 * The options of a pipe.
 * A part of <bufpipe.h>, which has the rules that hold for every call.
 */
#ifndef BUFPIPE_OPTIONS_H
#define BUFPIPE_OPTIONS_H

/* Here, because every other part includes this one. */
#if !defined(__linux__) || !defined(__LP64__)
#error "bufpipe needs 64-bit Linux"
#endif

#include <stddef.h>
#include <stdint.h>

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

#endif
