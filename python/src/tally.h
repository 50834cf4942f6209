/* SPDX-License-Identifier: MIT */
/* How many items are in a queue, and how many of its tasks are done. */
#ifndef BUFFERED_PIPE_TALLY_H
#define BUFFERED_PIPE_TALLY_H

#include "base.h"

#include <sys/uio.h>

/*
 * The counts of a queue, in a page of memory that all who hold the queue have.
 *
 * Each message ends with its number.  A consumer notes the number of what it
 * took, and a producer, under the lock, that of what it put; so nothing is added
 * up that a death could leave out, and the next message that moves puts a note
 * right that the dead did not write.  What is to be exact meanwhile is read in
 * the ring: see tally_look.
 */
struct tally;

/* What follows each message: its number, and above it something by which it is known. */
#define TRAILER ((size_t)8)

/* An item, to be put.  The last piece, or the end of the flat one, is the trailer. */
struct item {
	char *flat; /* NULL: in pieces */
	struct iovec *pieces;
	int n;
	size_t len;          /* with the trailer */
	uint64_t trailer[2]; /* perhaps nothing, and the number */
};

/* How many bytes to add to a message of so many, for the trailer. */
size_t tally_trailer(size_t len);
/* Takes the descriptor, -1: a new one.  NULL with an exception. */
struct tally *tally_open(int fd, size_t maxsize);
void tally_hold(struct tally *tally);
void tally_drop(struct tally *tally);
int tally_fd(const struct tally *tally);
size_t tally_maxsize(const struct tally *tally);

/*
 * Puts the item, which fits into the buffer: 0, -EAGAIN, -ETIMEDOUT, -EINTR, or
 * what the library says; -EALREADY for a try that found another producer at work.
 * 'out' is the end that sends; 'in', which receives, may be
 * NULL.  With timeout_ns 0 it only tries.
 */
int tally_put(struct tally *tally, bufpipe_t *out, bufpipe_t *in, struct item *item, int64_t timeout_ns);
/* Several, each flat; how many, at least one, or as above. */
ssize_t tally_put_many(struct tally *tally, bufpipe_t *out, bufpipe_t *in, struct item *items, size_t n,
		       int64_t timeout_ns);
/*
 * The same for an item longer than the buffer, whose sending is the caller's
 * part: begin, and after 0 send, and end with whether it was sent.
 */
int tally_begin(struct tally *tally, bufpipe_t *out, bufpipe_t *in, struct item *item, int64_t timeout_ns);
void tally_end(struct tally *tally, bool sent);

/* A message was taken: its length without the trailer. */
size_t tally_took(struct tally *tally, const char *message, size_t len);

/* How many items there are.  The ends may be NULL. */
size_t tally_size(struct tally *tally, bufpipe_t *out, bufpipe_t *in);

/* False: too often. */
bool tally_task_done(struct tally *tally);
/* Until each is done: 0, -ETIMEDOUT or -EINTR. */
int tally_join(struct tally *tally, bufpipe_t *out, int64_t timeout_ns);
size_t tally_unfinished(struct tally *tally, bufpipe_t *out);

#endif
