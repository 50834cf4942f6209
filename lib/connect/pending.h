/* SPDX-License-Identifier: MIT */
/*
 * The listening side of the handshake in handshake.h: the connectors that have
 * not been returned by bufpipe_accept.
 *
 * A connector that has sent its region has returned from bufpipe_connect.  It has a
 * pipe, and what it sends must arrive, however long the listener is away.  So its
 * region stays in the queue of the socket until the pipe is complete, and a connector
 * is dropped for its silence only after a look into that queue.
 */
#ifndef BUFPIPE_CONNECT_PENDING_H
#define BUFPIPE_CONNECT_PENDING_H

#include "connect/address.h"
#include "connect/handshake.h"
#include "connect/unread.h"

#define PENDING_MAX 64
/* How long a connector may be silent.  An honest one answers in microseconds, or as soon as it runs again. */
#define PATIENCE (5 * NSEC_PER_SEC)
/* For this time it keeps its place even if others need it.  An honest one runs again within it. */
#define GRACE (NSEC_PER_SEC / 10)
/*
 * The least that remains of it for a connector that has not even sent its wishes, see
 * grace_of.  With 64 places, 4000 silent connections then leave within a quarter of a
 * second.
 */
#define GRACE_LEAST (GRACE / 32)
/*
 * How often to look again when descriptors or memory have run out, because nobody tells when some
 * are free.
 */
#define RETRY (NSEC_PER_SEC / 10)

/* A connector whose handshake is under way. */
struct pending {
	int socket;   /* -1: a free place */
	bool offered; /* true: we wait for its region; false: for its wishes */
	bool stalled; /* its packet stays in the queue until there is room; it is not in the epoll */
	uid_t uid;
	int64_t since;   /* its last step, or ours */
	uint64_t memory; /* of the rings, once they are offered */
	struct region ours;
	struct identity expected; /* what the connector's region must be */
	struct bufpipe_options options;
};

struct bufpipe_listener {
	struct listening listening;
	int epoll; /* of the listening socket, the timer, and the pending connectors */
	int timer; /* for bufpipe_listener_fd, between the calls; -1: the kernel has none */
	struct bufpipe_options options;
	uint64_t size_limit;   /* bytes of messages that a connector may wish for */
	uint64_t memory_limit; /* bytes of rings of all pending connectors */
	bufpipe_policy_t *policy;
	void *policy_data;
	uint32_t owner;   /* the process that made the listener, and to which the address belongs */
	uint32_t process; /* the process that opened the descriptors; see make_ours */
	bool paused;      /* the listening socket is not in the epoll: connectors wait in the backlog */
	bool told;        /* bufpipe_accept has returned that something has run out */
	bool armed;       /* the timer is running */
	int64_t retry;    /* when to look again, while paused or a connector is stalled */
	int64_t grace;    /* of connectors without wishes, while one user has most places: see grace_of */
	char name[256];
	struct unread unread;
	struct pending pending[PENDING_MAX];
};

/* Each of these returns 1 if a pipe is complete, 0 to go on, or an error for the caller of bufpipe_accept. */

/* A connector has sent something, or is gone.  What it does wrong ends only its own handshake. */
int pending_advance(struct bufpipe_listener *listener, struct pending *pending, bool gone, bufpipe_t **pipe);
/* Drops the connectors that have been silent for too long, and the kept offers that are not unread any more. */
int pending_expire(struct bufpipe_listener *listener, bufpipe_t **pipe);

/* Whether a connector has just got our offer, so that its answer is worth waiting for without a sleep. */
bool pending_answers_soon(const struct bufpipe_listener *l, int64_t now);

/* Gives stalled connectors and the backlog another chance, if it is time to. */
void pending_retry(struct bufpipe_listener *listener);
/* When there will be something to do even if nothing comes. */
int64_t pending_next(const struct bufpipe_listener *listener);

void pending_drop(struct bufpipe_listener *listener, struct pending *pending);

/* How many connectors this user has. */
int pending_count_of(const struct bufpipe_listener *listener, uid_t uid);

/* Whether an error says that this process or the system lacks something now, which it may have later. */
static inline bool pending_is_shortage(int error)
{
	return error == -EMFILE || error == -ENFILE || error == -ENOMEM || error == -ENOBUFS;
}

/*
 * Makes room by dropping a silent connector other than 'except'.  *evicted says
 * whether there was one whose grace is over.  1 if that completed a pipe, because the
 * region of that connector had come before it was dropped; otherwise 0.
 */
int pending_evict(struct bufpipe_listener *listener, const struct pending *except, bufpipe_t **pipe,
		  bool *evicted);

/*
 * Called when something has run out, to look again later.  If a silent connector can be
 * dropped soon, that is enough: 0.  Otherwise the program must free something, so it gets
 * the error, once.  error is 0 if only places or the memory for offers have run out.
 */
int pending_schedule_retry(struct bufpipe_listener *listener, const struct pending *except, int error);

#endif
