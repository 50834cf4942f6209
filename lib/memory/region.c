/* SPDX-License-Identifier: MIT */
#include "memory/region.h"

#include "base/fd.h"
#include "base/stray.h"
#include "bufpipe.h"
#include "memory/populate.h"

#include <fcntl.h>
#include <linux/memfd.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 0x0008u
#endif
#ifndef F_SEAL_FUTURE_WRITE
#define F_SEAL_FUTURE_WRITE 0x0010
#endif

#define TMPFS_MAGIC 0x01021994
#define SIZE_SEALS  (F_SEAL_SHRINK | F_SEAL_GROW)
#define HUGE_SIZE   ((size_t)2 << 20)

static size_t page_size(void)
{
	return (size_t)sysconf(_SC_PAGESIZE);
}

static int identity_check(const struct identity *id)
{
	uint64_t page = page_size();

	if (id->magic != LAYOUT_MAGIC)
		return -EBADMSG;
	if (id->version != LAYOUT_VERSION)
		return -EPROTONOSUPPORT;
	if (id->flags & ~(uint32_t)LAYOUT_ALL || !(id->flags & (LAYOUT_SENDS | LAYOUT_RECEIVES)))
		return -EBADMSG;
	if (!(id->flags & LAYOUT_SENDS))
		return id->buffer_size || id->object_size || id->data_size || id->limit ? -EBADMSG : 0;
	if (id->data_size < page || id->data_size > 4 * LAYOUT_MAX || id->data_size & (id->data_size - 1))
		return -EBADMSG;
	if (id->limit > id->data_size - RECORD_HEADER || id->limit < RECORD_HEADER)
		return -EBADMSG;
	/* The longest whole message fits, and no length is near an overflow. */
	if (id->buffer_size > id->limit || record_size(id->buffer_size) > id->limit)
		return -EBADMSG;
	if (id->object_size && id->object_size != id->buffer_size)
		return -EBADMSG;
	return 0;
}

static size_t file_size(const struct identity *id)
{
	return page_size() + id->data_size;
}

/*
 * Reserves address space for the control page and two mappings of the ring, where it
 * matters which: for huge pages, addresses and file offsets must agree modulo the
 * huge page size.  Else NULL.
 */
static char *reserve_space(size_t span, unsigned flags)
{
	size_t slack = HUGE_SIZE;
	char *space;
	char *aligned;

	if (!(flags & BUFPIPE_HUGEPAGES) || span <= HUGE_SIZE)
		return NULL;
	space = mmap(NULL, span + slack, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (space == MAP_FAILED)
		return space;
	aligned = (char *)(((uintptr_t)space + slack - 1) & ~(slack - 1));
	if (aligned != space)
		munmap(space, (size_t)(aligned - space));
	if (aligned + span != space + span + slack)
		munmap(aligned + span, (size_t)(space + slack - aligned));
	return aligned;
}

/* If a sandbox forbids mlock2, all pages are locked at once. */
static int lock(void *at, size_t len, unsigned flags)
{
	if (flags & REGION_LOCK_LATER && mlock2(at, len, MLOCK_ONFAULT) == 0)
		return 0;
	if (mlock(at, len) == 0)
		return 0;
	/* EAGAIN means out of memory; EPERM means no permission. */
	return errno == EAGAIN ? -ENOMEM : -errno;
}

/* EAGAIN: with mlockall(MCL_FUTURE), beyond the limit of locked memory.  To our callers it would mean: wait. */
static int map_error(void)
{
	return errno == EAGAIN ? -ENOMEM : -errno;
}

static int map(struct region *region, int fd, int writable, unsigned flags)
{
	int protection = writable ? PROT_READ | PROT_WRITE : PROT_READ;
	int mode = MAP_SHARED | (flags & BUFPIPE_PREFAULT ? MAP_POPULATE : 0);
	size_t page = page_size();
	size_t data_size = region->identity.data_size;
	size_t span = page + 2 * data_size;
	char *reserved = reserve_space(span, flags);
	char *space;
	int r = 0;

	if (reserved == MAP_FAILED)
		return map_error();
	/* It reaches beyond the end of the file, so that the second mapping of the ring has its place there. */
	space = mmap(reserved, span, protection, mode | (reserved ? MAP_FIXED : 0), fd, 0);
	if (space == MAP_FAILED) {
		r = map_error();
		if (reserved)
			munmap(reserved, span);
		return r;
	}
	if (data_size && mmap(space + page + data_size, data_size, protection, mode | MAP_FIXED, fd,
			      (off_t)page) == MAP_FAILED)
		r = map_error();
	if (r == 0 && flags & BUFPIPE_LOCKED)
		r = lock(space, span, flags);
	if (r < 0) {
		munmap(space, span);
		return r;
	}
	if (flags & BUFPIPE_HUGEPAGES)
		madvise(space, span, MADV_HUGEPAGE);
	region->control = (struct control *)space;
	region->data = data_size ? space + page : NULL;
	region->span = span;
	return 0;
}

static int make_memfd(const char *name)
{
	int fd = fd_own(memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_NOEXEC_SEAL));

	/* Linux before 6.3 does not know the last flag, and a sandbox may refuse it, with any errno. */
	if (fd < 0)
		fd = fd_own(memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING));
	return fd;
}

/* Checks the limit of file sizes first, because ftruncate raises SIGXFSZ beyond it. */
static int set_size(int fd, size_t size)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_FSIZE, &limit) == 0 && size > limit.rlim_cur)
		return -EFBIG;
	return ftruncate(fd, (off_t)size) < 0 ? -errno : 0;
}

/*
 * Allocates memory for the control page, and for the first page of the ring or all
 * of it.  The receiver reads the first header before anything is sent: if that page
 * had no memory yet, its read could raise SIGBUS.  The rest follows in steps; see
 * take_head in ring.c.
 */
static int reserve_memory(const struct region *region, unsigned flags)
{
	const struct identity *id = &region->identity;
	size_t page = page_size();
	size_t begin = flags & BUFPIPE_PREFAULT || id->data_size < page ? id->data_size : page;
	uint64_t limit = id->limit + RECORD_HEADER;
	int r = populate(region->control, page + begin);

	if (r < 0 || !begin)
		return r;
	atomic_store_explicit((_Atomic uint64_t *)(void *)region->data, 0, memory_order_relaxed);
	atomic_store_explicit(&region->control->tail.head_seen, limit < begin ? 0 : begin - limit,
			      memory_order_relaxed);
	return 0;
}

int region_prefault(const struct region *region)
{
	uint64_t data_size = region->identity.data_size;
	/* Not the control page, which has memory and is in use: populate may store to each page. */
	int r = data_size ? populate(region->data, 2 * data_size) : 0;

	if (r < 0 || !data_size)
		return r;
	atomic_store_explicit((_Atomic uint64_t *)(void *)region->data, 0, memory_order_relaxed);
	atomic_store_explicit(&region->control->tail.head_seen, 0, memory_order_relaxed);
	return 0;
}

/*
 * Makes a descriptor that cannot be mapped writable, and seals the memory.  The
 * mode keeps other users from reopening it for writing through /proc.  Without
 * /proc such a descriptor cannot be made, so the memory is sealed against all
 * further writable mappings, including those of future co-owners.  The same is done
 * if the options say that no co-owner will come (BUFPIPE_NO_HANDOVER): with this
 * seal nobody can punch holes, which would make the page faults of the other side
 * slow.
 */
static int make_shared(int fd, unsigned flags)
{
	char path[32];
	int seals = SIZE_SEALS | F_SEAL_SEAL | (flags & BUFPIPE_NO_HANDOVER ? F_SEAL_FUTURE_WRITE : 0);
	int shared;
	int r;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	shared = fd_own((int)syscall(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC));
	if (shared < 0) {
		if (shared == -EMFILE || shared == -ENFILE || shared == -ENOMEM)
			return shared;
		seals |= F_SEAL_FUTURE_WRITE;
		shared = fcntl(fd, F_DUPFD_CLOEXEC, FD_FIRST);
		if (shared < 0)
			return -errno;
	}
	if (fchmod(fd, 0400) == 0 && fcntl(fd, F_ADD_SEALS, seals) == 0)
		return shared;
	r = -errno;
	sys_close(shared);
	return r;
}

int region_create(struct region *region, int *shared_fd, const struct identity *identity, const char *name,
		  unsigned flags)
{
	int r;

	*region = REGION_NONE;
	region->identity = *identity;
	region->fd = make_memfd(name);
	if (region->fd < 0)
		return region->fd;
	r = set_size(region->fd, file_size(identity));
	if (r < 0)
		goto fail;
	r = map(region, region->fd, 1, flags);
	if (r < 0)
		goto fail;
	r = reserve_memory(region, flags);
	if (r < 0)
		goto fail;
	region->control->identity = *identity;
	memcpy(region->control->about.name, name, strnlen(name, LAYOUT_NAME - 1));
	r = make_shared(region->fd, flags);
	if (r < 0)
		goto fail;
	*shared_fd = r;
	return 0;
fail:
	region_drop(region);
	return r;
}

/* Accepts only a sealed regular file in tmpfs, with pages of ordinary size. */
static int check_file(int fd, int wanted, struct stat *st)
{
	struct statfs fs;
	/* This comes first: only memory files have seals, and the calls below may sleep for other files. */
	int seals = fcntl(fd, F_GET_SEALS);

	if (seals < 0 || (seals & wanted) != wanted)
		return -EBADMSG;
	if (fstat(fd, st) < 0 || fstatfs(fd, &fs) < 0)
		return -errno;
	if (!S_ISREG(st->st_mode) || (uint64_t)fs.f_type != TMPFS_MAGIC)
		return -EBADMSG;
	return 0;
}

/*
 * The most memory that the file of a region may have.  Huge pages may reach beyond
 * the end of the file.  More than that is refused: its maker could leave us any
 * amount of memory to keep and to free.
 */
static uint64_t most_memory(const struct identity *id)
{
	uint64_t huge = page_size() / sizeof(uint64_t) * page_size(); /* what one page of a page table maps */

	return (file_size(id) + huge - 1) & ~(huge - 1);
}

static bool same_ring(const struct identity *a, const struct identity *b)
{
	return a->buffer_size == b->buffer_size && a->object_size == b->object_size &&
	       a->data_size == b->data_size && a->limit == b->limit;
}

int region_attach(struct region *region, int fd, int writable, unsigned flags,
		  const struct identity *expected)
{
	int wanted = SIZE_SEALS | (!writable && flags & BUFPIPE_NO_HANDOVER ? F_SEAL_FUTURE_WRITE : 0);
	struct stat st;
	int r;

	*region = REGION_NONE;
	r = check_file(fd, wanted, &st);
	if (r < 0)
		return r;
	/* Read once, then check and use only our copy: the owner may change the region at any time. */
	if (syscall(SYS_pread64, fd, &region->identity, sizeof(region->identity), 0) !=
	    sizeof(region->identity))
		return -EBADMSG;
	r = identity_check(&region->identity);
	if (r < 0)
		return r;
	if (expected && !same_ring(&region->identity, expected))
		return -EBADMSG;
	/* Both stay as they are, because the file had its seals before fstat. */
	if ((uint64_t)st.st_size != file_size(&region->identity) ||
	    (uint64_t)st.st_blocks * 512 > most_memory(&region->identity))
		return -EBADMSG;
	r = map(region, fd, writable, flags);
	if (r < 0)
		return r;
	region->fd = fd;
	region->inode = st.st_ino;
	return 0;
}

int region_can_travel(const struct region *region)
{
	int seals = fcntl(region->fd, F_GET_SEALS);

	return seals >= 0 && !(seals & F_SEAL_FUTURE_WRITE);
}

void region_settle(struct region *region)
{
	sys_close(region->fd);
	region->fd = -1;
}

void region_drop(struct region *region)
{
	if (region->control)
		munmap(region->control, region->span);
	/* After munmap, so that the file is freed here, and by stray_close if need be. */
	if (region->fd >= 0 && stray_is_laden(region->fd))
		stray_close(region->fd);
	else if (region->fd >= 0)
		sys_close(region->fd);
	*region = REGION_NONE;
}
