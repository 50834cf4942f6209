/* SPDX-License-Identifier: MIT */
/*
 * A target for libFuzzer: what strangers say before there is a pipe, and what they
 * send along.
 *
 * The first byte chooses the victim: a listener with some clients, a client of a
 * listener, or somebody who is handed an end.  Packets are nearly right ones with
 * some words changed, or any bytes; descriptors are nearly right regions, or
 * anything else.  Every call ends soon after its timeout with a documented result,
 * and in the end as many descriptors are open as before.
 */
#include "connect/handshake.h"
#include "connect/parcel.h"
#include "end/options.h"
#include "fuzz/input.h"

#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define SEALS    (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL)
#define ROGUES   4
#define MOST_FDS 6
#define PATIENCE (3 * NSEC_PER_SEC) /* for children that close descriptors */
#define A_MOMENT 2000000

static void check_result(const char *what, int r, const int *known, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		if (r == known[i])
			return;
	}
	fuzz_fail(what, r);
}

#define CHECK_RESULT(what, r, ...)                          \
	check_result(what, r, (const int[]){ __VA_ARGS__ }, \
		     sizeof((const int[]){ __VA_ARGS__ }) / sizeof(int))

static int count_descriptors(void)
{
	DIR *dir = opendir("/proc/self/fd");
	int n = 0;

	if (!dir)
		fuzz_fail("opendir", errno);
	while (readdir(dir))
		n++;
	closedir(dir);
	return n;
}

/* Changes some words, or often none. */
static void mutate(struct input *in, void *bytes, size_t len)
{
	for (uint64_t n = take(in, 1) % 4; n; n--) {
		size_t size = take(in, 1) & 1 ? 8 : 4;
		size_t at = take(in, 1) % (len / size) * size;
		uint64_t value = number(in);

		memcpy((char *)bytes + at, &value, size);
	}
}

/* A memfd that is nearly the region of an honest end. */
static int forge(struct input *in, const struct bufpipe_options *o)
{
	uint64_t kind = take(in, 1);
	struct identity id = options_identity(o, (unsigned)kind & LAYOUT_ALL);
	off_t size = (off_t)(4096 + id.data_size);
	int fd = memfd_create("forged", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	mutate(in, &id, sizeof(id));
	if (kind & 8)
		size = (off_t)(number(in) & (((uint64_t)1 << 42) - 1));
	if (fd < 0 || ftruncate(fd, size) < 0)
		fuzz_fail("memfd", errno);
	if (pwrite(fd, &id, sizeof(id), 0) < 0 && size)
		fuzz_fail("pwrite", errno);
	if (kind & 16)
		ftruncate(fd, size); /* it may reach beyond a small size */
	if (!(kind & 32))
		fcntl(fd, F_ADD_SEALS, kind & 64 ? SEALS | F_SEAL_FUTURE_WRITE : SEALS);
	return fd;
}

/* Any descriptor. The caller closes it. */
static int any_fd(struct input *in, const struct bufpipe_options *o, int theirs)
{
	uint64_t kind = take(in, 1);
	int fds[2];

	switch (kind % 16) {
	case 0:
		return eventfd(0, EFD_CLOEXEC);
	case 1:
		return open("/", O_DIRECTORY | O_RDONLY | O_CLOEXEC);
	case 2:
		return open("/dev/zero", O_PATH | O_CLOEXEC);
	case 3:
		return epoll_create1(EPOLL_CLOEXEC);
	case 4:
	case 5:
		if (socketpair(AF_UNIX, (kind & 16 ? SOCK_STREAM : SOCK_SEQPACKET) | SOCK_CLOEXEC, 0, fds) <
		    0)
			fuzz_fail("socketpair", errno);
		if (kind & 32)
			shutdown(fds[0], SHUT_RDWR);
		close(fds[1]);
		return fds[0];
	case 6:
		return open("/dev/null", O_RDWR | O_CLOEXEC);
	case 7: /* what the victim has sent to the rogue */
		return theirs < 0 ? eventfd(0, EFD_CLOEXEC) : fcntl(theirs, F_DUPFD_CLOEXEC, 0);
	default:
		return forge(in, o);
	}
}

static void send_packet(struct input *in, int socket, const void *bytes, size_t len, const int *fds, int n)
{
	_Alignas(struct cmsghdr) char control[CMSG_SPACE(MOST_FDS * sizeof(int))] = { 0 };
	char copy[256] = { 0 };
	struct iovec piece = { .iov_base = copy, .iov_len = len };
	struct msghdr message = { .msg_iov = &piece, .msg_iovlen = 1 };
	uint64_t kind = take(in, 1);
	struct cmsghdr *c;

	memcpy(copy, bytes, len);
	mutate(in, copy, len);
	if (kind % 16 == 1)
		piece.iov_len = take(in, 1);
	if (n) {
		message.msg_control = control;
		message.msg_controllen = CMSG_SPACE((size_t)n * sizeof(int));
		c = CMSG_FIRSTHDR(&message);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN((size_t)n * sizeof(int));
		memcpy(CMSG_DATA(c), fds, (size_t)n * sizeof(int));
	}
	sendmsg(socket, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
}

/* Sends a packet of this type, with as many descriptors as it should have, or more or fewer. */
static void say(struct input *in, int socket, uint32_t type, const struct bufpipe_options *o, int theirs)
{
	struct handshake g = handshake_make(type);
	int n = type == OFFER || type == REGION;
	int fds[MOST_FDS];
	uint64_t kind = take(in, 1);

	g.flags = kind & 1 ? WISH_ANY : (unsigned)kind >> 1 & (LAYOUT_SENDS | LAYOUT_RECEIVES);
	if (kind & 8)
		g.flags |= HANDSHAKE_SEALED;
	if (type == OFFER || kind & 16) {
		g.buffer_size = o->object_size ? 0 : o->buffer_size;
		g.object_size = o->object_size;
		g.object_count = o->object_count;
	}
	if (kind >= 224)
		n = (int)take(in, 1) % (MOST_FDS + 1);
	for (int i = 0; i < n; i++)
		fds[i] = any_fd(in, o, theirs);
	send_packet(in, socket, &g, sizeof(g), fds, n);
	for (int i = 0; i < n; i++)
		close(fds[i]);
}

/* The first descriptor of the next packet, or -1. */
static int hear(int socket)
{
	_Alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof(int))];
	char bytes[256];
	struct iovec piece = { .iov_base = bytes, .iov_len = sizeof(bytes) };
	struct msghdr message = {
		.msg_iov = &piece,
		.msg_iovlen = 1,
		.msg_control = control,
		.msg_controllen = sizeof(control),
	};
	int fd = -1;

	if (recvmsg(socket, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC) >= 0 && CMSG_FIRSTHDR(&message))
		memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof(fd));
	return fd;
}

/* Uses a pipe that came of this, in every way that must work with any end. */
static void use(bufpipe_t *pipe)
{
	struct stopwatch watch = stopwatch_start();
	struct bufpipe_pollfd p = { .pipe = pipe, .events = BUFPIPE_IN | BUFPIPE_OUT };
	struct bufpipe_stats stats;
	struct bufpipe_info info;
	const void *at;
	char buf[64] = "";

	if (!pipe)
		return;
	if (bufpipe_get_info(pipe, &info) < 0)
		fuzz_fail("get_info", 0);
	/* Holders of one end trust each other's locks, and here no honest holder initialized them. */
	if (!(pipe->flags & BUFPIPE_SHARED)) {
		bufpipe_send(pipe, buf, sizeof(buf), 0);
		bufpipe_recv(pipe, buf, sizeof(buf), 0);
		if (bufpipe_peek(pipe, &at, 0) >= 0)
			bufpipe_release(pipe);
		bufpipe_get_stats(pipe, &stats);
		bufpipe_wait(&p, 1, 0);
		bufpipe_shutdown(pipe);
	}
	bufpipe_close(pipe);
	stopwatch_stop(&watch, "a use of the pipe", 0);
}

static socklen_t name_of(struct sockaddr_un *at, char address[64], const char *what)
{
	snprintf(address, 64, "@bufpipe-fuzz-%s-%d", what, (int)getpid());
	*at = (struct sockaddr_un){ .sun_family = AF_UNIX };
	memcpy(at->sun_path + 1, address + 1, strlen(address + 1));
	return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(address));
}

static struct bufpipe_options options_of(uint64_t kind)
{
	struct bufpipe_options o = { .object_size = kind & 1 ? 100 : 0, .buffer_size = kind & 1 ? 0 : 2000 };

	if (kind & 2)
		o.flags |= BUFPIPE_DUPLEX;
	if (kind & 4)
		o.flags |= BUFPIPE_SHARED;
	if (kind & 8)
		o.flags |= BUFPIPE_NO_HANDOVER;
	if (kind & 16)
		o.flags |= BUFPIPE_PREFAULT;
	options_check(&o, &o);
	o.name = NULL;
	return o;
}

/* A client of the victim. */
struct rogue {
	int socket;
	int theirs; /* the region that the victim offered */
};

static void step_rogue(struct input *in, struct rogue *r, const struct bufpipe_options *o)
{
	struct sockaddr_un at;
	char name[64];
	socklen_t len = name_of(&at, name, "listener");

	if (r->socket < 0) {
		r->socket = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
		if (connect(r->socket, (struct sockaddr *)&at, len) < 0 && errno != EAGAIN)
			fuzz_fail("connect", errno);
		return;
	}
	switch (take(in, 1) % 8) {
	case 0:
	case 1:
		say(in, r->socket, WISHES, o, r->theirs);
		break;
	case 2:
	case 3:
	case 4:
		say(in, r->socket, REGION, o, r->theirs);
		break;
	case 5:
		if (r->theirs >= 0)
			close(r->theirs);
		r->theirs = hear(r->socket);
		break;
	case 6:
		say(in, r->socket, (uint32_t)take(in, 1), o, r->theirs);
		break;
	default:
		close(r->socket);
		r->socket = -1;
	}
}

static void visit_listener(struct input *in, uint64_t kind)
{
	struct bufpipe_options o = options_of(kind);
	struct rogue rogues[ROGUES];
	bufpipe_listener_t *listener;
	struct sockaddr_un at;
	char address[64];

	name_of(&at, address, "listener");
	if (bufpipe_listen(&listener, address, kind & 32 ? &o : NULL) < 0)
		fuzz_fail("listen", errno);
	for (int i = 0; i < ROGUES; i++)
		rogues[i] = (struct rogue){ -1, -1 };
	for (int steps = 0; in->left && steps < 100; steps++) {
		uint64_t what = take(in, 1);
		int64_t timeout = what & 64 ? A_MOMENT : 0;
		struct stopwatch watch;
		bufpipe_t *pipe = NULL;
		int r;

		if (what & 3) {
			step_rogue(in, &rogues[what / 4 % ROGUES], &o);
			continue;
		}
		watch = stopwatch_start();
		r = bufpipe_accept(listener, &pipe, timeout);
		stopwatch_stop(&watch, "accept", timeout);
		CHECK_RESULT("accept", r, 0, -EAGAIN, -ETIMEDOUT);
		use(pipe);
	}
	for (int i = 0; i < ROGUES; i++) {
		if (rogues[i].socket >= 0)
			close(rogues[i].socket);
		if (rogues[i].theirs >= 0)
			close(rogues[i].theirs);
	}
	bufpipe_listener_close(listener);
}

/* A listener of the victim. */
struct host {
	struct input *in;
	struct bufpipe_options options;
	int listening;
};

static void *serve(void *arg)
{
	struct host *h = arg;
	struct pollfd ready = { .fd = h->listening, .events = POLLIN };
	uint64_t packets = take(h->in, 1) % 3;
	int client;
	int theirs = -1;

	if (poll(&ready, 1, 1000) <= 0)
		return NULL;
	client = accept4(h->listening, NULL, NULL, SOCK_CLOEXEC);
	for (uint64_t i = 0; i <= packets; i++)
		say(h->in, client, take(h->in, 1) % 8 ? OFFER : (uint32_t)take(h->in, 1), &h->options,
		    theirs);
	if (take(h->in, 1) & 1)
		close(hear(client));
	close(client);
	return NULL;
}

static void visit_client(struct input *in, uint64_t kind)
{
	struct host h = { .in = in, .options = options_of(kind) };
	struct stopwatch watch;
	struct sockaddr_un at;
	bufpipe_t *pipe = NULL;
	pthread_t thread;
	char address[64];
	socklen_t len = name_of(&at, address, "host");
	int r;

	h.listening = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	if (bind(h.listening, (struct sockaddr *)&at, len) < 0 || listen(h.listening, 1) < 0 ||
	    pthread_create(&thread, NULL, serve, &h))
		fuzz_fail("listen", errno);
	watch = stopwatch_start();
	r = bufpipe_connect(&pipe, address, kind & 32 ? &h.options : NULL, 5 * A_MOMENT);
	stopwatch_stop(&watch, "connect", 5 * A_MOMENT);
	CHECK_RESULT("connect", r, 0, -EBADMSG, -EPROTONOSUPPORT, -EPROTOTYPE, -EMSGSIZE, -ECONNRESET,
		     -ENOBUFS, -E2BIG, -EACCES, -EUSERS, -ENOMEM, -ETIMEDOUT);
	pthread_join(thread, NULL);
	use(pipe);
	close(h.listening);
}

static void visit_heir(struct input *in, uint64_t kind)
{
	struct parcel parcel = { .magic = PARCEL_MAGIC, .version = LAYOUT_VERSION };
	struct bufpipe_options o = options_of(kind);
	struct stopwatch watch;
	bufpipe_t *pipe = NULL;
	int fds[MOST_FDS];
	int sockets[2];
	uint64_t n = 3;
	int r;

	parcel.flags = o.flags;
	if (socketpair(AF_UNIX, (kind & 32 ? SOCK_STREAM : SOCK_SEQPACKET) | SOCK_CLOEXEC, 0, sockets) < 0)
		fuzz_fail("socketpair", errno);
	if (take(in, 1) % 8 == 7)
		n = take(in, 1) % (MOST_FDS + 1);
	for (uint64_t i = 0; i < n; i++)
		fds[i] = any_fd(in, &o, -1);
	send_packet(in, sockets[0], &parcel, sizeof(parcel), fds, (int)n);
	for (uint64_t i = 0; i < n; i++)
		close(fds[i]);
	shutdown(sockets[0], SHUT_WR);
	watch = stopwatch_start();
	r = bufpipe_recv_end(sockets[1], &pipe);
	stopwatch_stop(&watch, "recv_end", 0);
	CHECK_RESULT("recv_end", r, 0, -EBADMSG, -EPROTONOSUPPORT, -EPIPE, -ENOMEM, -EPERM, -EAGAIN);
	use(pipe);
	close(sockets[0]);
	close(sockets[1]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = { data, size };
	uint64_t kind = take(&in, 1);
	int64_t begin = stopwatch_start().begin; /* which may open a descriptor for good */
	int before = count_descriptors();

	signal(SIGPIPE, SIG_IGN);
	switch (kind / 64) {
	case 0:
	case 1:
		visit_listener(&in, kind);
		break;
	case 2:
		visit_client(&in, kind);
		break;
	default:
		visit_heir(&in, kind);
	}
	/* A child process closes the descriptors that a stranger sent, and no call waits for it. */
	while (count_descriptors() > before) {
		if (time_now() - begin > PATIENCE)
			fuzz_fail("descriptors left", count_descriptors() - before);
		sched_yield();
	}
	return 0;
}
