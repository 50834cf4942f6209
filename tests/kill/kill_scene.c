/* SPDX-License-Identifier: MIT */
#include "kill/kill_scene.h"

#include "bufpipe.h"

#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

/* The ring is one page, which has at most 64 KiB. LONGEST is longer than that. */
enum { BUFFER = 4072, LONGEST = 82000, BATCH = 3, EXTRA = 24 };

/* Which process wrote a message. */
enum { BASE, VICTIM, CO_OWNER, WRITERS };

struct message {
	uint32_t writer;
	uint32_t number;
};

/* In memory that all processes of a trial share. */
struct scene {
	const struct plan *plan;
	int result;             /* of the victim's call, once it has returned */
	uint32_t sent[WRITERS]; /* messages that the worker prepared */
	uint32_t next[WRITERS]; /* the reader: the number that should come next */
	uint32_t missing;       /* the reader: how many messages did not come */
	int reader_error;
	int writer_error;
	atomic_int reader_done; /* the last message has come, or the end of the stream */
};

/* Each process has its own. */
static bufpipe_t *ends[2];

static bool sends(const struct plan *p)
{
	return p->verb <= CLOSE_SENDER;
}

/* How many messages the victim sends or takes at most. */
static uint32_t batch(const struct plan *p)
{
	if (p->verb == SEND_MANY || p->verb == RECV_MANY)
		return BATCH;
	return (p->verb == GIVE_UP && p->peer == STOPPED) || p->verb == SHUTDOWN_SENDER ||
			       p->verb == CLOSE_SENDER || p->verb == SHUTDOWN_RECEIVER ||
			       p->verb == CLOSE_RECEIVER
		       ? 0
		       : 1;
}

/* The marks at the end. There are more than the victim could take, so the co-owner sees at least one. */
static bool is_mark(const struct plan *p, const struct message *m)
{
	if (sends(p))
		return m->writer == CO_OWNER && m->number == EXTRA - 1;
	return m->writer == CO_OWNER;
}

/* Longer than the ring. */
static size_t long_length(void)
{
	return (size_t)sysconf(_SC_PAGESIZE) * 5 / 4;
}

static size_t length_of(const struct plan *p, const struct message *m)
{
	if (p->object_size)
		return p->object_size;
	if (p->verb == SEND_LONG || p->verb == GIVE_UP ? m->writer == VICTIM
						       : p->verb == RECV_LONG && m->writer == VICTIM)
		return long_length();
	return sizeof(*m) + (m->number * 37 + m->writer * 11) % 200;
}

static size_t compose(const struct plan *p, char *to, uint32_t writer, uint32_t number)
{
	struct message m = { .writer = writer, .number = number };
	size_t len = length_of(p, &m);

	memcpy(to, &m, sizeof(m));
	for (size_t i = sizeof(m); i < len; i++)
		to[i] = (char)(i * 7 + number * 31 + writer);
	return len;
}

/*
 * The messages of each writer come whole and in order. Messages that the victim may have taken may be
 * missing.
 */
static void inspect(struct scene *s, const char *buf, ssize_t len)
{
	char wanted[LONGEST];
	struct message m;

	trial_assert(len >= (ssize_t)sizeof(m), "a message has %zd bytes", len);
	memcpy(&m, buf, sizeof(m));
	trial_assert(m.writer < WRITERS && (size_t)len == compose(s->plan, wanted, m.writer, m.number) &&
			     !memcmp(buf, wanted, (size_t)len),
		     "message %u of %u is torn: %zd bytes", m.number, m.writer, len);
	trial_assert(m.number >= s->next[m.writer], "message %u of %u came again", m.number, m.writer);
	s->missing += m.number - s->next[m.writer];
	s->next[m.writer] = m.number + 1;
	if (is_mark(s->plan, &m))
		atomic_store(&s->reader_done, 1);
}

/* Reads until the end of the stream, or, as a co-owner, until a mark. */
static void read_all(struct scene *s)
{
	char buf[LONGEST];
	ssize_t n;

	while ((n = bufpipe_recv(ends[0], buf, sizeof(buf), -1)) >= 0) {
		inspect(s, buf, n);
		if (!sends(s->plan) && atomic_load(&s->reader_done))
			return;
	}
	s->reader_error = (int)n;
	atomic_store(&s->reader_done, 1);
}

static void write_messages(struct scene *s, uint32_t writer, uint32_t first, uint32_t count)
{
	char buf[LONGEST];

	for (uint32_t i = first; i < first + count && !s->writer_error; i++)
		s->writer_error = bufpipe_send(ends[1], buf, compose(s->plan, buf, writer, i), -1);
}

static void peer_role(void *arg)
{
	struct scene *s = arg;
	const struct plan *p = s->plan;

	bufpipe_close(ends[sends(p)]);
	raise(SIGSTOP);
	if (p->delay_ms)
		nanosleep(&(struct timespec){ .tv_nsec = p->delay_ms * 1000000l }, NULL);
	if (sends(p)) {
		read_all(s);
		return;
	}
	if (p->verb == RECV_LONG)
		write_messages(s, VICTIM, 0, 1);
	write_messages(s, BASE, s->sent[BASE], EXTRA);
	write_messages(s, CO_OWNER, 0, batch(p) + 1);
	/* Nobody will receive. The ring may take some messages, but not for ever. */
	if (p->last)
		write_messages(s, CO_OWNER, 0, UINT32_MAX);
}

static void co_owner_role(void *arg)
{
	struct scene *s = arg;

	bufpipe_close(ends[!sends(s->plan)]);
	raise(SIGSTOP);
	if (sends(s->plan))
		write_messages(s, CO_OWNER, 0, EXTRA);
	else
		read_all(s);
}

static char victim_buf[BATCH][LONGEST];
static size_t victim_len[BATCH];

static void victim_prepare(void *arg)
{
	struct scene *s = arg;

	bufpipe_close(ends[!sends(s->plan)]);
	for (uint32_t i = 0; i < BATCH; i++)
		victim_len[i] = compose(s->plan, victim_buf[i], VICTIM, i);
}

static int victim_send(const struct scene *s, bufpipe_t *end)
{
	struct iovec pieces[BATCH];
	void *room;
	int r;

	switch (s->plan->verb) {
	case SENDV:
		pieces[0] = (struct iovec){ victim_buf[0], 9 };
		pieces[1] = (struct iovec){ victim_buf[0] + 9, victim_len[0] - 9 };
		return bufpipe_sendv(end, pieces, 2, -1);
	case SEND_MANY:
		for (int i = 0; i < BATCH; i++)
			pieces[i] = (struct iovec){ victim_buf[i], victim_len[i] };
		return (int)bufpipe_send_many(end, pieces, BATCH, -1);
	case RESERVE:
		r = bufpipe_reserve(end, &room, victim_len[0], -1);
		if (r < 0)
			return r;
		memcpy(room, victim_buf[0], victim_len[0]);
		return bufpipe_commit(end, victim_len[0]);
	case GIVE_UP:
		return bufpipe_send(end, victim_buf[0], victim_len[0], 1);
	default:
		return bufpipe_send(end, victim_buf[0], victim_len[0], -1);
	}
}

static int victim_receive(const struct scene *s, bufpipe_t *end)
{
	struct iovec pieces[BATCH];
	const void *at;
	ssize_t r;

	switch (s->plan->verb) {
	case RECV_MANY:
		for (int i = 0; i < BATCH; i++)
			pieces[i] = (struct iovec){ victim_buf[i], sizeof(victim_buf[i]) };
		return (int)bufpipe_recv_many(end, pieces, BATCH, -1);
	case PEEK:
		/* Another process may have taken the message that was left, so the second one counts. */
		r = bufpipe_peek(end, &at, -1);
		if (r >= 0)
			r = bufpipe_unpeek(end);
		if (r >= 0)
			r = bufpipe_peek(end, &at, -1);
		return r < 0 ? (int)r : bufpipe_release(end);
	default:
		return (int)bufpipe_recv(end, victim_buf[0], sizeof(victim_buf[0]), -1);
	}
}

static void victim_call(void *arg)
{
	struct scene *s = arg;
	bufpipe_t *end = ends[sends(s->plan)];

	switch (s->plan->verb) {
	case SHUTDOWN_SENDER:
	case SHUTDOWN_RECEIVER:
		s->result = bufpipe_shutdown(end);
		break;
	case CLOSE_SENDER:
	case CLOSE_RECEIVER:
		bufpipe_close(end);
		s->result = 0;
		break;
	default:
		s->result = sends(s->plan) ? victim_send(s, end) : victim_receive(s, end);
	}
}

static void prepare_one(struct scene *s, bool send)
{
	char buf[LONGEST];
	ssize_t n;

	if (send) {
		n = bufpipe_send(ends[1], buf, compose(s->plan, buf, BASE, s->sent[BASE]), 0);
		trial_assert(n == 0, "prepare: send: %zd", n);
		s->sent[BASE]++;
	} else {
		n = bufpipe_recv(ends[0], buf, sizeof(buf), 0);
		inspect(s, buf, n);
	}
}

static void fill_ring(struct scene *s)
{
	char buf[LONGEST];

	while (bufpipe_send(ends[1], buf, compose(s->plan, buf, BASE, s->sent[BASE]), 0) == 0)
		s->sent[BASE]++;
}

/* Moves the positions to another place in the ring, and updates what each side knows of the other. */
static void prepare_ring(struct scene *s, struct trial *t)
{
	int laps = 1 + rand_r(&t->seed) % 60;

	while (laps--) {
		prepare_one(s, true);
		prepare_one(s, false);
	}
	if (s->plan->fill >= NEARLY_FULL)
		fill_ring(s);
	for (int i = 0; s->plan->fill == NEARLY_FULL && i < 8; i++)
		prepare_one(s, false);
	for (int i = 0; s->plan->fill == SOME && i < 5; i++)
		prepare_one(s, true);
}

static void start_peer(const struct plan *p, pid_t peer)
{
	if (p->peer == STOPPED)
		return;
	actor_continue(peer);
	/* A peer that waits for room sleeps on the futex for a moment only. */
	if (p->peer == ON_FUTEX)
		actor_await_sleep(peer, sends(p) ? SLEEP_FUTEX : SLEEP_FUTEX | SLEEP_SOCKET);
	else if (p->peer == ON_SOCKET)
		actor_await_sleep(peer, SLEEP_SOCKET);
}

/* The receiving end was shut down before the victim sent. */
static void check_nobody_was_heard(const struct scene *s, const struct trial *t)
{
	const struct plan *p = s->plan;

	trial_assert(s->missing == 0 && s->next[BASE] == s->sent[BASE], "only %u of %u messages came",
		     s->next[BASE], s->sent[BASE]);
	trial_assert(s->reader_error == -EPIPE, "the receiver got %d", s->reader_error);
	trial_assert(p->last || s->writer_error == -EPIPE, "the co-owner got %d", s->writer_error);
	/* The peer may be about to receive what the co-owner takes back. */
	trial_assert(s->next[CO_OWNER] <= 1, "the co-owner was heard %u times", s->next[CO_OWNER]);
	/* A call that did not return may nevertheless have sent something. */
	if (t->finished)
		trial_assert(s->result == -EPIPE && s->next[VICTIM] == 0,
			     "the call returned %d, %u messages came", s->result, s->next[VICTIM]);
}

static void check_sender_died(const struct scene *s, const struct trial *t)
{
	const struct plan *p = s->plan;
	bool shut = p->verb == SHUTDOWN_SENDER;

	trial_assert(s->missing == 0, "%u messages are missing", s->missing);
	trial_assert(s->next[BASE] == s->sent[BASE], "only %u of %u messages came", s->next[BASE],
		     s->sent[BASE]);
	trial_assert(s->next[VICTIM] <= batch(p), "the victim sent %u messages", s->next[VICTIM]);
	trial_assert(s->reader_error == -EPIPE, "the receiver got %d", s->reader_error);
	trial_assert(!s->writer_error || (shut && s->writer_error == -EPIPE), "the co-owner got %d",
		     s->writer_error);
	if (!p->last && !s->writer_error)
		trial_assert(s->next[CO_OWNER] == EXTRA, "%u of %d came", s->next[CO_OWNER], EXTRA);
	if (!t->finished)
		return;
	if (p->verb == GIVE_UP) {
		/* The receiver may have been quick enough. */
		trial_assert(s->result == (s->next[VICTIM] ? 0 : -ETIMEDOUT), "the call returned %d",
			     s->result);
		return;
	}
	trial_assert(s->result == (p->verb == SEND_MANY ? BATCH : 0), "the call returned %d", s->result);
	trial_assert(s->next[VICTIM] == batch(p), "%u messages of a call that had returned", s->next[VICTIM]);
}

static void check_receiver_died(const struct scene *s, const struct trial *t)
{
	const struct plan *p = s->plan;
	bool shut = p->verb == SHUTDOWN_RECEIVER;

	if (p->last) {
		trial_assert(s->writer_error == -EPIPE, "the sender got %d", s->writer_error);
		return;
	}
	trial_assert(!s->writer_error || (shut && s->writer_error == -EPIPE), "the sender got %d",
		     s->writer_error);
	trial_assert(!s->reader_error || (shut && s->reader_error == -EPIPE), "the co-owner got %d",
		     s->reader_error);
	trial_assert(s->missing <= batch(p), "%u messages are missing", s->missing);
	if (t->finished && batch(p) && !p->crowd && p->verb != RECV_LONG)
		trial_assert(s->missing == (p->verb == RECV_MANY ? (uint32_t)s->result : 1),
			     "%u messages are missing", s->missing);
}

/* After the victim's death the others go on and finish. */
static void survive(struct scene *s, pid_t co_owner, pid_t peer)
{
	const struct plan *p = s->plan;

	if (co_owner && !p->crowd)
		actor_continue(co_owner);
	if (p->peer == STOPPED)
		actor_continue(peer);
	if (co_owner)
		actor_await(co_owner, "the co-owner");
	if (sends(p) && co_owner) {
		flag_await(&s->reader_done, "the co-owner's last message");
		bufpipe_close(ends[1]);
		ends[1] = NULL;
	}
	actor_await(peer, "the peer");
}

static void open_scene(struct scene *s, const struct plan *p, struct trial *t)
{
	struct bufpipe_options options = {
		.buffer_size = p->object_size ? 0 : BUFFER,
		.object_size = p->object_size,
		.object_count = p->object_size ? 20 : 0,
		.flags = p->flags,
		.spin_ns = BUFPIPE_NO_SPIN,
	};
	int r = bufpipe_create(ends, &options);

	trial_assert(r == 0, "create: %d", r);
	s->plan = p;
	prepare_ring(s, t);
}

/* How many messages the victim has sent or consumed, in trials where its own steps alone decide that. */
static int reached(const struct scene *s)
{
	const struct plan *p = s->plan;

	if (p->peer == BUSY || p->crowd || (p->last && !sends(p)) || p->verb == SEND_LONG ||
	    p->verb == GIVE_UP || p->verb == RECV_LONG || p->verb == SHUTDOWN_RECEIVER || p->deaf)
		return -1;
	if (p->verb == SHUTDOWN_SENDER)
		return s->writer_error == -EPIPE;
	return (int)(sends(p) ? s->next[VICTIM] : s->missing);
}

int scene_run(const void *plan, struct trial *t)
{
	const struct plan *p = plan;
	static struct scene *s;
	struct belongings before = belongings_count();
	struct belongings after;
	pid_t co_owner = 0;
	pid_t victim;
	pid_t peer;

	if (!s)
		s = mmap(NULL, sizeof(*s), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	memset(s, 0, sizeof(*s));
	open_scene(s, p, t);
	victim = victim_start(victim_prepare, victim_call, s);
	peer = actor_start(peer_role, s);
	if (!p->last)
		co_owner = actor_start(co_owner_role, s);
	/* The victim must not find that a holder left, because its call would then take another path. */
	if (p->fill < NEARLY_FULL) {
		prepare_one(s, true);
		prepare_one(s, false);
	}
	if (p->last) {
		bufpipe_close(ends[sends(p)]);
		ends[sends(p)] = NULL;
	}
	if (p->deaf)
		bufpipe_shutdown(ends[0]);
	start_peer(p, peer);
	if (p->crowd)
		actor_continue(co_owner);
	victim_step_and_kill(victim, t);
	survive(s, co_owner, peer);
	bufpipe_close(ends[0]);
	bufpipe_close(ends[1]);
	if (p->deaf)
		check_nobody_was_heard(s, t);
	else if (sends(p))
		check_sender_died(s, t);
	else
		check_receiver_died(s, t);
	after = belongings_count();
	trial_assert(before.fds == after.fds && before.mappings == after.mappings,
		     "%d descriptors and %d mappings are left", after.fds - before.fds,
		     after.mappings - before.mappings);
	return reached(s);
}
