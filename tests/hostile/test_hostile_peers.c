/* SPDX-License-Identifier: MIT */
/*
 * Each attack of a peer, from three processes: one of another user, one of the same
 * user, and a child that inherited all that its parent had.  Meanwhile the victim
 * makes every call.  Asserted are its results, the time of each call, its own and its
 * shared memory, its descriptors and mappings, and that another pipe goes on.
 */
#include "hostile/hostile.h"

#include <fcntl.h>
#include <linux/falloc.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>

TestSuite(hostile_peers, .timeout = 120);

/* What a call that is attacked may take beyond its timeout, without the time in which it waits for a CPU. */
#define LATE (NSEC_PER_SEC / 2)
/* More than the victim's buffer, and what the C library keeps. */
#define OWN_MEMORY (4 << 10) /* KiB */
/* Two regions, each in one huge page at most, and each ring mapped twice. */
#define SHARED_MEMORY (16 << 10) /* KiB */

enum peer { OTHER_USER, SAME_USER, CHILD, PEERS };

/* The peer runs step without end, on an end that no honest process uses. */
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

/* Each call, in time and with a result that the manual knows. */
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
	call_all(d.victim, set, late); /* so that what is made once has been made */
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

static void attack_from_each(flip_step *step, int64_t late)
{
	/* A shared end stays in a long message beyond its timeout, so it has objects. */
	static const struct bufpipe_options pipes[] = {
		{ .buffer_size = 2000, .flags = BUFPIPE_DUPLEX, .spin_ns = BUFPIPE_NO_SPIN },
		{ .object_size = 100, .flags = BUFPIPE_DUPLEX | BUFPIPE_SHARED },
	};

	for (enum peer peer = geteuid() ? SAME_USER : OTHER_USER; peer < PEERS; peer++) {
		for (int i = 0; i < 2; i++)
			attack(step, peer, &pipes[i], late);
	}
}

static const uint64_t flags[] = { RECORD_WHOLE, RECORD_FIRST, RECORD_MORE, RECORD_END };

static void lengths(const struct duel *d, uint64_t random)
{
	static const uint64_t odd[] = { 1992, 1999, 2001, 4088, 4089, UINT32_MAX, RECORD_LENGTH, 1ull << 40 };

	rogue_put(d, flags[random % 4] | odd[random / 4 % 8]);
}

Test(hostile_peers, lengths_that_no_ring_holds)
{
	attack_from_each(lengths, LATE);
}

static void fragments(const struct duel *d, uint64_t random)
{
	uint64_t at = victim_head(d);

	for (int i = 0; i < 8; i++, random /= 4) {
		uint64_t len = random / 64 % 24;

		atomic_store(rogue_header(d, at + 8), random % 3 ? len + 1 : 1ull << 40);
		atomic_store(rogue_header(d, at), flags[random % 4] | len);
		at += record_size(len);
	}
}

Test(hostile_peers, fragments_in_impossible_order)
{
	attack_from_each(fragments, LATE);
}

static void one_byte(const struct duel *d, uint64_t random)
{
	rogue_fill(d, RECORD_MORE | 1);
	atomic_store(rogue_header(d, victim_head(d) + 8), 60000);
	rogue_put(d, RECORD_FIRST | (random % 2 ? 8 : 9));
}

Test(hostile_peers, long_messages_of_single_bytes)
{
	attack_from_each(one_byte, LATE);
}

static void empty(const struct duel *d, uint64_t random)
{
	rogue_fill(d, flags[random % 3]);
}

Test(hostile_peers, empty_records_without_end)
{
	attack_from_each(empty, LATE);
}

static void vanish(const struct duel *d, uint64_t random)
{
	rogue_put(d, random % 2 ? 0 : RECORD_WHOLE | 100);
}

Test(hostile_peers, records_that_vanish)
{
	attack_from_each(vanish, LATE);
}

static void enlarge(const struct duel *d, uint64_t random)
{
	uint64_t at = victim_head(d);

	rogue_put(d, RECORD_WHOLE | (random % 2 ? 100 : 1900));
	/* Its payload, while it is copied. */
	for (int i = 1; i < 12; i++)
		atomic_store(rogue_header(d, at + 8 * (uint64_t)i), random);
}

Test(hostile_peers, headers_and_payloads_rewritten_while_they_are_read)
{
	attack_from_each(enlarge, LATE);
}

static void lie_about_head(const struct duel *d, uint64_t random)
{
	static const int64_t steps[] = { 0,         8,    -8,    1,    4, 1ll << 32, -(1ll << 32),
					 INT64_MIN, 4096, -4096, 65536 };
	uint64_t tail = sender_tail(&d->victim->sender);

	atomic_store(&d->rogue->ours.control->head, tail + (uint64_t)steps[random % 11]);
}

Test(hostile_peers, positions_that_no_receiver_has)
{
	attack_from_each(lie_about_head, LATE);
}

static void drip(const struct duel *d, uint64_t random)
{
	_Atomic uint64_t *head = &d->rogue->ours.control->head;

	(void)random;
	if (atomic_load(head) < sender_tail(&d->victim->sender))
		atomic_fetch_add(head, 8);
}

Test(hostile_peers, room_that_drips)
{
	attack_from_each(drip, LATE);
}

static struct waiter_state *waiter_of(const struct duel *d, uint64_t random)
{
	struct control *c = d->rogue->ours.control;

	return random % 2 ? &c->send_waiter : &c->recv_waiter;
}

static void wave_flags(const struct duel *d, uint64_t random)
{
	static const uint32_t all[] = { 0,           WAITER_FUTEX,  WAITER_DOORBELL, WAITER_FD,
					WAITER_MANY, WAITER_ASLEEP, WAITER_LEAVE,    UINT32_MAX };
	struct waiter_state *w = waiter_of(d, random);

	atomic_fetch_add(&w->raises, random / 16 % 3);
	atomic_store(&w->wanted, random % 3 ? 0 : UINT64_MAX);
	atomic_store(&w->flags, all[random / 2 % 8]);
}

Test(hostile_peers, waiting_flags_of_any_kind)
{
	attack_from_each(wave_flags, LATE);
}

static void claim_fences(const struct duel *d, uint64_t random)
{
	struct waiter_state *w = waiter_of(d, random);

	atomic_store(&w->flags,
		     WAITER_FUTEX | (random & 2 ? WAITER_FENCE : 0u) | (random & 4 ? WAITER_FENCED : 0u));
	atomic_store(&w->fence_stays, (uint32_t)random & 8);
}

Test(hostile_peers, false_claims_about_barriers)
{
	attack_from_each(claim_fences, LATE);
}

static void bump(const struct duel *d, uint64_t random)
{
	struct waiter_state *w = waiter_of(d, random);

	atomic_fetch_add(&w->events, 1);
	sys_futex_wake(&w->events, 1);
}

Test(hostile_peers, wake_ups_for_nothing)
{
	attack_from_each(bump, LATE);
}

static void change_identity(const struct duel *d, uint64_t random)
{
	((_Atomic uint64_t *)(void *)&d->rogue->ours.control->identity)[random % 6] = random;
}

Test(hostile_peers, sizes_changed_after_the_attach)
{
	attack_from_each(change_identity, LATE);
}

static void end_and_go_on(const struct duel *d, uint64_t random)
{
	struct waiter_state *w = waiter_of(d, random);

	atomic_store(&w->ended, random % 3 ? random % 3 * ENDED_STOPPED : random);
	atomic_store(&w->given_up, random % 5 ? victim_head(d) | GIVEN_UP : random);
	rogue_put(d, random % 2 ? RECORD_END : RECORD_WHOLE | 100);
}

Test(hostile_peers, ends_of_the_stream_that_are_none)
{
	attack_from_each(end_and_go_on, LATE);
}

static void count_wrongly(const struct duel *d, uint64_t random)
{
	struct control *c = d->rogue->ours.control;

	memset(&c->send_meter, (int)random, sizeof(c->send_meter));
	memset(&c->recv_meter, (int)(random >> 8), sizeof(c->recv_meter));
	atomic_store(&c->released, random);
	atomic_store(&c->tail.records, ~random);
	atomic_store(&c->tail.tail, random * random);
}

Test(hostile_peers, statistics_that_lie)
{
	attack_from_each(count_wrongly, LATE);
}

static void flood(const struct duel *d, uint64_t random)
{
	static const char bytes[70000];
	static const size_t sizes[] = { 0, 1, 1, 1, 200, 65536 };

	send(d->rogue->socket, bytes, sizes[random % 6],
	     MSG_DONTWAIT | MSG_NOSIGNAL | (random & 64 ? MSG_OOB : 0));
}

Test(hostile_peers, floods_of_the_doorbell)
{
	attack_from_each(flood, LATE);
}

static void send_rights(const struct duel *d, uint64_t random)
{
	int fds[4] = { d->rogue->socket, d->rogue->ours.fd, d->rogue->theirs.fd, d->rogue->socket };

	rogue_send(d->rogue->socket, "", random / 4 % 2, fds, (int)(random % 4) + 1);
}

Test(hostile_peers, descriptors_on_the_doorbell)
{
	attack_from_each(send_rights, LATE);
}

static void punch(const struct duel *d, uint64_t random)
{
	fallocate(d->rogue->ours.fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, random % 2 ? 0 : 4096,
		  random % 3 ? 4096 : 1 << 20);
	if (random % 4 == 0)
		atomic_store(&d->rogue->ours.control->recv_waiter.raises, random);
}

Test(hostile_peers, holes_in_its_memory)
{
	attack_from_each(punch,
			 SOON); /* a page fault waits for the one who punches, and that one for a CPU */
}

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif

static void collapse(const struct duel *d, uint64_t random)
{
	enum { HUGE = 2 << 20 };
	const struct region *region = random % 2 ? &d->rogue->ours : &d->rogue->theirs;
	char *space = mmap(NULL, 2 * HUGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	char *at = (char *)(((uintptr_t)space + HUGE - 1) & ~(uintptr_t)(HUGE - 1));

	if (mmap(at, HUGE, PROT_READ, MAP_SHARED | MAP_FIXED, region->fd, 0) != MAP_FAILED)
		madvise(at, HUGE, MADV_COLLAPSE);
	munmap(space, 2 * HUGE);
	if (random % 8 == 0)
		punch(d, random / 8);
}

Test(hostile_peers, huge_pages_in_both_regions)
{
	attack_from_each(collapse, SOON);
}

/* Changes sizes, seals and rights of what it has of its victim's, and opens it anew. */
static void alter(const struct duel *d, uint64_t random)
{
	int fd = random % 2 ? d->rogue->theirs.fd : d->rogue->ours.fd;
	char path[64];
	int again;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	/* Its failure is the end of the attacker, which the victim notices: see flipper_stop. */
	if (ftruncate(fd, (off_t)(random % 4096)) == 0 || fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE) == 0)
		_exit(1);
	if (geteuid() == NOBODY && fd == d->rogue->theirs.fd) {
		again = open(path, O_RDWR | O_CLOEXEC);
		if (again >= 0 || fchmod(fd, 0600) == 0)
			_exit(2);
	}
}

Test(hostile_peers, sizes_seals_and_modes_of_its_memory)
{
	attack_from_each(alter, LATE);
}

static void *sleep_for_ever(void *arg)
{
	const _Atomic uint32_t *word = arg;

	for (;;)
		sys_futex_wait(word, atomic_load(word), TIME_FOREVER);
	return NULL;
}

static void park(const struct duel *d, uint64_t random)
{
	static int parked;
	pthread_attr_t small;
	pthread_t thread;

	pthread_attr_init(&small);
	pthread_attr_setstacksize(&small, 65536);
	for (; parked < 200; parked++)
		pthread_create(&thread, &small, sleep_for_ever,
			       &d->rogue->theirs.control->send_waiter.events);
	wave_flags(d, random);
}

Test(hostile_peers, sleepers_on_the_victims_futex_word)
{
	attack_from_each(park, SOON); /* they all run when they are woken */
}

static void anything(const struct duel *d, uint64_t random)
{
	_Atomic uint64_t *control = (_Atomic uint64_t *)(void *)d->rogue->ours.control;

	if (random % 4 == 0)
		atomic_store(&control[random / 4 % (sizeof(struct control) / 8)], random * random);
	else
		atomic_store(rogue_header(d, victim_head(d) + 8 * (random / 4 % 16)),
			     flags[random / 64 % 4] | random / 256 % 3000);
}

Test(hostile_peers, anything_in_all_that_it_owns)
{
	attack_from_each(anything, LATE);
}
