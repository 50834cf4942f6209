/* SPDX-License-Identifier: MIT */
/*
 * Every way to wait for one direction of an end, behind one interface. Tests of waiting run for each of
 * them, so none is forgotten.
 */
#ifndef TESTS_WAITER_H
#define TESTS_WAITER_H

#include "bufpipe.h"

#ifdef HAVE_LIBURING
#include <liburing.h>
#endif

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

enum waiter_kind {
	BLOCKED,   /* a call with a timeout */
	WAIT,      /* bufpipe_wait */
	SET,       /* a set with io_uring */
	SET_EPOLL, /* a set without */
	SET_FD,    /* a set whose descriptor is in another loop */
	LEVEL,     /* bufpipe_fd or bufpipe_room_fd in poll, */
	EDGE,      /* and edge-triggered in an epoll */
	REQUEST,   /* bufpipe_prep_wait or bufpipe_prep_wait_room, beside bufpipe_prep_wait_hup */
	WAITER_KINDS
};

extern const char *const waiter_names[WAITER_KINDS];

struct waiter {
	enum waiter_kind kind;
	bool room; /* it sends, and waits for room; else it receives */
	bufpipe_t *end;
	bufpipe_set_t *set;
	int fd;
	int epoll;
	bool asked[2]; /* requests that are under way: for the event, and for the hang-up */
#ifdef HAVE_LIBURING
	struct io_uring ring;
#endif
};

/* Requests do not work where io_uring is forbidden or old. */
bool waiter_works(enum waiter_kind kind);

/* Returns 0, -ENOSYS where this kind does not work, or another negative errno. */
int waiter_open(struct waiter *waiter, enum waiter_kind kind, bufpipe_t *end, bool room);
void waiter_close(struct waiter *waiter);

/* Whether this kind looks again at least every five seconds, and does not depend on being told. */
bool waiter_looks_again(enum waiter_kind kind);

/*
 * Waits after a try that ended with -EAGAIN. Returns 0 if it was woken, perhaps for nothing; -ETIMEDOUT; or
 * another negative errno.
 */
int waiter_sleep(struct waiter *waiter, int64_t timeout_ns);

/*
 * Receives one message and returns its length, or sends one and returns 0. The errors are those of
 * bufpipe_recv and bufpipe_send.
 */
ssize_t waiter_transfer(struct waiter *waiter, void *buf, size_t len, int64_t timeout_ns);

#endif
