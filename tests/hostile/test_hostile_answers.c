/* SPDX-License-Identifier: MIT */
/*
 * A listener sends descriptors whose close sleeps: to a client, and to another process that wants to listen
 * at the same address.
 */
#include "hostile/lingering.h"

#include <sys/un.h>

TestSuite(hostile_answers, .timeout = 120);

static void refuse_lingering(struct attacker *a)
{
	struct handshake g;
	int none;
	int s = accept(a->socket, NULL, NULL);

	check_eq(rogue_recv(s, &g, sizeof(g), &none), sizeof(g));
	g = handshake_make(REFUSAL);
	g.error = -EMSGSIZE;
	a->sent = send_lingering(s, &g, sizeof(g));
}

static void offer_lingering_back(struct attacker *a)
{
	struct handshake g;
	int none;
	int s = accept(a->socket, NULL, NULL);

	check_eq(rogue_recv(s, &g, sizeof(g), &none), sizeof(g));
	g = handshake_make(OFFER);
	g.flags = LAYOUT_SENDS;
	g.buffer_size = 65536;
	a->sent = send_lingering(s, &g, sizeof(g));
}

static void connect_to(void (*attack)(struct attacker *), uid_t uid)
{
	struct attacker a = { .uid = uid };
	int before = descriptors_open();
	bufpipe_t *pipe;
	int64_t begin = time_now();

	a.socket = rogue_listen(a.address);
	attacker_start(&a, attack);
	close(a.socket);
	check(bufpipe_connect(&pipe, a.address, NULL, PLENTY) < 0);
	check(elapsed(begin) < SOON);
	attacker_stop(&a);
	wait_for_descriptors(before);
}

static void connect_quickly(void *old)
{
	begin_on(old);
	/*
	 * An attacker of the same user, and one of another user. Each is a child that inherited what its
	 * parent had before it connected.
	 */
	for (int other = 0; other < (getuid() ? 1 : 2); other++) {
		connect_to(refuse_lingering, other ? NOBODY : 0);
		connect_to(offer_lingering_back, other ? NOBODY : 0);
	}
}

Test(hostile_answers, a_listener_answers_with_a_lingering_socket)
{
	on_each_kernel(connect_quickly);
}

/*
 * Sends one to each client as soon as it has connected. If it may run as a real-time thread, it does so before
 * the client returns from connect, as both are on one CPU.
 */
static void linger_at_once(struct attacker *a)
{
	int fd = lingering_here();
	int client;

	a->sent = true; /* from here on */
	check_eq(write(a->tell, &a->sent, sizeof(a->sent)), sizeof(a->sent));
	sched_setscheduler(0, SCHED_FIFO, &(struct sched_param){ .sched_priority = 1 });
	while ((client = accept(a->socket, NULL, NULL)) >= 0) {
		if (rogue_send(client, "x", 1, &fd, 1) >= 0) {
			close(fd);
			fd = lingering_here();
		}
		close(client);
	}
}

enum { TRIES = 20 };

/* A socket file of another process. The library connects to it to find out whether it is stale. */
static void listen_quickly(void *old)
{
	struct sockaddr_un at = { .sun_family = AF_UNIX };
	struct attacker a = { .socket = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0) };
	char home[] = "/tmp/bufpipe-test-XXXXXX";
	bufpipe_listener_t *listener;
	int before;

	pin_to_cpu(sched_getcpu());
	check(mkdtemp(home) != NULL);
	snprintf(at.sun_path, sizeof(at.sun_path), "%s/socket", home);
	check_eq(bind(a.socket, (struct sockaddr *)&at, sizeof(at)), 0);
	check_eq(listen(a.socket, TRIES), 0);
	attacker_start(&a, linger_at_once);
	attacker_has_sent(&a);
	begin_on(old);
	before = descriptors_open();
	for (int i = 0; i < TRIES; i++) {
		int64_t begin = time_now();

		check_eq(bufpipe_listen(&listener, at.sun_path, NULL), -EADDRINUSE);
		check(elapsed(begin) < SOON);
	}
	wait_for_descriptors(before);
	attacker_stop(&a);
	close(a.socket);
	unlink(at.sun_path);
	rmdir(home);
}

Test(hostile_answers, another_listener_answers_with_a_lingering_socket)
{
	on_each_kernel(listen_quickly);
}

/* The variables are static because AddressSanitizer does not notice that the thread leaves this function. */
static void *connect_while_cancelled(void *address)
{
	static const struct bufpipe_options options = { .spin_ns = BUFPIPE_NO_SPIN };
	static bufpipe_t *pipe;

	pthread_cancel(pthread_self());
	bufpipe_connect(&pipe, address, &options, PLENTY);
	pthread_testcancel();
	return NULL;
}

static void cancel_quickly(void *old)
{
	struct attacker a = { 0 };
	int before;

	pin_to_cpu(sched_getcpu());
	a.socket = rogue_listen(a.address);
	attacker_start(&a, linger_at_once);
	attacker_has_sent(&a);
	begin_on(old);
	before = descriptors_open();
	for (int i = 0; i < TRIES; i++) {
		int64_t begin = time_now();
		pthread_t thread;
		void *result;

		check_eq(pthread_create(&thread, NULL, connect_while_cancelled, a.address), 0);
		check_eq(pthread_join(thread, &result), 0);
		check(result == PTHREAD_CANCELED);
		check(elapsed(begin) < SOON);
	}
	wait_for_descriptors(before);
	attacker_stop(&a);
	close(a.socket);
}

Test(hostile_answers, a_listener_answers_with_a_lingering_socket_and_the_thread_is_cancelled)
{
	on_each_kernel(cancel_quickly);
}
