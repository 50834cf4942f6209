/* SPDX-License-Identifier: MIT */
/* Descriptors whose close sleeps, on the socket of a pipe, and from the client of a listener. */
#include "hostile/lingering.h"

#include "base/packet.h"

#include <fcntl.h>

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

/* A pipe whose sending end is in the hands of an attacker. */
static void meet_attacker(bufpipe_t **victim, struct attacker *a, void (*attack)(struct attacker *))
{
	bufpipe_t *ends[2];

	pipe_open(ends, NULL);
	a->socket = ends[OUT]->socket;
	a->not_mine = ends[IN]->socket;
	attacker_start(a, attack);
	bufpipe_close(ends[OUT]);
	*victim = ends[IN];
}

static void close_with(void (*attack)(struct attacker *))
{
	struct attacker a = { 0 };
	bufpipe_t *victim;
	int before = descriptors_open();
	int64_t begin;

	meet_attacker(&victim, &a, attack);
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
	close_with(ring_lingering);
	close_with(ring_lingering_empty);
	close_with(ring_lingering_behind);
}

Test(hostile_rights, the_doorbell_brings_a_lingering_socket_and_the_end_closes)
{
	on_each_kernel(close_quickly);
}

static void discard(void *old)
{
	struct attacker a = { 0 };
	bufpipe_t *victim;
	int before;
	int64_t begin = begin_on(old);

	before = descriptors_open();
	meet_attacker(&victim, &a, ring_lingering);
	if (attacker_has_sent(&a)) {
		check_eq(packet_discard(victim->socket), -EPROTO);
		/* The attack has cost the liar its pipe. */
		check_eq(bufpipe_recv(victim, &(char){ 0 }, 1, PLENTY), -EPIPE);
	} else {
		check_eq(packet_discard(victim->socket), -EAGAIN);
	}
	bufpipe_close(victim);
	check(elapsed(begin) < SOON);
	attacker_stop(&a);
	wait_for_descriptors(before);
}

Test(hostile_rights, the_doorbell_brings_a_lingering_socket_and_is_discarded)
{
	on_each_kernel(discard);
}

static void receive(void *old)
{
	struct attacker a = { 0 };
	bufpipe_t *victim;
	char byte;
	int64_t begin = begin_on(old);

	meet_attacker(&victim, &a, ring_lingering);
	attacker_has_sent(&a);
	check(bufpipe_recv(victim, &byte, 1, 300 * MSEC) < 0);
	check(elapsed(begin) < SOON);
	attacker_stop(&a);
	bufpipe_close(victim);
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

/* The region comes, with something else behind it. */
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
