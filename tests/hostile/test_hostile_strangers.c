/* SPDX-License-Identifier: MIT */
/*
 * Attacks of a stranger on a listener or a connector, from three processes in turn: one of another user,
 * one of the same user, and a child that inherited everything from its parent. The tests check the result
 * and the duration of each call, memory, descriptors and mappings, that another pipe still works, and that
 * an honest client is accepted.
 */
#include "hostile/hostile.h"

#include <fcntl.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/prctl.h>

TestSuite(hostile_strangers, .timeout = 120);

#define LATE          NSEC_PER_SEC
#define OWN_MEMORY    (4 << 10) /* KiB */
#define SHARED_MEMORY (4 << 10) /* KiB: of the pages that 64 handshakes under way have */
#define SEALS         (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL)

enum stranger { OTHER_USER, SAME_USER, CHILD, STRANGERS };

static enum stranger first_stranger(void)
{
	return geteuid() ? SAME_USER : OTHER_USER;
}

/* One visit, again and again. */
typedef void visit_step(const char *address, uint64_t random);

static pid_t stranger_start(bufpipe_listener_t *listener, const char *address, enum stranger who,
			    visit_step *visit)
{
	uint64_t state = (uint64_t)who + 1;
	pid_t pid = fork();

	cr_assert_geq(pid, 0);
	if (pid)
		return pid;
	if (who != CHILD)
		bufpipe_listener_close(listener);
	if (who == OTHER_USER && (setgid(NOBODY) < 0 || setuid(NOBODY) < 0))
		_exit(1);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	for (;;)
		visit(address, random_next(&state));
}

static void accept_in_time(bufpipe_listener_t *listener, int64_t timeout)
{
	int64_t queued = time_queued();
	int64_t begin = time_now();
	bufpipe_t *pipe = NULL;
	int r = bufpipe_accept(listener, &pipe, timeout);

	begin = elapsed(begin) - timeout - (time_queued() - queued);
	cr_assert(r == 0 || r == -EAGAIN || r == -ETIMEDOUT, "%d", r);
	cr_assert_lt(begin, queued < 0 ? SOON : LATE, "accept was late: %lld ns", (long long)begin);
	if (r == 0) {
		char buf[64];

		bufpipe_recv(pipe, buf, sizeof(buf), 0);
		bufpipe_send(pipe, buf, sizeof(buf), 0);
	}
	bufpipe_close(pipe);
}

/* An honest client of this user, beside the attack. */
static pid_t honest_start(const char *address)
{
	pid_t pid = fork();
	bufpipe_t *pipe;

	if (pid)
		return pid;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	_exit(bufpipe_connect(&pipe, address, NULL, 15 * NSEC_PER_SEC) < 0);
}

/*
 * The listener drops what the strangers left behind when it looks at it. A backlog may have thousands of
 * connections, and one call looks at a few of them only.
 */
static void accept_the_rest(bufpipe_listener_t *listener, const struct tally *before)
{
	int64_t begin = time_now();

	do
		accept_in_time(listener, 0);
	while (tally_now().fds > before->fds && elapsed(begin) < PLENTY);
}

static void attack(visit_step *visit, enum stranger who, const struct bufpipe_options *options)
{
	struct bystander bystander = bystander_make();
	struct tally before = tally_now();
	bufpipe_listener_t *listener;
	char address[64];
	struct usage usage;
	int64_t began;
	int status = 1;
	pid_t stranger;
	pid_t honest;

	snprintf(address, sizeof(address), "@bufpipe-test-strangers-%d", getpid());
	cr_assert_eq(bufpipe_listen(&listener, address, options), 0);
	accept_in_time(listener, 0);
	usage = usage_now();
	stranger = stranger_start(listener, address, who, visit);
	honest = honest_start(address);
	began = time_now();
	do {
		accept_in_time(listener, 0);
		accept_in_time(listener, MSEC);
		if (honest && waitpid(honest, &status, WNOHANG) == honest)
			honest = 0;
		cr_assert_lt(elapsed(began), 15 * NSEC_PER_SEC, "an honest client was kept out");
	} while (honest || elapsed(began) < attack_time() / 8);
	cr_assert_eq(status, 0, "an honest client was kept out: %x", status);
	flipper_stop(stranger);
	accept_the_rest(listener, &usage.tally);
	usage_assert(usage, OWN_MEMORY, SHARED_MEMORY, "after the strangers");
	honest_visit(listener, address, NULL);
	bufpipe_listener_close(listener);
	tally_assert(before, "after the listener");
	bystander_assert(&bystander);
}

static void attack_from_each(visit_step *visit)
{
	static const struct bufpipe_options options[] = {
		{ .flags = BUFPIPE_RECEIVE },
		{ .flags = BUFPIPE_PREFAULT | BUFPIPE_NO_HANDOVER | BUFPIPE_DUPLEX },
	};

	for (enum stranger who = first_stranger(); who < STRANGERS; who++) {
		for (int i = 0; i < 2; i++)
			attack(visit, who, &options[i]);
	}
}

static void wish_for(int socket, uint64_t size)
{
	struct handshake wishes = handshake_make(WISHES);

	wishes.flags = WISH_ANY;
	wishes.buffer_size = size;
	rogue_send(socket, &wishes, sizeof(wishes), NULL, 0);
}

static void say_nothing(const char *address, uint64_t random)
{
	static int fds[40];
	int *fd = &fds[random % 40];

	if (*fd > 0)
		close(*fd);
	*fd = rogue_connect(address);
}

Test(hostile_strangers, silent_clients)
{
	attack_from_each(say_nothing);
}

static void say_half(const char *address, uint64_t random)
{
	struct handshake g = handshake_make((uint32_t)(random % 6));
	int fd = rogue_connect(address);

	g.magic += random / 8 % 8 == 0;
	g.version += random / 64 % 8 == 0;
	rogue_send(fd, &g, random / 512 % (sizeof(g) + 1), NULL, 0);
	usleep((useconds_t)(random % 500));
	close(fd);
}

Test(hostile_strangers, handshakes_cut_off_anywhere)
{
	attack_from_each(say_half);
}

static void talk(const char *address, uint64_t random)
{
	static const char bytes[65536];
	int fd = rogue_connect(address);

	for (int i = 0; i < 100; i++)
		send(fd, bytes, (random >> i % 40) % sizeof(bytes), MSG_DONTWAIT | MSG_NOSIGNAL);
	close(fd);
}

Test(hostile_strangers, as_many_bytes_as_the_socket_takes)
{
	attack_from_each(talk);
}

static void wish_much(const char *address, uint64_t random)
{
	static int fds[20];
	int *fd = &fds[random % 20];

	if (*fd > 0)
		close(*fd);
	*fd = rogue_connect(address);
	wish_for(*fd, random % 2 ? 16 << 20 : 1ull << random / 2 % 64);
}

Test(hostile_strangers, wishes_for_huge_pipes)
{
	attack_from_each(wish_much);
}

static int any_descriptor(uint64_t random)
{
	struct identity id = honest_identity(LAYOUT_SENDS);
	int fds[2];

	switch (random % 8) {
	case 0:
		return eventfd(0, EFD_CLOEXEC);
	case 1:
		return open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	case 2:
		return open("/dev/zero", O_PATH | O_CLOEXEC);
	case 3:
		sockets_open(fds, SOCK_STREAM);
		close(fds[1]);
		return fds[0];
	case 4:
		return forge_region(&id, honest_size(&id), 0);
	case 5:
		return forge_region(&id, (off_t)1 << 41, SEALS);
	case 6:
		id.data_size <<= random / 8 % 40;
		return forge_region(&id, honest_size(&id), SEALS);
	default:
		return forge_region(&id, honest_size(&id), SEALS);
	}
}

static void bring(const char *address, uint64_t random)
{
	struct handshake region = handshake_make(REGION);
	struct handshake offer;
	int n = random % 4 ? 1 : (int)(random / 4 % 6);
	int fd = rogue_connect(address);
	int offered = -1;
	int fds[6];

	wish_for(fd, 0);
	for (int i = 0; i < n; i++)
		fds[i] = any_descriptor(random >> i);
	/* The offer may not come in time. Then they are sent too early. */
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &(struct timeval){ .tv_usec = 20000 },
		   sizeof(struct timeval));
	if (rogue_recv(fd, &offer, sizeof(offer), &offered) > 0 && offered >= 0)
		close(offered);
	rogue_send(fd, &region, sizeof(region), fds, n);
	for (int i = 0; i < n; i++)
		close(fds[i]);
	usleep((useconds_t)(random % 500));
	close(fd);
}

Test(hostile_strangers, descriptors_in_place_of_a_region)
{
	attack_from_each(bring);
}

/* A client of a stranger's listener. */
static void be_host(int listening, uint64_t random)
{
	struct handshake offer = handshake_make(random % 8 ? OFFER : REFUSAL);
	int client = accept(listening, NULL, NULL);
	int fd = any_descriptor(random / 64);

	offer.flags = LAYOUT_RECEIVES | (random / 8 % 4 == 3 ? (uint32_t)random : 0);
	offer.buffer_size = random / 32 % 2 ? 65536 : 1ull << random / 64 % 64;
	offer.error = -(int)(random % 200);
	if (random % 16)
		rogue_send(client, &offer, random / 4096 % 8 ? sizeof(offer) : random % sizeof(offer), &fd,
			   random % 32 != 1);
	else
		usleep(20000);
	close(fd);
	close(client);
}

static pid_t host_start(int listening, enum stranger who)
{
	uint64_t state = (uint64_t)who + 1;
	pid_t pid = fork();

	cr_assert_geq(pid, 0);
	if (pid)
		return pid;
	if (who == OTHER_USER && (setgid(NOBODY) < 0 || setuid(NOBODY) < 0))
		_exit(1);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	for (;;)
		be_host(listening, random_next(&state));
}

static void connect_in_time(const char *address, const struct bufpipe_options *options)
{
	static const int known[] = {
		0,       -EBADMSG, -EPROTONOSUPPORT, -EPROTOTYPE, -EMSGSIZE, -ECONNRESET,
		-ENOMEM, -ENOBUFS, -E2BIG,           -EACCES,     -EUSERS,   -ETIMEDOUT
	};
	const int64_t timeout = 10 * MSEC;
	int64_t queued = time_queued();
	int64_t begin = time_now();
	bufpipe_t *pipe = NULL;
	int r = bufpipe_connect(&pipe, address, options, timeout);
	bool found = false;

	begin = elapsed(begin) - timeout - (time_queued() - queued);
	for (size_t i = 0; i < sizeof(known) / sizeof(*known); i++)
		found |= r == known[i];
	cr_assert(found, "%d", r);
	cr_assert_lt(begin, queued < 0 ? SOON : LATE, "connect was late: %lld ns", (long long)begin);
	bufpipe_close(pipe);
}

Test(hostile_strangers, listeners_that_offer_anything)
{
	for (enum stranger who = first_stranger(); who < STRANGERS; who++) {
		struct bystander bystander = bystander_make();
		struct tally before = tally_now();
		int64_t began = time_now();
		struct usage usage;
		char name[64];
		int listening = rogue_listen(name);
		pid_t pid;

		connect_in_time(name, NULL); /* nobody answers yet */
		usage = usage_now();
		pid = host_start(listening, who);
		while (elapsed(began) < attack_time() / 4) {
			connect_in_time(name, NULL);
			connect_in_time(name, &(struct bufpipe_options){ .flags = BUFPIPE_PREFAULT });
		}
		usage_assert(usage, OWN_MEMORY, SHARED_MEMORY, "after the offers");
		flipper_stop(pid);
		close(listening);
		tally_assert(before, "after the listener");
		bystander_assert(&bystander);
	}
}
