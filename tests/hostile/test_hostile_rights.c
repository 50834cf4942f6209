/* SPDX-License-Identifier: MIT */
/* Descriptors whose close sleeps come through the socket of a pipe, or from the client of a listener. */
#include "hostile/lingering.h"

#include "base/packet.h"

#include <fcntl.h>
#include <sys/mman.h>

TestSuite(hostile_rights, .timeout = 120);

static void ring_lingering(struct attacker *a)
{
	a->sent = send_lingering(a->socket, "x", 1);
}

static void ring_lingering_empty(struct attacker *a)
{
	check_eq(send(a->socket, "", 0, 0), 0);
	a->sent = send_lingering(a->socket, "", 0);
}

static void ring_lingering_behind(struct attacker *a)
{
	check_eq(send(a->socket, "x", 1, 0), 1);
	a->sent = send_lingering(a->socket, "x", 1);
	shutdown(a->socket, SHUT_RDWR);
}

/* A process of another user, one of the same user, and a child that also has its victim's end. */
enum peer { OTHER_USER, SAME_USER, CHILD, PEERS };

static enum peer first_peer(void)
{
	return geteuid() ? SAME_USER : OTHER_USER;
}

/* A pipe whose sending end an attacker has. */
static void meet_attacker(bufpipe_t **victim, enum peer peer, struct attacker *a,
			  void (*attack)(struct attacker *))
{
	bufpipe_t *ends[2];

	pipe_open(ends, NULL);
	a->socket = ends[OUT]->socket;
	a->not_mine = peer == CHILD ? 0 : ends[IN]->socket;
	a->uid = peer == OTHER_USER ? NOBODY : 0;
	attacker_start(a, attack);
	bufpipe_close(ends[OUT]);
	*victim = ends[IN];
}

static void close_with(enum peer peer, void (*attack)(struct attacker *))
{
	struct attacker a = { 0 };
	bufpipe_t *victim;
	int before = descriptors_open();
	int64_t begin;

	meet_attacker(&victim, peer, &a, attack);
	check_eq(attacker_has_sent(&a), !kernel_forbids_rights());
	begin = time_now();
	bufpipe_close(victim);
	check(elapsed(begin) < SOON);
	attacker_stop(&a);
	wait_for_descriptors(before);
}

static void close_quickly(void *old)
{
	begin_on(old);
	for (enum peer peer = first_peer(); peer < PEERS; peer++) {
		close_with(peer, ring_lingering);
		close_with(peer, ring_lingering_empty);
		close_with(peer, ring_lingering_behind);
	}
}

Test(hostile_rights, the_doorbell_brings_a_lingering_socket_and_the_end_closes)
{
	on_each_kernel(close_quickly);
}

static void discard_from(enum peer peer)
{
	struct attacker a = { 0 };
	bufpipe_t *victim;
	int64_t begin = time_now();
	int before = descriptors_open();

	meet_attacker(&victim, peer, &a, ring_lingering);
	if (attacker_has_sent(&a)) {
		check_eq(packet_discard(victim->socket), -EPROTO);
		/* The attack has broken the attacker's own pipe. */
		check_eq(bufpipe_recv(victim, &(char){ 0 }, 1, PLENTY), -EPIPE);
	} else {
		check_eq(packet_discard(victim->socket), -EAGAIN);
	}
	bufpipe_close(victim);
	check(elapsed(begin) < SOON);
	attacker_stop(&a);
	wait_for_descriptors(before);
}

static void discard(void *old)
{
	begin_on(old);
	for (enum peer peer = first_peer(); peer < PEERS; peer++)
		discard_from(peer);
}

Test(hostile_rights, the_doorbell_brings_a_lingering_socket_and_is_discarded)
{
	on_each_kernel(discard);
}

static void receive_from(enum peer peer)
{
	struct attacker a = { 0 };
	bufpipe_t *victim;
	char byte;
	int64_t begin = time_now();

	meet_attacker(&victim, peer, &a, ring_lingering);
	attacker_has_sent(&a);
	check(bufpipe_recv(victim, &byte, 1, 300 * MSEC) < 0);
	check(elapsed(begin) < SOON);
	attacker_stop(&a);
	bufpipe_close(victim);
}

static void receive(void *old)
{
	begin_on(old);
	for (enum peer peer = first_peer(); peer < PEERS; peer++)
		receive_from(peer);
}

Test(hostile_rights, the_doorbell_brings_a_lingering_socket_to_a_sleeper)
{
	on_each_kernel(receive);
}

static void wish_lingering(struct attacker *a)
{
	struct handshake g = handshake_make(WISHES);

	g.flags = WISH_ANY;
	a->socket = rogue_connect(a->address);
	a->sent = send_lingering(a->socket, &g, sizeof(g));
}

static void wish_and_linger(struct attacker *a)
{
	struct handshake g = handshake_make(WISHES);

	g.flags = WISH_ANY;
	a->socket = rogue_connect(a->address);
	check_eq(rogue_send(a->socket, &g, sizeof(g), NULL, 0), sizeof(g));
	a->sent = send_lingering(a->socket, &g, 1);
}

/* The client sends its region, and then another descriptor. */
static void linger_behind(struct attacker *a)
{
	struct identity id = honest_identity(LAYOUT_SENDS);
	int region = forge_region(&id, honest_size(&id), F_SEAL_SHRINK | F_SEAL_GROW);
	struct handshake g = handshake_make(WISHES);
	int offered;

	g.flags = WISH_ANY;
	a->socket = rogue_connect(a->address);
	check_eq(rogue_send(a->socket, &g, sizeof(g), NULL, 0), sizeof(g));
	check_eq(rogue_recv(a->socket, &g, sizeof(g), &offered), sizeof(g));
	g = handshake_make(REGION);
	check_eq(rogue_send(a->socket, &g, sizeof(g), &region, 1), sizeof(g));
	a->sent = send_lingering(a->socket, "x", 1);
}

static void visited_by(void (*attack)(struct attacker *), uid_t uid)
{
	struct attacker a = { .uid = uid };
	int before = descriptors_open();
	bufpipe_listener_t *listener = listen_for(&a);
	bufpipe_t *pipe = NULL;
	int64_t begin = time_now();

	attacker_start(&a, attack);
	while (!pipe && readable(a.told) == 0)
		bufpipe_accept(listener, &pipe, 20 * MSEC);
	attacker_has_sent(&a);
	if (!pipe)
		bufpipe_accept(listener, &pipe, 20 * MSEC);
	bufpipe_close(pipe);
	check(elapsed(begin) < SOON);
	honest_visit(listener, a.address, NULL);
	begin = time_now();
	bufpipe_listener_close(listener);
	check(elapsed(begin) < SOON);
	attacker_stop(&a);
	wait_for_descriptors(before);
}

static void accept_quickly(void *old)
{
	begin_on(old);
	/* An attacker of the same user, and one of another user if we may become one. */
	for (int other = 0; other < (getuid() ? 1 : 2); other++) {
		visited_by(wish_lingering, other ? NOBODY : 0);
		visited_by(wish_and_linger, other ? NOBODY : 0);
		visited_by(offer_lingering, other ? NOBODY : 0);
		visited_by(linger_behind, other ? NOBODY : 0);
	}
}

Test(hostile_rights, a_client_brings_a_lingering_socket)
{
	on_each_kernel(accept_quickly);
}

/*
 * The linker leads mmap here.  With this set, the peer sends a descriptor just before
 * the library maps something: the result.
 */
static struct attacker_at_map {
	int socket; /* -1: nothing is sent */
	ssize_t sent;
	int error;
} at_map = { .socket = -1 };

void *__real_mmap(void *at, size_t len, int protection, int flags, int fd, off_t offset);
void *__wrap_mmap(void *at, size_t len, int protection, int flags, int fd, off_t offset);
void *__real_mmap64(void *at, size_t len, int protection, int flags, int fd, off_t offset);
void *__wrap_mmap64(void *at, size_t len, int protection, int flags, int fd, off_t offset);

static void send_at_map(void)
{
	int socket = at_map.socket;
	int fd = 0;

	if (socket < 0)
		return;
	at_map.socket = -1;
	at_map.sent = rogue_send(socket, "x", 1, &fd, 1);
	at_map.error = errno;
}

void *__wrap_mmap(void *at, size_t len, int protection, int flags, int fd, off_t offset)
{
	send_at_map();
	return __real_mmap(at, len, protection, flags, fd, offset);
}

void *__wrap_mmap64(void *at, size_t len, int protection, int flags, int fd, off_t offset)
{
	send_at_map();
	return __real_mmap64(at, len, protection, flags, fd, offset);
}

/*
 * The kernel may let a descriptor through just before it refuses them, and queue it a
 * moment later.  So a listener refuses them before it maps the region of a client: what
 * is late has arrived when the queue is emptied after that.
 */
Test(hostile_rights, descriptors_are_refused_before_the_region_is_mapped)
{
	const struct identity id = honest_identity(LAYOUT_SENDS);
	const struct bufpipe_options receives = { .flags = BUFPIPE_RECEIVE };
	struct handshake region = handshake_make(REGION);
	bufpipe_t *pipe = NULL;
	struct meeting m;
	int fd;

	if (!kernel_forbids_rights())
		cr_skip_test("before Linux 6.16 descriptors cannot be refused");
	m = meet(&receives);
	fd = forge_region(&id, honest_size(&id), F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL);
	cr_assert_eq(rogue_send(m.socket, &region, sizeof(region), &fd, 1), (ssize_t)sizeof(region));
	at_map.socket = m.socket;
	cr_assert_eq(bufpipe_accept(m.listener, &pipe, 0), 0);
	cr_assert_eq(at_map.socket, -1, "nothing was mapped");
	cr_assert_eq(at_map.sent, -1, "a descriptor was sent");
	cr_assert_eq(at_map.error, EPERM);
	bufpipe_close(pipe);
	close(fd);
	part(&m);
}
