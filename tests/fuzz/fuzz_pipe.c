/* SPDX-License-Identifier: MIT */
/*
 * A target for libFuzzer: all that a peer can write, between any two calls.
 *
 * The input is a program.  Each step either writes into what the peer owns (a
 * word of its control page, a header or any word of its ring, a byte on the
 * socket), or is a call of the victim.  Every call has a timeout of at most a
 * millisecond and must end soon after it, with a documented result.
 *
 * The first byte chooses the pipe: static or generic, shared or not, and whether
 * its set uses io_uring.
 */
#include "fuzz/input.h"

#include <sys/socket.h>

#define CAP 400000

static void check_result(const char *what, int64_t r, int64_t most)
{
	switch (r) {
	case -EINTR: /* of a set: libFuzzer has a timer, whose handler runs now and then */
	case -EAGAIN:
	case -ETIMEDOUT:
	case -EPIPE:
	case -EPROTO:
	case -EMSGSIZE:
	case -EBUSY:
	case -EBADF:
	case -EINVAL:
	case -ENOMEM:
	case -ECANCELED:
		return;
	default:
		if (r < 0 || r > most)
			fuzz_fail(what, r);
	}
}

static uint64_t header(struct input *in)
{
	static const uint64_t flags[] = { RECORD_WHOLE, RECORD_FIRST, RECORD_MORE, RECORD_END };
	uint64_t kind = take(in, 1);

	if (kind >= 250)
		return number(in);
	return flags[kind % 4] | (kind & 64 ? number(in) & RECORD_LENGTH : take(in, 1));
}

/* One word of the peer's ring. */
static void put(const bufpipe_t *peer, uint64_t at, uint64_t value)
{
	uint64_t mask = peer->ours.identity.data_size - 1;

	/* A shared end may stay in a long message for longer than its timeout, so none begins there. */
	if (peer->flags & BUFPIPE_SHARED && !peer->ours.identity.object_size)
		value &= ~RECORD_FIRST;
	atomic_store((_Atomic uint64_t *)(void *)(peer->ours.data + (at & mask & ~(uint64_t)7)), value);
}

/* Only in the region that the peer owns. */
static void write_as_peer(bufpipe_t *peer, struct input *in)
{
	struct control *control = peer->ours.control;
	static const char bytes[256];
	uint64_t words = sizeof(*control) / 8;
	uint64_t at;

	switch (take(in, 1) % 5) {
	case 0: /* any word of the control page */
		at = take(in, 1) % words;
		((_Atomic uint64_t *)(void *)control)[at] = number(in);
		break;
	case 1: /* a record where the victim reads next, or behind it */
		at = atomic_load(&peer->theirs.control->head) + 8 * (take(in, 1) & 15);
		put(peer, at, header(in));
		break;
	case 2: /* any word of the ring */
		at = take(in, 3);
		put(peer, at, take(in, 1) & 1 ? header(in) : number(in));
		break;
	case 3: /* the same record at every place */
		at = header(in);
		for (uint64_t i = 0; i < peer->ours.identity.data_size; i += 8)
			put(peer, i, at);
		break;
	default:
		send(peer->socket, bytes, take(in, 1), MSG_DONTWAIT | MSG_NOSIGNAL);
	}
}

static void call_many(bufpipe_t *victim, bufpipe_set_t *set, uint64_t kind, int64_t timeout)
{
	struct bufpipe_pollfd p = { .pipe = victim, .events = BUFPIPE_IN | BUFPIPE_OUT };
	struct bufpipe_event events[2];

	if (kind % 2)
		check_result("bufpipe_wait", bufpipe_wait(&p, 1, timeout), 1);
	else
		check_result("bufpipe_set_wait", bufpipe_set_wait(set, events, 2, timeout), 2);
}

/* The calls that do not move a single message. */
static void call_rarely(bufpipe_t *victim, struct input *in, char *buf, size_t len, int64_t timeout)
{
	struct bufpipe_stats stats;
	struct bufpipe_info info;

	switch (take(in, 1) % 8) {
	case 0:
		check_result("send_part", bufpipe_send_part(victim, buf, len, take(in, 2), timeout),
			     (int64_t)len);
		break;
	case 1:
		if (bufpipe_room_fd(victim) < 0)
			fuzz_fail("room_fd", 0);
		break;
	case 2:
		check_result("drain", bufpipe_drain(victim, timeout), 0);
		break;
	case 3:
		check_result("get_stats", bufpipe_get_stats(victim, &stats), 0);
		break;
	case 4:
		check_result("get_info", bufpipe_get_info(victim, &info), 0);
		break;
	case 5:
		check_result("stop", bufpipe_stop(victim), 0);
		break;
	case 6:
		check_result("sendv", bufpipe_sendv(victim, &(struct iovec){ buf, len }, 1, timeout), 0);
		break;
	default:
		check_result("shutdown", bufpipe_shutdown_within(victim, timeout), 0);
	}
}

static void call_victim(bufpipe_t *victim, bufpipe_set_t *set, struct input *in, char *buf)
{
	static const char *const names[16] = { "recv",    "send",   "next",      "peek",
					       "release", "unpeek", "recv_many", "send_many",
					       "reserve", "commit", "cancel",    "recv_part",
					       "fd",      "wait",   "set_wait",  "a rare call" };
	uint64_t kind = take(in, 1);
	size_t len = kind & 16 ? CAP : take(in, 2);
	int64_t timeout = kind & 32 ? 1000000 : 0;
	struct iovec three[3] = { { buf, len }, { buf, len }, { buf, len } };
	struct stopwatch watch = stopwatch_start();
	const void *at;
	void *room;
	size_t after;

	switch (kind % 16) {
	case 0:
		check_result("recv", bufpipe_recv(victim, buf, len, timeout), (int64_t)len);
		break;
	case 1:
		check_result("send", bufpipe_send(victim, buf, len, timeout), 0);
		break;
	case 2:
		check_result("next", bufpipe_next(victim, timeout), INT64_MAX);
		break;
	case 3:
		check_result("peek", bufpipe_peek(victim, &at, timeout), CAP);
		check_result("peek_copy", bufpipe_peek_copy(victim, buf, len / 2, len / 2), 0);
		break;
	case 4:
		check_result("release", bufpipe_release(victim), 0);
		break;
	case 5:
		check_result("unpeek", bufpipe_unpeek(victim), 0);
		break;
	case 6:
		check_result("recv_many", bufpipe_recv_many(victim, three, 3, timeout), 3);
		break;
	case 7:
		check_result("send_many", bufpipe_send_many(victim, three, 3, timeout), 3);
		break;
	case 8:
		check_result("reserve", bufpipe_reserve(victim, &room, len, timeout), 0);
		break;
	case 9:
		check_result("commit", bufpipe_commit(victim, len), 0);
		break;
	case 10:
		check_result("cancel", bufpipe_cancel(victim), 0);
		break;
	case 11:
		check_result("recv_part", bufpipe_recv_part(victim, buf, len, &after, timeout), (int64_t)len);
		break;
	case 12:
		if (bufpipe_fd(victim) < 0)
			fuzz_fail("fd", 0);
		break;
	case 15:
		call_rarely(victim, in, buf, len, timeout);
		break;
	default:
		call_many(victim, set, kind, timeout);
	}
	stopwatch_stop(&watch, names[kind % 16], timeout);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static char *buf;
	struct input in = { data, size };
	uint64_t kind = take(&in, 1);
	struct bufpipe_options o = {
		.flags = BUFPIPE_DUPLEX | (kind & 2 ? BUFPIPE_SHARED : 0u),
		.spin_ns = BUFPIPE_NO_SPIN,
		.object_size = kind & 1 ? 100 : 0,
		.buffer_size = kind & 1 ? 0 : 2000,
	};
	bufpipe_set_t *set;
	bufpipe_t *ends[2];

	if (bufpipe_create(ends, &o) < 0 || bufpipe_set_create(&set, kind & 4 ? 0 : BUFPIPE_NO_URING) < 0)
		fuzz_fail("create", 0);
	if (!buf)
		buf = calloc(1, CAP);
	bufpipe_set_add(set, ends[0], BUFPIPE_IN | BUFPIPE_OUT, NULL);
	for (int steps = 0; in.left && steps < 200; steps++) {
		if (take(&in, 1) % 2)
			write_as_peer(ends[1], &in);
		else
			call_victim(ends[0], set, &in, buf);
	}
	bufpipe_set_destroy(set);
	bufpipe_close(ends[0]);
	bufpipe_close(ends[1]);
	return 0;
}
