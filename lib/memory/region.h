/* SPDX-License-Identifier: MIT */
/*
 * A region: the memfd that one end writes and the other reads.
 *
 * Its owner maps it read-write, and gives other processes descriptors that cannot
 * be mapped writable.  Its size is sealed, so that neither side can make the other
 * fault by truncating it.  The ring is mapped twice, back to back, so that a record
 * is contiguous wherever it starts.
 */
#ifndef BUFPIPE_MEMORY_REGION_H
#define BUFPIPE_MEMORY_REGION_H

#include "memory/layout.h"

/*
 * A flag of region_create beside BUFPIPE_LOCKED: each page is locked when it is first
 * touched.  region_prefault then touches all of them.
 */
#define REGION_LOCK_LATER (1u << 31)

struct region {
	int fd;
	struct control *control; /* mapped read-only if this is the region of the other end */
	char *data;              /* the ring; NULL if the end of this region does not send */
	size_t span;             /* the size of the whole mapping */
	struct identity identity;
	uint64_t inode; /* set by region_attach */
};

#define REGION_NONE ((struct region){ .fd = -1 })

/*
 * Creates, maps read-write and seals a region.  The identity must be valid.
 * *shared_fd becomes the descriptor for the other side, which cannot be mapped
 * writable.  The flags used here and below are BUFPIPE_HUGEPAGES, BUFPIPE_PREFAULT,
 * BUFPIPE_LOCKED and BUFPIPE_NO_HANDOVER.  With BUFPIPE_NO_HANDOVER nobody can map
 * the region writable afterwards, or punch holes into it, and region_attach requires
 * the same of the region of the other side.
 */
int region_create(struct region *region, int *shared_fd, const struct identity *identity, const char *name,
		  unsigned flags);

/*
 * Checks a descriptor that came from another process and maps it: read-only, or
 * read-write for a co-owner.  If expected is not NULL, the ring must have these
 * sizes.  Takes the descriptor over if it succeeds.
 *   -EBADMSG          it is not a sealed region, or its ring has other sizes
 *   -EPROTONOSUPPORT  it is a region of another version
 */
int region_attach(struct region *region, int fd, int writable, unsigned flags,
		  const struct identity *expected);

/*
 * Allocates all memory of a region before anything is sent, as BUFPIPE_PREFAULT and
 * BUFPIPE_LOCKED do at creation: 0 or -ENOMEM.
 */
int region_prefault(const struct region *region);

/*
 * Whether a co-owner in another process can map the region read-write.  It cannot
 * if the region was sealed against further writable mappings; see make_shared.
 */
int region_can_travel(const struct region *region);

/* Closes the descriptor; the mapping stays. */
void region_settle(struct region *region);

/* Unmaps and closes; does nothing to REGION_NONE. */
void region_drop(struct region *region);

#endif
