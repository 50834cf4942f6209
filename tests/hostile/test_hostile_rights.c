/* SPDX-License-Identifier: MIT */
/*
 * Descriptors whose close sleeps, at each place where a peer can put one. Each attack runs as on a new
 * kernel, where most of them cannot be sent, and as before Linux 6.16.
 */
#include "hostile/hostile.h"

#include "base/packet.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sys/un.h>

TestSuite(hostile_rights, .timeout = 120);

#define LINGER 100 /* seconds */

/* A TCP socket full of unsent data, whose last close takes LINGER seconds. */
static int lingering_socket(const struct sockaddr_in *at)
{
	static char bytes[65536];
	struct linger linger = { .l_onoff = 1, .l_linger = LINGER };
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	check_eq(connect(fd, (const struct sockaddr *)at, sizeof(*at)), 0);
	check_eq(setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger)), 0);
	while (send(fd, bytes, sizeof(bytes), MSG_DONTWAIT) > 0)
		;
	return fd;
}

/*
 * Sends one from a process that ends at once, so that it exists only in the queue. Returns whether it could
 * be sent. Nobody accepts the other side, which therefore stays in this process.
 */
static bool send_lingering(int to, const void *bytes, size_t len)
{
	struct sockaddr_in at = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t at_len = sizeof(at);
	int small = 4096;
	int listening = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int status;
	pid_t pid;

	check_eq(setsockopt(listening, SOL_SOCKET, SO_RCVBUF, &small, sizeof(small)), 0);
	check_eq(bind(listening, (struct sockaddr *)&at, sizeof(at)), 0);
	check_eq(listen(listening, 1), 0);
	check_eq(getsockname(listening, (struct sockaddr *)&at, &at_len), 0);
	pid = fork();
	if (pid == 0) {
		int fd = lingering_socket(&at);

		_exit(rogue_send(to, bytes, len, &fd, 1) >= 0 ? 0 : errno);
	}
	check_eq(waitpid(pid, &status, 0), pid);
	check(WIFEXITED(status));
	/* Forbidden, or the victim has hung up already. */
	check(!WEXITSTATUS(status) || WEXITSTATUS(status) == EPERM || WEXITSTATUS(status) == EPIPE);
	return WEXITSTATUS(status) == 0;
}

/* An attacker in a process of its own. It does something, reports whether it could, and stays. */
struct attacker {
	struct child child;
	int told;
	int tell;
	void (*attack)(struct attacker *);
	int socket;
	int not_mine; /* or 0 */
	uid_t uid;
	char address[64];
	bool sent;
};

static void run_attacker(void *arg)
{
	struct attacker *a = arg;

	if (a->not_mine)
		close(a->not_mine);
	if (a->uid && setuid(a->uid) < 0)
		support_fail(__FILE__, __LINE__, "no other user: %d", errno);
	a->attack(a);
	check_eq(write(a->tell, &a->sent, sizeof(a->sent)), sizeof(a->sent));
	pause();
}

static void attacker_start(struct attacker *a, void (*attack)(struct attacker *))
{
	int ends[2];

	check_eq(pipe(ends), 0);
	a->told = ends[0];
	a->tell = ends[1];
	a->attack = attack;
	a->child = child_start(run_attacker, a);
	close(a->tell);
}

/* Waits until it has attacked. Returns whether the kernel let it. */
static bool attacker_has_sent(struct attacker *a)
{
	check_eq(read(a->told, &a->sent, sizeof(a->sent)), sizeof(a->sent));
	return a->sent;
}

static void attacker_stop(struct attacker *a)
{
	child_kill(&a->child);
	close(a->told);
}

/*
 * A value that occurs in the number of SO_PASSRIGHTS and of no other option that matters: before Linux 6.16.
 */
static void as_before_passrights(void)
{
	static const struct forbidden rules[] = {
		{ .call = SYS_setsockopt, .error = ENOPROTOOPT, .argument = 2, .mask = 0x40 },
		{ .call = SYS_getsockopt, .error = ENOPROTOOPT, .argument = 2, .mask = 0x40 },
	};

	forbid(rules, 2);
}

static void no_clone(void)
{
	static const struct forbidden rules[] = {
		{ .call = SYS_clone, .error = EPERM },
		{ .call = SYS_clone3, .error = ENOSYS },
	};

	forbid(rules, 2);
}

/* Runs the victim in a process of its own, with and without what new kernels have. */
static void on_each_kernel(void (*victim)(void *old))
{
	int old = 0;

	for (; old < 2; old++) {
		struct child child = child_start(victim, &old);

		child_join(&child);
	}
}

/* Whether this kernel lets a socket take no descriptors, so that an attacker cannot send any. */
static bool kernel_forbids_rights(void)
{
	int sockets[2];
	bool forbids;

	sockets_open(sockets, SOCK_SEQPACKET);
	packet_forbid_rights(sockets[0]);
	forbids = packet_forbids_rights(sockets[0]);
	sockets_close(sockets);
	return forbids;
}

static int64_t begin_on(const int *old)
{
	if (*old)
		as_before_passrights();
	return time_now();
}

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

/* It comes in the only place where a descriptor may come: instead of the region. */
static void offer_lingering(struct attacker *a)
{
	struct handshake g = handshake_make(WISHES);
	int offered;

	g.flags = WISH_ANY;
	a->socket = rogue_connect(a->address);
	check_eq(rogue_send(a->socket, &g, sizeof(g), NULL, 0), sizeof(g));
	check_eq(rogue_recv(a->socket, &g, sizeof(g), &offered), sizeof(g));
	g = handshake_make(REGION);
	a->sent = send_lingering(a->socket, &g, sizeof(g));
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

static bufpipe_listener_t *listen_for(struct attacker *a)
{
	static int count;
	bufpipe_listener_t *listener;

	snprintf(a->address, sizeof(a->address), "@bufpipe-test-rights-%d-%d", getpid(), count++);
	check_eq(bufpipe_listen(&listener, a->address, NULL), 0);
	return listener;
}

static int readable(int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };

	return poll(&p, 1, 0);
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

/* No child can be made. The descriptor stays open, and nobody waits for it. */
static void accept_without_children(void *unused)
{
	struct attacker a = { 0 };
	bufpipe_listener_t *listener = listen_for(&a);
	bufpipe_t *pipe;
	int64_t begin;

	(void)unused;
	attacker_start(&a, offer_lingering);
	no_clone();
	begin = time_now();
	while (readable(a.told) == 0)
		check_eq(bufpipe_accept(listener, &pipe, 20 * MSEC), -ETIMEDOUT);
	check(attacker_has_sent(&a));
	check_eq(bufpipe_accept(listener, &pipe, 300 * MSEC), -ETIMEDOUT);
	bufpipe_listener_close(listener);
	check(elapsed(begin) < SOON);
	attacker_stop(&a);
}

Test(hostile_rights, a_client_brings_a_lingering_socket_where_no_child_can_be_made)
{
	struct child child = child_start(accept_without_children, NULL);

	child_join(&child);
}

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

static void connect_to(void (*attack)(struct attacker *))
{
	struct attacker a = { 0 };
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
	connect_to(refuse_lingering);
	connect_to(offer_lingering_back);
}

Test(hostile_rights, a_listener_answers_with_a_lingering_socket)
{
	on_each_kernel(connect_quickly);
}

/* Makes a lingering socket, whose other side stays in this process. */
static int lingering_here(void)
{
	struct sockaddr_in at = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t at_len = sizeof(at);
	int small = 4096;
	int listening = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	check_eq(setsockopt(listening, SOL_SOCKET, SO_RCVBUF, &small, sizeof(small)), 0);
	check_eq(bind(listening, (struct sockaddr *)&at, sizeof(at)), 0);
	check_eq(listen(listening, 1), 0);
	check_eq(getsockname(listening, (struct sockaddr *)&at, &at_len), 0);
	return lingering_socket(&at);
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

/* A socket file of another process. To learn whether it is a stale one, the library connects to it. */
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

Test(hostile_rights, who_listens_already_answers_with_a_lingering_socket)
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

Test(hostile_rights, a_listener_answers_with_a_lingering_socket_and_the_thread_is_cancelled)
{
	on_each_kernel(cancel_quickly);
}

/* There are more of these descriptors than there may be children. */
static void many_at_once(void *unused)
{
	struct attacker a = { 0 };
	bufpipe_listener_t *listener = listen_for(&a);
	int before = descriptors_open();
	int64_t end;
	bufpipe_t *pipe;

	(void)unused;
	for (int i = 0; i < 40; i++) {
		struct attacker each = { 0 };
		int64_t begin = time_now();

		memcpy(each.address, a.address, sizeof(a.address));
		attacker_start(&each, offer_lingering);
		while (readable(each.told) == 0)
			bufpipe_accept(listener, &pipe, 5 * MSEC);
		attacker_has_sent(&each);
		bufpipe_accept(listener, &pipe, 0);
		check(elapsed(begin) < SOON);
		close(each.child.report);
		close(each.told);
	}
	honest_visit(listener, a.address, NULL);
	/* None of them stays open. */
	end = time_now() + 5 * SOON;
	while (descriptors_open() > before && time_now() < end)
		bufpipe_accept(listener, &pipe, 5 * MSEC);
	check_eq(descriptors_open(), before);
	bufpipe_listener_close(listener);
}

Test(hostile_rights, more_clients_bring_lingering_sockets_than_there_may_be_children)
{
	struct child child = child_start(many_at_once, NULL);

	child_join(&child);
}

/* Processes that this one has made and that still run. */
static int children_at_work(void)
{
	char path[64];
	char state;
	int pid;
	int n = 0;
	FILE *list;

	snprintf(path, sizeof(path), "/proc/self/task/%d/children", getpid());
	list = fopen(path, "re");
	if (!list)
		return -1;
	while (fscanf(list, "%d", &pid) == 1) {
		FILE *stat;

		snprintf(path, sizeof(path), "/proc/%d/stat", pid);
		stat = fopen(path, "re");
		if (!stat)
			continue;
		n += fscanf(stat, "%*d %*s %c", &state) == 1 && state != 'Z' && state != 'X';
		fclose(stat);
	}
	fclose(list);
	return n;
}

/* The sockets are told not to linger. Otherwise each would keep a child for as long as it likes. */
static void children_end(void *unused)
{
	struct attacker a[4] = { 0 };
	bufpipe_listener_t *listener = listen_for(&a[0]);
	bufpipe_t *pipe;
	int64_t end;

	(void)unused;
	if (children_at_work() < 0)
		return;
	for (int i = 0; i < 4; i++) {
		memcpy(a[i].address, a[0].address, sizeof(a[i].address));
		attacker_start(&a[i], offer_lingering);
		while (readable(a[i].told) == 0)
			bufpipe_accept(listener, &pipe, 5 * MSEC);
		check(attacker_has_sent(&a[i]));
		bufpipe_accept(listener, &pipe, 20 * MSEC);
	}
	/* The attackers stay, because the last one to leave would end the lingering. */
	end = time_now() + SOON;
	while (children_at_work() > 4)
		check(time_now() < end);
	for (int i = 0; i < 4; i++)
		attacker_stop(&a[i]);
	bufpipe_listener_close(listener);
}

Test(hostile_rights, a_child_that_closes_a_lingering_socket_soon_ends)
{
	struct child child;

	need_stray_children();
	child = child_start(children_end, NULL);
	child_join(&child);
}
