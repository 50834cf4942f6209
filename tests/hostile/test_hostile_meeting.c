/* SPDX-License-Identifier: MIT */
/*
 * How much memory, how many descriptors and places, and how much time a stranger can use before it is
 * accepted.
 */
#include "hostile/hostile.h"
#include "sandbox.h"

#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>

TestSuite(hostile_meeting, .timeout = 120);

#define KIB ((size_t)1 << 10)
#define MIB ((size_t)1 << 20)
#define GIB ((size_t)1 << 30)

/* How many bytes of memfds this process has mapped. A ring counts twice. */
static size_t memfd_bytes(void)
{
	FILE *maps = fopen("/proc/self/maps", "re");
	char line[512];
	size_t sum = 0;

	while (fgets(line, sizeof(line), maps)) {
		unsigned long from;
		unsigned long to;

		if (strstr(line, "memfd:") && sscanf(line, "%lx-%lx", &from, &to) == 2)
			sum += to - from;
	}
	fclose(maps);
	return sum;
}

struct proposal {
	struct bufpipe_options listens;
	struct bufpipe_options connects;
	int result;
};

static const struct proposal proposals[] = {
	/* What a listener may offer to a connector that has no wishes. */
	{ { .buffer_size = GIB << 9 }, { 0 }, -E2BIG },
	{ { .buffer_size = GIB << 9 }, { .flags = BUFPIPE_PREFAULT }, -E2BIG },
	{ { .buffer_size = 16 * MIB }, { 0 }, 0 },
	{ { .buffer_size = 16 * MIB + 1 }, { 0 }, -E2BIG },
	{ { .buffer_size = 16 * MIB + 1 }, { .size_limit = 32 * MIB }, 0 },
	{ { .buffer_size = 16 * MIB + 1 }, { .buffer_size = 16 * MIB + 1 }, 0 },
	{ { .buffer_size = 2 * MIB }, { .flags = BUFPIPE_PREFAULT }, -E2BIG },
	{ { .buffer_size = 2 * MIB }, { .flags = BUFPIPE_LOCKED }, -E2BIG },
	{ { .buffer_size = 256 * KIB }, { .size_limit = 128 * KIB }, -E2BIG },
	{ { .object_size = 8, .object_count = MIB }, { 0 }, 0 },
	{ { .object_size = 8, .object_count = MIB + 1 }, { 0 }, -E2BIG },
	{ { .object_size = 8, .object_count = MIB + 1 }, { .object_size = 8 }, -E2BIG },
	{ { .object_size = 32 * MIB }, { .object_size = 32 * MIB }, 0 },
	{ { .object_size = 32 * MIB }, { 0 }, -E2BIG },
	/* What a connector may wish for from a listener that names no size. */
	{ { 0 }, { .buffer_size = 16 * MIB }, 0 },
	{ { 0 }, { .buffer_size = 16 * MIB + 1 }, -EMSGSIZE },
	{ { .size_limit = 32 * MIB }, { .buffer_size = 32 * MIB }, 0 },
	{ { .size_limit = 128 * KIB }, { .buffer_size = 128 * KIB + 1 }, -EMSGSIZE },
	{ { .buffer_size = 4 * KIB, .size_limit = 8 * KIB }, { .buffer_size = 8 * KIB }, 0 },
	{ { .buffer_size = 4 * KIB }, { .buffer_size = 8 * KIB }, -EMSGSIZE },
	{ { .flags = BUFPIPE_PREFAULT }, { .buffer_size = MIB }, 0 },
	{ { .flags = BUFPIPE_PREFAULT }, { .buffer_size = MIB + 1 }, -EMSGSIZE },
	{ { .object_size = 8, .size_limit = 16 * 8192 }, { .object_size = 8, .object_count = 8192 }, 0 },
	{ { .object_size = 8, .size_limit = 16 * 8192 },
	  { .object_size = 8, .object_count = 8193 },
	  -EMSGSIZE },
};

struct proposer {
	bufpipe_listener_t *listener;
	bufpipe_t *pipe;
};

static void *accept_or_not(void *arg)
{
	struct proposer *p = arg;

	while (bufpipe_accept(p->listener, &p->pipe, 10 * NSEC_PER_SEC) < 0)
		;
	return NULL;
}

/* Neither side makes a larger pipe than it allows, and each refuses at once. */
Test(hostile_meeting, each_side_has_a_limit_for_what_the_other_chooses)
{
	struct tally before = tally_now();

	for (size_t i = 0; i < sizeof(proposals) / sizeof(*proposals); i++) {
		struct proposer p = { NULL, NULL };
		int64_t begin = time_now();
		bufpipe_t *pipe = NULL;
		char address[64];
		pthread_t thread;
		int r;

		name_address(address);
		cr_assert_eq(bufpipe_listen(&p.listener, address, &proposals[i].listens), 0, "row %zu", i);
		cr_assert_eq(pthread_create(&thread, NULL, accept_or_not, &p), 0);
		r = bufpipe_connect(&pipe, address, &proposals[i].connects, 10 * NSEC_PER_SEC);
		cr_assert_eq(r, proposals[i].result, "row %zu: %d", i, r);
		cr_assert_lt(elapsed(begin), SOON, "row %zu", i);
		if (r < 0) {
			bufpipe_t *last;

			/* Ends the thread's wait. */
			cr_assert_eq(bufpipe_connect(&last, address,
						     &(struct bufpipe_options){ .size_limit = GIB << 10 },
						     10 * NSEC_PER_SEC),
				     0);
			bufpipe_close(last);
		}
		pthread_join(thread, NULL);
		bufpipe_close(pipe);
		bufpipe_close(p.pipe);
		bufpipe_listener_close(p.listener);
	}
	tally_assert(before, "after the proposals");
}

Test(hostile_meeting, limits_below_the_size_itself_are_refused)
{
	static const struct bufpipe_options bad[] = {
		{ .buffer_size = 4096, .size_limit = 4095 },
		{ .size_limit = 65535 },
		{ .object_size = 8, .object_count = 10, .size_limit = 159 },
		{ .size_limit = (GIB << 10) + 1 },
	};
	bufpipe_listener_t *listener;
	bufpipe_t *pipe;
	char address[64];

	name_address(address);
	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		cr_assert_eq(bufpipe_listen(&listener, address, &bad[i]), -EINVAL, "%zu", i);
		cr_assert_eq(bufpipe_connect(&pipe, address, &bad[i], 0), -EINVAL, "%zu", i);
	}
}

/* No listener touches a gigabyte because of one packet of a stranger. */
Test(hostile_meeting, a_listener_that_prefaults_touches_no_more_than_it_allows)
{
	const struct bufpipe_options options = { .flags = BUFPIPE_PREFAULT | BUFPIPE_SEND };
	struct tally before = tally_now();
	bufpipe_listener_t *listener;
	struct handshake g;
	bufpipe_t *pipe;
	char address[64];
	int64_t begin;
	int fds[10];
	int fd;

	name_address(address);
	cr_assert_eq(bufpipe_listen(&listener, address, &options), 0);
	for (int i = 0; i < 10; i++)
		fds[i] = rogue_wish(address, GIB - 100);
	begin = time_now();
	cr_assert_eq(bufpipe_accept(listener, &pipe, 100 * MSEC), -ETIMEDOUT);
	cr_assert_lt(elapsed(begin), SOON);
	cr_assert_eq(memfd_bytes(), 0);
	for (int i = 0; i < 10; i++) {
		cr_assert_eq(rogue_recv(fds[i], &g, sizeof(g), &fd), (ssize_t)sizeof(g));
		cr_assert(g.type == REFUSAL && g.error == -EMSGSIZE);
		close(fds[i]);
	}
	bufpipe_listener_close(listener);
	tally_assert(before, "after the wishes");
}

static uint64_t memory_of(int fd)
{
	struct stat st;

	cr_assert_eq(fstat(fd, &st), 0);
	return (uint64_t)st.st_blocks * 512;
}

/*
 * An offer keeps the listener's memory for as long as its reader leaves it unread. So little is allocated
 * before the answer.
 */
Test(hostile_meeting, an_offer_that_is_not_answered_keeps_little_memory)
{
	const struct bufpipe_options options = { .flags = BUFPIPE_PREFAULT | BUFPIPE_SEND };
	const struct identity id = honest_identity(LAYOUT_RECEIVES);
	struct handshake region = handshake_make(REGION);
	struct tally before = tally_now();
	struct meeting m = meet(&options);
	int fd = forge_region(&id, honest_size(&id), F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL);
	bufpipe_t *pipe;

	cr_assert_leq(memory_of(m.offered), 2 * (uint64_t)sysconf(_SC_PAGESIZE));
	cr_assert_eq(rogue_send(m.socket, &region, sizeof(region), &fd, 1), (ssize_t)sizeof(region));
	cr_assert_eq(bufpipe_accept(m.listener, &pipe, 0), 0);
	cr_assert_geq(memory_of(m.offered), honest_identity(LAYOUT_SENDS).data_size);
	bufpipe_close(pipe);
	close(fd);
	part(&m);
	tally_assert(before, "after the answer");
}

/*
 * A client that disconnects may keep a descriptor and a mapping of the listener's memory. Then this memory
 * stays allocated, as the manual says: at most the ring that was agreed on, and two pages if the client did
 * not answer. The listener itself has unmapped and closed it.
 */
Test(hostile_meeting, what_a_client_keeps_that_is_gone_is_bounded)
{
	const struct bufpipe_options options = { .flags = BUFPIPE_PREFAULT | BUFPIPE_SEND };
	const struct identity id = honest_identity(LAYOUT_RECEIVES);
	const uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
	struct handshake region = handshake_make(REGION);
	struct tally before = tally_now();

	for (int answers = 0; answers < 2; answers++) {
		struct meeting m = meet(&options);
		int fd = forge_region(&id, honest_size(&id), F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL);
		char *kept = mmap(NULL, page, PROT_READ, MAP_SHARED, m.offered, 0);
		bufpipe_t *pipe = NULL;

		cr_assert_neq(kept, MAP_FAILED);
		if (answers) {
			rogue_send(m.socket, &region, sizeof(region), &fd, 1);
			cr_assert_eq(bufpipe_accept(m.listener, &pipe, 0), 0);
			cr_assert_eq(bufpipe_send(pipe, "hello", 5, 0), 0);
		}
		shutdown(m.socket, SHUT_RDWR);
		cr_assert_eq(bufpipe_accept(m.listener, &(bufpipe_t *){ NULL }, 0), -EAGAIN);
		bufpipe_close(pipe);
		cr_assert_eq(memfds_mapped(), before.maps + 1);
		cr_assert_leq(memory_of(m.offered),
			      answers ? honest_identity(LAYOUT_SENDS).data_size + page : 2 * page);
		/* Our own copy of the client's region had none: the listener has only read it. */
		cr_assert_leq(memory_of(fd), 2 * page);
		munmap(kept, page);
		close(fd);
		part(&m);
		tally_assert(before, "after the client let go");
	}
}

/* KiB of locked memory that this process has mapped from memfds. */
static long locked_now(void)
{
	FILE *maps = fopen("/proc/self/smaps", "re");
	char line[512];
	bool memfd = false;
	long sum = 0;
	long kib;

	while (fgets(line, sizeof(line), maps)) {
		unsigned long from;
		unsigned long to;

		if (sscanf(line, "%lx-%lx ", &from, &to) == 2)
			memfd = strstr(line, "memfd:");
		if (memfd && sscanf(line, "Locked: %ld", &kib) == 1)
			sum += kib;
	}
	fclose(maps);
	return sum;
}

/*
 * The same holds for BUFPIPE_LOCKED: an offer without an answer locks no memory, and after the answer all of
 * it is locked.
 */
Test(hostile_meeting, an_offer_that_is_not_answered_locks_little_memory)
{
	const struct bufpipe_options options = { .flags = BUFPIPE_LOCKED | BUFPIPE_SEND };
	const struct identity id = honest_identity(LAYOUT_RECEIVES);
	const long page = sysconf(_SC_PAGESIZE) / 1024;
	const long ring = (long)(honest_identity(LAYOUT_SENDS).data_size / 1024);
	struct handshake region = handshake_make(REGION);
	struct tally before = tally_now();
	bufpipe_t *probe[2];
	struct meeting m;
	bufpipe_t *pipe;
	int fd;

	if (bufpipe_create(probe, &(struct bufpipe_options){ .flags = BUFPIPE_LOCKED }) < 0)
		cr_skip_test("memory cannot be locked here");
	pipe_close(probe);
	m = meet(&options);
	fd = forge_region(&id, honest_size(&id), F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL);
	cr_assert_leq(memory_of(m.offered), 2 * 1024 * (uint64_t)page);
	cr_assert_leq(locked_now(), 2 * page); /* each of the two mappings of a page counts half */
	cr_assert_eq(rogue_send(m.socket, &region, sizeof(region), &fd, 1), (ssize_t)sizeof(region));
	cr_assert_eq(bufpipe_accept(m.listener, &pipe, 0), 0);
	cr_assert_geq(locked_now(), ring);
	bufpipe_close(pipe);
	close(fd);
	part(&m);
	tally_assert(before, "after the answer");
}

/* An honest client of a listener that sends. */
static void visit_to_receive(bufpipe_listener_t *listener, const char *address)
{
	int64_t begin = time_now();
	bufpipe_t *pipe;
	char byte;
	int status;
	pid_t pid = fork();

	if (!pid) {
		if (bufpipe_connect(&pipe, address, NULL, 10 * NSEC_PER_SEC) < 0)
			_exit(1);
		_exit(bufpipe_recv(pipe, &byte, 1, 10 * NSEC_PER_SEC) == 1 ? 0 : 2);
	}
	cr_assert_eq(bufpipe_accept(listener, &pipe, 10 * NSEC_PER_SEC), 0);
	cr_assert_eq(bufpipe_send(pipe, "!", 1, 0), 0);
	cr_assert_eq(waitpid(pid, &status, 0), pid);
	cr_assert_eq(status, 0);
	cr_assert_lt(elapsed(begin), SOON);
	bufpipe_close(pipe);
}

/*
 * Many clients each wish for as much as is allowed, and then send nothing. The listener does not keep all
 * of that at the same time.
 */
Test(hostile_meeting, what_is_kept_for_all_that_wait_is_bounded)
{
	const struct bufpipe_options sends = { .flags = BUFPIPE_SEND }; /* so the listener makes the rings */
	struct tally before = tally_now();
	bufpipe_listener_t *listener;
	bufpipe_t *pipe;
	char address[64];
	int fds[60];

	name_address(address);
	cr_assert_eq(bufpipe_listen(&listener, address, &sends), 0);
	for (int i = 0; i < 60; i++)
		fds[i] = rogue_wish(address, 16 * MIB);
	cr_assert_eq(bufpipe_accept(listener, &pipe, 300 * MSEC), -ETIMEDOUT);
	/* Four rings each way of at most four times the size, each of them mapped twice. */
	cr_assert_leq(memfd_bytes(), 4 * 2 * 2 * 65 * MIB);
	cr_assert_gt(memfd_bytes(), 0);
	visit_to_receive(listener, address);
	for (int i = 0; i < 60; i++)
		close(fds[i]);
	visit_to_receive(listener, address);
	bufpipe_listener_close(listener);
	tally_assert(before, "after the wishes");
}

static pid_t crowd(const char *address, int n, bool wishes, uid_t uid)
{
	pid_t pid = fork();

	if (pid)
		return pid;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (uid && (setgid(uid) < 0 || setuid(uid) < 0))
		_exit(1);
	for (;;) {
		int fds[100];

		for (int i = 0; i < n; i++)
			fds[i] = wishes ? rogue_wish(address, 0) : rogue_connect(address);
		sleep(20);
		for (int i = 0; i < n; i++)
			close(fds[i]);
	}
}

/* A server with few descriptors, which accepts until it is killed. */
static pid_t serve(bufpipe_listener_t *listener, rlim_t descriptors)
{
	pid_t pid = fork();
	bufpipe_t *pipe;
	char byte[16];
	int r;

	if (pid)
		return pid;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	setrlimit(RLIMIT_NOFILE, &(struct rlimit){ descriptors, descriptors });
	for (;;) {
		r = bufpipe_accept(listener, &pipe, NSEC_PER_SEC);
		if (r == -ETIMEDOUT)
			continue;
		if (r < 0)
			_exit(-r);
		bufpipe_recv(pipe, byte, sizeof(byte), NSEC_PER_SEC);
		bufpipe_close(pipe);
	}
}

Test(hostile_meeting, silent_clients_keep_nobody_out_although_descriptors_are_few)
{
	need_limits();
	for (int wishes = 0; wishes < 2; wishes++) {
		bufpipe_listener_t *listener;
		char address[64];
		pid_t server;
		pid_t rogue;
		int status;

		name_address(address);
		cr_assert_eq(bufpipe_listen(&listener, address, NULL), 0);
		server = serve(listener, (rlim_t)descriptors_open() + 30);
		rogue = crowd(address, 60, wishes, 0);
		usleep(100000);
		for (int i = 0; i < 3; i++) {
			int64_t begin = time_now();
			bufpipe_t *pipe;

			cr_assert_eq(bufpipe_connect(&pipe, address, NULL, 10 * NSEC_PER_SEC), 0);
			/* Less than the five seconds for which a client may be silent. */
			cr_assert_lt(elapsed(begin), SOON);
			cr_assert_eq(bufpipe_send(pipe, "hello", 5, NSEC_PER_SEC), 0);
			bufpipe_close(pipe);
		}
		cr_assert_eq(waitpid(server, &status, WNOHANG), 0, "accept failed: %x", status);
		flipper_stop(rogue);
		flipper_stop(server);
		bufpipe_listener_close(listener);
	}
}

/* When places are short, the user with the most places loses one. */
Test(hostile_meeting, the_crowd_of_another_user_keeps_nobody_out)
{
	bufpipe_listener_t *listener;
	char address[64];
	pid_t rogue;

	if (geteuid())
		cr_skip_test("only root can be somebody else");
	name_address(address);
	cr_assert_eq(bufpipe_listen(&listener, address, NULL), 0);
	rogue = crowd(address, 100, true, 65534);
	usleep(50000);
	for (int i = 0; i < 5; i++)
		honest_visit(listener, address, NULL);
	flipper_stop(rogue);
	bufpipe_listener_close(listener);
}

/*
 * A worker that was forked while a client was silent keeps the client's connection open for as long as it
 * lives.
 */
Test(hostile_meeting, a_connection_that_a_fork_inherited_does_no_harm)
{
	struct tally before = tally_now();
	struct handshake bad = { .magic = 0 };
	bufpipe_listener_t *listener;
	bufpipe_t *pipe;
	char address[64];
	double cpu;
	pid_t worker;
	char byte;
	int fd;

	name_address(address);
	cr_assert_eq(bufpipe_listen(&listener, address, NULL), 0);
	fd = rogue_connect(address);
	cr_assert_eq(bufpipe_accept(listener, &pipe, 0), -EAGAIN);
	worker = fork();
	if (!worker) {
		close(fd);
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		for (;;)
			pause();
	}
	/* Something that makes the listener drop it, and more, which nobody reads. */
	for (int i = 0; i < 3; i++)
		rogue_send(fd, &bad, sizeof(bad), NULL, 0);
	cpu = cpu_seconds();
	cr_assert_eq(bufpipe_accept(listener, &pipe, NSEC_PER_SEC), -ETIMEDOUT);
	cr_assert_lt(cpu_seconds() - cpu, 0.3);
	/* The client learns of it at once: after the refusal the connection ends. */
	cr_assert_eq(recv(fd, &bad, sizeof(bad), MSG_DONTWAIT), (ssize_t)sizeof(bad));
	cr_assert_eq(recv(fd, &byte, 1, MSG_DONTWAIT), 0);
	honest_visit(listener, address, NULL);
	flipper_stop(worker);
	close(fd);
	bufpipe_listener_close(listener);
	tally_assert(before, "after the fork");
}
