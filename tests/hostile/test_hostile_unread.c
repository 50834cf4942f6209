/* SPDX-License-Identifier: MIT */
/*
 * Clients do not read the offers of a listener. Each unread offer keeps a descriptor of the listener in
 * flight.
 */
#include "hostile/hostile.h"

#include "connect/unread.h"
#include "sandbox.h"

#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/resource.h>

TestSuite(hostile_unread, .timeout = 120);

#define HOARDER  65534
#define LISTENER 65533

static void become(uid_t uid, rlim_t descriptors)
{
	if (setrlimit(RLIMIT_NOFILE, &(struct rlimit){ descriptors, descriptors }) < 0 || setgid(uid) < 0 ||
	    setuid(uid) < 0)
		_exit(1);
	/* Another user has none of the places. */
	prctl(PR_SET_PDEATHSIG, SIGKILL);
}

/* A server of a user whose descriptors in flight are limited. It does not know its clients. */
static pid_t serve_as_nobody(bufpipe_listener_t *listener)
{
	pid_t pid = fork();
	bufpipe_t *pipe;
	char byte[16];

	if (pid)
		return pid;
	become(LISTENER, UNREAD_LEAST_LIMIT);
	for (;;) {
		if (bufpipe_accept(listener, &pipe, NSEC_PER_SEC) < 0)
			continue;
		bufpipe_recv(pipe, byte, sizeof(byte), NSEC_PER_SEC);
		bufpipe_close(pipe);
	}
}

enum { HOARD = 1300 };

struct hoard {
	int refused; /* the error */
	int offers;  /* how many there were before */
};

/* Asks for HOARD offers and reads none of them. Reports when it is refused, or when it has all of them. */
static pid_t hoard(const char *address, int tell)
{
	struct hoard told = { 0 };
	struct handshake g;
	pid_t pid = fork();

	if (pid)
		return pid;
	become(HOARDER, HOARD + 100);
	while (told.offers < HOARD && !told.refused) {
		int fd = rogue_wish(address, 0);
		struct pollfd p = { .fd = fd, .events = POLLIN };
		ssize_t n;

		if (poll(&p, 1, 20000) != 1)
			_exit(2);
		n = recv(fd, &g, sizeof(g), MSG_PEEK);
		/* On a busy machine it may be too slow to send its wishes. Then it is dropped. */
		if (n <= 0)
			close(fd);
		else if (g.type == REFUSAL)
			told.refused = -g.error;
		else
			told.offers++;
	}
	if (write(tell, &told, sizeof(told)) != sizeof(told))
		_exit(3);
	for (;;)
		pause();
}

/* Connects as another user to a server in another process. Returns what bufpipe_connect returns. */
static int visit_as(uid_t uid, const char *address)
{
	bufpipe_t *pipe;
	int status;
	pid_t pid = fork();

	if (!pid) {
		if (setuid(uid) < 0)
			_exit(1);
		_exit(-bufpipe_connect(&pipe, address, NULL, 10 * NSEC_PER_SEC));
	}
	cr_assert_eq(waitpid(pid, &status, 0), pid);
	cr_assert(WIFEXITED(status));
	return -WEXITSTATUS(status);
}

static int descriptors_of(pid_t pid)
{
	char path[64];
	DIR *all;
	int n = 0;

	snprintf(path, sizeof(path), "/proc/%d/fd", pid);
	all = opendir(path);
	cr_assert_not_null(all);
	while (readdir(all))
		n++;
	closedir(all);
	return n;
}

/*
 * Each unread offer keeps a descriptor of the listener in flight, and the number of those is limited for its
 * user.
 */
Test(hostile_unread, offers_that_one_user_leaves_unread_keep_no_other_out)
{
	bufpipe_listener_t *listener;
	char address[64];
	struct rlimit limit;
	struct hoard hoarded = { 0 };
	int before;
	int64_t end;
	pid_t server;
	pid_t rogue;
	int told[2];

	if (geteuid())
		cr_skip_test("only root can be somebody else");
	need_limits();
	if (getrlimit(RLIMIT_NOFILE, &limit) < 0 || limit.rlim_max < HOARD + 100)
		cr_skip_test("too few descriptors for a hoard");
	name_address(address);
	cr_assert_eq(pipe(told), 0);
	cr_assert_eq(bufpipe_listen(&listener, address, NULL), 0);
	server = serve_as_nobody(listener);
	cr_assert_eq(visit_as(0, address), 0);
	before = descriptors_of(server);
	rogue = hoard(address, told[1]);
	close(told[1]);
	cr_assert_eq(read(told[0], &hoarded, sizeof(hoarded)), (ssize_t)sizeof(hoarded));
	/*
	 * Refused because this user has too many, and not because anything has run out.  The offers in its waiting
	 * connections count as well.
	 */
	cr_assert_eq(hoarded.refused, EUSERS);
	cr_assert_leq(hoarded.offers, UNREAD_MAX / 4);
	cr_assert_eq(visit_as(0, address), 0);
	cr_assert_eq(visit_as(HOARDER + 1, address), 0);
	cr_assert_eq(visit_as(HOARDER, address), -EUSERS);
	/*
	 * The refusal ends when the clients are gone, even if nobody else connects: the server closes their
	 * connections.
	 */
	flipper_stop(rogue);
	end = time_now() + 60 * NSEC_PER_SEC;
	while (descriptors_of(server) > before) {
		cr_assert_lt(time_now(), end);
		usleep(10000);
	}
	cr_assert_eq(visit_as(HOARDER, address), 0);
	flipper_stop(server);
	bufpipe_listener_close(listener);
	close(told[0]);
}

/*
 * Otherwise a client could leave a descriptor of the listener in flight as often as it likes, and get a
 * pipe each time.
 */
Test(hostile_unread, a_client_that_has_not_read_the_offer_gets_no_pipe)
{
	const struct identity id = honest_identity(LAYOUT_SENDS);
	const struct bufpipe_options receives = { .flags = BUFPIPE_RECEIVE };
	struct handshake region = handshake_make(REGION);
	struct tally before = tally_now();
	bufpipe_listener_t *listener;
	bufpipe_t *pipe = NULL;
	char address[64];
	int socket;
	int fd;

	name_address(address);
	cr_assert_eq(bufpipe_listen(&listener, address, &receives), 0);
	for (int reads = 0; reads < 2; reads++) {
		socket = rogue_wish(address, 0);
		cr_assert_eq(bufpipe_accept(listener, &pipe, 0), -EAGAIN);
		if (reads) {
			struct handshake offer;
			int offered;

			cr_assert_eq(rogue_recv(socket, &offer, sizeof(offer), &offered),
				     (ssize_t)sizeof(offer));
			close(offered);
		}
		fd = forge_region(&id, honest_size(&id), F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL);
		cr_assert_eq(rogue_send(socket, &region, sizeof(region), &fd, 1), (ssize_t)sizeof(region));
		cr_assert_eq(bufpipe_accept(listener, &pipe, 0), reads ? 0 : -EAGAIN);
		close(fd);
		close(socket);
	}
	bufpipe_close(pipe);
	bufpipe_listener_close(listener);
	tally_assert(before, "after the offers");
}

/* A connection in which something was sent that nobody has read. */
static int leave_unread(void)
{
	int sockets[2];

	sockets_open(sockets, SOCK_SEQPACKET);
	cr_assert_eq(send(sockets[0], "", 1, 0), 1);
	/* Its reader stays until the test ends. */
	return sockets[0];
}

/*
 * The more users there are, the smaller is the share of each. So a few users cannot take all places, and a
 * new user always gets one.
 */
Test(hostile_unread, users_share_what_may_be_left_unread)
{
	static struct unread unread;
	struct rlimit limit = { 1024, 1024 };
	int users = 0;
	int before = 1 << 30;

	need_limits();
	cr_assert_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
	while (unread.n < UNREAD_MAX) {
		uid_t uid = 100000 + (uid_t)users++;
		int own = 0;

		cr_assert(!unread_too_many(&unread, uid, 0), "user %d is kept out", users);
		while (unread.n < UNREAD_MAX && !unread_too_many(&unread, uid, 0)) {
			cr_assert(unread_keep(&unread, leave_unread(), uid));
			own++;
		}
		cr_assert_leq(own, before);
		before = own;
	}
	cr_assert_eq(users, 14);
	cr_assert(!unread_too_many(&unread, 99999, UNREAD_LEAST_SHARE - 1));
	cr_assert(unread_too_many(&unread, 99999, UNREAD_LEAST_SHARE));
	cr_assert_eq(unread_forget(&unread), UNREAD_MAX);
}
