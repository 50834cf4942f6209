/* SPDX-License-Identifier: MIT */
/*
 * A region: the memfd that one end writes and the other reads.
 *
 * Its owner maps it read-write and gives others descriptors that cannot be
 * mapped writable.  Its size is sealed, so that neither side can make the
 * other fault by cutting it short.  The ring in it is mapped twice, back to
 * back, so that a record is contiguous wherever it starts.
 */
#ifndef BUFPIPE_MEMORY_REGION_H
#define BUFPIPE_MEMORY_REGION_H

#include "memory/layout.h"

struct region {
	int fd;                  /* as this process holds it */
	struct control *control; /* read-only memory in a region of the other end */
	char *data;              /* NULL if the region's end does not send */
	size_t span;             /* of the whole mapping */
	struct identity identity;
	uint64_t inode; /* of one that was attached */
};

#define REGION_NONE ((struct region){ .fd = -1 })

/*
 * Creates, maps read-write and seals a region with an identity that is valid.
 * With BUFPIPE_NO_HANDOVER nobody can map it writable any more, or punch holes
 * into it, and one that is attached must be so as well.
 * Of flags, here and below, BUFPIPE_HUGEPAGES, BUFPIPE_PREFAULT and
 * BUFPIPE_LOCKED count.  *shared_fd becomes the descriptor for the other side,
 * which cannot be mapped writable.
 */
int region_create(struct region *region, int *shared_fd, const struct identity *identity, const char *name,
		  unsigned flags);

/*
 * Checks a descriptor that came from elsewhere and maps it, read-only or, as
 * a co-owner, read-write.  Its ring must be the one expected, if that is not
 * NULL.  Takes the descriptor if it succeeds.
 *   -EBADMSG          it is no sealed region, or not the one expected
 *   -EPROTONOSUPPORT  a region of another version
 */
int region_attach(struct region *region, int fd, int writable, unsigned flags,
		  const struct identity *expected);

/*
 * Has all its memory there, as BUFPIPE_PREFAULT does for a region that is made, before anything is
 * sent: 0 or -ENOMEM.
 */
int region_prefault(const struct region *region);

/*
 * Whether a co-owner elsewhere could map it read-write.  Not if /proc was
 * missing at creation: it is then sealed against all further writable mappings.
 */
int region_can_travel(const struct region *region);

/* Closes the descriptor; the mapping stays. */
void region_settle(struct region *region);

/* Unmaps and closes; does nothing to REGION_NONE. */
void region_drop(struct region *region);

#endif
