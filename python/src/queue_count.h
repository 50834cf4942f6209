/* SPDX-License-Identifier: MIT */
/* How many items are in a queue, and how many of its tasks are done. */
#ifndef BUFFERED_PIPE_QUEUE_COUNT_H
#define BUFFERED_PIPE_QUEUE_COUNT_H

#include "base.h"

#include <sys/uio.h>

/*
 * The counts of a queue, in a page of memory that all processes with the queue share.
 *
 * Each message ends with its number.  A consumer notes the number of the item that it
 * took.  A producer, which has the lock, notes the number of the item that it put.
 * Adding up could miss what a dead process did not add.  Here the next item that is put
 * or taken corrects a note that a dead process did not write, and until then a look at
 * the ring does: see tally_look.
 */
struct tally;

/* The number that follows each message, with a byte that marks it as a trailer. */
#define TRAILER ((size_t)8)

/* An item to be put.  Its trailer is the last piece, or the end of 'flat'. */
struct item {
	char *flat; /* NULL: the item is in pieces */
	struct iovec *pieces;
	int n;
	size_t len;          /* with the trailer */
	uint64_t trailer[2]; /* the number is the second; the first is padding, if a trailer needs it */
};

/* Places in the ring are compared modulo this.  So no record may have a multiple of it as its length. */
#define PLACES ((uint64_t)4096)

/* The length of the trailer of a message of len bytes. */
static inline size_t tally_trailer(size_t len)
{
	size_t record = 8 + ((len + TRAILER + 7) & ~(size_t)7);

	return record % PLACES ? TRAILER : 2 * TRAILER;
}

/* Opens the counts behind a descriptor, which it takes over; -1 makes new ones.  Returns NULL with an exception. */
struct tally *tally_open(int fd, size_t maxsize);
void tally_hold(struct tally *tally);
void tally_drop(struct tally *tally);
int tally_fd(const struct tally *tally);
size_t tally_maxsize(const struct tally *tally);

/*
 * Puts the item, which must fit into the buffer.  Returns 0, -EAGAIN, -ETIMEDOUT, -EINTR or
 * an error of the library; -EALREADY if a try found another producer at work.  'out' is the
 * end that sends.  'in' is the end that receives, or NULL.  timeout_ns 0 only tries.
 */
int tally_put(struct tally *tally, bufpipe_t *out, bufpipe_t *in, struct item *item, int64_t timeout_ns);
/* Puts several flat items.  Returns how many were put, at least one, or an error as above. */
ssize_t tally_put_many(struct tally *tally, bufpipe_t *out, bufpipe_t *in, struct item *items, size_t n,
		       int64_t timeout_ns);
/*
 * The same for an item longer than the buffer, which the caller sends itself after
 * tally_begin has returned 0.  Then it tells tally_end whether the item was sent.
 */
int tally_begin(struct tally *tally, bufpipe_t *out, bufpipe_t *in, struct item *item, int64_t timeout_ns);
void tally_end(struct tally *tally, bool sent);

/* Notes that a message was taken.  Returns its length without the trailer. */
size_t tally_took(struct tally *tally, const char *message, size_t len);

/* How many items there are.  The ends may be NULL. */
size_t tally_size(struct tally *tally, bufpipe_t *out, bufpipe_t *in);

/* Returns false if more tasks would be done than were put. */
bool tally_task_done(struct tally *tally);
/* Waits until all tasks are done.  Returns 0, -ETIMEDOUT or -EINTR. */
int tally_join(struct tally *tally, bufpipe_t *out, int64_t timeout_ns);
size_t tally_unfinished(struct tally *tally, bufpipe_t *out);

#endif
