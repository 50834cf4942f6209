/* SPDX-License-Identifier: MIT */
/*
 * Strangers that connect and then are silent, send too much, or leave; and listeners that do not follow the
 * protocol.
 */
#include "hostile/hostile.h"

#include <fcntl.h>
#include <sys/prctl.h>

TestSuite(hostile_socket, .timeout = 60);

static bufpipe_listener_t *listen_somewhere(char address[64])
{
	static int count;
	bufpipe_listener_t *listener;

	snprintf(address, 64, "@bufpipe-test-socket-%d-%d", getpid(), count++);
	cr_assert_eq(bufpipe_listen(&listener, address, NULL), 0);
	return listener;
}

/* Tries to accept, and checks that there is no pipe. */
static void accept_nobody(bufpipe_listener_t *listener)
{
	bufpipe_t *pipe = NULL;
	int64_t begin = time_now();

	cr_assert_eq(bufpipe_accept(listener, &pipe, 0), -EAGAIN);
	cr_assert_null(pipe);
	cr_assert_lt(elapsed(begin), SOON);
}

/* Whether the listener hung up, perhaps after a refusal. Returns the refusal's error, or 0. */
static int dismissed(int socket)
{
	struct handshake g = { .error = 0 };
	ssize_t n = recv(socket, &g, sizeof(g), MSG_DONTWAIT);
	char byte;

	if (n > 0) {
		cr_assert(n == sizeof(g) && g.type == REFUSAL, "it was answered");
		n = recv(socket, &byte, 1, MSG_DONTWAIT);
	}
	cr_assert(n == 0 || errno == ECONNRESET, "it was not hung up on");
	return g.error;
}

Test(hostile_socket, silent_connectors_delay_nobody)
{
	struct tally before = tally_now();
	char address[64];
	bufpipe_listener_t *listener = listen_somewhere(address);
	int silent[200];

	for (int i = 0; i < 200; i++) {
		silent[i] = rogue_connect(address);
		if (i % 50 == 0)
			honest_visit(listener, address, NULL);
	}
	honest_visit(listener, address, NULL);
	accept_nobody(listener);
	/* The listener keeps at most as many of them as it has places. */
	cr_assert_lt(tally_now().fds, before.fds + 200 + 100);
	for (int i = 0; i < 200; i++)
		close(silent[i]);
	honest_visit(listener, address, NULL);
	bufpipe_listener_close(listener);
	tally_assert(before, "after the silent");
}

/* A child that repeats something until it is killed. */
static pid_t nuisance(void (*step)(const char *), const char *address)
{
	pid_t pid = fork();

	if (pid)
		return pid;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	for (;;)
		step(address);
}

static void knock_and_run(const char *address)
{
	close(rogue_connect(address));
}

/* A client leaves in the middle of the handshake. The listener frees the region that it made for it. */
static void wish_and_run(const char *address)
{
	struct handshake wishes = handshake_make(WISHES);
	int fd = rogue_connect(address);

	wishes.flags = WISH_ANY;
	rogue_send(fd, &wishes, sizeof(wishes), NULL, 0);
	close(fd);
}

Test(hostile_socket, ten_thousand_connections)
{
	struct tally before = tally_now();
	char address[64];
	bufpipe_listener_t *listener = listen_somewhere(address);
	pid_t pid = fork();
	bufpipe_t *pipe;
	int r;

	if (!pid) {
		for (int i = 0; i < 10000; i++)
			(i % 4 ? knock_and_run : wish_and_run)(address);
		_exit(0);
	}
	do {
		r = bufpipe_accept(listener, &pipe, 10 * MSEC);
		cr_assert(r == -ETIMEDOUT, "%d", r);
		cr_assert_lt(tally_now().fds, before.fds + 150);
	} while (waitpid(pid, &r, WNOHANG) == 0);
	cr_assert_eq(r, 0);
	honest_visit(listener, address, NULL);
	accept_nobody(listener);
	bufpipe_listener_close(listener);
	tally_assert(before, "after ten thousand");
}

Test(hostile_socket, accept_returns_in_time_under_a_flood)
{
	char address[64];
	bufpipe_listener_t *listener = listen_somewhere(address);
	pid_t nuisances[3];
	int64_t begin;

	for (int i = 0; i < 3; i++)
		nuisances[i] = nuisance(i ? knock_and_run : wish_and_run, address);
	for (int i = 0; i < 10; i++) {
		bufpipe_t *pipe;

		begin = time_now();
		cr_assert_eq(bufpipe_accept(listener, &pipe, 50 * MSEC), -ETIMEDOUT);
		cr_assert_lt(elapsed(begin), SOON);
		accept_nobody(listener);
	}
	for (int i = 0; i < 3; i++)
		flipper_stop(nuisances[i]);
	bufpipe_listener_close(listener);
}

Test(hostile_socket, handshake_packets_of_wrong_length)
{
	struct tally before = tally_now();
	struct handshake good = handshake_make(WISHES);
	char bytes[100000] = { 0 };
	char address[64];
	bufpipe_listener_t *listener = listen_somewhere(address);

	good.flags = WISH_ANY;
	memcpy(bytes, &good, sizeof(good));
	for (size_t len = 0; len <= sizeof(bytes); len += len < sizeof(good) + 8 ? 1 : 9000) {
		int fd = rogue_connect(address);

		if (len == sizeof(good))
			len++;
		cr_assert_eq(rogue_send(fd, bytes, len, NULL, 0), (ssize_t)len);
		accept_nobody(listener);
		if (len)
			cr_assert_eq(dismissed(fd), -EBADMSG);
		close(fd);
	}
	honest_visit(listener, address, NULL);
	bufpipe_listener_close(listener);
	tally_assert(before, "after wrong lengths");
}

Test(hostile_socket, handshake_packets_of_wrong_content)
{
	const struct {
		size_t offset;
		uint32_t value;
		int error;
	} table[] = {
		{ offsetof(struct handshake, magic), 0, -EBADMSG },
		{ offsetof(struct handshake, magic) + 4, 1, -EBADMSG },
		{ offsetof(struct handshake, version), 0, -EPROTONOSUPPORT },
		{ offsetof(struct handshake, version), LAYOUT_VERSION + 1, -EPROTONOSUPPORT },
		{ offsetof(struct handshake, version), UINT32_MAX, -EPROTONOSUPPORT },
		{ offsetof(struct handshake, type), 0, -EBADMSG },
		{ offsetof(struct handshake, type), OFFER, -EBADMSG },
		{ offsetof(struct handshake, type), REFUSAL, -EBADMSG },
		{ offsetof(struct handshake, type), REGION, -EBADMSG },
		{ offsetof(struct handshake, type), UINT32_MAX, -EBADMSG },
		{ offsetof(struct handshake, flags), UINT32_MAX, -EBADMSG },
		{ offsetof(struct handshake, flags), LAYOUT_SHARED, -EBADMSG },
		{ offsetof(struct handshake, flags), LAYOUT_SENDS | LAYOUT_RECEIVES, -EPROTOTYPE },
		{ offsetof(struct handshake, buffer_size) + 4, UINT32_MAX, -EMSGSIZE },
		{ offsetof(struct handshake, buffer_size), (1u << 30) + 1, -EMSGSIZE },
		{ offsetof(struct handshake, object_size), 1, -EPROTOTYPE },
	};
	struct tally before = tally_now();
	char address[64];
	bufpipe_listener_t *listener = listen_somewhere(address);

	for (size_t i = 0; i < sizeof(table) / sizeof(*table); i++) {
		struct handshake g = handshake_make(WISHES);
		int fd = rogue_connect(address);
		int r;

		memcpy((char *)&g + table[i].offset, &table[i].value, sizeof(uint32_t));
		rogue_send(fd, &g, sizeof(g), NULL, 0);
		accept_nobody(listener);
		r = dismissed(fd);
		cr_assert_eq(r, table[i].error, "packet %zu: %d", i, r);
		close(fd);
	}
	honest_visit(listener, address, NULL);
	bufpipe_listener_close(listener);
	tally_assert(before, "after wrong contents");
}

Test(hostile_socket, descriptors_with_the_wishes_are_closed)
{
	struct tally before = tally_now();
	int fds[200] = { 0 };
	char address[64];
	bufpipe_listener_t *listener = listen_somewhere(address);

	for (int n = 1; n <= 200; n += n < 6 ? 1 : 60) {
		struct handshake g = handshake_make(WISHES);
		int fd = rogue_connect(address);

		g.flags = WISH_ANY;
		/* From Linux 6.16 on it cannot even be sent. */
		if (rogue_send(fd, &g, sizeof(g), fds, n) < 0)
			cr_assert_eq(errno, EPERM);
		accept_nobody(listener);
		close(fd);
		fd = rogue_connect(address); /* and also without a descriptor */
		rogue_send(fd, &g, 0, fds, n);
		accept_nobody(listener);
		close(fd);
	}
	bufpipe_listener_close(listener);
	tally_assert(before, "after descriptors");
}

Test(hostile_socket, as_much_as_the_socket_takes)
{
	static char big[50000];
	struct tally before = tally_now();
	char address[64];
	bufpipe_listener_t *listener = listen_somewhere(address);

	for (int i = 0; i < 20; i++) {
		int fd = rogue_connect(address);

		while (rogue_send(fd, big, sizeof(big), NULL, 0) > 0)
			;
		accept_nobody(listener);
		dismissed(fd);
		close(fd);
	}
	honest_visit(listener, address, NULL);
	bufpipe_listener_close(listener);
	tally_assert(before, "after gigabytes");
}

Test(hostile_socket, closes_in_each_state)
{
	struct tally before = tally_now();

	for (int state = 0; state < 4; state++) {
		struct handshake region = handshake_make(REGION);
		struct identity id = honest_identity(LAYOUT_SENDS);
		int fd = forge_region(&id, honest_size(&id), F_SEAL_SHRINK | F_SEAL_GROW);
		struct meeting m = meet(NULL);
		bufpipe_t *pipe = NULL;
		char byte;

		if (state >= 1)
			rogue_send(m.socket, &region, sizeof(region), &fd, 1);
		if (state >= 2) /* what is sent after the handshake outside the ring is no message */
			rogue_send(m.socket, "chatter", 7, NULL, 0);
		if (state != 3)
			shutdown(m.socket, SHUT_RDWR);
		if (state == 0) {
			accept_nobody(m.listener);
		} else {
			cr_assert_eq(bufpipe_accept(m.listener, &pipe, 0), 0);
			cr_assert_eq(bufpipe_recv(pipe, &byte, 1, state == 3 ? 0 : -1),
				     state == 3 ? -EAGAIN : -EPIPE);
		}
		bufpipe_close(pipe);
		honest_visit(m.listener, m.address, NULL);
		close(fd);
		part(&m);
	}
	tally_assert(before, "after closing");
}

Test(hostile_socket, the_listener_closes_with_strangers_in_each_state)
{
	struct tally before = tally_now();
	struct meeting m = meet(NULL);
	int silent = rogue_connect(m.address);
	int late;

	accept_nobody(m.listener);
	late = rogue_connect(m.address);
	bufpipe_listener_close(m.listener);
	dismissed(silent);
	dismissed(late);
	dismissed(m.socket);
	m.listener = NULL;
	part(&m);
	close(silent);
	close(late);
	tally_assert(before, "after the end");
}

/* What connect returns if a listener answers like this and then waits until the connector is gone. */
static int connect_to(void (*answer)(int socket, int number), int number, int64_t timeout_ns)
{
	struct tally before = tally_now();
	char name[64];
	int listener = rogue_listen(name);
	bufpipe_t *pipe = NULL;
	int64_t begin = time_now();
	pid_t pid = fork();
	int r;

	if (!pid) {
		struct handshake wishes;
		int s = accept(listener, NULL, NULL);
		int fd;

		if (number >= 0)
			rogue_recv(s, &wishes, sizeof(wishes), &fd);
		answer(s, number);
		rogue_recv(s, &wishes, sizeof(wishes), &fd);
		_exit(0);
	}
	r = bufpipe_connect(&pipe, name, NULL, timeout_ns);
	cr_assert_lt(elapsed(begin), SOON);
	cr_assert_null(pipe);
	close(listener);
	cr_assert_eq(waitpid(pid, NULL, 0), pid);
	tally_assert(before, "connect");
	return r;
}

static void say_nothing(int socket, int number)
{
	(void)socket;
	(void)number;
}

static void hang_up(int socket, int number)
{
	(void)number;
	shutdown(socket, SHUT_RDWR);
}

static void refuse_with(int socket, int number)
{
	struct handshake g = handshake_make(REFUSAL);

	g.error = -number;
	rogue_send(socket, &g, sizeof(g), NULL, 0);
}

static void send_length(int socket, int number)
{
	static char bytes[100000];
	struct handshake g = handshake_make(OFFER);
	int fds[3] = { 0, 1, 2 };

	memcpy(bytes, &g, sizeof(g));
	rogue_send(socket, bytes, (size_t)number, fds, number % 3);
}

Test(hostile_socket, listeners_that_say_nothing)
{
	cr_assert_eq(connect_to(say_nothing, 0, 50 * MSEC), -ETIMEDOUT);
	cr_assert_eq(connect_to(say_nothing, 0, 0), -EAGAIN);
}

Test(hostile_socket, listeners_that_hang_up)
{
	int r = connect_to(hang_up, -1, -1);

	cr_assert_eq(connect_to(hang_up, 0, -1), -ECONNRESET);
	cr_assert_eq(r, -ECONNRESET, "before the wishes: %d", r);
}

static bool documented_refusal(int r)
{
	static const int known[] = { -EPROTOTYPE, -EMSGSIZE, -EPROTONOSUPPORT, -EBADMSG,
				     -ENOBUFS,    -EUSERS,   -EACCES,          -ECONNRESET };

	for (size_t i = 0; i < sizeof(known) / sizeof(*known); i++) {
		if (r == known[i])
			return true;
	}
	return false;
}

Test(hostile_socket, refusals_with_any_number)
{
	static const int numbers[] = { 0,         1,     EINTR,  EAGAIN, EINVAL, EMSGSIZE, EPROTOTYPE,
				       ETIMEDOUT, EBADF, EFAULT, 512,    4095,   4096,     INT32_MAX };

	for (size_t i = 0; i < sizeof(numbers) / sizeof(*numbers); i++) {
		int r = connect_to(refuse_with, numbers[i], NSEC_PER_SEC);

		cr_assert(documented_refusal(r), "a refusal with %d gives %d", numbers[i], r);
	}
}

Test(hostile_socket, answers_of_wrong_length)
{
	for (int len = 0; len < 100000; len += len < (int)sizeof(struct handshake) + 4 ? 1 : 11111) {
		int r = connect_to(send_length, len, NSEC_PER_SEC);

		cr_assert(r == -EBADMSG || (len == 0 && r == -ECONNRESET), "%d bytes give %d", len, r);
	}
}

/* The packet with an end comes in pieces through a stream socket, and stops in the middle. */
Test(hostile_socket, half_a_parcel)
{
	static const int types[] = { SOCK_STREAM, SOCK_SEQPACKET, SOCK_DGRAM };
	struct tally before = tally_now();
	bufpipe_t *ends[2];
	char bytes[64];
	size_t whole;

	cr_assert_eq(bufpipe_create(ends, NULL), 0);
	whole = parcel_bytes(ends[0], bytes);
	for (size_t len = 0; len < whole; len++) {
		for (int t = 0; t < 3; t++) {
			bufpipe_t *pipe = NULL;
			int fds[3] = { ends[0]->ours.fd, ends[0]->theirs.fd, ends[0]->socket };
			int sockets[2];
			int r;

			cr_assert_eq(socketpair(AF_UNIX, types[t] | SOCK_CLOEXEC, 0, sockets), 0);
			cr_assert_geq(rogue_send(sockets[0], bytes, len, fds, len ? 3 : 0), 0);
			if (types[t] != SOCK_DGRAM)
				shutdown(sockets[0], SHUT_WR);
			r = bufpipe_recv_end(sockets[1], &pipe);
			cr_assert(r == -EBADMSG || (len == 0 && r == -EPIPE), "%zu bytes: %d", len, r);
			cr_assert_null(pipe);
			close(sockets[0]);
			close(sockets[1]);
		}
	}
	bufpipe_close(ends[0]);
	bufpipe_close(ends[1]);
	tally_assert(before, "after halves");
}

Test(hostile_socket, parcel_byte_by_byte)
{
	struct tally before = tally_now();
	bufpipe_t *ends[2];
	bufpipe_t *pipe;
	char bytes[64];
	int sockets[2];
	size_t whole;
	pid_t pid;

	cr_assert_eq(bufpipe_create(ends, NULL), 0);
	whole = parcel_bytes(ends[0], bytes);
	sockets_open(sockets, SOCK_STREAM);
	pid = fork();
	if (!pid) {
		int fds[3] = { ends[0]->ours.fd, ends[0]->theirs.fd, ends[0]->socket };

		for (size_t i = 0; i < whole; i++) {
			rogue_send(sockets[0], bytes + i, 1, fds, i ? 0 : 3);
			sched_yield();
		}
		_exit(0);
	}
	cr_assert_eq(bufpipe_recv_end(sockets[1], &pipe), 0);
	cr_assert_eq(waitpid(pid, NULL, 0), pid);
	cr_assert_eq(bufpipe_send(ends[1], "hi", 2, 0), 0);
	cr_assert_eq(bufpipe_recv(pipe, bytes, 2, 0), 2);
	bufpipe_close(pipe);
	bufpipe_close(ends[0]);
	bufpipe_close(ends[1]);
	sockets_close(sockets);
	tally_assert(before, "after bytes");
}
