/* SPDX-License-Identifier: MIT */
/*
 * The floor of a round trip: one cache line in each direction.  The first word of a
 * message is also the signal, so it must differ from that of the message before; the
 * runner ensures this.  The rest of a longer message lies before the word in the line.
 * Nothing counts, nothing sleeps, and nothing is checked.
 */
#include "../transport.h"
#include "spin.h"

#include <errno.h>
#include <stdalign.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define LINE 64

/* The second line of each pair stays empty, because some processors fetch lines in pairs. */
struct line {
	alignas(2 * LINE) unsigned char rest[LINE - 8];
	_Atomic uint64_t word;
};

struct lines {
	struct line *shared; /* [0] from the lead to the echo, [1] back */
	struct line *in;
	struct line *out;
	uint64_t last;
	bool one_core;
};

static int line_open(void **state, const struct shape *shape)
{
	struct lines *l;
	void *shared;

	if (shape->len > LINE)
		return -EOPNOTSUPP;
	l = calloc(1, sizeof(*l));
	if (!l)
		return -ENOMEM;
	shared = mmap(NULL, 2 * sizeof(struct line), PROT_READ | PROT_WRITE,
		      MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	if (shared == MAP_FAILED) {
		free(l);
		return -ENOMEM;
	}
	l->shared = shared;
	l->one_core = shape->one_core;
	*state = l;
	return 0;
}

static int line_take(void *state, enum side side)
{
	struct lines *l = state;

	l->out = &l->shared[side == SIDE_LEAD ? 0 : 1];
	l->in = &l->shared[side == SIDE_LEAD ? 1 : 0];
	return 0;
}

static int line_send(void *state, const void *buf, size_t len)
{
	const struct lines *l = state;
	uint64_t word;

	memcpy(&word, buf, 8);
	if (len > 8)
		memcpy(l->out->rest, (const char *)buf + 8, len - 8);
	/* Pairs with the load in line_recv; without it the rest could come late. */
	atomic_store_explicit(&l->out->word, word, memory_order_release);
	return 0;
}

static ssize_t line_recv(void *state, void *buf, size_t len)
{
	struct lines *l = state;
	uint64_t word;

	for (;;) {
		/* Pairs with the store in line_send; without it the rest could be read early. */
		word = atomic_load_explicit(&l->in->word, memory_order_acquire);
		if (word != l->last)
			break;
		spin_once(l->one_core);
	}
	l->last = word;
	memcpy(buf, &word, 8);
	if (len > 8)
		memcpy((char *)buf + 8, l->in->rest, len - 8);
	return (ssize_t)len;
}

static void line_close(void *state)
{
	struct lines *l = state;

	munmap(l->shared, 2 * sizeof(struct line));
	free(l);
}

const struct transport transport_line = {
	.name = "line",
	.about = "floor: one cache line in each direction, spinning",
	.room = "one message",
	.flags = TRANSPORT_SPINS | TRANSPORT_FLOOR_TRIP | TRANSPORT_NO_STREAM,
	.open = line_open,
	.take = line_take,
	.send = line_send,
	.recv = line_recv,
	.close = line_close,
};
