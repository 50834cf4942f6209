/* SPDX-License-Identifier: MIT */
/*
 * Very many small messages go through every kind of pipe. Each arrives once, in its sender's order, and
 * nobody sleeps for seconds while there is something to do. BUFPIPE_SOAK=N makes it N messages in all.
 */
#include "support.h"

#include <assert.h>
#include <stdatomic.h>
#include <sys/mman.h>

TestSuite(soak, .init = support_begin, .timeout = 100000);

enum { CREW = 4, BATCH = 16, LEN = 24, RING = 4096 };
#define USUAL 200000ull /* messages of one mode */
/* A lost wake-up is made good by a look after some seconds, which is too late here. */
#define STALL (4 * SEC)

enum style { COPY, BATCHES, IN_PLACE, THROUGH_SET };

struct mode {
	const char *name;
	unsigned flags;
	int64_t spin_ns;
	int senders;
	int receivers;
	enum style style;
	bool is_static;
	unsigned part; /* share of all messages; fewer where both sides sleep for each */
};

static const struct mode modes[] = {
	{ "copied", 0, 0, 1, 1, COPY, false, 50 },
	{ "static", 0, 0, 1, 1, COPY, true, 50 },
	{ "in batches", 0, 0, 1, 1, BATCHES, false, 50 },
	{ "in place", 0, 0, 1, 1, IN_PLACE, false, 50 },
	{ "asleep", 0, BUFPIPE_NO_SPIN, 1, 1, COPY, false, 10 },
	{ "through a set", 0, 0, 1, 1, THROUGH_SET, false, 20 },
	{ "shared", BUFPIPE_SHARED, 0, 1, 1, COPY, false, 50 },
	{ "shared, many to one", BUFPIPE_SHARED, 0, CREW, 1, COPY, false, 50 },
	{ "shared, one to many", BUFPIPE_SHARED, 0, 1, CREW, COPY, false, 50 },
	{ "shared, many to many", BUFPIPE_SHARED, 0, CREW, CREW, COPY, true, 50 },
	{ "shared, in place", BUFPIPE_SHARED, 0, CREW, CREW, IN_PLACE, false, 10 },
	{ "shared, in batches", BUFPIPE_SHARED, 0, CREW, CREW, BATCHES, false, 50 },
	{ "shared, asleep", BUFPIPE_SHARED, BUFPIPE_NO_SPIN, CREW, CREW, COPY, false, 10 },
};
enum { MODES = sizeof(modes) / sizeof(modes[0]) };

struct message {
	uint64_t sender;
	uint64_t number;
	uint64_t check;
};
static_assert(sizeof(struct message) == LEN, "a message");

struct soak {
	const struct mode *mode;
	bufpipe_t *ends[2];
	uint64_t each; /* messages of one sender */
	_Atomic uint64_t senders;
	_Atomic uint64_t count;
	_Atomic uint64_t sum;
};

static struct message message_of(uint64_t sender, uint64_t number)
{
	return (struct message){ sender, number, sender ^ number * 0x9e3779b97f4a7c15 };
}

/* Now and then the sender is silent for as long as a message, a spin or a sleep takes. */
static void rest(uint64_t *random)
{
	*random ^= *random << 13;
	*random ^= *random >> 7;
	*random ^= *random << 17;
	if (*random % 4096 == 0)
		sleep_ns((int64_t)(*random >> 40) % (200 * USEC));
}

static void send_batch(bufpipe_t *pipe, uint64_t sender, uint64_t first, uint64_t n)
{
	struct message messages[BATCH];
	struct iovec pieces[BATCH];

	for (uint64_t i = 0; i < n; i++) {
		messages[i] = message_of(sender, first + i);
		pieces[i] = (struct iovec){ &messages[i], LEN };
	}
	for (uint64_t sent = 0; sent < n;) {
		ssize_t r = bufpipe_send_many(pipe, pieces + sent, (unsigned)(n - sent), STALL);

		check(r > 0);
		sent += (uint64_t)r;
	}
}

static void send_one(const struct soak *s, uint64_t sender, uint64_t number)
{
	struct message message = message_of(sender, number);
	void *room;

	if (s->mode->style != IN_PLACE) {
		check_eq(bufpipe_send(s->ends[OUT], &message, LEN, STALL), 0);
		return;
	}
	check_eq(bufpipe_reserve(s->ends[OUT], &room, LEN, STALL), 0);
	memcpy(room, &message, LEN);
	check_eq(bufpipe_commit(s->ends[OUT], LEN), 0);
}

static void send_all(void *arg)
{
	struct soak *s = arg;
	uint64_t sender = atomic_fetch_add(&s->senders, 1);
	uint64_t random = sender + 88172645463325252;
	uint64_t step = s->mode->style == BATCHES ? BATCH : 1;

	bufpipe_close(s->ends[IN]);
	for (uint64_t i = 0; i < s->each; i += step) {
		if (step > 1)
			send_batch(s->ends[OUT], sender, i, s->each - i < step ? s->each - i : step);
		else
			send_one(s, sender, i);
		rest(&random);
	}
	bufpipe_close(s->ends[OUT]);
}

/* What one receiver knows of each sender. */
struct account {
	uint64_t next[CREW]; /* by sender: no smaller number may follow */
	uint64_t count;
	uint64_t sum;
};

static void enter(struct account *account, const struct message *message)
{
	struct message wanted = message_of(message->sender, message->number);

	check(memcmp(message, &wanted, LEN) == 0 && message->sender < CREW);
	check(message->number >= account->next[message->sender]);
	account->next[message->sender] = message->number + 1;
	account->count++;
	account->sum += message->check;
}

static ssize_t recv_one(bufpipe_t *pipe, struct account *account)
{
	struct message message;
	ssize_t n = bufpipe_recv(pipe, &message, LEN, STALL);

	if (n == LEN)
		enter(account, &message);
	return n;
}

static ssize_t recv_batch(bufpipe_t *pipe, struct account *account)
{
	struct message messages[BATCH];
	struct iovec pieces[BATCH];
	ssize_t n;

	for (int i = 0; i < BATCH; i++)
		pieces[i] = (struct iovec){ &messages[i], LEN };
	n = bufpipe_recv_many(pipe, pieces, BATCH, STALL);
	for (ssize_t i = 0; i < n; i++) {
		check_eq(pieces[i].iov_len, LEN);
		enter(account, &messages[i]);
	}
	return n < 0 ? n : LEN;
}

static ssize_t recv_in_place(bufpipe_t *pipe, struct account *account)
{
	const void *at;
	ssize_t n = bufpipe_peek(pipe, &at, STALL);

	if (n != LEN)
		return n;
	enter(account, at);
	check_eq(bufpipe_release(pipe), 0);
	return n;
}

static ssize_t recv_by_set(bufpipe_set_t *set, bufpipe_t *pipe, struct account *account)
{
	struct bufpipe_event event;
	struct message message;
	ssize_t n;

	check_eq(bufpipe_set_wait(set, &event, 1, STALL), 1);
	while ((n = bufpipe_recv(pipe, &message, LEN, 0)) == LEN)
		enter(account, &message);
	return n == -EAGAIN ? LEN : n;
}

static void recv_all(void *arg)
{
	struct soak *s = arg;
	struct account account = { .count = 0 };
	bufpipe_t *pipe = s->ends[IN];
	bufpipe_set_t *set = NULL;
	ssize_t n;

	bufpipe_close(s->ends[OUT]);
	if (s->mode->style == THROUGH_SET) {
		check_eq(bufpipe_set_create(&set, 0), 0);
		check_eq(bufpipe_set_add(set, pipe, BUFPIPE_IN, NULL), 0);
	}
	do {
		if (s->mode->style == BATCHES)
			n = recv_batch(pipe, &account);
		else if (s->mode->style == IN_PLACE)
			n = recv_in_place(pipe, &account);
		else if (set)
			n = recv_by_set(set, pipe, &account);
		else
			n = recv_one(pipe, &account);
	} while (n == LEN);
	check_eq(n, -EPIPE);
	atomic_fetch_add(&s->count, account.count);
	atomic_fetch_add(&s->sum, account.sum);
	bufpipe_set_destroy(set);
	bufpipe_close(pipe);
}

static uint64_t sum_of_all(const struct soak *s)
{
	uint64_t sum = 0;

	for (uint64_t sender = 0; sender < (uint64_t)s->mode->senders; sender++) {
		for (uint64_t i = 0; i < s->each; i++)
			sum += message_of(sender, i).check;
	}
	return sum;
}

static void soak(const struct mode *mode, uint64_t messages)
{
	struct bufpipe_options options = { .flags = mode->flags, .spin_ns = mode->spin_ns };
	struct soak *s = mmap(NULL, sizeof(*s), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	struct child children[2 * CREW];
	int n = 0;

	check(s != MAP_FAILED);
	s->mode = mode;
	s->each = messages / (unsigned)mode->senders;
	options.object_size = mode->is_static ? LEN : 0;
	options.object_count = mode->is_static ? RING / LEN : 0;
	options.buffer_size = mode->is_static ? 0 : RING;
	pipe_open(s->ends, &options);
	for (int i = 0; i < mode->senders; i++)
		children[n++] = child_start(send_all, s);
	for (int i = 0; i < mode->receivers; i++)
		children[n++] = child_start(recv_all, s);
	pipe_close(s->ends);
	while (n--)
		child_join(&children[n]);
	check_eq(s->count, s->each * (unsigned)mode->senders);
	check(s->sum == sum_of_all(s));
	munmap(s, sizeof(*s));
}

Test(soak, nothing_is_lost_doubled_or_late)
{
	const char *wish = getenv("BUFPIPE_SOAK");
	uint64_t total = wish ? strtoull(wish, NULL, 10) : 0;
	unsigned parts = 0;

	for (int i = 0; i < MODES; i++)
		parts += modes[i].part;
	for (int i = 0; i < MODES; i++) {
		const struct mode *mode = &modes[i];
		uint64_t messages = total ? total / parts * mode->part : USUAL / 50 * mode->part;
		int64_t begin = clock_ns();

		soak(mode, messages);
		if (total)
			printf("%s: %llu messages in %lld s\n", mode->name, (unsigned long long)messages,
			       (long long)((clock_ns() - begin) / SEC));
	}
}
