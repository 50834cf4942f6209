/* SPDX-License-Identifier: MIT */
/*
 * A way to carry messages between two processes, as the benchmark sees it.
 *
 * A transport joins two sides with a channel in each direction.  The runner
 * opens it, forks the process of each side, and closes its own copy; each side
 * then calls take once and from there on only send and recv, from one thread.
 */
#ifndef PERF_TRANSPORT_H
#define PERF_TRANSPORT_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

/* The lead starts each exchange and takes the time; the echo answers. */
enum side { SIDE_LEAD, SIDE_ECHO };

enum {
	/* It spins, so it does not take part in the idle case and in the case of a low rate. */
	TRANSPORT_SPINS = 1 << 0,
	/* The others are compared with it: it is the lower bound of a round trip, or of a stream. */
	TRANSPORT_FLOOR_TRIP = 1 << 1,
	TRANSPORT_FLOOR_STREAM = 1 << 2,
	/* It can hold only one message, so a stream through it would mean nothing. */
	TRANSPORT_NO_STREAM = 1 << 3,
	/* In the exchanges of two processes it runs only if it is named, or with --all or --full. */
	TRANSPORT_EXTRA = 1 << 4,
	/* Many processes may share each side. */
	TRANSPORT_MANY = 1 << 5,
	/* It joins many pipes with one receiver, by send_to and recv_any, and can do nothing else. */
	TRANSPORT_SET = 1 << 6,
};

/* What the transport will have to carry. */
struct shape {
	size_t len;     /* of every message, at least 8 */
	size_t ring;    /* bytes in flight in each direction */
	bool one_core;  /* both sides run on the same CPU */
	bool stream;    /* many messages one way, not one to and fro */
	unsigned pipes; /* of a TRANSPORT_SET; 0 for the others */
};

/*
 * Every function that returns an int returns 0 or a negative errno.
 *
 * open   makes both sides; *state is then the transport's own.  -EOPNOTSUPP
 *        means that it cannot carry this shape, and the cell stays empty.
 * take   runs in the process of one side, which lets go of the other.
 * send   sends buf as one message of shape.len bytes and blocks while it must.
 * recv   receives one message into buf and returns its length.
 * close  undoes open, before or after take.
 *
 * One whose messages are written and read where they lie has instead of send and recv:
 *
 * reserve  room for a message of shape.len bytes; blocks while it must.
 * commit   sends what has been written there.
 * peek     the next message, and its length; blocks while it must.
 * release  gives up what was last peeked.
 *
 * With many processes at a side, each calls take.  A TRANSPORT_SET has shape.pipes
 * pipes from the lead to the echo, numbered from 0, and one back:
 *
 * send_to   the lead's; send is the echo's, and recv the lead's.
 * recv_any  the echo's: one message from any of them; *which tells from where.
 */
struct transport {
	const char *name;
	const char *about;
	unsigned flags;
	int (*open)(void **state, const struct shape *shape);
	int (*take)(void *state, enum side side);
	int (*send)(void *state, const void *buf, size_t len);
	ssize_t (*recv)(void *state, void *buf, size_t len);
	int (*send_to)(void *state, unsigned which, const void *buf, size_t len);
	ssize_t (*recv_any)(void *state, unsigned *which, void *buf, size_t len);
	void (*close)(void *state);
	int (*reserve)(void *state, void **room, size_t len);
	int (*commit)(void *state, size_t len);
	ssize_t (*peek)(void *state, const void **message);
	int (*release)(void *state);
	const char *room;             /* how its bytes in flight are bounded */
	const char *(*version)(void); /* of the library; NULL: the kernel, or ours */
};

/* All of them, the baseline first, ended by NULL. */
extern const struct transport *const transports[];

/* The one that every ratio refers to, and the one that those of sets do. */
extern const struct transport transport_pipe;
extern const struct transport transport_epoll;

#endif
