/* SPDX-License-Identifier: MIT */
/* How many items are in a queue, and how many of its tasks are done. */
#ifndef BUFFERED_PIPE_QUEUE_COUNT_H
#define BUFFERED_PIPE_QUEUE_COUNT_H

#include "base.h"

#include <sys/uio.h>

/*
 * The counts of a queue, in a page of memory that all who hold the queue have.
 *
 * Each message ends with its number.  A consumer notes the number of the item that it
 * took.  A producer, which has the lock, notes the number of the item that it put.
 * So nothing is added up that a death could leave out: the next item that is put or
 * taken corrects a note that a dead process did not write.  Until then the ring itself
 * tells: see tally_look.
 */
struct tally;

/* The number that follows each message, with a byte that marks it as a trailer. */
#define TRAILER ((size_t)8)

/* An item, to be put.  The last piece, or the end of the flat one, is the trailer. */
struct item {
	char *flat; /* NULL: in pieces */
	struct iovec *pieces;
	int n;
	size_t len;          /* with the trailer */
	uint64_t trailer[2]; /* the number is the second; the first is padding, if a trailer needs it */
};

/* Places in the ring are compared modulo this.  No record has a multiple of it as its length. */
#define PLACES ((uint64_t)4096)

/* How many bytes to add to a message of so many, for the trailer. */
static inline size_t tally_trailer(size_t len)
{
	size_t record = 8 + ((len + TRAILER + 7) & ~(size_t)7);

	return record % PLACES ? TRAILER : 2 * TRAILER;
}

/* Takes the descriptor, -1: a new one.  NULL with an exception. */
struct tally *tally_open(int fd, size_t maxsize);
void tally_hold(struct tally *tally);
void tally_drop(struct tally *tally);
int tally_fd(const struct tally *tally);
size_t tally_maxsize(const struct tally *tally);

/*
 * Puts the item, which must fit into the buffer: 0, -EAGAIN, -ETIMEDOUT, -EINTR, or an
 * error of the library; -EALREADY if a try found another producer at work.  'out' is the
 * end that sends.  'in' is the end that receives, or NULL.  timeout_ns 0 only tries.
 */
int tally_put(struct tally *tally, bufpipe_t *out, bufpipe_t *in, struct item *item, int64_t timeout_ns);
/* Puts several flat items.  How many were put, at least one; or an error as above. */
ssize_t tally_put_many(struct tally *tally, bufpipe_t *out, bufpipe_t *in, struct item *items, size_t n,
		       int64_t timeout_ns);
/*
 * The same for an item longer than the buffer, which the caller sends itself: after
 * tally_begin has returned 0, it sends, and tells tally_end whether it was sent.
 */
int tally_begin(struct tally *tally, bufpipe_t *out, bufpipe_t *in, struct item *item, int64_t timeout_ns);
void tally_end(struct tally *tally, bool sent);

/* Notes that a message was taken.  Its length without the trailer. */
size_t tally_took(struct tally *tally, const char *message, size_t len);

/* How many items there are.  The ends may be NULL. */
size_t tally_size(struct tally *tally, bufpipe_t *out, bufpipe_t *in);

/* False: more tasks would be done than were put. */
bool tally_task_done(struct tally *tally);
/* Waits until all tasks are done: 0, -ETIMEDOUT or -EINTR. */
int tally_join(struct tally *tally, bufpipe_t *out, int64_t timeout_ns);
size_t tally_unfinished(struct tally *tally, bufpipe_t *out);

#endif
