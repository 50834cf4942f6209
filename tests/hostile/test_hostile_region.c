/* SPDX-License-Identifier: MIT */
/* Descriptors that are not what they should be, at each place where one is received. */
#include "hostile/hostile.h"

#include "base/stray.h"
#include "end/options.h"

#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/xattr.h>

#define SEALS (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL)

TestSuite(hostile_region, .timeout = 30);

/* What accept returns for a region packet. A pipe that comes of it is closed. */
static int offer_to_accept(const int *fds, int n, const struct bufpipe_options *options)
{
	struct handshake region = handshake_make(REGION);
	struct tally before = tally_now();
	struct meeting m = meet(options);
	bufpipe_t *pipe = NULL;
	char byte;
	int r;

	cr_assert_eq(rogue_send(m.socket, &region, sizeof(region), fds, n), (ssize_t)sizeof(region));
	r = bufpipe_accept(m.listener, &pipe, 0);
	if (r < 0) {
		cr_assert_eq(r, -EAGAIN);
		cr_assert(recv(m.socket, &byte, 1, MSG_DONTWAIT) == 0 || errno != EAGAIN,
			  "the liar was not dropped");
		honest_visit(m.listener, m.address, NULL);
	}
	bufpipe_close(pipe);
	part(&m);
	tally_assert(before, "accept");
	return r;
}

/* What connect returns for an offer with these descriptors. */
static int offer_to_connect(const struct handshake *offer, const int *fds, int n,
			    const struct bufpipe_options *wishes)
{
	struct tally before = tally_now();
	char name[64];
	int listener = rogue_listen(name);
	struct handshake wish;
	bufpipe_t *pipe = NULL;
	pid_t pid = fork();
	int fd;
	int r;

	if (!pid) {
		int s = accept(listener, NULL, NULL);

		rogue_recv(s, &wish, sizeof(wish), &fd);
		rogue_send(s, offer, sizeof(*offer), fds, n);
		rogue_recv(s, &wish, sizeof(wish), &fd);
		_exit(0);
	}
	r = bufpipe_connect(&pipe, name, wishes, 5 * NSEC_PER_SEC);
	cr_assert(r == 0 || !pipe, "a failed connect wrote its result");
	bufpipe_close(pipe);
	close(listener);
	cr_assert_eq(waitpid(pid, NULL, 0), pid);
	tally_assert(before, "connect");
	return r;
}

/* The parts of a receiving end, as an honest holder would hand them over. */
struct parts {
	int fds[3];
	int other;
	char parcel[64];
	size_t len;
};

static struct parts parts_make(void)
{
	struct identity ours = honest_identity(LAYOUT_RECEIVES);
	struct identity theirs = honest_identity(LAYOUT_SENDS);
	bufpipe_t *ends[2];
	struct parts p;
	int sockets[2];

	cr_assert_eq(bufpipe_create(ends, NULL), 0);
	p.len = parcel_bytes(ends[0], p.parcel);
	bufpipe_close(ends[0]);
	bufpipe_close(ends[1]);
	cr_assert_eq(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sockets), 0);
	p.fds[0] = forge_region(&ours, honest_size(&ours), SEALS);
	p.fds[1] = forge_region(&theirs, honest_size(&theirs), SEALS);
	p.fds[2] = sockets[0];
	p.other = sockets[1];
	return p;
}

static void parts_drop(struct parts *p)
{
	for (int i = 0; i < 3; i++)
		close(p->fds[i]);
	close(p->other);
}

static int offer_to_recv_end(const struct parts *p, const int *fds, int n)
{
	struct tally before = tally_now();
	bufpipe_t *pipe = NULL;
	int sockets[2];
	int r;

	cr_assert_eq(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sockets), 0);
	cr_assert_eq(rogue_send(sockets[0], p->parcel, p->len, fds, n), (ssize_t)p->len);
	r = bufpipe_recv_end(sockets[1], &pipe);
	cr_assert(r == 0 || !pipe, "a failed recv_end wrote its result");
	bufpipe_close(pipe);
	close(sockets[0]);
	close(sockets[1]);
	tally_assert(before, "recv_end");
	return r;
}

/* Sends a descriptor in place of a region, at every place where one is received. */
static void refuse_everywhere(int fd, const char *what)
{
	struct handshake offer = handshake_make(OFFER);
	struct parts p = parts_make();
	int r;

	cr_assert_geq(fd, 0, "%s: %s", what, strerror(errno));
	cr_assert_eq(offer_to_accept(&fd, 1, NULL), -EAGAIN, "accept took a %s", what);
	offer.flags = LAYOUT_RECEIVES;
	offer.buffer_size = 65536;
	r = offer_to_connect(&offer, &fd, 1, NULL);
	cr_assert_eq(r, -EBADMSG, "connect to a %s: %d", what, r);
	for (int place = 0; place < 2; place++) {
		int fds[3] = { p.fds[0], p.fds[1], p.fds[2] };

		fds[place] = fd;
		r = offer_to_recv_end(&p, fds, 3);
		cr_assert_eq(r, -EBADMSG, "recv_end of a %s in place %d: %d", what, place, r);
	}
	parts_drop(&p);
	close(fd);
}

Test(hostile_region, honest_parts_pass)
{
	struct identity sends = honest_identity(LAYOUT_SENDS);
	struct handshake offer = handshake_make(OFFER);
	struct parts p = parts_make();
	int fd = forge_region(&sends, honest_size(&sends), SEALS);

	/* If honest parts were refused, the refusals below would prove nothing. */
	cr_assert_eq(offer_to_accept(&fd, 1, NULL), 0);
	cr_assert_eq(offer_to_recv_end(&p, p.fds, 3), 0);
	offer.flags = LAYOUT_RECEIVES;
	offer.buffer_size = 65536;
	cr_assert_eq(offer_to_connect(&offer, &fd, 1, NULL), 0);
	close(fd);
	parts_drop(&p);
}

Test(hostile_region, things_that_are_no_memfd)
{
	int two[2];
	FILE *file = tmpfile();

	cr_assert_eq(pipe(two), 0);
	refuse_everywhere(two[0], "pipe");
	close(two[1]);
	refuse_everywhere(socket(AF_UNIX, SOCK_STREAM, 0), "socket");
	refuse_everywhere(open("/", O_RDONLY | O_DIRECTORY), "directory");
	refuse_everywhere(fcntl(fileno(file), F_DUPFD, 0), "regular file");
	refuse_everywhere(eventfd(0, 0), "eventfd");
	refuse_everywhere(epoll_create1(0), "epoll");
	refuse_everywhere(open("/dev/zero", O_RDWR), "device");
	refuse_everywhere(open("/proc/self/status", O_RDONLY), "file of proc");
	fclose(file);
}

static int reopened(int fd, int flags)
{
	char path[32];
	int again;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	again = open(path, flags | O_CLOEXEC);
	close(fd);
	return again;
}

Test(hostile_region, memfds_that_are_no_region)
{
	struct identity id = honest_identity(LAYOUT_SENDS);
	struct identity huge = id;
	off_t size = honest_size(&id);
	int fd;

	refuse_everywhere(forge_region(&id, size, 0), "memfd without seals");
	refuse_everywhere(forge_region(&id, size, F_SEAL_SEAL), "memfd sealed against seals");
	refuse_everywhere(forge_region(&id, size, F_SEAL_SHRINK | F_SEAL_SEAL), "memfd that can grow");
	refuse_everywhere(forge_region(&id, size, F_SEAL_GROW | F_SEAL_SEAL), "memfd that can shrink");
	refuse_everywhere(forge_region(&id, size - 1, SEALS), "memfd a byte short");
	refuse_everywhere(forge_region(&id, size + 1, SEALS), "memfd a byte long");
	refuse_everywhere(forge_region(&id, size + 4096, SEALS), "memfd a page long");
	refuse_everywhere(forge_region(&id, 4096, SEALS), "memfd of a page");
	refuse_everywhere(forge_region(&id, 0, SEALS), "empty memfd");
	refuse_everywhere(forge_region(&id, (off_t)1 << 42, SEALS), "sparse memfd");
	refuse_everywhere(forge_region(&(struct identity){ 0 }, size, SEALS), "memfd of zeroes");
	refuse_everywhere(reopened(forge_region(&id, size, SEALS), O_PATH), "path of a memfd");
	refuse_everywhere(reopened(forge_region(&id, size, SEALS), O_WRONLY), "write-only memfd");
	huge.data_size = (uint64_t)1 << 43;
	huge.limit = huge.data_size - 8;
	refuse_everywhere(forge_region(&huge, honest_size(&huge), SEALS), "region beyond all limits");
	fd = memfd_create("huge", MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_HUGETLB);
	if (fd >= 0 && ftruncate(fd, 2 << 20) == 0 && fcntl(fd, F_ADD_SEALS, SEALS) == 0)
		refuse_everywhere(fd, "memfd of huge pages");
}

/* Not the header that was there, but a ring that would be possible. */
static bool consistent(const struct identity *id)
{
	struct identity honest = honest_identity(LAYOUT_SENDS);

	return id->magic == honest.magic && id->version == honest.version && id->flags == honest.flags &&
	       id->data_size >= 4096 && id->data_size <= (uint64_t)1 << 42 &&
	       !(id->data_size & (id->data_size - 1)) && id->limit <= id->data_size - RECORD_HEADER &&
	       id->buffer_size <= id->limit - RECORD_HEADER &&
	       (!id->object_size || id->object_size == id->buffer_size);
}

/*
 * Seals forbid to add memory beyond the end of the region, but keep what was there before. The last holder
 * would have to free that memory.
 */
Test(hostile_region, memory_beyond_the_end)
{
	struct identity id = honest_identity(LAYOUT_SENDS);
	int fd = forge_region(&id, honest_size(&id), 0);

	cr_assert_eq(fallocate(fd, FALLOC_FL_KEEP_SIZE, honest_size(&id), 16 << 20), 0);
	cr_assert_eq(fcntl(fd, F_ADD_SEALS, SEALS), 0);
	refuse_everywhere(fd, "region with memory beyond its end");
}

/* Seals do not forbid extended attributes either. The last holder would have to free them, too. */
Test(hostile_region, many_attributes)
{
	struct parts p = parts_make();
	char name[32];

	for (int i = 0; i < 1000; i++) {
		snprintf(name, sizeof(name), "user.%d", i);
		if (fsetxattr(p.fds[1], name, "", 0, 0) < 0)
			cr_skip_test("this kernel gives no attributes to memory files");
	}
	cr_assert(stray_is_laden(p.fds[1]));
	cr_assert(!stray_is_laden(p.fds[0]));
	cr_assert_eq(offer_to_recv_end(&p, p.fds, 3), 0);
	parts_drop(&p);
}

Test(hostile_region, identities_with_a_wrong_field)
{
	const size_t words = sizeof(struct identity) / 8;
	struct tally before = tally_now();

	for (size_t word = 0; word < words; word++) {
		struct identity id = honest_identity(LAYOUT_SENDS);
		uint64_t good = ((uint64_t *)&id)[word];
		const uint64_t bad[] = { 0,
					 1,
					 good + 1,
					 good - 1,
					 good * 2,
					 good + 8,
					 good ^ (uint64_t)1 << 63,
					 good | (uint64_t)1 << 32,
					 good | (uint64_t)1 << 40,
					 (uint64_t)1 << 41,
					 (uint64_t)1 << 63,
					 UINT64_MAX,
					 UINT64_MAX - 7,
					 UINT64_MAX - 4095,
					 INT64_MAX };

		for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
			struct parts p = parts_make();
			int r;

			((uint64_t *)&id)[word] = bad[i];
			close(p.fds[1]);
			p.fds[1] = forge_region(&id,
						honest_size(&id) > 1ll << 42 || honest_size(&id) < 4096
							? 1ll << 42
							: honest_size(&id),
						SEALS);
			if (bad[i] != good) {
				r = offer_to_accept(&p.fds[1], 1, NULL);
				cr_assert_eq(r, -EAGAIN, "word %zu: %lx", word, bad[i]);
				r = offer_to_recv_end(&p, p.fds, 3);
				cr_assert(r == -EBADMSG || r == -EPROTONOSUPPORT ||
						  (r == 0 && consistent(&id)),
					  "word %zu: %lx gives %d", word, bad[i], r);
			}
			parts_drop(&p);
		}
	}
	tally_assert(before, "after all");
}

Test(hostile_region, wrong_numbers_of_descriptors)
{
	static const int numbers[] = { 0, 2, 3, 4, 5, 59, 60, 61, 62, 63, 64, 253 };
	struct identity sends = honest_identity(LAYOUT_SENDS);
	struct handshake offer = handshake_make(OFFER);
	struct parts p = parts_make();
	int region = forge_region(&sends, honest_size(&sends), SEALS);
	int fds[253];

	for (int i = 0; i < 253; i++)
		fds[i] = region;
	offer.flags = LAYOUT_RECEIVES;
	offer.buffer_size = 65536;
	for (size_t i = 0; i < sizeof(numbers) / sizeof(*numbers); i++) {
		cr_assert_eq(offer_to_accept(fds, numbers[i], NULL), -EAGAIN, "%d", numbers[i]);
		cr_assert_eq(offer_to_connect(&offer, fds, numbers[i], NULL), -EBADMSG, "%d", numbers[i]);
		memcpy(fds, p.fds, sizeof(p.fds));
		if (numbers[i] != 3)
			cr_assert_eq(offer_to_recv_end(&p, fds, numbers[i]), -EBADMSG, "%d", numbers[i]);
		fds[0] = fds[1] = fds[2] = region;
	}
	cr_assert_eq(offer_to_recv_end(&p, fds, 1), -EBADMSG);
	close(region);
	parts_drop(&p);
}

Test(hostile_region, the_same_descriptor_twice)
{
	struct parts p = parts_make();
	const int twice[3][3] = {
		{ p.fds[0], p.fds[0], p.fds[2] },
		{ p.fds[1], p.fds[1], p.fds[2] },
		{ p.fds[2], p.fds[2], p.fds[2] },
	};

	for (int i = 0; i < 3; i++)
		cr_assert_eq(offer_to_recv_end(&p, twice[i], 3), -EBADMSG, "%d", i);
	parts_drop(&p);
}

Test(hostile_region, sockets_that_join_nothing)
{
	struct parts p = parts_make();
	int stream[2];
	int inet = socket(AF_INET, SOCK_STREAM, 0);
	int event = eventfd(0, 0);

	cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, stream), 0);
	for (int i = 0; i < 3; i++) {
		int fds[3] = { p.fds[0], p.fds[1], i == 0 ? stream[0] : i == 1 ? inet : event };

		if (fds[2] >= 0)
			cr_assert_eq(offer_to_recv_end(&p, fds, 3), -EBADMSG, "%d", i);
	}
	close(stream[0]);
	close(stream[1]);
	close(inet);
	close(event);
	parts_drop(&p);
}

/*
 * A stranger sends the victim its own region. The victim refuses it where it does not fit. In a duplex pipe
 * the victim then receives what it sends, which does no harm.
 */
Test(hostile_region, the_victims_own_memfd_back)
{
	const struct bufpipe_options duplex = { .flags = BUFPIPE_DUPLEX };
	const struct bufpipe_options *both[2] = { NULL, &duplex };

	for (int i = 0; i < 2; i++) {
		struct tally before = tally_now();
		struct handshake region = handshake_make(REGION);
		struct meeting m = meet(both[i]);
		bufpipe_t *pipe = NULL;
		char byte;
		int r;

		rogue_send(m.socket, &region, sizeof(region), &m.offered, 1);
		r = bufpipe_accept(m.listener, &pipe, 0);
		cr_assert(i ? r == 0 || r == -EAGAIN : r == -EAGAIN, "%d", r);
		if (r == 0) {
			cr_assert_eq(bufpipe_send(pipe, "x", 1, 0), 0);
			r = (int)bufpipe_recv(pipe, &byte, 1, 50 * MSEC);
			cr_assert(r == 1 || r == -EPROTO || r == -ETIMEDOUT, "%d", r);
		}
		bufpipe_close(pipe);
		part(&m);
		tally_assert(before, "after its own");
	}
}

/*
 * A valid region, but not the one that was agreed on; or one that would take much memory if it were
 * accepted and filled.
 */
Test(hostile_region, region_differs_from_the_agreement)
{
	static const struct bufpipe_options theirs[] = {
		{ .buffer_size = 4096 },
		{ .buffer_size = 1 << 20 },
		{ .object_size = 64 },
		{ .object_size = 65536, .object_count = 1 },
		{ .buffer_size = (size_t)1 << 40 },
	};
	static const struct bufpipe_options ours[] = {
		{ .flags = 0 },
		{ .object_size = 64, .object_count = 7 },
		{ .flags = BUFPIPE_PREFAULT },
	};
	const int count = sizeof(theirs) / sizeof(*theirs);

	for (int i = 0; i < 3 * count; i++) {
		struct bufpipe_options o;
		struct identity id;
		int fd;
		int r;

		cr_assert_eq(options_check(&o, &theirs[i % count]), 0);
		id = options_identity(&o, LAYOUT_SENDS);
		fd = forge_region(&id, honest_size(&id), SEALS);
		r = offer_to_accept(&fd, 1, &ours[i / count]);
		cr_assert_eq(r, -EAGAIN, "accept agreed on %d and took %d", i / count, i % count);
		close(fd);
	}
}

Test(hostile_region, offer_differs_from_the_wish)
{
	const struct {
		struct bufpipe_options wish;
		struct handshake offer;
	} table[] = {
		{ { .buffer_size = 4096 }, { .flags = LAYOUT_RECEIVES, .buffer_size = (uint64_t)1 << 40 } },
		{ { .buffer_size = 4096 },
		  { .flags = LAYOUT_RECEIVES, .object_size = 64, .object_count = 1 } },
		{ { .object_size = 64 }, { .flags = LAYOUT_RECEIVES, .object_size = 32, .object_count = 1 } },
		{ { .object_size = 64 }, { .flags = LAYOUT_RECEIVES, .buffer_size = 65536 } },
		{ { .flags = 0 }, { .flags = LAYOUT_RECEIVES | LAYOUT_SENDS, .buffer_size = 65536 } },
		{ { .flags = BUFPIPE_SEND }, { .flags = LAYOUT_RECEIVES, .buffer_size = 65536 } },
		{ { .flags = BUFPIPE_DUPLEX }, { .flags = LAYOUT_RECEIVES, .buffer_size = 65536 } },
		{ { .flags = 0 }, { .flags = 0, .buffer_size = 65536 } },
		{ { .flags = 0 }, { .flags = UINT32_MAX, .buffer_size = 65536 } },
		{ { .flags = 0 }, { .flags = LAYOUT_RECEIVES, .buffer_size = UINT64_MAX } },
		{ { .flags = 0 }, { .flags = LAYOUT_RECEIVES, .buffer_size = 1, .object_size = 1 } },
		{ { .flags = 0 },
		  { .flags = LAYOUT_RECEIVES, .object_size = UINT64_MAX, .object_count = 2 } },
		{ { .flags = 0 }, { .flags = LAYOUT_RECEIVES, .buffer_size = 1 << 20 } },
	};

	for (size_t i = 0; i < sizeof(table) / sizeof(*table); i++) {
		struct handshake offer = handshake_make(OFFER);
		struct identity id = honest_identity(LAYOUT_SENDS);
		int fd = forge_region(&id, honest_size(&id), SEALS);
		int r;

		offer.flags = table[i].offer.flags;
		offer.buffer_size = table[i].offer.buffer_size;
		offer.object_size = table[i].offer.object_size;
		offer.object_count = table[i].offer.object_count;
		r = offer_to_connect(&offer, &fd, 1, &table[i].wish);
		cr_assert(r == -EBADMSG || r == -EPROTOTYPE || r == -EMSGSIZE || r == -E2BIG, "offer %zu: %d",
			  i, r);
		close(fd);
	}
}
