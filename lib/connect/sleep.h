/* SPDX-License-Identifier: MIT */
/*
 * How the calls of this folder sleep, and where their threads can be cancelled: only
 * while they sleep, and then nothing is half done.  Everywhere else cancellation is
 * off, because a thread that is cancelled between two system calls would leave
 * descriptors, mappings and a lock file behind.
 */
#ifndef BUFPIPE_CONNECT_SLEEP_H
#define BUFPIPE_CONNECT_SLEEP_H

#include "base/sys.h"

#include <pthread.h>
#include <stdbool.h>

struct sleeper {
	int64_t deadline;   /* of the whole call */
	bool interruptible; /* a signal handler ends the call */
	bool at_once;       /* BUFPIPE_NO_SPIN: never look before a sleep */
	int cancel_state;   /* of the thread before the call */
};

/* To be called at the beginning and at the end of a call. */
struct sleeper sleeper_begin(int64_t deadline, bool interruptible);
void sleeper_end(const struct sleeper *sleeper);

/*
 * How long to look for the next packet of a handshake before sleeping, in ns.  The other
 * side makes and maps a region meanwhile, which takes 20 to 40 us; a wake-up takes 15.
 */
#define SLEEP_BRIEF 60000

/*
 * Looks for that long, unless another program wants the CPU or the call does not wait.
 * Returns whether the descriptor is readable.
 */
bool sleep_spared(const struct sleeper *sleeper, int fd);

/*
 * Sleeps until the descriptor is readable, or until the time 'until' or the deadline
 * of the sleeper, whichever comes first.  A descriptor of -1 is never readable.  If
 * the thread is cancelled here, it closes owned, unless that is -1.
 *   1           the descriptor is readable
 *   0           'until' has come before the deadline, or a signal handler ran and
 *               the call is not interruptible
 *   -EINTR      a signal handler ran
 *   -EAGAIN     the deadline is TIME_TRY
 *   -ETIMEDOUT  the deadline has passed
 */
int sleep_until(const struct sleeper *sleeper, int fd, int64_t until, int owned);

#endif
