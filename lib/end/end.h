/* SPDX-License-Identifier: MIT */
/*
 * An end: a ring to send through, a ring to receive from, or both; how to wait
 * for each of them; the socket that tells whether the other side lives; and the
 * locks of its co-owners.
 */
#ifndef BUFPIPE_END_END_H
#define BUFPIPE_END_END_H

#include "bufpipe.h"
#include "end/direction.h"
#include "memory/region.h"

/* A long message of which only the beginning was received.  total is 0 if there is none. */
struct partial {
	char *data; /* the beginning, kept by a bufpipe_recv that gave up */
	uint64_t total;
	uint64_t have;
	uint64_t at;       /* the receiver's head when the beginning was kept */
	uint64_t begin;    /* the position of its first fragment */
	uint64_t given_up; /* the value of record_given_up when the first fragment was taken */
	/* bufpipe_recv_part: what is left of the fragment at head, and the length of its record. */
	const char *fragment;
	uint64_t fragment_left;
	uint64_t fragment_len;
};

/* A long message that is being sent. */
struct outgoing {
	uint64_t total;
	uint64_t sent;
	uint64_t begin; /* the position of its first fragment */
};

enum { ARM_IN, ARM_OUT };

struct bufpipe {
	struct sender sender;
	struct direction out;
	_Alignas(LAYOUT_LINE) struct receiver receiver;
	struct direction in;
	struct partial partial;
	struct outgoing outgoing;
	struct lock *lead_lock;
	struct lock_habit lead_habit;
	struct region ours;
	struct region theirs;
	int socket;
	bool guarded;   /* no descriptors can come through the socket */
	unsigned flags; /* from the options */

	/* Set by lib/poll, which this layer does not know; NULL while unused. */
	void *entry;                         /* the entry of the set that this end is in */
	void (*leave_set)(struct bufpipe *); /* takes this end out of the set */
	void (*poke_set)(struct bufpipe *);  /* makes the set look at this end */
	void *poll_fds[2];                   /* bufpipe_fd [ARM_IN] and bufpipe_room_fd [ARM_OUT] */
	int (*arm[2])(struct bufpipe *,
		      bool busy);                /* called by a try that found nothing; see lib/poll/fd.c */
	void (*drop_poll_fds)(struct bufpipe *); /* closes both descriptors */
};

/* Creates a region and initialises its locks.  Parameters and errors as region_create. */
int end_make_region(struct region *region, int *shared_fd, const struct identity *identity,
		    const struct bufpipe_options *options);

/*
 * Makes an end from its two regions and its socket.  Takes them over if it succeeds.
 * -EBADMSG if the two regions do not fit together; -ENOMEM.
 */
int end_open(bufpipe_t **pipe, const struct region *ours, const struct region *theirs, int socket,
	     const struct bufpipe_options *options);

/*
 * Called after the handshake: lets no more descriptors through the socket.  If there
 * are descriptors in its queue already, the socket is shut down.
 */
void end_guard(bufpipe_t *pipe);

/*
 * With BUFPIPE_NO_HANDOVER, closes the descriptors that only a hand-over needs.  Call it when
 * nothing can fail.
 */
void end_settle(bufpipe_t *pipe);

static inline int timeout_valid(int64_t timeout_ns)
{
	return timeout_ns >= -1;
}

#endif
