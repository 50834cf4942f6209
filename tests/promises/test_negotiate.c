/* SPDX-License-Identifier: MIT */
/* What two programs that meet agree on: sizes, kinds and directions, as a table. */
#include "support.h"

SUITE(negotiate);

static char address[64];

struct visitor {
	const struct bufpipe_options *options;
	bufpipe_t *end;
	int result;
};

static void visit(void *arg)
{
	struct visitor *visitor = arg;

	visitor->result = bufpipe_connect(&visitor->end, address, visitor->options, PLENTY);
}

/* Returns the connector's result. If it is 0, ends[0] was accepted and ends[1] was connected. */
static int meet(bufpipe_t *ends[2], const struct bufpipe_options *listener_options,
		const struct bufpipe_options *visitor_options)
{
	struct visitor visitor = { .options = visitor_options };
	bufpipe_listener_t *listener;
	struct thread thread;
	bool through = false;
	int r;

	snprintf(address, sizeof(address), "@bufpipe-test-%d", getpid());
	check_eq(bufpipe_listen(&listener, address, listener_options), 0);
	thread_start(&thread, visit, &visitor);
	/* When the visitor has finished, its last packet may still be in the socket: accept once more. */
	do {
		through = through || pthread_tryjoin_np(thread.handle, NULL) == 0;
		r = bufpipe_accept(listener, &ends[0], 5 * MSEC);
	} while (r == -ETIMEDOUT && !through);
	if (!through)
		thread_join(&thread);
	if (r < 0)
		check_eq(r, -ETIMEDOUT);
	ends[1] = visitor.end;
	check_eq(r == 0, visitor.result == 0);
	bufpipe_listener_close(listener);
	return visitor.result;
}

static void exchange(bufpipe_t *from, bufpipe_t *to)
{
	struct bufpipe_info a;
	struct bufpipe_info b;
	char message[64] = "a message";
	char got[64];
	size_t len;

	bufpipe_get_info(from, &a);
	bufpipe_get_info(to, &b);
	check_eq(a.can_send, b.can_recv);
	check_eq(a.object_size, b.object_size);
	check_eq(a.pid, getpid());
	len = a.object_size ? a.object_size : sizeof(message);
	if (!a.can_send)
		return;
	check_eq(bufpipe_send(from, message, len, PLENTY), 0);
	check_eq(bufpipe_recv(to, got, sizeof(got), PLENTY), len);
	check(!memcmp(message, got, len));
}

enum { NOBODY, ACCEPTED, CONNECTED, BOTH };

#define GENERIC(size)                 \
	{                             \
		.buffer_size = (size) \
	}
#define STATIC(size, count)                                    \
	{                                                      \
		.object_size = (size), .object_count = (count) \
	}
#define FLAGS(bits)             \
	{                       \
		.flags = (bits) \
	}
#define GIB ((size_t)1 << 30)

struct wish {
	struct bufpipe_options listens;
	struct bufpipe_options connects;
	int result;
	int receives; /* who does */
	size_t at_least;
	size_t objects;
};

static const struct wish table[] = {
	/* Sizes of generic pipes. */
	{ { 0 }, { 0 }, 0, ACCEPTED, 65536, 0 },
	{ GENERIC(100000), { 0 }, 0, ACCEPTED, 100000, 0 },
	{ GENERIC(100000), GENERIC(100000), 0, ACCEPTED, 100000, 0 },
	{ GENERIC(100000), GENERIC(4096), 0, ACCEPTED, 4096, 0 },
	{ GENERIC(100000), GENERIC(100001), -EMSGSIZE, NOBODY, 0, 0 },
	{ { 0 }, GENERIC(1 << 20), 0, ACCEPTED, 1 << 20, 0 },
	{ { 0 }, GENERIC(GIB + 1), -EMSGSIZE, NOBODY, 0, 0 },
	/* Static ones. */
	{ STATIC(24, 10), { 0 }, 0, ACCEPTED, 0, 10 },
	{ STATIC(24, 10), STATIC(24, 10), 0, ACCEPTED, 0, 10 },
	{ STATIC(24, 10), STATIC(24, 3), 0, ACCEPTED, 0, 3 },
	{ STATIC(24, 10), STATIC(24, 11), -EMSGSIZE, NOBODY, 0, 0 },
	{ STATIC(24, 0), STATIC(24, 10000), 0, ACCEPTED, 0, 10000 },
	{ STATIC(24, 10), STATIC(32, 3), -EPROTOTYPE, NOBODY, 0, 0 },
	{ STATIC(24, 10), GENERIC(4096), -EPROTOTYPE, NOBODY, 0, 0 },
	{ GENERIC(4096), STATIC(24, 1), -EPROTOTYPE, NOBODY, 0, 0 },
	{ { 0 }, STATIC(24, 1), -EPROTOTYPE, NOBODY, 0, 0 },
	/* Directions. */
	{ FLAGS(BUFPIPE_RECEIVE), { 0 }, 0, ACCEPTED, 65536, 0 },
	{ FLAGS(BUFPIPE_SEND), { 0 }, 0, CONNECTED, 65536, 0 },
	{ { 0 }, FLAGS(BUFPIPE_RECEIVE), 0, CONNECTED, 65536, 0 },
	{ { 0 }, FLAGS(BUFPIPE_SEND), 0, ACCEPTED, 65536, 0 },
	{ FLAGS(BUFPIPE_SEND), FLAGS(BUFPIPE_RECEIVE), 0, CONNECTED, 65536, 0 },
	{ FLAGS(BUFPIPE_RECEIVE), FLAGS(BUFPIPE_SEND), 0, ACCEPTED, 65536, 0 },
	{ FLAGS(BUFPIPE_SEND), FLAGS(BUFPIPE_SEND), -EPROTOTYPE, NOBODY, 0, 0 },
	{ FLAGS(BUFPIPE_RECEIVE), FLAGS(BUFPIPE_RECEIVE), -EPROTOTYPE, NOBODY, 0, 0 },
	{ FLAGS(BUFPIPE_DUPLEX), FLAGS(BUFPIPE_DUPLEX), 0, BOTH, 65536, 0 },
	{ FLAGS(BUFPIPE_DUPLEX), { 0 }, -EPROTOTYPE, NOBODY, 0, 0 },
	{ { 0 }, FLAGS(BUFPIPE_DUPLEX), -EPROTOTYPE, NOBODY, 0, 0 },
	{ FLAGS(BUFPIPE_DUPLEX), FLAGS(BUFPIPE_SEND), -EPROTOTYPE, NOBODY, 0, 0 },
	{ FLAGS(BUFPIPE_SEND), FLAGS(BUFPIPE_DUPLEX), -EPROTOTYPE, NOBODY, 0, 0 },
	/* The other flags belong to each side alone. */
	{ FLAGS(BUFPIPE_SHARED), FLAGS(BUFPIPE_PREFAULT), 0, ACCEPTED, 65536, 0 },
	{ FLAGS(BUFPIPE_HUGEPAGES), FLAGS(BUFPIPE_SHARED | BUFPIPE_INTERRUPTIBLE), 0, ACCEPTED, 65536, 0 },
	{ FLAGS(BUFPIPE_DUPLEX | BUFPIPE_SHARED), FLAGS(BUFPIPE_DUPLEX), 0, BOTH, 65536, 0 },
};

static void check_agreement(const struct wish *wish, bufpipe_t *ends[2])
{
	for (int i = 0; i < 2; i++) {
		struct bufpipe_info info;

		check_eq(bufpipe_get_info(ends[i], &info), 0);
		check_eq(info.can_recv,
			 wish->receives == BOTH || wish->receives == (i ? CONNECTED : ACCEPTED));
		check(info.can_send == !info.can_recv || wish->receives == BOTH);
		check(info.buffer_size >= wish->at_least);
		check_eq(info.object_count, wish->objects);
		exchange(ends[i], ends[!i]);
	}
}

Test(negotiate, sizes_kinds_and_directions_are_agreed_as_in_the_table)
{
	for (unsigned i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		const struct wish *wish = &table[i];
		bufpipe_t *ends[2];
		int r = meet(ends, &wish->listens, &wish->connects);

		if (r != wish->result)
			support_fail(__FILE__, __LINE__, "row %u gave %d and not %d", i, r, wish->result);
		if (r < 0)
			continue;
		check_agreement(wish, ends);
		pipe_close(ends);
	}
}

/* Such a connector accepts whatever the listener has chosen. */
Test(negotiate, a_connector_without_options_fits_every_listener)
{
	for (unsigned i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		bufpipe_t *ends[2];

		check_eq(meet(ends, &table[i].listens, NULL), 0);
		exchange(ends[0], ends[1]);
		exchange(ends[1], ends[0]);
		pipe_close(ends);
	}
}

Test(negotiate, a_listener_without_options_has_the_defaults)
{
	struct bufpipe_options wish = { .buffer_size = 200000 };
	bufpipe_t *ends[2];

	check_eq(meet(ends, NULL, NULL), 0);
	exchange(ends[1], ends[0]);
	pipe_close(ends);
	check_eq(meet(ends, NULL, &wish), 0);
	exchange(ends[1], ends[0]);
	pipe_close(ends);
}

Test(negotiate, each_side_keeps_its_flags_and_name)
{
	struct bufpipe_options listens = { .flags = BUFPIPE_SHARED, .name = "listening" };
	struct bufpipe_options connects = { .flags = BUFPIPE_INTERRUPTIBLE, .name = "connecting" };
	struct bufpipe_info info;
	bufpipe_t *ends[2];
	char line[512];
	FILE *maps;
	int found = 0;

	check_eq(meet(ends, &listens, &connects), 0);
	bufpipe_get_info(ends[0], &info);
	check_eq(info.flags & ~(unsigned)(BUFPIPE_SEND | BUFPIPE_RECEIVE), BUFPIPE_SHARED);
	bufpipe_get_info(ends[1], &info);
	check_eq(info.flags & ~(unsigned)(BUFPIPE_SEND | BUFPIPE_RECEIVE), BUFPIPE_INTERRUPTIBLE);
	maps = fopen("/proc/self/maps", "re");
	while (fgets(line, sizeof(line), maps)) {
		found |= strstr(line, "/memfd:listening") ? 1 : 0;
		found |= strstr(line, "/memfd:connecting") ? 2 : 0;
	}
	fclose(maps);
	check_eq(found, 3);
	pipe_close(ends);
}

/* An accepted end is like any other end: it streams, ends, and can be handed over. */
Test(negotiate, the_ends_do_what_created_ones_do)
{
	struct bufpipe_options duplex = { .buffer_size = 4096, .flags = BUFPIPE_DUPLEX };
	bufpipe_t *ends[2];
	bufpipe_t *landed;
	int sockets[2];
	char byte;

	sockets_open(sockets, SOCK_STREAM);
	check_eq(meet(ends, &duplex, &duplex), 0);
	check_eq(bufpipe_send_end(sockets[0], ends[0]), 0);
	check_eq(bufpipe_recv_end(sockets[1], &landed), 0);
	bufpipe_close(ends[0]);
	say(ends[1], "to");
	hear(landed, "to");
	say(landed, "fro");
	hear(ends[1], "fro");
	bufpipe_close(landed);
	check_eq(bufpipe_recv(ends[1], &byte, 1, -1), -EPIPE);
	bufpipe_close(ends[1]);
	sockets_close(sockets);
}
