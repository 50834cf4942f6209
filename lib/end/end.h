/* SPDX-License-Identifier: MIT */
/*
 * An end: a ring to send through, a ring to receive from, or both; how to wait
 * for each; the socket that tells whether the other side lives; and the locks
 * by which co-owners take turns.
 */
#ifndef BUFPIPE_END_END_H
#define BUFPIPE_END_END_H

#include "bufpipe.h"
#include "end/direction.h"
#include "memory/region.h"

/* A long message of which the beginning has been received; total is 0 if there is none. */
struct partial {
	char *data; /* what a call of bufpipe_recv that gave up has kept */
	uint64_t total;
	uint64_t have;
	uint64_t at;       /* the receiver's head when this was kept */
	uint64_t begin;    /* where its first piece was */
	uint64_t given_up; /* record_given_up when that was taken */
	/* bufpipe_recv_part: what is left of the piece at head, and the length of its record. */
	const char *piece;
	uint64_t piece_left;
	uint64_t piece_len;
};

/* A long message that is being sent. */
struct outgoing {
	uint64_t total;
	uint64_t sent;
	uint64_t begin; /* where its first piece is */
};

enum { ARM_IN, ARM_OUT };

struct bufpipe {
	struct sender sender;
	struct direction out;
	_Alignas(LAYOUT_LINE) struct receiver receiver;
	struct direction in;
	struct partial partial;
	struct outgoing outgoing;
	pthread_mutex_t *lead_lock;
	struct lock_habit lead_habit;
	struct region ours;
	struct region theirs;
	int socket;
	bool guarded;   /* no descriptors can come through the socket */
	unsigned flags; /* of the options */

	/* Left here by the layer above, which this one does not know.  NULL where there is nothing. */
	void *entry;                         /* in a set: what the set knows of this end, */
	void (*leave_set)(struct bufpipe *); /* and how to take it out */
	void (*poke_set)(struct bufpipe *);  /* and to have it look, */
	void *poll_fds[2]; /* bufpipe_fd is in use, [ARM_IN], or bufpipe_room_fd, [ARM_OUT]: */
	int (*arm[2])(struct bufpipe *, bool busy); /* what a try that found nothing calls; see record.h, */
	void (*drop_poll_fds)(struct bufpipe *);    /* and how to close them */
};

/* A generic pipe is no smaller: a piece of a long message has to go through it. */
#define LEAST_SIZE 64

/* Copies options with defaults filled in, or the defaults for NULL.  -EINVAL. */
int options_check(struct bufpipe_options *checked, const struct bufpipe_options *options);

/* Bytes that messages may take in the pipe: buffer_size; of a static one, its objects with their headers. */
uint64_t options_size(const struct bufpipe_options *checked);

/* What a region must say of an end that does these things: flags of LAYOUT_*. */
struct identity options_identity(const struct bufpipe_options *options, unsigned flags);

/* Creates a region with its locks; as region_create. */
int end_make_region(struct region *region, int *shared_fd, const struct identity *identity,
		    const struct bufpipe_options *options);

/*
 * Makes an end of its three parts.  Takes them if it succeeds.  -EBADMSG when
 * the two regions do not fit together; -ENOMEM.
 */
int end_open(bufpipe_t **pipe, const struct region *ours, const struct region *theirs, int socket,
	     const struct bufpipe_options *options);

/*
 * After a handshake on its socket: no more descriptors are let through.  If
 * there are some in its queue behind the handshake, the end has hung up.
 */
void end_guard(bufpipe_t *pipe);

/* When nothing can fail any more: lets go of the descriptors that are for hand-over, if told so. */
void end_settle(bufpipe_t *pipe);

static inline int timeout_valid(int64_t timeout_ns)
{
	return timeout_ns >= -1;
}

#endif
