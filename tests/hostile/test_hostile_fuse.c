/* SPDX-License-Identifier: MIT */
/*
 * A file in FUSE in place of a region. Its close asks the server of the file and waits for an answer that
 * never comes; no signal ends this wait. The server is the attacker. It implements only the part of the
 * protocol that it needs.
 */
#include "hostile/hostile.h"
#include "sandbox.h"

#include <fcntl.h>
#include <linux/fuse.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>

TestSuite(hostile_fuse, .timeout = 120);

struct attacker {
	char directory[64];
	char address[64];
	pid_t pid;
	void (*use)(const struct attacker *, int tell); /* what a process does that has the mount */
	int told; /* one byte says that it has sent its file; end of file says that FUSE may not be used here */
};

union reply {
	struct fuse_init_out init;
	struct fuse_attr_out attr;
	struct fuse_entry_out entry;
	struct fuse_open_out open;
};

/*
 * The reply to a request; 0 means nothing, which is an error. Everything has the attributes of one file or
 * directory.
 */
static size_t fill_reply(const struct fuse_in_header *in, union reply *reply)
{
	switch (in->opcode) {
	case FUSE_INIT:
		reply->init.major = FUSE_KERNEL_VERSION;
		reply->init.minor = FUSE_KERNEL_MINOR_VERSION;
		reply->init.max_write = 4096;
		return sizeof(reply->init);
	case FUSE_GETATTR:
		reply->attr.attr.ino = in->nodeid;
		reply->attr.attr.mode = in->nodeid == FUSE_ROOT_ID ? S_IFDIR | 0755 : S_IFREG | 0644;
		reply->attr.attr.nlink = 1;
		return sizeof(reply->attr);
	case FUSE_LOOKUP:
		reply->entry.nodeid = 2;
		reply->entry.attr.ino = 2;
		reply->entry.attr.mode = S_IFREG | 0644;
		reply->entry.attr.nlink = 1;
		return sizeof(reply->entry);
	case FUSE_OPEN:
		reply->open.fh = 1;
		return sizeof(reply->open);
	default:
		return 0;
	}
}

/* Answers all requests, except those of a close and of a second open. */
static void serve_file(int fuse)
{
	int opens = 0;
	static _Alignas(8) char request[65536];
	const struct fuse_in_header *in = (const struct fuse_in_header *)(const void *)request;

	while (read(fuse, request, sizeof(request)) > 0) {
		struct {
			struct fuse_out_header header;
			union reply reply;
		} out = { .header.unique = in->unique };
		size_t len = fill_reply(in, &out.reply);

		opens += in->opcode == FUSE_OPEN;
		if (opens > 1 || in->opcode == FUSE_FLUSH || in->opcode == FUSE_FORGET ||
		    in->opcode == FUSE_RELEASE)
			continue;
		out.header.error = len ? 0 : -ENOSYS;
		out.header.len = (uint32_t)(sizeof(out.header) + len);
		if (write(fuse, &out, out.header.len) < 0)
			break;
	}
}

#ifndef OPEN_TREE_CLONE
#define OPEN_TREE_CLONE 1
#endif
#ifndef SYS_open_tree
#define SYS_open_tree 428
#endif

/*
 * The mount is attached nowhere, so the path of the file begins at the root of the mount. It looks like the
 * path of a memfd.
 */
static void hold_like_memory(const struct attacker *a, int tell)
{
	int root = (int)syscall(SYS_open_tree, AT_FDCWD, a->directory, OPEN_TREE_CLONE | O_CLOEXEC);
	int file = root < 0 ? -1 : openat(root, "memfd:bufpipe", O_RDONLY | O_CLOEXEC);
	char link[64];
	char path[64] = "";

	snprintf(link, sizeof(link), "/proc/self/fd/%d", file);
	if (file < 0 || readlink(link, path, sizeof(path) - 1) < 0 || strcmp(path, "/memfd:bufpipe") != 0 ||
	    mmap(NULL, 8192, PROT_READ, MAP_SHARED, file, 0) == MAP_FAILED || write(tell, "", 1) != 1)
		_exit(1);
	for (;;)
		pause();
}

/* Makes a handshake as a client, with the file in place of a region, and then stays. */
static void bring_file(const struct attacker *a, int tell)
{
	struct handshake g = handshake_make(WISHES);
	int offered;
	int file;
	int s;

	if (chdir(a->directory) < 0 || (file = open("file", O_RDWR | O_CLOEXEC)) < 0)
		_exit(1);
	s = rogue_connect(a->address);
	g.flags = WISH_ANY;
	if (rogue_send(s, &g, sizeof(g), NULL, 0) != sizeof(g) ||
	    rogue_recv(s, &g, sizeof(g), &offered) != sizeof(g))
		_exit(2);
	g = handshake_make(REGION);
	if (rogue_send(s, &g, sizeof(g), &file, 1) != sizeof(g) || write(tell, "", 1) != 1)
		_exit(3);
	for (;;)
		pause();
}

/*
 * Serves the file, in a mount that no other process sees, to a child that sends it. The child has no
 * descriptor of the server's. So when the server is killed, the kernel releases everybody who waits for its
 * answers.
 */
static void attack(const struct attacker *a, int tell)
{
	char options[80];
	int fuse = open("/dev/fuse", O_RDWR | O_CLOEXEC);

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	snprintf(options, sizeof(options), "fd=%d,rootmode=40000,user_id=%d,group_id=%d", fuse, getuid(),
		 getgid());
	if (fuse < 0 || unshare(CLONE_NEWNS) < 0 || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
	    mount("bufpipe-test", a->directory, "fuse", MS_NOSUID | MS_NODEV, options) < 0)
		_exit(1);
	if (fork() == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		close(fuse);
		a->use(a, tell);
	}
	close(tell);
	serve_file(fuse);
	_exit(0);
}

static void attacker_start(struct attacker *a)
{
	int ends[2];

	if (!a->use)
		a->use = bring_file;
	strcpy(a->directory, "/tmp/bufpipe-test-fuse-XXXXXX");
	cr_assert_not_null(mkdtemp(a->directory));
	cr_assert_eq(pipe2(ends, O_CLOEXEC), 0);
	a->told = ends[0];
	a->pid = fork();
	if (!a->pid)
		attack(a, ends[1]);
	close(ends[1]);
}

static void attacker_stop(struct attacker *a)
{
	int status;

	kill(a->pid, SIGKILL);
	cr_assert_eq(waitpid(a->pid, &status, 0), a->pid);
	close(a->told);
	cr_assert_eq(rmdir(a->directory), 0);
}

/* Accepts until the file has come, and a little longer. Returns false if FUSE may not be used here. */
static bool meet_attacker(bufpipe_listener_t *listener, const struct attacker *a)
{
	struct pollfd told = { .fd = a->told, .events = POLLIN };
	int64_t begin = time_now();
	bufpipe_t *pipe;
	char byte;

	while (poll(&told, 1, 0) == 0)
		cr_assert_eq(bufpipe_accept(listener, &pipe, 20 * MSEC), -ETIMEDOUT);
	if (read(a->told, &byte, 1) != 1)
		return false;
	cr_assert_eq(bufpipe_accept(listener, &pipe, 100 * MSEC), -ETIMEDOUT);
	cr_assert_lt(elapsed(begin), SOON);
	return true;
}

static bufpipe_listener_t *listen_for(struct attacker *a)
{
	static int count;
	bufpipe_listener_t *listener;

	snprintf(a->address, sizeof(a->address), "@bufpipe-test-fuse-%d-%d", getpid(), count++);
	cr_assert_eq(bufpipe_listen(&listener, a->address, NULL), 0);
	return listener;
}

Test(hostile_fuse, a_client_brings_a_file_whose_close_never_ends)
{
	struct tally before = tally_now();
	struct attacker a = { .use = NULL };
	bufpipe_listener_t *listener = listen_for(&a);
	int64_t begin;
	bool met;

	need_stray_children();
	attacker_start(&a);
	met = meet_attacker(listener, &a);
	begin = time_now();
	if (met)
		honest_visit(listener, a.address, NULL);
	bufpipe_listener_close(listener);
	cr_assert_lt(elapsed(begin), SOON);
	attacker_stop(&a);
	if (!met)
		cr_skip_test("FUSE may not be used here");
	/* Its death has ended the close. */
	tally_assert(before, "after the attacker's death");
}

/* Accepts the attacker and reports that. Then it exits, or waits to be killed. */
static void be_victim(bufpipe_listener_t *listener, const struct attacker *a, int tell, bool exits)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (meet_attacker(listener, a) && write(tell, "", 1) != 1)
		_exit(1);
	close(tell);
	if (exits)
		_exit(0);
	for (;;)
		pause();
}

/*
 * A process that received such a descriptor ends at once, as if nothing had been sent to it. The child that
 * closes the file may keep the other descriptors of the process open, but not for longer than the attacker
 * lives.
 */
static void end_a_victim(bool exits)
{
	struct attacker a = { .use = NULL };
	bufpipe_listener_t *listener = listen_for(&a);
	bufpipe_t *ends[2];
	int64_t begin;
	pid_t victim;
	char byte;
	int told[2];
	bool met;
	ssize_t r;

	attacker_start(&a);
	pipe_open(ends, NULL);
	cr_assert_eq(pipe2(told, O_CLOEXEC), 0);
	victim = fork();
	if (!victim) {
		bufpipe_close(ends[IN]);
		be_victim(listener, &a, told[1], exits);
	}
	bufpipe_close(ends[OUT]);
	close(told[1]);
	met = read(told[0], &byte, 1) == 1;
	begin = time_now();
	if (!exits)
		cr_assert_eq(kill(victim, SIGKILL), 0);
	cr_assert_eq(waitpid(victim, NULL, 0), victim);
	cr_assert_lt(elapsed(begin), SOON);
	r = bufpipe_recv(ends[IN], &byte, 1, 100 * MSEC);
	cr_assert(r == -ETIMEDOUT || r == -EPIPE, "%zd", r);
	attacker_stop(&a);
	cr_assert_eq(bufpipe_recv(ends[IN], &byte, 1, PLENTY), -EPIPE);
	bufpipe_close(ends[IN]);
	bufpipe_listener_close(listener);
	close(told[0]);
	if (!met)
		cr_skip_test("FUSE may not be used here");
}

Test(hostile_fuse, its_victim_exits)
{
	need_stray_children();
	end_a_victim(true);
}

Test(hostile_fuse, its_victim_is_killed)
{
	need_stray_children();
	end_a_victim(false);
}

/* The command looks at the descriptors and mappings of all processes, but opens only memfds. */
Test(hostile_fuse, a_file_that_is_called_like_memory_does_not_stop_the_command)
{
	const char *command = getenv("BUFPIPE_COMMAND");
	struct attacker a = { .use = hold_like_memory };
	int64_t begin;
	int status;
	char byte;
	pid_t pid;
	bool held;

	if (!command)
		cr_skip_test("the command was not built");
	attacker_start(&a);
	held = read(a.told, &byte, 1) == 1;
	begin = time_now();
	pid = fork();
	if (!pid) {
		/* A signal does not end an open that waits for FUSE, but the death of the server does. */
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		execl(command, command, "list", "--json", NULL);
		_exit(127);
	}
	while (held && waitpid(pid, &status, WNOHANG) == 0) {
		if (elapsed(begin) > 5 * SOON)
			attacker_stop(&a);
		cr_assert_leq(elapsed(begin), 5 * SOON, "list waits for the server of a file");
		sched_yield();
	}
	attacker_stop(&a);
	if (!held) {
		waitpid(pid, &status, 0);
		cr_skip_test("FUSE, or a mount without a place, may not be used here");
	}
	cr_assert_eq(status, 0);
}
