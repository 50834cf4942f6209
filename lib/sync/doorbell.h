/* SPDX-License-Identifier: MIT */
/*
 * The socket between two ends as a bell.  A byte says "look again" to everyone
 * who sleeps on it, and carries nothing else; docs/waiting.md, section 2.
 *
 * Each sleeper has an epoll of its own with the socket in it edge-triggered.  A
 * byte that arrives makes each of them readable until that sleeper has taken its
 * own event, so that sleepers cannot take each other's news.  Nobody empties the
 * queue: without a byte in it the kernel drops the events that were not taken yet.
 *
 * None of these is a cancellation point: a thread that ended in one could run its
 * clean-up with the turn of a shared end.
 */
#ifndef BUFPIPE_SYNC_DOORBELL_H
#define BUFPIPE_SYNC_DOORBELL_H

#include <pthread.h>
#include <stdint.h>

/* After so many raises of a flag, whoever makes the next trims: a queue holds 278 packets. */
#define DOORBELL_TRIM_EVERY 64

/* An epoll for one sleeper, or a negative errno: -EMFILE, -ENFILE, -ENOMEM. */
int doorbell_open(void);
void doorbell_close(int bell);

/* From here on bytes that arrive, and the hang-up, are events. */
int doorbell_join(int bell, int socket);

/* Takes this sleeper's events: only what arrives from here on ends a sleep. */
void doorbell_take(int bell);

/* Until an event comes: 0, -ETIMEDOUT, -EINTR. */
int doorbell_sleep(int bell, int64_t timeout_ns);

/* Takes bytes off, and leaves one.  lock: of the co-owners of this end, one trims at a time. */
void doorbell_trim(int socket, pthread_mutex_t *lock);

#endif
