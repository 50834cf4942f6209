/* SPDX-License-Identifier: MIT */
/*
 * A target for libFuzzer: all that a peer can write, between any two calls.
 *
 * The input is a program.  Each step either writes into what the peer owns (a
 * word of its control page, a header or any word of its ring, a byte on the
 * socket), or is a call of the victim.  Every call has a timeout of at most a
 * millisecond and must end soon after it, with a documented result.
 *
 * Without libFuzzer (FUZZ_REPLAY) it is a program that runs the files that it is
 * given, and after each of them what a generator makes of its bytes.
 */
#include "bufpipe.h"
#include "end/end.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>

/* How much longer than its timeout a call may take, not counting the time in which it waits for a CPU. */
#define SOON (NSEC_PER_SEC / 10)
/* The same where the kernel does not report that time, because the machine may be busy. */
#define SOON_BLIND (2 * NSEC_PER_SEC)
#define CAP        400000

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct input {
	const uint8_t *data;
	size_t left;
};

static uint64_t take(struct input *in, size_t bytes)
{
	uint64_t value = 0;

	if (bytes > in->left)
		bytes = in->left;
	memcpy(&value, in->data, bytes);
	in->data += bytes;
	in->left -= bytes;
	return value;
}

static void fail(const char *what, long long result)
{
	fprintf(stderr, "%s: %lld\n", what, result);
	abort();
}

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
			fail(what, r);
	}
}

/* For how long this thread has waited for a CPU, -1 if unknown. */
static int64_t time_queued(void)
{
	static int fd = -1;
	long long ran;
	long long queued;
	char text[64];
	ssize_t n;

	if (fd < 0)
		fd = open("/proc/thread-self/schedstat", O_RDONLY | O_CLOEXEC);
	n = pread(fd, text, sizeof(text) - 1, 0);
	if (n <= 0)
		return -1;
	text[n] = 0;
	return sscanf(text, "%lld %lld", &ran, &queued) == 2 ? queued : -1;
}

/* A number at which something changes, or any number. */
static uint64_t number(struct input *in)
{
	uint64_t kind = take(in, 1);
	uint64_t power = (uint64_t)1 << kind % 64;

	switch (kind / 64) {
	case 0:
		return power;
	case 1:
		return power - 1;
	case 2:
		return 0 - power;
	default:
		return take(in, 8);
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

/* Only in the region that the peer owns. */
static void write_as_peer(bufpipe_t *peer, struct input *in)
{
	struct control *control = peer->ours.control;
	static const char bytes[256];
	uint64_t words = sizeof(*control) / 8;
	uint64_t mask = peer->ours.identity.data_size - 1;
	uint64_t at;

	switch (take(in, 1) % 5) {
	case 0: /* any word of the control page */
		at = take(in, 1) % words;
		((_Atomic uint64_t *)(void *)control)[at] = number(in);
		break;
	case 1: /* a record where the victim reads next, or behind it */
		at = atomic_load(&peer->theirs.control->head) + 8 * (take(in, 1) & 15);
		*(_Atomic uint64_t *)(void *)(peer->ours.data + (at & mask & ~(uint64_t)7)) = header(in);
		break;
	case 2: /* any word of the ring */
		at = take(in, 3) & mask & ~(uint64_t)7;
		*(_Atomic uint64_t *)(void *)(peer->ours.data + at) =
			take(in, 1) & 1 ? header(in) : number(in);
		break;
	case 3: /* the same record at every place */
		at = header(in);
		for (uint64_t i = 0; i <= mask; i += 8)
			*(_Atomic uint64_t *)(void *)(peer->ours.data + i) = at;
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

	switch (take(in, 1) % 6) {
	case 0:
		check_result("send_part", bufpipe_send_part(victim, buf, len, take(in, 2), timeout),
			     (int64_t)len);
		break;
	case 1:
		if (bufpipe_room_fd(victim) < 0)
			fail("room_fd", 0);
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
	default:
		check_result("shutdown", bufpipe_shutdown_within(victim, timeout), 0);
	}
}

static void call_victim(bufpipe_t *victim, bufpipe_set_t *set, struct input *in, char *buf)
{
	uint64_t kind = take(in, 1);
	size_t len = kind & 16 ? CAP : take(in, 2);
	int64_t timeout = kind & 32 ? 1000000 : 0;
	struct iovec three[3] = { { buf, len }, { buf, len }, { buf, len } };
	int64_t queued = time_queued();
	int64_t begin = time_now();
	int64_t took;
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
			fail("fd", 0);
		break;
	case 15:
		call_rarely(victim, in, buf, len, timeout);
		break;
	default:
		call_many(victim, set, kind, timeout);
	}
	took = time_now() - begin - timeout;
	if (took > (queued < 0 ? SOON_BLIND : SOON + time_queued() - queued))
		fail("slow", (long long)kind);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static char *buf;
	struct input in = { data, size };
	uint64_t kind = take(&in, 1);
	struct bufpipe_options o = {
		.flags = BUFPIPE_DUPLEX,
		.spin_ns = BUFPIPE_NO_SPIN,
		.object_size = kind & 1 ? 100 : 0,
		.buffer_size = kind & 1 ? 0 : 2000,
	};
	bufpipe_set_t *set;
	bufpipe_t *ends[2];

	/* Not on a shared end, where a receive stays in a long message beyond its timeout, as documented. */
	if (bufpipe_create(ends, &o) < 0 || bufpipe_set_create(&set, BUFPIPE_NO_URING) < 0)
		return 0;
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

#ifdef FUZZ_REPLAY
#define LONGEST 2000

static uint64_t next_random(uint64_t *state)
{
	uint64_t x = *state += 0x9e3779b97f4a7c15ull;

	x = (x ^ x >> 31) * 0xd6e8feb86659fd93ull;
	return x ^ x >> 32;
}

/* Runs the file as it is, and then mutants of it until the time is up. */
static void replay(const char *path, int64_t until)
{
	uint8_t seed[LONGEST];
	uint8_t bytes[LONGEST];
	FILE *file = fopen(path, "rb");
	uint64_t state = 1;
	size_t len;

	if (!file)
		exit(2);
	len = fread(seed, 1, sizeof(seed), file);
	fclose(file);
	LLVMFuzzerTestOneInput(seed, len);
	while (time_now() < until) {
		size_t n = next_random(&state) % 2 ? len : next_random(&state) % sizeof(bytes);

		for (size_t i = 0; i < n; i++)
			bytes[i] =
				i < len && next_random(&state) % 8 ? seed[i] : (uint8_t)next_random(&state);
		LLVMFuzzerTestOneInput(bytes, n);
	}
}

/* Usage: SECONDS FILE... */
int main(int argc, char **argv)
{
	int64_t share = argc > 2 ? (int64_t)(atof(argv[1]) * (double)NSEC_PER_SEC) / (argc - 2) : 0;

	for (int i = 2; i < argc; i++)
		replay(argv[i], time_now() + share);
	return 0;
}
#endif
