/* SPDX-License-Identifier: MIT */
/* The memfd under an end: sealed, mapped twice, read-only for the other side, and checked when it arrives. */
#include "support.h"

#include "memory/region.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

SUITE(region);

#define PAGE 4096

static const struct identity good = {
	.magic = LAYOUT_MAGIC,
	.version = LAYOUT_VERSION,
	.flags = LAYOUT_SENDS,
	.buffer_size = 8192,
	.data_size = 16384,
	.limit = 16384 - RECORD_HEADER,
};

static const struct identity silent = {
	.magic = LAYOUT_MAGIC,
	.version = LAYOUT_VERSION,
	.flags = LAYOUT_RECEIVES,
};

static int create(struct region *region, const struct identity *identity, unsigned flags)
{
	int fd = -1;

	check_eq(region_create(region, &fd, identity, "region-test", flags), 0);
	check(fd >= 0);
	return fd;
}

Test(region, is_mapped_twice_back_to_back)
{
	static const unsigned flags[] = { 0, BUFPIPE_HUGEPAGES, BUFPIPE_PREFAULT };

	for (unsigned i = 0; i < 3; i++) {
		struct identity id = good;
		struct region region;
		int fd;

		if (i == 1)
			id.data_size = 4 << 20;
		fd = create(&region, &id, flags[i]);
		memcpy(region.data + id.data_size - 4, "wrapped", 8);
		check(!memcmp(region.data, "ped", 4));
		check(!memcmp(region.data + id.data_size, "ped", 4));
		region.data[2 * id.data_size - 1] = 'x';
		check_eq(region.data[id.data_size - 1], 'x');
		check_eq((char *)region.control + PAGE, region.data);
		close(fd);
		region_drop(&region);
	}
}

Test(region, of_an_end_that_does_not_send_is_one_page)
{
	struct region region;
	struct stat st;
	int fd = create(&region, &silent, 0);

	check_eq(fstat(fd, &st), 0);
	check_eq(st.st_size, PAGE);
	check(region.data == NULL);
	close(fd);
	region_drop(&region);
}

Test(region, cannot_change_its_size_or_its_seals)
{
	struct region region;
	struct stat st;
	int fd = create(&region, &good, 0);
	int seals = fcntl(fd, F_GET_SEALS);

	check_eq(seals & (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL),
		 F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL);
	check(ftruncate(region.fd, 0) < 0);
	check(ftruncate(region.fd, 1 << 20) < 0);
	check(fcntl(region.fd, F_ADD_SEALS, F_SEAL_WRITE) < 0);
	check_eq(fstat(region.fd, &st), 0);
	check_eq(st.st_size, PAGE + good.data_size);
	check_eq(st.st_mode & 07777, 0400);
	close(fd);
	region_drop(&region);
}

Test(region, cannot_be_written_through_what_the_other_side_gets)
{
	struct region region;
	void *map;
	int fd = create(&region, &good, 0);

	check_eq(fcntl(fd, F_GETFL) & O_ACCMODE, O_RDONLY);
	check(fcntl(fd, F_GETFD) & FD_CLOEXEC);
	check(mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0) == MAP_FAILED);
	check(write(fd, "x", 1) < 0);
	map = mmap(NULL, PAGE, PROT_READ, MAP_SHARED, fd, 0);
	check(map != MAP_FAILED);
	check(mprotect(map, PAGE, PROT_READ | PROT_WRITE) < 0);
	munmap(map, PAGE);
	close(fd);
	region_drop(&region);
}

static void write_there(void *arg)
{
	*(volatile char *)arg = 1;
}

Test(region, attached_to_read_shows_the_same_bytes_and_takes_none)
{
	struct region ours;
	struct region theirs;
	struct child child;
	int status;

	check_eq(region_attach(&theirs, create(&ours, &good, 0), 0, 0, NULL), 0);
	memcpy(ours.data + good.data_size - 3, "across", 6);
	check(!memcmp(theirs.data + good.data_size - 3, "across", 6));
	check_eq(theirs.identity.limit, good.limit);
	child = child_start(write_there, theirs.data);
	check_eq(waitpid(child.pid, &status, 0), child.pid);
	check(!WIFEXITED(status) || WEXITSTATUS(status) != 0); /* sanitizers make an exit of it */
	close(child.report);
	region_drop(&theirs);
	region_drop(&ours);
}

Test(region, attached_as_a_co_owner_is_one_and_the_same)
{
	struct region ours;
	struct region same;
	int fd = create(&ours, &good, 0);

	close(fd);
	check(region_can_travel(&ours));
	check_eq(region_attach(&same, dup(ours.fd), 1, 0, NULL), 0);
	same.data[5] = 'b';
	check_eq(ours.data[5], 'b');
	region_drop(&same);
	region_drop(&ours);
}

Test(region, dropped_leaves_nothing_and_can_be_dropped_again)
{
	struct region region = REGION_NONE;

	region_drop(&region);
	close(create(&region, &good, 0));
	region_drop(&region);
	check(region.fd == -1 && !region.control);
	region_drop(&region);
}

/* Makes a memfd with this identity, size and seals. Returns what attaching to it returns. */
static int attach_forged(const struct identity *identity, uint64_t size, int seals)
{
	int before = memfds_mapped();
	struct region region;
	int fd = memfd_create("forged", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	int r;

	check(fd >= 0);
	check_eq(ftruncate(fd, (off_t)size), 0);
	check(pwrite(fd, identity, sizeof(*identity), 0) == sizeof(*identity) || size < sizeof(*identity));
	check_eq(fcntl(fd, F_ADD_SEALS, seals), 0);
	r = region_attach(&region, fd, 0, 0, NULL);
	if (r == 0) {
		region_drop(&region);
	} else {
		check(fcntl(fd, F_GETFD) >= 0); /* the attach has not taken it */
		check_eq(close(fd), 0);
	}
	check_eq(memfds_mapped(), before);
	return r;
}

#define SEALS (F_SEAL_SHRINK | F_SEAL_GROW)

Test(region, forged_well_is_accepted)
{
	check_eq(attach_forged(&good, PAGE + good.data_size, SEALS), 0);
	check_eq(attach_forged(&good, PAGE + good.data_size, SEALS | F_SEAL_SEAL), 0);
	check_eq(attach_forged(&silent, PAGE, SEALS), 0);
}

Test(region, with_a_seal_missing_or_of_another_size_is_refused)
{
	uint64_t size = PAGE + good.data_size;

	check_eq(attach_forged(&good, size, 0), -EBADMSG);
	check_eq(attach_forged(&good, size, F_SEAL_SHRINK), -EBADMSG);
	check_eq(attach_forged(&good, size, F_SEAL_GROW), -EBADMSG);
	check_eq(attach_forged(&good, size - 1, SEALS), -EBADMSG);
	check_eq(attach_forged(&good, size + 1, SEALS), -EBADMSG);
	check_eq(attach_forged(&good, size - PAGE, SEALS), -EBADMSG);
	check_eq(attach_forged(&good, sizeof(good), SEALS), -EBADMSG);
	check_eq(attach_forged(&good, 47, SEALS), -EBADMSG);
	check_eq(attach_forged(&good, 0, SEALS), -EBADMSG);
	check_eq(attach_forged(&silent, 2 * PAGE, SEALS), -EBADMSG);
}

/* Changes one field of a good identity. The size of the file agrees with it where it can. */
struct forgery {
	size_t offset;
	size_t size;
	uint64_t value;
	int result;
};

#define FIELD(name, value, result)                                                    \
	{                                                                             \
		offsetof(struct identity, name), sizeof(good.name), (value), (result) \
	}

static const struct forgery forgeries[] = {
	FIELD(magic, 0, -EBADMSG),
	FIELD(magic, UINT64_MAX, -EBADMSG),
	FIELD(magic, LAYOUT_MAGIC + 1, -EBADMSG),
	FIELD(magic, LAYOUT_MAGIC - 1, -EBADMSG),
	FIELD(version, 0, -EPROTONOSUPPORT),
	FIELD(version, LAYOUT_VERSION + 1, -EPROTONOSUPPORT),
	FIELD(version, UINT32_MAX, -EPROTONOSUPPORT),
	FIELD(flags, 0, -EBADMSG),
	FIELD(flags, LAYOUT_SHARED, -EBADMSG),
	FIELD(flags, LAYOUT_RECEIVES, -EBADMSG), /* sizes of a ring that this region does not have */
	FIELD(flags, LAYOUT_SENDS | LAYOUT_ALL << 1, -EBADMSG),
	FIELD(flags, UINT32_MAX, -EBADMSG),
	FIELD(flags, LAYOUT_ALL, 0),
	FIELD(buffer_size, 0, 0),
	FIELD(buffer_size, 16384, -EBADMSG),
	FIELD(buffer_size, 16384 - 2 * RECORD_HEADER, 0), /* the longest that fits */
	FIELD(buffer_size, 16384 - 2 * RECORD_HEADER + 1, -EBADMSG),
	FIELD(buffer_size, UINT64_MAX, -EBADMSG),
	FIELD(buffer_size, UINT64_MAX - 7, -EBADMSG), /* rounds up to 0 */
	FIELD(buffer_size, UINT64_MAX - 15, -EBADMSG),
	FIELD(buffer_size, LAYOUT_MAX, -EBADMSG),
	FIELD(object_size, 1, -EBADMSG),
	FIELD(object_size, 8191, -EBADMSG),
	FIELD(object_size, 8192, 0),
	FIELD(object_size, 8193, -EBADMSG),
	FIELD(object_size, UINT64_MAX, -EBADMSG),
	FIELD(data_size, 0, -EBADMSG),
	FIELD(data_size, 1, -EBADMSG),
	FIELD(data_size, PAGE / 2, -EBADMSG),
	FIELD(data_size, 8192, -EBADMSG), /* the longest message does not fit */
	FIELD(data_size, 16383, -EBADMSG),
	FIELD(data_size, 16385, -EBADMSG),
	FIELD(data_size, 3 * 16384, -EBADMSG),
	FIELD(data_size, 32768, 0),
	FIELD(data_size, (uint64_t)1 << 63, -EBADMSG),
	FIELD(data_size, UINT64_MAX, -EBADMSG),
	FIELD(data_size, UINT64_MAX - PAGE + 1, -EBADMSG), /* with the page added it is 0 */
	FIELD(limit, 0, -EBADMSG),
	FIELD(limit, RECORD_HEADER - 1, -EBADMSG),
	FIELD(limit, 8192 + RECORD_HEADER - 1, -EBADMSG),
	FIELD(limit, 8192 + RECORD_HEADER, 0),
	FIELD(limit, 16384 - RECORD_HEADER + 1, -EBADMSG),
	FIELD(limit, 16384, -EBADMSG),
	FIELD(limit, UINT64_MAX, -EBADMSG),
};

Test(region, with_a_field_that_is_wrong_is_refused)
{
	for (unsigned i = 0; i < sizeof(forgeries) / sizeof(forgeries[0]); i++) {
		const struct forgery *forgery = &forgeries[i];
		struct identity id = good;
		uint64_t size;
		int r;

		memcpy((char *)&id + forgery->offset, &forgery->value, forgery->size);
		size = id.data_size <= 4 * good.data_size ? id.data_size : good.data_size;
		r = attach_forged(&id, PAGE + size, SEALS);
		if (r != forgery->result)
			support_fail(__FILE__, __LINE__, "forgery %u: %d and not %d", i, r, forgery->result);
	}
}

Test(region, that_is_no_memfd_is_refused)
{
	struct region region;
	int pipes[2];
	int fds[5];

	check_eq(pipe2(pipes, O_CLOEXEC), 0);
	fds[0] = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
	fds[1] = open("/", O_RDONLY | O_CLOEXEC);
	fds[2] = open("/dev/zero", O_RDWR | O_CLOEXEC);
	fds[3] = pipes[0];
	fds[4] = pipes[1];
	for (int i = 0; i < 5; i++) {
		check_eq(region_attach(&region, fds[i], 0, 0, NULL), -EBADMSG);
		check_eq(close(fds[i]), 0);
	}
	check_eq(region_attach(&region, -1, 0, 0, NULL), -EBADMSG);
}

Test(region, of_another_ring_than_agreed_is_refused)
{
	for (int i = 0; i < 4; i++) {
		struct identity expected = good;
		struct region ours;
		struct region theirs;
		int fd = create(&ours, &good, 0);

		if (i == 0)
			expected.buffer_size--;
		else if (i == 1)
			expected.object_size = expected.buffer_size;
		else if (i == 2)
			expected.data_size *= 2;
		else
			expected.limit -= 8;
		check_eq(region_attach(&theirs, fd, 0, 0, &expected), -EBADMSG);
		check_eq(region_attach(&theirs, fd, 0, 0, &good), 0);
		region_drop(&theirs);
		region_drop(&ours);
	}
}
