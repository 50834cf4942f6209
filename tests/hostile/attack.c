/* SPDX-License-Identifier: MIT */
#include "hostile/attack.h"

#include <sys/prctl.h>

/* A little more than the victim's buffer and what the C library keeps. */
#define OWN_MEMORY (4 << 10) /* KiB */
/* Two regions, each in one huge page at most, and each ring mapped twice. */
#define SHARED_MEMORY (16 << 10) /* KiB */

enum peer { OTHER_USER, SAME_USER, CHILD, PEERS };

/* A process that repeats step for ever, on an end that no honest process uses. */
static pid_t peer_start(const struct duel *d, enum peer peer, flip_step *step)
{
	uint64_t state = (uint64_t)peer + 1;
	pid_t pid = fork();

	cr_assert_geq(pid, 0);
	if (pid)
		return pid;
	if (peer != CHILD)
		close(d->victim->socket);
	if (peer == OTHER_USER && (setgid(NOBODY) < 0 || setuid(NOBODY) < 0))
		_exit(1);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	for (;;)
		step(d, random_next(&state));
}

static bool is_documented(ssize_t r)
{
	return r >= 0 || r == -EAGAIN || r == -ETIMEDOUT || r == -EPIPE || r == -EPROTO || r == -EMSGSIZE ||
	       r == -EBUSY || r == -EINVAL || r == -ECANCELED;
}

enum { CALLS = 15 };

static ssize_t call_one(bufpipe_t *victim, bufpipe_set_t *set, int call, int64_t timeout)
{
	static char buf[65536];
	const bool fixed = victim->ours.identity.object_size;
	const size_t len = fixed ? 100 : 500;
	struct bufpipe_pollfd p = { .pipe = victim, .events = BUFPIPE_IN | BUFPIPE_OUT };
	struct iovec two[2] = { { buf, len }, { buf + len, len } };
	struct bufpipe_event events[2];
	struct bufpipe_stats stats;
	struct bufpipe_info info;
	size_t after;
	const void *at;
	void *room;
	ssize_t r;

	switch (call) {
	case 0:
		return bufpipe_recv(victim, buf, sizeof(buf), timeout);
	case 1:
		return bufpipe_send(victim, buf, len, timeout);
	case 2:
		return bufpipe_recv_many(victim, two, 2, timeout);
	case 3:
		return bufpipe_send_many(victim, two, 2, timeout);
	case 4:
		r = bufpipe_peek(victim, &at, timeout);
		if (r >= 0)
			bufpipe_peek_copy(victim, buf, 0, (size_t)r < sizeof(buf) ? (size_t)r : sizeof(buf));
		bufpipe_release(victim);
		return r;
	case 5:
		r = bufpipe_reserve(victim, &room, len, timeout);
		if (r == 0)
			memset(room, 1, len);
		return r < 0 ? r : bufpipe_commit(victim, len);
	case 6:
		return bufpipe_next(victim, timeout);
	case 7:
		return bufpipe_wait(&p, 1, timeout);
	case 8:
		return bufpipe_set_wait(set, events, 2, timeout);
	case 9:
		return bufpipe_recv_part(victim, buf, len, &after, timeout);
	case 10: /* longer than the ring */
		return bufpipe_send(victim, buf, fixed ? len : sizeof(buf), timeout);
	case 11:
		return bufpipe_drain(victim, timeout);
	case 12:
		return bufpipe_get_stats(victim, &stats);
	case 13:
		return bufpipe_get_info(victim, &info);
	default:
		return bufpipe_sendv(victim, two, 1, timeout);
	}
}

/* Makes every call. Each returns in time, with a result that the manual lists. */
static void call_all(bufpipe_t *victim, bufpipe_set_t *set, int64_t late)
{
	for (int i = 0; i < 2 * CALLS; i++) {
		int64_t queued = time_queued();
		int64_t begin = time_now();
		int64_t timeout = i % 2 * MSEC;
		ssize_t r = call_one(victim, set, i / 2, timeout);

		cr_assert(is_documented(r), "call %d: %zd", i / 2, r);
		begin = elapsed(begin) - timeout - (time_queued() - queued);
		cr_assert_lt(begin, queued < 0 ? SOON : late, "call %d was late: %lld ns", i / 2,
			     (long long)begin);
	}
}

/* An honest pipe, whose messages arrive at once. */
static void pass_by(bufpipe_t *ends[2])
{
	char buf[8];

	cr_assert_eq(bufpipe_send(ends[OUT], "passing", 8, 0), 0);
	cr_assert_eq(bufpipe_recv(ends[IN], buf, sizeof(buf), 0), 8);
	cr_assert_str_eq(buf, "passing");
}

static void attack(flip_step *step, enum peer peer, const struct bufpipe_options *options, int64_t late)
{
	struct duel d = duel_begin(0, options);
	unsigned set_flags = options->object_size ? 0 : BUFPIPE_NO_URING;
	bufpipe_t *honest[2];
	struct usage before;
	bufpipe_set_t *set;
	int64_t began;
	pid_t pid;

	pipe_open(honest, NULL);
	cr_assert_eq(bufpipe_set_create(&set, set_flags), 0);
	cr_assert_eq(bufpipe_set_add(set, d.victim, BUFPIPE_IN | BUFPIPE_OUT, NULL), 0);
	if (set_flags)
		cr_assert_geq(bufpipe_fd(d.victim), 0);
	call_all(d.victim, set, late); /* what a first call allocates is not a leak */
	pass_by(honest);
	before = usage_now();
	pid = peer_start(&d, peer, step);
	began = time_now();
	do {
		call_all(d.victim, set, late);
		pass_by(honest);
	} while (elapsed(began) < attack_time() / 8);
	usage_assert(before, OWN_MEMORY, SHARED_MEMORY, "during the attack");
	flipper_stop(pid);
	pass_by(honest);
	bufpipe_set_destroy(set);
	pipe_close(honest);
	duel_end(&d);
}

void attack_from_each(flip_step *step, int64_t late)
{
	/*
	 * A receive on a shared end may wait for the rest of a long message beyond its timeout. So the
	 * shared pipe is static.
	 */
	static const struct bufpipe_options pipes[] = {
		{ .buffer_size = 2000, .flags = BUFPIPE_DUPLEX, .spin_ns = BUFPIPE_NO_SPIN },
		{ .object_size = 100, .flags = BUFPIPE_DUPLEX | BUFPIPE_SHARED },
	};

	for (enum peer peer = geteuid() ? SAME_USER : OTHER_USER; peer < PEERS; peer++) {
		for (int i = 0; i < 2; i++)
			attack(step, peer, &pipes[i], late);
	}
}

struct waiter_state *rogue_waiter(const struct duel *d, uint64_t random)
{
	struct control *c = d->rogue->ours.control;

	return random % 2 ? &c->send_waiter : &c->recv_waiter;
}

void rogue_wave_flags(const struct duel *d, uint64_t random)
{
	static const uint32_t all[] = { 0,           WAITER_FUTEX,  WAITER_DOORBELL, WAITER_FD,
					WAITER_MANY, WAITER_ASLEEP, WAITER_LEAVE,    UINT32_MAX };
	struct waiter_state *w = rogue_waiter(d, random);
	struct control *theirs = d->victim->ours.control;
	struct notify *seen =
		random % 2 ? &d->rogue->ours.control->recv_notify : &d->rogue->ours.control->tail.notify;
	uint64_t raises = atomic_fetch_add(&w->raises, random / 16 % 3) + random / 16 % 3;
	uint64_t raised = atomic_load(random % 2 ? &theirs->send_waiter.raises : &theirs->recv_waiter.raises);

	/* Positions for this raise that never come or came long ago, and positions for other raises. */
	atomic_store(&w->wanted, random / 64 % 2 ? wanted_for(random >> 8, raises)
				 : random % 3    ? 0
						 : UINT64_MAX);
	/* Claims to have rung for the raise of the victim. */
	atomic_store(&seen->rung, (raised + random / 128 % 2) << 8 | WAITER_ASLEEP);
	atomic_store(&w->flags, all[random / 2 % 8]);
}
