/* SPDX-License-Identifier: MIT */
/*
 * What programs write by hand with eventfd: slots in shared memory, and for each
 * direction two counters in the kernel, of messages and of free slots.  When a side has
 * used all messages or slots that it knows of, it reads its counter, and sleeps there
 * while the counter is 0.
 */
#include "../transport.h"

#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

struct direction {
	unsigned char *slots;
	int messages; /* the sender adds one for each */
	int room;     /* the receiver adds what it has freed */
	uint64_t position;
	uint64_t known; /* of the sender: free slots; of the receiver: messages */
	uint64_t freed; /* of the receiver: free slots that it has not added to room yet */
};

struct state {
	unsigned char *shared;
	size_t size;
	size_t len;
	uint64_t count;
	struct direction direction[2];
	struct direction *in;
	struct direction *out;
};

static void close_all(void *state)
{
	struct state *s = state;

	for (int i = 0; i < 2; i++) {
		if (s->direction[i].messages >= 0)
			close(s->direction[i].messages);
		if (s->direction[i].room >= 0)
			close(s->direction[i].room);
	}
	if (s->shared)
		munmap(s->shared, s->size);
	free(s);
}

static int open_direction(struct direction *d, unsigned char *slots, uint64_t count)
{
	d->slots = slots;
	d->messages = eventfd(0, EFD_CLOEXEC);
	d->room = eventfd((unsigned)count, EFD_CLOEXEC);
	return d->messages < 0 || d->room < 0 ? -errno : 0;
}

static int open_both(void **state, const struct shape *shape)
{
	struct state *s = calloc(1, sizeof(*s));
	void *shared;
	int err;

	if (!s)
		return -ENOMEM;
	for (int i = 0; i < 2; i++)
		s->direction[i].messages = s->direction[i].room = -1;
	s->len = shape->len;
	s->count = shape->ring / shape->len > 2 ? shape->ring / shape->len : 2;
	s->size = 2 * s->count * s->len;
	shared =
		mmap(NULL, s->size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	s->shared = shared == MAP_FAILED ? NULL : shared;
	err = s->shared ? open_direction(&s->direction[0], s->shared, s->count) : -ENOMEM;
	if (!err)
		err = open_direction(&s->direction[1], s->shared + s->count * s->len, s->count);
	if (err) {
		close_all(s);
		return err;
	}
	*state = s;
	return 0;
}

static int take(void *state, enum side side)
{
	struct state *s = state;

	s->out = &s->direction[side];
	s->in = &s->direction[!side];
	return 0;
}

static int add(int fd, uint64_t n)
{
	return write(fd, &n, sizeof(n)) == sizeof(n) ? 0 : -errno;
}

static int await(int fd, uint64_t *n)
{
	while (read(fd, n, sizeof(*n)) != sizeof(*n)) {
		if (errno != EINTR)
			return -errno;
	}
	return 0;
}

static int send_slot(void *state, const void *buf, size_t len)
{
	const struct state *s = state;
	struct direction *d = s->out;
	int err = d->known ? 0 : await(d->room, &d->known);

	if (err)
		return err;
	memcpy(d->slots + d->position * s->len, buf, len);
	d->position = d->position + 1 == s->count ? 0 : d->position + 1;
	d->known--;
	return add(d->messages, 1);
}

static ssize_t recv_slot(void *state, void *buf, size_t len)
{
	const struct state *s = state;
	struct direction *d = s->in;
	int err = 0;

	if (!d->known) {
		/* Before the receiver sleeps, it reports all free slots, so that the sender can go on. */
		if (d->freed)
			err = add(d->room, d->freed);
		d->freed = 0;
		if (!err)
			err = await(d->messages, &d->known);
	}
	if (err)
		return err;
	memcpy(buf, d->slots + d->position * s->len, len);
	d->position = d->position + 1 == s->count ? 0 : d->position + 1;
	d->known--;
	if (++d->freed * 2 < s->count)
		return (ssize_t)len;
	err = add(d->room, d->freed);
	d->freed = 0;
	return err ? err : (ssize_t)len;
}

const struct transport transport_eventfd = {
	.name = "eventfd",
	.about = "slots in shared memory, with two eventfds for each direction",
	.room = "slots of the message's size, two at least",
	.flags = TRANSPORT_EXTRA,
	.open = open_both,
	.take = take,
	.send = send_slot,
	.recv = recv_slot,
	.close = close_all,
};
