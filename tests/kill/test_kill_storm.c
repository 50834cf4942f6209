/* SPDX-License-Identifier: MIT */
/*
 * Senders and receivers that are killed at random moments and replaced, for
 * some seconds.  A ledger that they share tells at the end of each round that
 * every message of a send that had returned was received once, or was in the
 * hands of a receiver when that was killed.
 */
#include "end/end.h"

#include <criterion/criterion.h>
#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum {
	LIVES = 2048,    /* processes in one round */
	MESSAGES = 8192, /* in the life of one sender */
	CREW = 4,        /* at most, on each side */
	LONGEST = 20000,
	ROUND_MS = 2500,
	PATIENCE_MS = 10000, /* longer counts as a hang */
};

struct message {
	uint32_t life; /* of its sender */
	uint32_t number;
	uint32_t len;
	uint32_t check; /* of the other three */
};

/* One process's life. */
struct life {
	atomic_uint confirmed;  /* a sender: how many sends have returned 0 */
	uint8_t seen[MESSAGES]; /* by number: SEEN, TAKEN */
};
enum { SEEN = 1, TAKEN = 2 };

struct ledger {
	atomic_int stop; /* senders end after their next message */
	atomic_int failed;
	char text[256];
	atomic_uint received;
	struct life lives[LIVES];
	char hands[2 * CREW][LONGEST]; /* by place: where a receiver receives */
};

struct round {
	struct ledger *ledger;
	bufpipe_t *ends[2];
	bool clears;    /* free space, in advance */
	uint32_t steps; /* of free space that was looked at for that */
	int crew;       /* on each side; the first are the senders */
	int lives;
	size_t longest;
	unsigned seed;
	pid_t pids[2 * CREW];
};

static int64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static void pause_us(long us)
{
	nanosleep(&(struct timespec){ .tv_nsec = us * 1000 }, NULL);
}

static uint32_t check_of(const struct message *m)
{
	return (m->life * 2654435761u) ^ (m->number * 40503u) ^ (m->len * 97u) ^ 0x5aa5u;
}

static char byte_at(const struct message *m, size_t i)
{
	return (char)(i * 13 + m->number * 31 + m->life);
}

__attribute__((format(printf, 2, 3))) static _Noreturn void fail(struct ledger *l, const char *format, ...)
{
	va_list args;
	int none = 0;

	if (atomic_compare_exchange_strong(&l->failed, &none, 1)) {
		va_start(args, format);
		vsnprintf(l->text, sizeof(l->text), format, args);
		va_end(args);
	}
	_exit(1);
}

/* Whether a buffer begins with the head of a message. */
static bool is_head(const struct message *m)
{
	return m->check == check_of(m) && m->life < LIVES && m->number < MESSAGES && m->len <= LONGEST;
}

/* Receives in one of three ways. */
static int send_somehow(bufpipe_t *end, char *buf, const struct message *m)
{
	struct iovec pieces[] = { { buf, sizeof(*m) }, { buf + sizeof(*m), m->len - sizeof(*m) } };
	void *room;
	int r;

	if (m->number % 3 == 0)
		return bufpipe_send(end, buf, m->len, -1);
	r = m->number % 3 == 1 ? bufpipe_reserve(end, &room, m->len, -1) : -EMSGSIZE;
	if (r == -EMSGSIZE)
		return bufpipe_sendv(end, pieces, 2, -1);
	if (r < 0)
		return r;
	memcpy(room, buf, m->len);
	return bufpipe_commit(end, m->len);
}

static void send_for_life(const struct round *r, uint32_t life)
{
	static char buf[LONGEST];
	unsigned seed = life * 7919 + r->seed;
	struct message m = { .life = life };

	for (m.number = 0; m.number < MESSAGES && !atomic_load(&r->ledger->stop); m.number++) {
		int error;

		/* One in eight is long, perhaps longer than the ring. */
		m.len = (uint32_t)(sizeof(m) + (size_t)rand_r(&seed) %
						       (rand_r(&seed) % 8 ? 200 : r->longest - sizeof(m)));
		m.check = check_of(&m);
		memcpy(buf, &m, sizeof(m));
		for (size_t i = sizeof(m); i < m.len; i++)
			buf[i] = byte_at(&m, i);
		error = send_somehow(r->ends[1], buf, &m);
		if (error)
			fail(r->ledger, "send: %d", error);
		atomic_store(&r->ledger->lives[life].confirmed, m.number + 1);
	}
}

static void inspect(struct ledger *l, const char *buf, ssize_t n, int32_t last[LIVES])
{
	struct message m;

	memcpy(&m, buf, sizeof(m));
	if (n < (ssize_t)sizeof(m) || !is_head(&m) || m.len != (size_t)n)
		fail(l, "a message of %zd bytes is torn", n);
	for (size_t i = sizeof(m); i < m.len; i++) {
		if (buf[i] != byte_at(&m, i))
			fail(l, "a message of %zd bytes is torn at %zu", n, i);
	}
	/* last counts from 1, so 0 is none. */
	if ((int32_t)m.number < last[m.life])
		fail(l, "message %u of %u came after %d", m.number, m.life, last[m.life] - 1);
	last[m.life] = (int32_t)m.number + 1;
	if (l->lives[m.life].seen[m.number] & SEEN)
		fail(l, "message %u of %u came twice", m.number, m.life);
	l->lives[m.life].seen[m.number] |= SEEN;
	atomic_fetch_add(&l->received, 1);
}

static ssize_t receive_somehow(bufpipe_t *end, char *hand, unsigned turn)
{
	const void *at;
	ssize_t n = turn % 2 ? bufpipe_peek(end, &at, -1) : -EMSGSIZE;

	if (n == -EMSGSIZE)
		return bufpipe_recv(end, hand, LONGEST, -1);
	if (n < 0)
		return n;
	memcpy(hand, at, (size_t)n);
	return bufpipe_release(end) < 0 ? -EINVAL : n;
}

/* The ledger has the message that this receiver holds. A head of zeros there means that it holds nothing. */
static void receive_for_life(const struct round *r, int place)
{
	static int32_t last[LIVES];
	char *hand = r->ledger->hands[place];

	for (unsigned turn = 0;; turn++) {
		ssize_t n = receive_somehow(r->ends[0], hand, turn);

		if (n == -EPIPE)
			return;
		if (n < 0)
			fail(r->ledger, "recv: %zd", n);
		inspect(r->ledger, hand, n, last);
		memset(hand, 0, sizeof(struct message));
	}
}

static void start(struct round *r, int place)
{
	uint32_t life = (uint32_t)r->lives++;
	bool sends = place < r->crew;
	pid_t parent = getpid();

	memset(r->ledger->hands[place], 0, sizeof(struct message));
	r->pids[place] = fork();
	cr_assert(r->pids[place] >= 0);
	if (r->pids[place])
		return;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(1);
	bufpipe_close(r->ends[!sends]);
	if (sends)
		send_for_life(r, life);
	else
		receive_for_life(r, place);
	bufpipe_close(r->ends[sends]);
	_exit(0);
}

static void abandon(const struct round *r)
{
	for (int i = 0; i < 2 * r->crew; i++) {
		if (r->pids[i] > 0)
			kill(r->pids[i], SIGKILL);
	}
	cr_assert(false, "%s", r->ledger->failed ? r->ledger->text : "somebody hangs");
}

/* Messages that a dead receiver held may be missing from the pipe, whole or in part. */
static void bury(struct round *r, int place)
{
	struct message m;

	r->pids[place] = 0;
	memcpy(&m, r->ledger->hands[place], sizeof(m));
	if (place >= r->crew && is_head(&m))
		r->ledger->lives[m.life].seen[m.number] |= TAKEN;
}

/* SIGKILL for one process, or SIGSTOP for a moment. A sender may have ended by itself. */
static void strike(struct round *r, unsigned *seed)
{
	int place = rand_r(seed) % (2 * r->crew);
	int status;

	if (rand_r(seed) % 4 == 0) {
		kill(r->pids[place], SIGSTOP);
		pause_us(rand_r(seed) % 2000);
		kill(r->pids[place], SIGCONT);
		return;
	}
	kill(r->pids[place], SIGKILL);
	waitpid(r->pids[place], &status, 0);
	if (WIFEXITED(status) && WEXITSTATUS(status))
		abandon(r);
	bury(r, place);
	start(r, place);
}

/* Waits for all of one side. */
static void await_side(struct round *r, int first)
{
	int64_t limit = now_ms() + PATIENCE_MS;
	int status;

	for (int i = first; i < first + r->crew; i++) {
		while (waitpid(r->pids[i], &status, WNOHANG) == 0) {
			if (now_ms() > limit)
				abandon(r);
			pause_us(500);
		}
		if (status)
			abandon(r);
		r->pids[i] = 0;
	}
}

static void check_ledger(const struct round *r)
{
	const struct ledger *l = r->ledger;
	unsigned taken = 0;

	for (int i = 0; i < r->lives; i++) {
		for (unsigned n = 0; n < atomic_load(&l->lives[i].confirmed); n++) {
			cr_assert(l->lives[i].seen[n], "message %u of %d was sent and never received", n, i);
			taken += l->lives[i].seen[n] == TAKEN;
		}
	}
	fprintf(stderr, "%d lives, %u messages received, %u went with a receiver, %u steps %s\n", r->lives,
		atomic_load(&l->received), taken, r->steps, r->clears ? "cleared" : "left");
}

static int count_fds(void)
{
	DIR *fds = opendir("/proc/self/fd");
	int n = 0;

	while (fds && readdir(fds))
		n++;
	if (fds)
		closedir(fds);
	return n;
}

static int count_memfds(void)
{
	FILE *maps = fopen("/proc/self/maps", "re");
	char line[512];
	int n = 0;

	while (maps && fgets(line, sizeof(line), maps))
		n += strstr(line, "memfd:kill-storm") != NULL;
	if (maps)
		fclose(maps);
	return n;
}

static void run_round(struct round *r, const struct bufpipe_options *o, int64_t until)
{
	unsigned seed = r->seed;
	unsigned before = 0;
	int64_t progress = now_ms();

	cr_assert_eq(bufpipe_create(r->ends, o), 0);
	/*
	 * As where no cache is shared: free space is cleared in advance if the ring is large enough, and
	 * otherwise asked for.
	 */
	atomic_store(&r->ends[1]->sender.waiter->remote, INT32_MAX);
	atomic_store(&r->ends[1]->sender.waiter->clearing, r->clears ? INT32_MAX : INT32_MIN);
	for (int i = 0; i < 2 * r->crew; i++)
		start(r, i);
	while (now_ms() < until && r->lives < LIVES) {
		pause_us(rand_r(&seed) % 1500);
		strike(r, &seed);
		if (atomic_load(&r->ledger->received) != before || r->ledger->failed) {
			before = atomic_load(&r->ledger->received);
			progress = now_ms();
		}
		if (r->ledger->failed || now_ms() - progress > PATIENCE_MS)
			abandon(r);
	}
	atomic_store(&r->ledger->stop, 1);
	await_side(r, 0);
	r->steps = atomic_load(&r->ends[1]->sender.meter->steps);
	bufpipe_close(r->ends[1]);
	await_side(r, r->crew);
	bufpipe_close(r->ends[0]);
	check_ledger(r);
}

static int64_t storm_ms(void)
{
	const char *seconds = getenv("BUFPIPE_STORM_SECONDS");

	return (seconds ? atol(seconds) : 8) * 1000;
}

/* Rounds with pipes of many kinds, until the time is up. */
static void storm(int crew, unsigned flags)
{
	static const int64_t spins[] = { 0, BUFPIPE_NO_SPIN, 20000 };
	static const size_t sizes[] = { 30000, 1000, 4000 };
	int64_t end = now_ms() + storm_ms();
	int fds = count_fds();

	for (unsigned i = 0; now_ms() < end; i++) {
		struct bufpipe_options o = {
			.flags = flags,
			.buffer_size = sizes[i % 3],
			.spin_ns = spins[i / 3 % 3],
			.name = "kill-storm",
		};
		struct round r = { .crew = crew,
				   .seed = (unsigned)now_ms(),
				   .longest = i % 2 ? LONGEST : 900,
				   .clears = i % 6 < 3 };

		fprintf(stderr,
			"%d senders, %d receivers, buffer of %zu, messages up to %zu, seed %u: ", crew, crew,
			o.buffer_size, r.longest, r.seed);
		r.ledger = mmap(NULL, sizeof(*r.ledger), PROT_READ | PROT_WRITE,
				MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
		cr_assert(r.ledger != MAP_FAILED);
		run_round(&r, &o, now_ms() + ROUND_MS);
		cr_assert(!r.clears || o.buffer_size < 30000 || r.longest > 900 || r.steps,
			  "nothing was cleared in advance");
		munmap(r.ledger, sizeof(*r.ledger));
		cr_assert_eq(count_fds(), fds, "descriptors are left");
		cr_assert_eq(count_memfds(), 0, "mappings are left");
	}
}

TestSuite(kill_storm, .timeout = 100000);

Test(kill_storm, many_on_shared_ends)
{
	storm(CREW, BUFPIPE_SHARED);
}

Test(kill_storm, two_on_shared_ends)
{
	storm(2, BUFPIPE_SHARED);
}

Test(kill_storm, one_on_each_exclusive_end)
{
	storm(1, 0);
}
