/* SPDX-License-Identifier: MIT */
/* The clients of a receiver. */
#ifndef SENDERS_H
#define SENDERS_H

#include <bufpipe.h>

#include "settings.h"

/* How many are connected at once. Others wait, or take the place of a client that has not said hello. */
#define SENDERS 64

struct sender {
	bufpipe_t *pipe; /* NULL: nobody */
	bool welcomed;   /* it has said hello, and was told that it may send */
	uint64_t bytes;  /* written out of what it sent */
	char *whole;     /* a message longer than the ring, while it comes; else NULL */
	size_t whole_cap;
};

struct senders {
	const struct settings *settings;
	bufpipe_listener_t *listener; /* NULL: nobody else may come */
	bufpipe_set_t *set;
	bool listening; /* the listener is in the set */
	bool exhausted; /* it was reported that descriptors have run out */
	unsigned welcomed;
	struct sender list[SENDERS];
};

/* 0 or a negative errno. */
int senders_open(struct senders *senders, const struct settings *settings, size_t buffer_size);
/*
 * Waits for a sender that was just welcomed, or that was welcomed before and has sent
 * something.  0, or a negative errno: -EAGAIN with timeout 0, -ETIMEDOUT if there was
 * none in this time.
 */
int senders_wait(struct senders *senders, struct sender **ready, int64_t timeout_ns);
/* From now on the caller receives from this one itself, not through senders_wait. */
void senders_take(struct senders *senders, struct sender *sender);
/* Closes the pipe to one sender. */
void senders_leave(struct senders *senders, struct sender *sender);
/* From now on nobody else may connect. Closes the clients that are not welcomed yet. */
void senders_no_more(struct senders *senders);
void senders_close(struct senders *senders);

#endif
