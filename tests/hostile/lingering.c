/* SPDX-License-Identifier: MIT */
#include "hostile/lingering.h"

#include "base/packet.h"
#include "sandbox.h"

#include <arpa/inet.h>
#include <netinet/in.h>

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

/* The other side of the lingering sockets, which nobody accepts. */
static struct sockaddr_in listen_for_bytes(void)
{
	struct sockaddr_in at = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t at_len = sizeof(at);
	int small = 4096;
	int listening = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	check_eq(setsockopt(listening, SOL_SOCKET, SO_RCVBUF, &small, sizeof(small)), 0);
	check_eq(bind(listening, (struct sockaddr *)&at, sizeof(at)), 0);
	check_eq(listen(listening, 1), 0);
	check_eq(getsockname(listening, (struct sockaddr *)&at, &at_len), 0);
	return at;
}

bool send_lingering(int to, const void *bytes, size_t len)
{
	struct sockaddr_in at = listen_for_bytes();
	int status;
	pid_t pid = fork();

	if (pid == 0) {
		int fd = lingering_socket(&at);

		_exit(rogue_send(to, bytes, len, &fd, 1) >= 0 ? 0 : errno);
	}
	check_eq(waitpid(pid, &status, 0), pid);
	check(WIFEXITED(status));
	/* The kernel forbids it, or the victim has hung up already. */
	check(!WEXITSTATUS(status) || WEXITSTATUS(status) == EPERM || WEXITSTATUS(status) == EPIPE);
	return WEXITSTATUS(status) == 0;
}

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

void attacker_start(struct attacker *a, void (*attack)(struct attacker *))
{
	int ends[2];

	check_eq(pipe(ends), 0);
	a->told = ends[0];
	a->tell = ends[1];
	a->attack = attack;
	a->child = child_start(run_attacker, a);
	close(a->tell);
}

bool attacker_has_sent(struct attacker *a)
{
	check_eq(read(a->told, &a->sent, sizeof(a->sent)), sizeof(a->sent));
	return a->sent;
}

void attacker_stop(struct attacker *a)
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

void on_each_kernel(void (*victim)(void *old))
{
	int old = 0;

	for (; old < 2; old++) {
		struct child child = child_start(victim, &old);

		child_join(&child);
	}
}

bool kernel_forbids_rights(void)
{
	int sockets[2];
	bool forbids;

	sockets_open(sockets, SOCK_SEQPACKET);
	packet_forbid_rights(sockets[0]);
	forbids = packet_forbids_rights(sockets[0]);
	sockets_close(sockets);
	return forbids;
}

int64_t begin_on(const int *old)
{
	if (*old)
		as_before_passrights();
	return time_now();
}

void offer_lingering(struct attacker *a)
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

bufpipe_listener_t *listen_for(struct attacker *a)
{
	static int count;
	bufpipe_listener_t *listener;

	snprintf(a->address, sizeof(a->address), "@bufpipe-test-rights-%d-%d", getpid(), count++);
	check_eq(bufpipe_listen(&listener, a->address, NULL), 0);
	return listener;
}

int readable(int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };

	return poll(&p, 1, 0);
}

int lingering_here(void)
{
	struct sockaddr_in at = listen_for_bytes();

	return lingering_socket(&at);
}
