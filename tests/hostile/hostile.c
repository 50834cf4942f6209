/* SPDX-License-Identifier: MIT */
#include "hostile/hostile.h"
#include "end/options.h"
#include "sanitized.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/un.h>

struct tally tally_now(void)
{
	return (struct tally){ .fds = descriptors_open(), .maps = memfds_mapped() };
}

void tally_assert(struct tally before, const char *what)
{
	int64_t begin = time_now();
	struct tally now;

	/* A child process closes the descriptors that a stranger sent, and no call waits for it. */
	while ((now = tally_now()).fds > before.fds && elapsed(begin) < SOON)
		sched_yield();
	cr_assert_eq(now.fds, before.fds, "%s: %d descriptors before, %d after", what, before.fds, now.fds);
	cr_assert_eq(now.maps, before.maps, "%s: %d mappings before, %d after", what, before.maps, now.maps);
}

/* A number of /proc/self/status, in KiB. */
static long status_of(const char *field)
{
	FILE *status = fopen("/proc/self/status", "re");
	char line[256];
	long n = 0;

	cr_assert_not_null(status);
	while (fgets(line, sizeof(line), status)) {
		if (!strncmp(line, field, strlen(field)))
			n = atol(line + strlen(field));
	}
	fclose(status);
	return n;
}

struct usage usage_now(void)
{
	struct usage u = { .tally = tally_now() };

	u.own = status_of("RssAnon:");
	u.shared = status_of("RssShmem:");
	return u;
}

void usage_assert(struct usage before, long own, long shared, const char *what)
{
	struct usage now;

	tally_assert(before.tally, what);
	now = usage_now();
	/* A sanitizer keeps freed memory for a while. */
#ifndef SANITIZED
	cr_assert_leq(now.own, before.own + own, "%s: %ld KiB before, %ld after", what, before.own, now.own);
#else
	(void)own;
#endif
	cr_assert_leq(now.shared, before.shared + shared, "%s: %ld KiB shared before, %ld after", what,
		      before.shared, now.shared);
}

struct bystander bystander_make(void)
{
	struct bystander b;

	cr_assert_eq(bufpipe_create(b.ends, NULL), 0);
	cr_assert_eq(bufpipe_send(b.ends[1], "as before", 10, 0), 0);
	return b;
}

void bystander_assert(struct bystander *b)
{
	char buf[16];

	cr_assert_eq(bufpipe_recv(b->ends[0], buf, sizeof(buf), 0), 10);
	cr_assert_str_eq(buf, "as before");
	cr_assert_eq(bufpipe_recv(b->ends[0], buf, sizeof(buf), 0), -EAGAIN);
	bufpipe_close(b->ends[0]);
	bufpipe_close(b->ends[1]);
}

struct duel duel_begin(int victim, const struct bufpipe_options *options)
{
	struct duel d = { .before = tally_now() };
	bufpipe_t *ends[2];

	d.bystander = bystander_make();
	cr_assert_eq(bufpipe_create(ends, options), 0);
	d.victim = ends[victim];
	d.rogue = ends[!victim];
	return d;
}

void duel_end(struct duel *d)
{
	bufpipe_close(d->victim);
	bufpipe_close(d->rogue);
	bystander_assert(&d->bystander);
	tally_assert(d->before, "after the duel");
}

_Atomic uint64_t *rogue_header(const struct duel *d, uint64_t position)
{
	return sender_header(&d->rogue->sender, position);
}

uint64_t victim_head(const struct duel *d)
{
	return atomic_load(d->rogue->sender.head) & ~HEAD_HELD;
}

void rogue_put(const struct duel *d, uint64_t header)
{
	atomic_store(rogue_header(d, victim_head(d)), header);
}

void rogue_fill(const struct duel *d, uint64_t word)
{
	for (uint64_t at = 0; at < d->rogue->ours.identity.data_size; at += 8)
		atomic_store_explicit(rogue_header(d, at), word, memory_order_relaxed);
}

uint64_t random_next(uint64_t *state)
{
	uint64_t x = *state += 0x9e3779b97f4a7c15ull;

	x = (x ^ x >> 31) * 0xd6e8feb86659fd93ull;
	return x ^ x >> 32;
}

pid_t flipper_start(const struct duel *d, flip_step *step)
{
	uint64_t state = 1;
	pid_t pid = fork();

	cr_assert_geq(pid, 0);
	if (pid)
		return pid;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	close(d->victim->socket);
	for (;;)
		step(d, random_next(&state));
}

void flipper_stop(pid_t pid)
{
	int status;

	kill(pid, SIGKILL);
	cr_assert_eq(waitpid(pid, &status, 0), pid);
	cr_assert(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL, "the attacker itself failed");
}

int64_t elapsed(int64_t begin)
{
	return time_now() - begin;
}

int64_t time_queued(void)
{
	FILE *file = fopen("/proc/thread-self/schedstat", "re");
	long long ran;
	long long queued;
	int n = file ? fscanf(file, "%lld %lld", &ran, &queued) : 0;

	if (file)
		fclose(file);
	return n == 2 ? queued : -1;
}

int64_t attack_time(void)
{
	const char *seconds = getenv("BUFPIPE_TEST_SECONDS");

	return seconds ? atoll(seconds) * NSEC_PER_SEC : NSEC_PER_SEC / 2;
}

static socklen_t abstract(struct sockaddr_un *at, const char *name)
{
	*at = (struct sockaddr_un){ .sun_family = AF_UNIX };
	strcpy(at->sun_path + 1, name + 1);
	return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(name));
}

int rogue_listen(char name[64])
{
	static int count;
	struct sockaddr_un at;
	socklen_t len;
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

	snprintf(name, 64, "@bufpipe-test-rogue-%d-%d", getpid(), count++);
	len = abstract(&at, name);
	cr_assert_eq(bind(fd, (struct sockaddr *)&at, len), 0);
	cr_assert_eq(listen(fd, 4096), 0);
	return fd;
}

int rogue_connect(const char *name)
{
	struct sockaddr_un at;
	socklen_t len = abstract(&at, name);
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

	cr_assert_eq(connect(fd, (struct sockaddr *)&at, len), 0, "%s: %s", name, strerror(errno));
	return fd;
}

ssize_t rogue_send(int socket, const void *bytes, size_t len, const int *fds, int n)
{
	_Alignas(struct cmsghdr) char control[CMSG_SPACE(253 * sizeof(int))] = { 0 };
	struct iovec piece = { .iov_base = (void *)(uintptr_t)bytes, .iov_len = len };
	struct msghdr message = { .msg_iov = &piece, .msg_iovlen = 1 };
	struct cmsghdr *c;

	if (n) {
		message.msg_control = control;
		message.msg_controllen = CMSG_SPACE((size_t)n * sizeof(int));
		c = CMSG_FIRSTHDR(&message);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN((size_t)n * sizeof(int));
		memcpy(CMSG_DATA(c), fds, (size_t)n * sizeof(int));
	}
	return sendmsg(socket, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
}

ssize_t rogue_recv(int socket, void *bytes, size_t len, int *fd)
{
	_Alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof(int))];
	struct iovec piece = { .iov_base = bytes, .iov_len = len };
	struct msghdr message = {
		.msg_iov = &piece,
		.msg_iovlen = 1,
		.msg_control = control,
		.msg_controllen = sizeof(control),
	};
	ssize_t r = recvmsg(socket, &message, MSG_CMSG_CLOEXEC);
	struct cmsghdr *c = r < 0 ? NULL : CMSG_FIRSTHDR(&message);

	*fd = -1;
	if (c)
		memcpy(fd, CMSG_DATA(c), sizeof(*fd));
	return r;
}

struct identity honest_identity(unsigned layout_flags)
{
	struct bufpipe_options o;

	options_check(&o, NULL);
	return options_identity(&o, layout_flags);
}

off_t honest_size(const struct identity *id)
{
	return (off_t)((uint64_t)sysconf(_SC_PAGESIZE) + id->data_size);
}

int forge_region(const struct identity *id, off_t size, int seals)
{
	int fd = memfd_create("forged", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	cr_assert_geq(fd, 0);
	cr_assert_eq(ftruncate(fd, size), 0);
	if (size >= (off_t)sizeof(*id))
		cr_assert_eq(pwrite(fd, id, sizeof(*id), 0), (ssize_t)sizeof(*id));
	if (seals)
		cr_assert_eq(fcntl(fd, F_ADD_SEALS, seals), 0);
	return fd;
}

void name_address(char address[64])
{
	static int count;

	snprintf(address, 64, "@bufpipe-test-meeting-%d-%d", getpid(), count++);
}

int rogue_wish(const char *address, size_t buffer_size)
{
	struct handshake wishes = handshake_make(WISHES);
	int fd = rogue_connect(address);

	wishes.flags = WISH_ANY;
	wishes.buffer_size = buffer_size;
	rogue_send(fd, &wishes, sizeof(wishes), NULL, 0);
	return fd;
}

void honest_visit(bufpipe_listener_t *listener, const char *address, const struct bufpipe_options *options)
{
	int64_t begin = time_now();
	struct bufpipe_info info;
	bufpipe_t *pipe;
	char buf[64] = "hello";
	ssize_t r;
	int status;
	pid_t pid = fork();

	if (!pid) {
		if (bufpipe_connect(&pipe, address, options, 10 * NSEC_PER_SEC) < 0)
			_exit(1);
		bufpipe_get_info(pipe, &info);
		_exit(bufpipe_send(pipe, buf, info.object_size ? info.object_size : 6, 0) ? 2 : 0);
	}
	memset(buf, 0, sizeof(buf));
	/* The listener may first accept a client that finished its handshake and died. */
	for (;;) {
		cr_assert_eq(bufpipe_accept(listener, &pipe, 10 * NSEC_PER_SEC), 0,
			     "an honest client was not accepted");
		bufpipe_get_info(pipe, &info);
		r = bufpipe_recv(pipe, buf, sizeof(buf), 10 * NSEC_PER_SEC);
		if (r != -EPIPE)
			break;
		bufpipe_close(pipe);
	}
	cr_assert_gt(r, 0);
	cr_assert_str_eq(buf, "hello");
	/*
	 * Close only after the client has exited: a send during our close may deliver its message and still
	 * return -EPIPE.
	 */
	cr_assert_eq(waitpid(pid, &status, 0), pid);
	bufpipe_close(pipe);
	cr_assert_eq(status, 0, "the honest client: %x", status);
	cr_assert_lt(elapsed(begin), SOON, "the honest client was delayed");
}

size_t parcel_bytes(bufpipe_t *pipe, char bytes[64])
{
	ssize_t n;
	int sockets[2];

	cr_assert_eq(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sockets), 0);
	cr_assert_eq(bufpipe_send_end(sockets[0], pipe), 0);
	n = recv(sockets[1], bytes, 64, 0);
	cr_assert(n > 0 && n < 64);
	close(sockets[0]);
	close(sockets[1]);
	return (size_t)n;
}

struct meeting meet(const struct bufpipe_options *options)
{
	struct handshake wishes = handshake_make(WISHES);
	struct meeting m;
	bufpipe_t *none;
	static int count;

	snprintf(m.address, sizeof(m.address), "@bufpipe-test-region-%d-%d", getpid(), count++);
	cr_assert_eq(bufpipe_listen(&m.listener, m.address, options), 0);
	m.socket = rogue_connect(m.address);
	wishes.flags = WISH_ANY;
	cr_assert_eq(rogue_send(m.socket, &wishes, sizeof(wishes), NULL, 0), (ssize_t)sizeof(wishes));
	cr_assert_eq(bufpipe_accept(m.listener, &none, 0), -EAGAIN);
	cr_assert_eq(rogue_recv(m.socket, &m.offer, sizeof(m.offer), &m.offered), (ssize_t)sizeof(m.offer));
	cr_assert(m.offer.type == OFFER && m.offered >= 0);
	return m;
}

void part(struct meeting *m)
{
	close(m->offered);
	close(m->socket);
	bufpipe_listener_close(m->listener);
}
