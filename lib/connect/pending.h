/* SPDX-License-Identifier: MIT */
/*
 * The listening side of the handshake in handshake.h: the connectors that have
 * not been returned by bufpipe_accept.
 *
 * A connector that has sent its region has returned from bufpipe_connect: it
 * has a pipe, and what it sends must arrive, however long the listener is away.
 * So the region stays in the queue of the socket until the pipe stands, and a
 * connector is dropped for its silence only after a look into that queue.
 */
#ifndef BUFPIPE_CONNECT_PENDING_H
#define BUFPIPE_CONNECT_PENDING_H

#include "connect/address.h"
#include "connect/handshake.h"

#define PENDING_MAX 64
/* How long a connector may be silent; an honest one answers in microseconds, or when it is run again. */
#define PATIENCE (5 * NSEC_PER_SEC)
/* For so long it keeps its place even if others need it: the time in which an honest one is run again. */
#define GRACE (NSEC_PER_SEC / 10)
/* Until another look, when descriptors or memory have run out: nobody tells when some are free again. */
#define RETRY (NSEC_PER_SEC / 10)

/* A connector whose handshake is under way. */
struct pending {
	int socket;   /* -1: a free place */
	bool offered; /* we wait for its region; before that for its wishes */
	bool stalled; /* what it sent stays in its queue until there is room; not in the epoll */
	uid_t uid;
	int64_t since;   /* its last step, or ours */
	uint64_t memory; /* of the rings, once they are offered */
	struct region ours;
	struct identity expected; /* what the connector's region must be */
	struct bufpipe_options options;
};

struct bufpipe_listener {
	struct listening listening;
	int epoll; /* the listening socket, the timer, and all that wait */
	int timer; /* for bufpipe_listener_fd, between the calls; -1: the kernel has none */
	struct bufpipe_options options;
	uint64_t size_limit;   /* bytes of messages that a connector may wish for */
	uint64_t memory_limit; /* bytes of rings of all that wait */
	bufpipe_policy_t *policy;
	void *policy_data;
	uint32_t owner;   /* the process that made the listener: the address is its */
	uint32_t process; /* whose descriptors these are; in a child they are still the parent's */
	bool paused;      /* the listening socket is not in the epoll: connectors wait in the backlog */
	bool told;        /* that something has run out */
	bool armed;       /* the timer is */
	int64_t retry;    /* when to look again, while it is paused or somebody is stalled */
	char name[256];
	struct pending pending[PENDING_MAX];
};

/* In each of these: 1 when a pipe is complete, 0 to go on, or an error for the caller of bufpipe_accept. */

/* One connection from the backlog. */
int pending_admit(struct bufpipe_listener *listener, bufpipe_t **pipe);
/* Something came from a connector, or it hung up.  What it does wrong ends only itself. */
int pending_advance(struct bufpipe_listener *listener, struct pending *pending, bufpipe_t **pipe);
/* Drops those that have been silent for too long. */
int pending_expire(struct bufpipe_listener *listener, bufpipe_t **pipe);

/* Looks again at what had to wait, if it is time to. */
void pending_retry(struct bufpipe_listener *listener);
/* When there will be something to do though nothing comes. */
int64_t pending_next(const struct bufpipe_listener *listener);

void pending_drop(struct bufpipe_listener *listener, struct pending *pending);

#endif
