/* SPDX-License-Identifier: MIT */
/* The policy is asked who may connect, before anything is made for a client. */
#include "support.h"

#include <fcntl.h>
#include <poll.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/un.h>

static char address[64];

static void begin(void)
{
	support_begin();
	snprintf(address, sizeof(address), "@bufpipe-test-policy-%d", getpid());
}

TestSuite(policy, .init = begin, .timeout = 30 * SLOWER);

/* What the policy answers, and what it was told. */
struct desk {
	int answer;
	unsigned most; /* how many of one user wait */
	int asked;
	struct bufpipe_client seen;
	bool pidfd_works;
};

static int ask(void *data, const struct bufpipe_client *client)
{
	struct desk *desk = data;
	struct pollfd p = { .fd = client->pidfd, .events = POLLIN };

	desk->asked++;
	desk->seen = *client;
	/* The pidfd belongs to a living process. */
	desk->pidfd_works = client->pidfd < 0 || (client->pidfd > 2 && poll(&p, 1, 0) == 0);
	if (desk->most && client->waiting >= desk->most)
		return -EUSERS;
	return desk->answer;
}

static void visit(void *arg)
{
	bufpipe_t *pipe;
	int r = bufpipe_connect(&pipe, address, NULL, PLENTY);

	check_eq(r, *(int *)arg);
	if (r < 0)
		return;
	say(pipe, "hello");
	bufpipe_close(pipe);
}

Test(policy, its_answer_reaches_the_client)
{
	static const struct {
		int answer;
		int result;
	} table[] = {
		{ 0, 0 },
		{ -EACCES, -EACCES },
		{ -EUSERS, -EUSERS },
		{ -ENOBUFS, -ENOBUFS },
		{ -EPERM, -EACCES },
		{ -1000000, -EACCES },
		{ -EAGAIN, -EACCES },
		{ -EMSGSIZE, -EACCES },
		{ 1, -EACCES },
	};
	struct desk desk = { 0 };
	bufpipe_listener_t *listener;
	bufpipe_t *pipe;

	check_eq(bufpipe_listen(&listener, address, NULL), 0);
	check_eq(bufpipe_listener_set_policy(listener, ask, &desk), 0);
	for (size_t i = 0; i < sizeof(table) / sizeof(*table); i++) {
		struct child child = child_start(visit, (void *)(uintptr_t)&table[i].result);
		int r;

		desk = (struct desk){ .answer = table[i].answer };
		do
			r = bufpipe_accept(listener, &pipe, table[i].result ? 10 * MSEC : PLENTY);
		while (!desk.asked);
		check_eq(r, table[i].result ? -ETIMEDOUT : 0);
		check_eq(desk.asked, 1);
		check_eq(desk.seen.pid, child.pid);
		check_eq(desk.seen.uid, getuid());
		check_eq(desk.seen.gid, getgid());
		check_eq(desk.seen.waiting, 0);
		check(desk.pidfd_works);
		if (r == 0) {
			hear(pipe, "hello");
			bufpipe_close(pipe);
		} else {
			/* Not even a mapping was made. */
			check_eq(memfds_mapped(), 0);
		}
		child_join(&child);
	}
	bufpipe_listener_close(listener);
}

static void listen_too(void *arg)
{
	bufpipe_listener_t *listener;

	check_eq(bufpipe_listen(&listener, arg, NULL), -EADDRINUSE);
}

/* bufpipe_listen connects to a path to find out whether anybody listens there. */
Test(policy, it_is_asked_about_a_second_listener_at_its_path)
{
	static const int answers[] = { 0, -EACCES };
	struct desk desk = { 0 };
	bufpipe_listener_t *listener;
	bufpipe_t *pipe;
	char path[64];

	snprintf(path, sizeof(path), "/tmp/bufpipe-test-policy-%d", getpid());
	check_eq(bufpipe_listen(&listener, path, NULL), 0);
	check_eq(bufpipe_listener_set_policy(listener, ask, &desk), 0);
	for (size_t i = 0; i < sizeof(answers) / sizeof(*answers); i++) {
		struct child child = child_start(listen_too, path);

		child_join(&child);
		desk = (struct desk){ .answer = answers[i] };
		check_eq(bufpipe_accept(listener, &pipe, 10 * MSEC), -ETIMEDOUT);
		check_eq(desk.asked, 1);
		check_eq(desk.seen.pid, child.pid);
		/* It has hung up, so it keeps no place. */
		check_eq(desk.seen.waiting, 0);
	}
	bufpipe_listener_close(listener);
}

struct visitor {
	_Atomic int *admitted;
	_Atomic int *turned_away;
};

static void visit_among_many(void *arg)
{
	struct visitor *v = arg;
	bufpipe_t *pipe;
	int r;

	r = bufpipe_connect(&pipe, address, NULL, PLENTY);
	if (r == -EUSERS) {
		++*v->turned_away;
		return;
	}
	check_eq(r, 0);
	++*v->admitted;
	say(pipe, "hello");
	bufpipe_close(pipe);
}

/* Connects and says nothing. */
static int connect_silently(void)
{
	struct sockaddr_un at = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	size_t len = strlen(address);

	memcpy(at.sun_path + 1, address + 1, len - 1);
	check_eq(connect(fd, (struct sockaddr *)&at,
			 (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len)),
		 0);
	return fd;
}

Test(policy, it_is_told_how_many_connections_of_the_user_wait)
{
	enum { MOST = 4 };
	static const int too_many = -EUSERS;
	struct desk desk = { .most = MOST };
	bufpipe_listener_t *listener;
	struct child child;
	bufpipe_t *pipe;
	int silent[MOST];

	check_eq(bufpipe_listen(&listener, address, NULL), 0);
	check_eq(bufpipe_listener_set_policy(listener, ask, &desk), 0);
	for (int i = 0; i < MOST; i++) {
		silent[i] = connect_silently();
		while (desk.asked == i)
			check_eq(bufpipe_accept(listener, &pipe, 0), -EAGAIN);
		check_eq(desk.seen.waiting, i);
	}
	child = child_start(visit, (void *)(uintptr_t)&too_many);
	while (desk.asked == MOST)
		check_eq(bufpipe_accept(listener, &pipe, 10 * MSEC), -ETIMEDOUT);
	check_eq(desk.seen.waiting, MOST);
	child_join(&child);
	for (int i = 0; i < MOST; i++)
		close(silent[i]);
	bufpipe_listener_close(listener);
}

/* A limit for each user on connections that wait to be accepted. */
Test(policy, a_user_may_be_limited)
{
	enum { VISITORS = 12, MOST = 4 };
	_Atomic int *counts = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	struct visitor visitor = { .admitted = &counts[0], .turned_away = &counts[1] };
	struct desk desk = { .most = MOST };
	struct child children[VISITORS];
	bufpipe_listener_t *listener;
	bufpipe_t *pipe;
	int accepted = 0;

	check_eq(bufpipe_listen(&listener, address, NULL), 0);
	check_eq(bufpipe_listener_set_policy(listener, ask, &desk), 0);
	for (int i = 0; i < VISITORS; i++)
		children[i] = child_start(visit_among_many, &visitor);
	while (counts[0] + counts[1] < VISITORS || accepted < counts[0]) {
		int r = bufpipe_accept(listener, &pipe, 10 * MSEC);

		check(r == 0 || r == -ETIMEDOUT);
		if (r < 0)
			continue;
		hear(pipe, "hello");
		bufpipe_close(pipe);
		accepted++;
	}
	check_eq(accepted, counts[0]);
	check(desk.seen.waiting <= MOST);
	for (int i = 0; i < VISITORS; i++)
		child_join(&children[i]);
	bufpipe_listener_close(listener);
}

static int only_root(void *data, const struct bufpipe_client *client)
{
	(void)data;
	return client->uid ? -EACCES : 0;
}

static void visit_as_nobody(void *arg)
{
	bufpipe_t *pipe;

	(void)arg;
	check_eq(setuid(65534), 0);
	check_eq(bufpipe_connect(&pipe, address, NULL, PLENTY), -EACCES);
}

static bool is_running(const struct child *child)
{
	siginfo_t info = { .si_pid = 0 };

	check_eq(waitid(P_PID, (id_t)child->pid, &info, WEXITED | WNOHANG | WNOWAIT), 0);
	return info.si_pid == 0;
}

Test(policy, another_user_is_kept_out)
{
	static const int welcome = 0;
	bufpipe_listener_t *listener;
	struct child children[2];
	bufpipe_t *pipe;

	if (geteuid())
		cr_skip_test("only root can be somebody else");
	check_eq(bufpipe_listen(&listener, address, NULL), 0);
	check_eq(bufpipe_listener_set_policy(listener, only_root, NULL), 0);
	children[0] = child_start(visit_as_nobody, NULL);
	children[1] = child_start(visit, (void *)(uintptr_t)&welcome);
	check_eq(bufpipe_accept(listener, &pipe, PLENTY), 0);
	hear(pipe, "hello");
	bufpipe_close(pipe);
	while (is_running(&children[0]))
		check_eq(bufpipe_accept(listener, &pipe, MSEC), -ETIMEDOUT);
	child_join(&children[1]);
	child_join(&children[0]);
	/* From now on everybody is admitted again. */
	check_eq(bufpipe_listener_set_policy(listener, NULL, NULL), 0);
	children[1] = child_start(visit, (void *)(uintptr_t)&welcome);
	check_eq(bufpipe_accept(listener, &pipe, PLENTY), 0);
	hear(pipe, "hello");
	bufpipe_close(pipe);
	child_join(&children[1]);
	check_eq(bufpipe_listener_set_policy(NULL, NULL, NULL), -EINVAL);
	bufpipe_listener_close(listener);
}
