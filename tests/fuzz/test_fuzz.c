/* SPDX-License-Identifier: MIT */
/*
 * Random packets and random rings give documented results and leave nothing behind. Every run uses the same
 * numbers. BUFPIPE_TEST_SECONDS makes it longer, and BUFPIPE_TEST_SEED gives other numbers.
 */
#include "hostile/hostile.h"

#include <fcntl.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>

TestSuite(fuzz, .timeout = 100000);

#define SEALS (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL)

static uint64_t seed(void)
{
	const char *s = getenv("BUFPIPE_TEST_SEED");

	return s ? strtoull(s, NULL, 0) : 1;
}

static int64_t fuzz_time(void)
{
	return getenv("BUFPIPE_TEST_SECONDS") ? attack_time() : 2 * NSEC_PER_SEC;
}

/* A number at which something changes. */
static uint64_t odd_number(uint64_t *state)
{
	uint64_t r = random_next(state);
	uint64_t power = (uint64_t)1 << r % 64;

	switch (r / 64 % 6) {
	case 0:
		return power;
	case 1:
		return power - 1;
	case 2:
		return power + 1;
	case 3:
		return 0 - power;
	case 4:
		return r / 1024 % 16;
	default:
		return random_next(state);
	}
}

/* Changes bytes and words of 4 or 8 bytes at several places, or often at none. */
static void mutate(void *bytes, size_t len, uint64_t *state)
{
	for (uint64_t n = random_next(state) % 4; n; n--) {
		uint64_t number = odd_number(state);
		size_t size = (size_t)1 << random_next(state) % 4;

		if (size <= len)
			memcpy((char *)bytes + random_next(state) % (len / size) * size, &number, size);
	}
}

/* A region that is nearly right, or something else. The caller closes it. */
static int random_fd(unsigned directions, uint64_t *state)
{
	struct identity id = honest_identity(directions);
	off_t size;

	if (random_next(state) % 16 == 0)
		return eventfd(0, EFD_CLOEXEC);
	if (random_next(state) % 2)
		mutate(&id, sizeof(id), state);
	size = honest_size(&id);
	if (size < 0 || size > (off_t)1 << 43)
		size = 4096;
	return forge_region(&id, size + (random_next(state) % 8 ? 0 : 1), random_next(state) % 8 ? SEALS : 0);
}

/* A packet of about len bytes with about n descriptors. */
static void send_randomly(int socket, const void *bytes, size_t len, const int *fds, int n, uint64_t *state)
{
	char copy[128] = { 0 };
	uint64_t r = random_next(state);

	memcpy(copy, bytes, len);
	mutate(copy, len, state);
	if (r % 16 == 0)
		len = r / 16 % sizeof(copy);
	if (r / 4096 % 16 == 0 && n)
		n--;
	rogue_send(socket, copy, len, fds, n);
}

/* Makes a few calls that must work with any end. */
static void use(bufpipe_t *pipe)
{
	struct bufpipe_info info;
	const void *at;
	char buf[64] = "";
	int64_t begin = time_now();

	if (!pipe)
		return;
	cr_assert_eq(bufpipe_get_info(pipe, &info), 0);
	bufpipe_send(pipe, buf, sizeof(buf), 0);
	bufpipe_recv(pipe, buf, sizeof(buf), MSEC);
	bufpipe_next(pipe, 0);
	if (bufpipe_peek(pipe, &at, 0) >= 0)
		bufpipe_release(pipe);
	bufpipe_shutdown(pipe);
	bufpipe_close(pipe);
	cr_assert_lt(elapsed(begin), SOON);
}

Test(fuzz, strangers_at_the_listener)
{
	struct tally before = tally_now();
	uint64_t state = seed();
	int64_t begin = time_now();
	bufpipe_listener_t *listener;
	char address[64];

	snprintf(address, sizeof(address), "@bufpipe-test-fuzz-%d", getpid());
	cr_assert_eq(bufpipe_listen(&listener, address, NULL), 0);
	while (elapsed(begin) < fuzz_time()) {
		struct handshake g = handshake_make(WISHES);
		int socket = rogue_connect(address);
		bufpipe_t *pipe = NULL;
		int fd;
		int r;

		g.flags = random_next(&state) % 2 ? WISH_ANY : LAYOUT_SENDS;
		send_randomly(socket, &g, sizeof(g), NULL, 0, &state);
		cr_assert_eq(bufpipe_accept(listener, &pipe, 0), -EAGAIN);
		recv(socket, &g, sizeof(g), MSG_DONTWAIT);
		g = handshake_make(REGION);
		fd = random_fd(LAYOUT_SENDS, &state);
		send_randomly(socket, &g, sizeof(g), &fd, 1, &state);
		r = bufpipe_accept(listener, &pipe, 0);
		cr_assert(r == 0 || r == -EAGAIN, "%d", r);
		use(pipe);
		close(fd);
		close(socket);
	}
	honest_visit(listener, address, NULL);
	bufpipe_listener_close(listener);
	tally_assert(before, "strangers");
}

static void serve_randomly(int listener)
{
	uint64_t state = seed();

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	for (;;) {
		struct handshake g = handshake_make(OFFER);
		int socket = accept(listener, NULL, NULL);
		int fd = random_fd(LAYOUT_SENDS, &state);
		char wishes[128];

		recv(socket, wishes, sizeof(wishes), 0);
		g.flags = LAYOUT_RECEIVES;
		g.buffer_size = 65536;
		send_randomly(socket, &g, sizeof(g), &fd, 1, &state);
		close(socket);
		close(fd);
	}
}

Test(fuzz, offers_to_a_connector)
{
	static const int known[] = { 0,       -EBADMSG, -EPROTONOSUPPORT, -EPROTOTYPE, -EMSGSIZE, -ECONNRESET,
				     -ENOMEM, -ENOBUFS, -E2BIG,           -EACCES,     -EUSERS };
	struct tally before = tally_now();
	int64_t begin = time_now();
	char name[64];
	int listener = rogue_listen(name);
	pid_t pid = fork();

	if (!pid)
		serve_randomly(listener);
	while (elapsed(begin) < fuzz_time()) {
		bufpipe_t *pipe = NULL;
		int r = bufpipe_connect(&pipe, name, NULL, 5 * NSEC_PER_SEC);
		bool found = false;

		for (size_t i = 0; i < sizeof(known) / sizeof(*known); i++)
			found |= r == known[i];
		cr_assert(found, "%d", r);
		use(pipe);
	}
	flipper_stop(pid);
	close(listener);
	tally_assert(before, "offers");
}

Test(fuzz, parcels)
{
	struct tally before = tally_now();
	uint64_t state = seed();
	int64_t begin = time_now();
	bufpipe_t *ends[2];
	char parcel[64];
	size_t len;

	pipe_open(ends, NULL);
	len = parcel_bytes(ends[0], parcel);
	pipe_close(ends);
	while (elapsed(begin) < fuzz_time()) {
		unsigned directions = random_next(&state) % 3 + 1;
		int sockets[2];
		int ours[2];
		int fds[3];
		bufpipe_t *pipe = NULL;
		int r;

		sockets_open(sockets, SOCK_SEQPACKET);
		sockets_open(ours, SOCK_SEQPACKET);
		fds[0] = random_fd(directions, &state);
		fds[1] = random_fd(directions_mirrored(directions), &state);
		fds[2] = ours[0];
		send_randomly(sockets[0], parcel, len, fds, 3, &state);
		shutdown(sockets[0], SHUT_WR);
		r = bufpipe_recv_end(sockets[1], &pipe);
		cr_assert(r == 0 || r == -EBADMSG || r == -EPROTONOSUPPORT || r == -EPIPE || r == -ENOMEM ||
				  r == -EPERM || r == -EAGAIN,
			  "%d", r);
		if (pipe && pipe->flags & BUFPIPE_SHARED) {
			bufpipe_close(pipe); /* co-owners trust each other's locks */
			pipe = NULL;
		}
		use(pipe);
		close(fds[0]);
		close(fds[1]);
		sockets_close(sockets);
		sockets_close(ours);
	}
	tally_assert(before, "parcels");
}

/* Fills the ring with records that nearly fit together. */
static void fill_randomly(const struct duel *d, uint64_t *state)
{
	static const uint64_t flags[] = { RECORD_WHOLE, RECORD_WHOLE, RECORD_FIRST, RECORD_MORE,
					  RECORD_MORE };
	uint64_t end = victim_head(d) + d->rogue->sender.limit;
	uint64_t longest = d->rogue->ours.identity.buffer_size;

	for (uint64_t at = victim_head(d); at < end;) {
		uint64_t len = random_next(state) % 8 ? random_next(state) % 200 : odd_number(state) % 5000;
		uint64_t header = flags[random_next(state) % 5] | len;

		if (random_next(state) % 64 == 0)
			header = odd_number(state);
		atomic_store(rogue_header(d, at), header);
		atomic_store(rogue_header(d, at + 8), random_next(state) % 4
							      ? longest - 50 + random_next(state) % 600
							      : odd_number(state));
		at += record_size(len);
	}
}

static void read_random_rings(const struct bufpipe_options *options)
{
	struct duel d = duel_begin(0, options);
	uint64_t state = seed();
	int64_t begin = time_now();

	while (elapsed(begin) < fuzz_time() / 3) {
		fill_randomly(&d, &state);
		for (int i = 0; i < 60; i++) {
			bool large = random_next(&state) % 4 == 0;
			size_t cap =
				random_next(&state) % 400 + (large ? d.rogue->ours.identity.buffer_size : 0);
			char *buf = malloc(cap + !cap);
			struct iovec m[3] = { { buf, cap }, { buf, cap }, { buf, cap } };
			int64_t before = time_now();
			const void *at;
			ssize_t r;

			switch (random_next(&state) % 4) {
			case 0:
				r = bufpipe_next(d.victim, 0);
				break;
			case 1:
				r = bufpipe_peek(d.victim, &at, 0);
				if (random_next(&state) % 2)
					cr_assert_eq(bufpipe_unpeek(d.victim), r < 0 ? -EINVAL : 0);
				else
					cr_assert_eq(bufpipe_release(d.victim), r < 0 ? -EINVAL : 0);
				break;
			case 2:
				r = bufpipe_recv_many(d.victim, m, 3, 0);
				cr_assert_leq(r, 3);
				break;
			default:
				r = bufpipe_recv(d.victim, buf, cap, 0);
				cr_assert_leq(r, (ssize_t)cap);
			}
			free(buf);
			cr_assert_lt(elapsed(before), SOON);
			if (r == -EPROTO || r == -EPIPE || r == -EMSGSIZE || r == -EAGAIN)
				rogue_put(&d, RECORD_WHOLE | random_next(&state) % 300);
			else
				cr_assert_geq(r, 0, "%zd", r);
		}
	}
	duel_end(&d);
}

/* No pipe here is shared, because a receive on a shared end would wait for the rest of each message that begins. */
Test(fuzz, rings)
{
	read_random_rings(NULL);
	read_random_rings(&(struct bufpipe_options){ .buffer_size = 1024 });
	read_random_rings(&(struct bufpipe_options){ .object_size = 100 });
}

/* Changes any word of what the peer owns, and sends bytes on the socket. */
static void scribble(const struct duel *d, uint64_t random)
{
	uint64_t state = random;
	struct control *control = d->rogue->ours.control;
	uint64_t what = random_next(&state);
	_Atomic uint64_t *word;

	if (what % 4 == 0)
		word = (_Atomic uint64_t *)(void *)control + random_next(&state) % (sizeof(*control) / 8);
	else
		word = rogue_header(d, victim_head(d) + 8 * (what / 4 % 16));
	if (what / 64 % 4)
		atomic_store(word,
			     (uint64_t)1 << (56 + random_next(&state) % 4) | random_next(&state) % 3000);
	else
		atomic_store(word, odd_number(&state));
	if (what / 256 % 64 == 0)
		send(d->rogue->socket, "", what / 16384 % 2, MSG_DONTWAIT | MSG_NOSIGNAL);
}

static bool is_documented(ssize_t r)
{
	static const int known[] = { -EAGAIN, -ETIMEDOUT, -EPIPE,  -EPROTO,   -EMSGSIZE,
				     -EBUSY,  -EINVAL,    -ENOMEM, -ECANCELED };

	for (size_t i = 0; i < sizeof(known) / sizeof(*known); i++) {
		if (r == known[i])
			return true;
	}
	return r >= 0;
}

/* One call of the victim, with a timeout of a millisecond or of 0. */
static ssize_t call_one(bufpipe_t *victim, bufpipe_set_t *set, uint64_t random, char *buf, size_t cap)
{
	int64_t timeout = random % 2 * MSEC;
	struct bufpipe_pollfd p = { .pipe = victim, .events = BUFPIPE_IN | BUFPIPE_OUT };
	struct bufpipe_event events[2];
	struct iovec two[2] = { { buf, cap }, { buf, cap } };
	const void *at;
	void *room;
	ssize_t r;

	switch (random / 2 % 9) {
	case 0:
		return bufpipe_send(victim, buf, cap, timeout);
	case 1:
		return bufpipe_next(victim, timeout);
	case 2:
		r = bufpipe_peek(victim, &at, timeout);
		if (r >= 0)
			cr_assert_eq(bufpipe_peek_copy(victim, buf, 0, (size_t)r < cap ? (size_t)r : cap), 0);
		bufpipe_release(victim);
		return r;
	case 3:
		r = bufpipe_reserve(victim, &room, cap, timeout);
		bufpipe_cancel(victim);
		return r;
	case 4:
		return bufpipe_recv_many(victim, two, 2, timeout);
	case 5:
		return bufpipe_send_many(victim, two, 2, timeout);
	case 6:
		return bufpipe_wait(&p, 1, timeout);
	case 7:
		return bufpipe_set_wait(set, events, 2, timeout);
	default:
		return bufpipe_recv(victim, buf, cap, timeout);
	}
}

static void suffer_scribbling(const struct bufpipe_options *options, size_t most, bool with_fd)
{
	struct duel d = duel_begin(0, options);
	char *buf = calloc(1, most);
	uint64_t state = seed();
	int64_t began = time_now();
	bufpipe_set_t *set;
	pid_t pid;

	cr_assert_eq(bufpipe_set_create(&set, with_fd ? BUFPIPE_NO_URING : 0), 0);
	cr_assert_eq(bufpipe_set_add(set, d.victim, BUFPIPE_IN | BUFPIPE_OUT, NULL), 0);
	if (with_fd)
		cr_assert_geq(bufpipe_fd(d.victim), 0);
	pid = flipper_start(&d, scribble);
	while (elapsed(began) < fuzz_time() / 4) {
		uint64_t random = random_next(&state);
		int64_t begin = time_now();
		ssize_t r = call_one(d.victim, set, random, buf, options->object_size ?: random / 64 % most);

		cr_assert(is_documented(r), "call %d: %zd", (int)(random / 2 % 9), r);
		cr_assert_lt(elapsed(begin), SOON, "call %d", (int)(random / 2 % 9));
	}
	flipper_stop(pid);
	bufpipe_set_destroy(set);
	free(buf);
	duel_end(&d);
}

Test(fuzz, a_scribbling_process)
{
	const unsigned duplex = BUFPIPE_DUPLEX;

	suffer_scribbling(&(struct bufpipe_options){ .buffer_size = 2000, .flags = duplex }, 60000, false);
	suffer_scribbling(&(struct bufpipe_options){ .buffer_size = 2000, .flags = duplex }, 60000, true);
	suffer_scribbling(&(struct bufpipe_options){ .object_size = 100, .flags = duplex }, 100, false);
	/*
	 * A receive on a shared end may wait for the rest of a long message beyond its timeout. So the
	 * buffers here are too small for one.
	 */
	suffer_scribbling(&(struct bufpipe_options){ .buffer_size = 2000, .flags = duplex | BUFPIPE_SHARED },
			  1000, true);
}
