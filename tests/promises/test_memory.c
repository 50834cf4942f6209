/* SPDX-License-Identifier: MIT */
/*
 * Memory is refused: by strict overcommit, a full control group, or a limit of file sizes. The result is an
 * error that leaves everything as it was, and never a signal.
 */
#include "sandbox.h"
#include "sanitized.h"
#include "support.h"

#include <sys/mman.h>
#include <sys/resource.h>

SUITE(memory);

enum { PAGE = 4096 };

/* Refuses memory as the kernel does, in each of the ways in which the library asks for it. */
static void refuse_memory(void)
{
	static const struct forbidden rules[] = {
		{ .call = SYS_madvise, .error = EFAULT },
		{ .call = SYS_getcpu, .error = EFAULT },
	};

	forbid(rules, 2);
}

static const struct bufpipe_options kinds[] = {
	{ .buffer_size = 1 << 20 },
	{ .buffer_size = 1 << 20, .flags = BUFPIPE_DUPLEX },
	{ .buffer_size = 1 << 20, .flags = BUFPIPE_SHARED },
	{ .buffer_size = 1 << 20, .flags = BUFPIPE_NO_HANDOVER },
	{ .object_size = 100, .object_count = 5000 },
};

enum { KINDS = sizeof(kinds) / sizeof(kinds[0]) };

static void run_each(void (*run)(void *))
{
	for (int i = 0; i < KINDS; i++) {
		struct bufpipe_options options = kinds[i];
		struct child child = child_start(run, &options);

		child_join(&child);
	}
}

static void create_without(void *arg)
{
	struct bufpipe_options *options = arg;
	bufpipe_t *ends[2] = { NULL, NULL };
	int before = descriptors_open();

	refuse_memory();
	for (int prefault = 0; prefault < 2; prefault++) {
		check_eq(bufpipe_create(ends, options), -ENOMEM);
		check(!ends[0] && !ends[1]);
		check_eq(descriptors_open(), before);
		check_eq(memfds_mapped(), 0);
		options->flags |= BUFPIPE_PREFAULT;
	}
}

Test(memory, refused_at_creation)
{
	run_each(create_without);
}

static void fill(char *message, uint64_t i)
{
	pattern_fill(message, 100, i);
}

/* Sends messages until one is refused. Returns how many were sent. */
static uint64_t send_all(bufpipe_t *pipe, int64_t timeout_ns)
{
	char message[100];
	uint64_t sent = 0;
	int r;

	for (;;) {
		fill(message, sent);
		r = bufpipe_send(pipe, message, sizeof(message), timeout_ns);
		if (r < 0)
			break;
		sent++;
	}
	check_eq(r, -ENOMEM);
	return sent;
}

static void receive_all(bufpipe_t *pipe, uint64_t from, uint64_t to)
{
	char message[100];

	for (; from < to; from++) {
		check_eq(bufpipe_recv(pipe, message, sizeof(message), 0), sizeof(message));
		check(pattern_holds(message, sizeof(message), from));
	}
	check_eq(bufpipe_recv(pipe, message, sizeof(message), 0), -EAGAIN);
}

static void send_without(void *arg)
{
	static char large[200000];
	struct bufpipe_options *options = arg;
	struct iovec pieces[3] = { { large, 100 }, { large, 100 }, { large, 100 } };
	bufpipe_t *ends[2];
	uint64_t sent;
	void *room;

	pipe_open(ends, options);
	refuse_memory();
	sent = send_all(ends[OUT], 0);
	/* The memory that is reserved at creation has room for some messages. */
	check(sent > 0 && sent < PAGE / 100);
	for (int i = 0; i < 2; i++) {
		check_eq(send_all(ends[OUT], PLENTY), 0);
		check_eq(bufpipe_send(ends[OUT], large, 100, -1), -ENOMEM);
		check_eq(bufpipe_sendv(ends[OUT], pieces, 1, PLENTY), -ENOMEM);
		check_eq(bufpipe_send_many(ends[OUT], pieces, 3, PLENTY), -ENOMEM);
		check_eq(bufpipe_reserve(ends[OUT], &room, 100, PLENTY), -ENOMEM);
		check_eq(bufpipe_commit(ends[OUT], 100), -EINVAL);
		if (!options->object_size)
			check_eq(bufpipe_send(ends[OUT], large, sizeof(large), PLENTY), -ENOMEM);
		receive_all(ends[IN], i ? sent : 0, sent);
	}
	check_eq(bufpipe_shutdown(ends[OUT]), 0);
	check_eq(bufpipe_recv(ends[IN], large, sizeof(large), PLENTY), -EPIPE);
	pipe_close(ends);
}

Test(memory, refused_to_a_send)
{
	run_each(send_without);
}

/* A batch goes as far as there is memory. */
static void batch_without(void *arg)
{
	static char text[100];
	struct iovec many[200];
	bufpipe_t *ends[2];
	ssize_t sent;

	for (int i = 0; i < 200; i++)
		many[i] = (struct iovec){ text, sizeof(text) };
	pipe_open(ends, arg);
	refuse_memory();
	sent = bufpipe_send_many(ends[OUT], many, 200, PLENTY);
	check(sent > 0 && sent < PAGE / 100);
	check_eq(bufpipe_send_many(ends[OUT], many, 200, PLENTY), -ENOMEM);
	for (ssize_t i = 0; i < sent; i++)
		check_eq(bufpipe_recv(ends[IN], text, sizeof(text), 0), sizeof(text));
	check_eq(bufpipe_recv(ends[IN], text, sizeof(text), 0), -EAGAIN);
	pipe_close(ends);
}

Test(memory, refused_in_a_batch)
{
	run_each(batch_without);
}

/*
 * A long message has begun when memory is refused. The receiver sees nothing of it, and receives what comes
 * later.
 */
static void long_without(void *arg)
{
	static char large[4 << 20];
	struct bufpipe_options options = { .buffer_size = PAGE };
	bufpipe_t *ends[2];
	char got[8];

	(void)arg;
	pipe_open(ends, &options);
	say(ends[OUT], "first");
	refuse_memory();
	check_eq(bufpipe_send(ends[OUT], large, sizeof(large), PLENTY), -ENOMEM);
	hear(ends[IN], "first");
	check_eq(bufpipe_recv(ends[IN], got, sizeof(got), 0), -EAGAIN);
	pipe_close(ends);
}

Test(memory, refused_in_a_long_message)
{
	struct child child = child_start(long_without, NULL);

	child_join(&child);
}

/* A message in parts goes on after the refusal: the same part can be sent again. */
static void parts_without(void *arg)
{
	static char large[4 << 20];
	struct bufpipe_options options = { .buffer_size = PAGE };
	size_t left = sizeof(large);
	bufpipe_t *ends[2];
	ssize_t sent;

	(void)arg;
	pipe_open(ends, &options);
	refuse_memory();
	while ((sent = bufpipe_send_part(ends[OUT], large, left, 0, PLENTY)) > 0)
		left -= (size_t)sent;
	check_eq(sent, -ENOMEM);
	check(left < sizeof(large));
	check_eq(bufpipe_send(ends[OUT], large, 1, 0), -EBUSY);
	check_eq(bufpipe_send_part(ends[OUT], large, left, 1, 0), -EINVAL);
	check_eq(bufpipe_send_part(ends[OUT], large, left, 0, PLENTY), -ENOMEM);
	check_eq(bufpipe_cancel(ends[OUT]), 0);
	pipe_close(ends);
}

Test(memory, refused_to_a_part)
{
	struct child child = child_start(parts_without, NULL);

	child_join(&child);
}

/* Fills at least two laps of each ring, so that every page of it needed memory. */
static void stream_with(void *arg)
{
	const struct forbidden *rules = arg;
	struct bufpipe_options options = kinds[0];
	char message[3000];
	bufpipe_t *ends[2];

	forbid(rules, rules[1].call ? 2 : 1);
	for (int kind = 0; kind < KINDS; kind++) {
		options = kinds[kind];
		options.flags |= kind % 2 ? BUFPIPE_PREFAULT : 0;
		pipe_open(ends, &options);
		for (uint64_t i = 0; i < (options.object_size ? 10000 : 1500); i++) {
			size_t len = options.object_size ? options.object_size : 1 + i * 7 % sizeof(message);

			for (uint64_t k = i; k < i + 2; k++) {
				pattern_fill(message, len, k);
				check_eq(bufpipe_send(ends[OUT], message, len, 0), 0);
			}
			for (uint64_t k = i; k < i + 2; k++) {
				check_eq(bufpipe_recv(ends[IN], message, sizeof(message), 0), len);
				check(pattern_holds(message, len, k));
			}
		}
		pipe_close(ends);
	}
}

Test(memory, provided_where_the_advice_is_refused)
{
	static const int errors[] = { EINVAL, EPERM, EACCES, ENOSYS, ENOMEM, EFAULT };

	for (unsigned i = 0; i < 2 * sizeof(errors) / sizeof(errors[0]); i++) {
		struct forbidden rules[2] = { { .call = SYS_madvise, .error = errors[i / 2] },
					      { .call = i % 2 ? SYS_getcpu : 0, .error = ENOSYS } };
		struct child child = child_start(stream_with, rules);

		child_join(&child);
	}
}

static void connect_and_say(void *arg)
{
	struct bufpipe_options options = { .flags = BUFPIPE_SHARED };
	bufpipe_t *pipe;

	check_eq(bufpipe_connect(&pipe, arg, &options, PLENTY), 0);
	say(pipe, "whole");
	bufpipe_close(pipe);
}

/* Without the advice the library stores to each page to get its memory. It must not change what is there already. */
static void meet_with(void *arg)
{
	struct bufpipe_options options = { .flags = BUFPIPE_SHARED | *(const unsigned *)arg };
	struct forbidden advice = { .call = SYS_madvise, .error = EINVAL };
	bufpipe_listener_t *listener;
	struct child child;
	bufpipe_t *pipe;
	bufpipe_t *again;
	char address[64];
	int sockets[2];

	forbid(&advice, 1);
	snprintf(address, sizeof(address), "@bufpipe-test-memory-%d", getpid());
	check_eq(bufpipe_listen(&listener, address, &options), 0);
	child = child_start(connect_and_say, address);
	check_eq(bufpipe_accept(listener, &pipe, PLENTY), 0);
	/* The process that receives the end checks the control page. */
	sockets_open(sockets, SOCK_SEQPACKET);
	check_eq(bufpipe_send_end(sockets[0], pipe), 0);
	check_eq(bufpipe_recv_end(sockets[1], &again), 0);
	hear(again, "whole");
	bufpipe_close(again);
	bufpipe_close(pipe);
	sockets_close(sockets);
	child_join(&child);
	bufpipe_listener_close(listener);
}

Test(memory, provided_to_a_listener_where_the_advice_is_refused)
{
	unsigned flags[] = { 0, BUFPIPE_PREFAULT, BUFPIPE_LOCKED };

	for (unsigned i = 0; i < sizeof(flags) / sizeof(flags[0]); i++) {
		struct child child = child_start(meet_with, &flags[i]);

		child_join(&child);
	}
}

/*
 * Memory is really scarce, because a mapping takes nearly all of it. Without strict overcommit the kernel would
 * kill a process rather than refuse memory.
 */
static void scarce(void *arg)
{
	/* The kernel counts roughly: what each CPU gives back may stay unseen up to a 256th of the memory. */
	const size_t left = (size_t)sysconf(_SC_PHYS_PAGES) / 128 * PAGE;
	struct bufpipe_options options = { .buffer_size = 4 * left };
	static char message[1 << 16];
	bufpipe_t *ends[2] = { NULL, NULL };
	uint64_t sent = 0;
	void *keep;
	int r;

	options.flags = *(const unsigned *)arg;
	keep = mmap(NULL, left, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	check(keep != MAP_FAILED);
	for (size_t step = 1 << 20; step >= PAGE; step /= 16) {
		while (mmap(NULL, step, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) !=
		       MAP_FAILED)
			;
	}
	check_eq(bufpipe_create(ends, &options), -ENOMEM);
	munmap(keep, left);
	r = bufpipe_create(ends, &options);
	if (options.flags & BUFPIPE_PREFAULT) {
		check_eq(r, -ENOMEM);
		return;
	}
	check_eq(r, 0);
	while ((r = bufpipe_send(ends[OUT], message, sizeof(message), 0)) == 0)
		sent++;
	check_eq(r, -ENOMEM);
	check(sent > 10);
	for (uint64_t i = 0; i < sent; i++)
		check_eq(bufpipe_recv(ends[IN], message, sizeof(message), 0), sizeof(message));
	check_eq(bufpipe_recv(ends[IN], message, sizeof(message), 0), -EAGAIN);
	pipe_close(ends);
}

Test(memory, really_scarce)
{
	unsigned flags[] = { 0, BUFPIPE_PREFAULT, BUFPIPE_SHARED | BUFPIPE_DUPLEX };
	FILE *file = fopen("/proc/sys/vm/overcommit_memory", "re");
	int mode = file ? fgetc(file) : 0;

	if (file)
		fclose(file);
	if (mode != '2')
		cr_skip_test("needs strict overcommit: vm.overcommit_memory=2");
	for (int i = 0; i < 3; i++) {
		struct child child = child_start(scarce, &flags[i]);

		child_join(&child);
	}
}

/* The kernel also sends SIGXFSZ, whose default action would end the process. */
static void create_beyond_file_size(void *arg)
{
	struct rlimit limit = { PAGE, PAGE };
	struct bufpipe_options options = { .buffer_size = 1 << 20 };
	bufpipe_listener_t *listener;
	bufpipe_t *ends[2];

	(void)arg;
	setrlimit(RLIMIT_CORE, &(struct rlimit){ 0, 0 });
	limit.rlim_cur = limit.rlim_max = 1 << 19;
	check_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
	check_eq(bufpipe_create(ends, &options), -EFBIG);
	options.buffer_size = PAGE;
	pipe_open(ends, &options);
	say(ends[OUT], "small enough");
	hear(ends[IN], "small enough");
	pipe_close(ends);
	check_eq(bufpipe_listen(&listener, "@bufpipe-test-file-size", NULL), 0);
	bufpipe_listener_close(listener);
	limit.rlim_cur = limit.rlim_max = 1;
	check_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
	check_eq(bufpipe_create(ends, NULL), -EFBIG);
}

Test(memory, a_limit_of_file_sizes_is_reported_as_an_error)
{
	struct child child = child_start(create_beyond_file_size, NULL);

	child_join(&child);
}

#ifndef SANITIZED /* the sanitizers make mlockall a no-op */
enum { LOCKABLE = 4 << 20 };

static void connect_with_much(void *address)
{
	struct bufpipe_options wish = { .flags = BUFPIPE_SEND, .buffer_size = 2 * LOCKABLE };
	bufpipe_t *pipe;

	if (bufpipe_connect(&pipe, address, &wish, PLENTY) == 0)
		bufpipe_close(pipe);
}

/* The kernel returns EAGAIN, which would tell a caller to wait and try again. The library returns -ENOMEM. */
static void create_beyond_locked_memory(void *arg)
{
	struct bufpipe_options options = { .buffer_size = 2 * LOCKABLE };
	bufpipe_listener_t *listener;
	struct child client;
	bufpipe_t *ends[2];
	char address[64];
	int before;
	int r;

	(void)arg;
	snprintf(address, sizeof(address), "@bufpipe-test-locked-%d", getpid());
	check_eq(setrlimit(RLIMIT_MEMLOCK, &(struct rlimit){ LOCKABLE, LOCKABLE }), 0);
	if (getuid() == 0)
		check_eq(setuid(65534), 0);
	check_eq(bufpipe_listen(&listener, address, NULL), 0);
	check_eq(mlockall(MCL_FUTURE), 0);
	/* With CAP_IPC_LOCK there is no limit. */
	if (mmap(NULL, (size_t)2 * LOCKABLE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) != MAP_FAILED)
		return;
	before = descriptors_open();
	check_eq(bufpipe_create(ends, &options), -ENOMEM);
	check_eq(descriptors_open(), before);
	/* A client whose pipe is too large does not stop the listener. */
	client = child_start(connect_with_much, address);
	check_eq(bufpipe_accept(listener, &ends[IN], PLENTY), -ENOMEM);
	child_join(&client);
	client = child_start(connect_and_say, address);
	while ((r = bufpipe_accept(listener, &ends[IN], PLENTY)) == -ENOMEM)
		;
	check_eq(r, 0);
	hear(ends[IN], "whole");
	child_join(&client);
	bufpipe_close(ends[IN]);
	bufpipe_listener_close(listener);
}

Test(memory, a_limit_of_locked_memory_is_reported_as_no_memory)
{
	struct child child = child_start(create_beyond_locked_memory, NULL);

	child_join(&child);
}
#endif
