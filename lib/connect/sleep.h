/* SPDX-License-Identifier: MIT */
/*
 * How the calls of this folder sleep, and where a thread may be cancelled in
 * them: only while it sleeps, and then nothing is half done.  Everywhere else
 * cancellation is put off, since a thread that ended between two system calls
 * would leave descriptors, mappings and a lock file behind.
 */
#ifndef BUFPIPE_CONNECT_SLEEP_H
#define BUFPIPE_CONNECT_SLEEP_H

#include "base/sys.h"

#include <pthread.h>
#include <stdbool.h>

struct sleeper {
	int64_t deadline;   /* of the whole call */
	bool interruptible; /* a signal handler ends the call */
	int cancel_state;   /* the thread's own */
};

/* At the beginning and at the end of a call. */
struct sleeper sleeper_begin(int64_t deadline, bool interruptible);
void sleeper_end(const struct sleeper *sleeper);

/*
 * Sleeps until the descriptor is readable, or until a time or the deadline,
 * whichever comes first.  A descriptor of -1 is never readable.  A thread that
 * is cancelled here closes owned, unless that is -1.
 *   1           readable
 *   0           a signal handler ran that ends nothing, or the time has come
 *               and the deadline has not
 *   -EINTR      a signal handler ran
 *   -EAGAIN     the deadline has passed: there was none to wait for
 *   -ETIMEDOUT  the deadline has passed
 */
int sleep_until(const struct sleeper *sleeper, int fd, int64_t until, int owned);

#endif
