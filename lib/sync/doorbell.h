/* SPDX-License-Identifier: MIT */
/*
 * The socket between two ends as a doorbell.  A byte carries no data; it means
 * "look again" to everyone who sleeps on the socket.  See docs/waiting.md, section 2.
 *
 * Each sleeper has an epoll of its own, which watches the socket edge-triggered.
 * When a byte arrives, each epoll becomes readable, and stays so until its sleeper
 * has taken the event.  So no sleeper can take the event of another.  Nobody empties
 * the queue: if it were empty, the kernel would drop the events that are not taken
 * yet.
 *
 * No function here is a cancellation point: a thread that is cancelled in one could
 * run its clean-up handlers while it holds a lock of a shared end.
 */
#ifndef BUFPIPE_SYNC_DOORBELL_H
#define BUFPIPE_SYNC_DOORBELL_H

#include "memory/layout.h"

#include <stdint.h>

/* The waiter that makes each 64th raise trims the queue, which holds 278 packets. */
#define DOORBELL_TRIM_EVERY 64

/* An epoll for one sleeper, or a negative errno: -EMFILE, -ENFILE, -ENOMEM. */
int doorbell_open(void);
void doorbell_close(int bell);

/* Adds the socket: from here on each byte that arrives, and the hang-up, is an event. */
int doorbell_join(int bell, int socket);

/* Takes the events of this sleeper.  Only what arrives after this ends a sleep. */
void doorbell_take(int bell);

/* Sleeps until an event comes: 0, -ETIMEDOUT, -EINTR. */
int doorbell_sleep(int bell, int64_t timeout_ns);

/* Takes bytes out of the queue and leaves one.  The lock lets one co-owner of this end trim at a time. */
void doorbell_trim(int socket, struct lock *lock);

#endif
