/* SPDX-License-Identifier: MIT */
/* A peer that lies about its position and about how it sleeps and wakes. */
#include "hostile/hostile.h"

TestSuite(hostile_words, .timeout = 30);

static void set_head(const struct duel *d, uint64_t head)
{
	atomic_store(&d->rogue->ours.control->head, head);
}

static uint64_t fill_victim(const struct duel *d)
{
	char buf[256] = "";

	while (bufpipe_send(d->victim, buf, sizeof(buf), 0) == 0)
		;
	return sender_tail(&d->victim->sender);
}

/* Every way to send. Reservations are given back. */
static int send_somehow(bufpipe_t *p, int how, int64_t timeout_ns)
{
	char buf[256] = "";
	const struct iovec pieces[2] = { { buf, 200 }, { buf, 56 } };
	const struct iovec messages[2] = { { buf, 256 }, { buf, 256 } };
	void *room;
	int r;

	switch (how % 4) {
	case 0:
		return bufpipe_send(p, buf, sizeof(buf), timeout_ns);
	case 1:
		return bufpipe_sendv(p, pieces, 2, timeout_ns);
	case 2:
		return (int)bufpipe_send_many(p, messages, 2, timeout_ns);
	default:
		r = bufpipe_reserve(p, &room, sizeof(buf), timeout_ns);
		if (r < 0)
			return r;
		memset(room, 1, sizeof(buf));
		return how % 8 == 3 ? bufpipe_cancel(p) : bufpipe_commit(p, sizeof(buf));
	}
}

static int send_soon(const struct duel *d, int how, int64_t timeout_ns)
{
	int64_t begin = time_now();
	int r = send_somehow(d->victim, how, timeout_ns);

	cr_assert_lt(elapsed(begin), SOON);
	cr_assert(r >= 0 || r == -EPROTO || r == -EAGAIN || r == -ETIMEDOUT || r == -EPIPE, "%d", r);
	return r;
}

Test(hostile_words, positions_that_no_receiver_can_have)
{
	struct duel d = duel_begin(1, NULL);
	uint64_t data_size = d.victim->ours.identity.data_size;
	uint64_t tail = fill_victim(&d);
	uint64_t seen = 264; /* one record */
	const uint64_t lies[] = {
		tail + 8,
		tail + data_size,
		seen - 8,
		0,
		seen + 4,
		seen + 2,
		tail - 1,
		seen + data_size,
		seen - data_size,
		seen + ((uint64_t)1 << 32),
		seen + ((uint64_t)1 << 63),
		tail + ((uint64_t)1 << 63),
		UINT64_MAX,
		UINT64_MAX - 7,
	};

	set_head(&d, seen);
	cr_assert_eq(send_soon(&d, 0, 0), 0);
	cr_assert_eq(send_soon(&d, 0, 0), -EAGAIN);
	tail = sender_tail(&d.victim->sender);
	for (size_t i = 0; i < sizeof(lies) / sizeof(*lies); i++) {
		set_head(&d, lies[i] == lies[0] ? tail + 8 : lies[i]);
		for (int how = 0; how < 4; how++) {
			cr_assert_eq(send_soon(&d, how, 0), -EPROTO, "lie %zu", i);
			cr_assert_eq(send_soon(&d, how, 50 * MSEC), -EPROTO, "lie %zu", i);
		}
		cr_assert_eq(sender_tail(&d.victim->sender), tail, "lie %zu changed the tail", i);
	}
	set_head(&d, tail);
	cr_assert_eq(send_soon(&d, 0, 0), 0);
	duel_end(&d);
}

/* Positions near the last one that was seen, some of them right and some wrong. */
static void flip_head(const struct duel *d, uint64_t random)
{
	uint64_t tail =
		sender_tail(&d->victim->sender); /* never computed from the shared words of an honest end */
	static const int64_t steps[] = { 0, 0, 8, -8, 264, 1, 1ll << 32, INT64_MIN, 65536, 131072, -65536 };

	set_head(d, tail - (random >> 8) % 2 * 1024 + (uint64_t)steps[random % 11]);
}

Test(hostile_words, position_flipped_during_the_call)
{
	const struct bufpipe_options options = { .buffer_size = 1024 };
	struct duel d = duel_begin(1, &options);
	pid_t pid = flipper_start(&d, flip_head);
	const struct tail *own = d.victim->sender.own;
	int64_t begin = time_now();

	for (int i = 0; elapsed(begin) < attack_time(); i++) {
		send_soon(&d, i / 3, i % 3 ? 0 : MSEC);
		cr_assert_leq(atomic_load(&own->tail) - atomic_load(&own->head_seen), d.victim->sender.limit,
			      "more in the ring than it holds");
	}
	flipper_stop(pid);
	duel_end(&d);
}

/* The waiter states of both directions of the rogue. */
static void set_bells(const struct duel *d, uint32_t flags, uint64_t raises, uint64_t wanted, uint32_t cpu)
{
	struct waiter_state *states[2] = { &d->rogue->ours.control->send_waiter,
					   &d->rogue->ours.control->recv_waiter };

	for (int i = 0; i < 2; i++) {
		atomic_store(&states[i]->wanted, wanted);
		atomic_store(&states[i]->raises, raises);
		atomic_store(&states[i]->cpu, cpu);
		atomic_store(&states[i]->single, cpu);
		atomic_store(&states[i]->remote, (int32_t)cpu);
		atomic_store(&states[i]->clearing, -(int32_t)cpu);
		atomic_store(&states[i]->flags, flags);
	}
}

/* Messages in both directions of a duplex pipe, so that the victim rings for data and for room. */
static void exchange(const struct duel *d, int i)
{
	char buf[64];

	cr_assert_eq(bufpipe_send(d->victim, &i, sizeof(i), 0), 0);
	cr_assert_eq(bufpipe_recv(d->rogue, buf, sizeof(buf), 0), (ssize_t)sizeof(i));
	cr_assert_eq(memcmp(buf, &i, sizeof(i)), 0);
	cr_assert_eq(bufpipe_send(d->rogue, &i, sizeof(i), 0), 0);
	cr_assert_eq(bufpipe_recv(d->victim, buf, sizeof(buf), 0), (ssize_t)sizeof(i));
	cr_assert_eq(memcmp(buf, &i, sizeof(i)), 0);
}

Test(hostile_words, flags_always_up_cost_a_wake_up_and_no_message)
{
	static const uint32_t flags[] = { WAITER_FUTEX, WAITER_DOORBELL,
					  WAITER_MODE,  WAITER_MODE | WAITER_FENCE,
					  WAITER_FENCE, WAITER_LEAVE,
					  UINT32_MAX,   0x80000000 };
	const struct bufpipe_options options = { .flags = BUFPIPE_DUPLEX };
	struct duel d = duel_begin(1, &options);
	int64_t begin = time_now();

	for (int f = 0; f < 8; f++) {
		for (int i = 0; i < 1000; i++) {
			set_bells(&d, flags[f], (uint64_t)i, i % 2 ? 0 : UINT64_MAX, (uint32_t)i);
			exchange(&d, i);
		}
	}
	cr_assert_lt(elapsed(begin), 10 * NSEC_PER_SEC);
	duel_end(&d);
}

/* A peer that claims to be remote, but is not, makes the victim pause for longer. No timeout is missed. */
Test(hostile_words, sender_that_claims_to_be_remote_delays_nobody_for_long)
{
	const struct bufpipe_options options = { .buffer_size = 1 << 20, .spin_ns = BUFPIPE_SPIN_ALWAYS };
	struct duel d = duel_begin(0, &options);
	static char buf[4096];

	atomic_store(&d.rogue->ours.control->send_waiter.remote, INT32_MAX);
	atomic_store(&d.rogue->ours.control->send_waiter.clearing, INT32_MIN);
	for (int i = 0; i < 100; i++) {
		int64_t before = time_now();

		for (int j = 0; j < 16; j++) {
			cr_assert_eq(bufpipe_send(d.rogue, buf, sizeof(buf), 0), 0);
			cr_assert_eq(bufpipe_recv(d.victim, buf, sizeof(buf), 0), (ssize_t)sizeof(buf));
		}
		atomic_store(&d.rogue->ours.control->send_waiter.cpu, 0);
		cr_assert_eq(bufpipe_recv(d.victim, buf, sizeof(buf), MSEC / 10), -ETIMEDOUT);
		cr_assert_lt(elapsed(before), SOON);
	}
	cr_assert_gt(atomic_load(&d.victim->in.wait.pauses), 128);
	duel_end(&d);
}

static void flip_bells(const struct duel *d, uint64_t random)
{
	struct waiter_state *waiter =
		random % 2 ? &d->rogue->ours.control->send_waiter : &d->rogue->ours.control->recv_waiter;

	switch (random / 2 % 7) {
	case 0:
		atomic_store(&waiter->flags, (uint32_t)(random >> 8));
		break;
	case 1:
		atomic_store(&waiter->flags, WAITER_MODE | WAITER_LEAVE * (uint32_t)(random >> 8 & 1));
		break;
	case 2:
		atomic_store(&waiter->raises, random >> 8);
		break;
	case 3:
		atomic_store(&waiter->wanted, random << 1);
		break;
	case 4:
		atomic_store(&waiter->events, (uint32_t)(random >> 8));
		break;
	case 5:
		atomic_store(&waiter->single, random >> 8 & 1);
		atomic_store(&waiter->remote, (int32_t)random);
		atomic_store(&waiter->clearing, (int32_t)(random >> 32));
		break;
	default:
		atomic_store(&waiter->cpu, random >> 8 & 3);
		break;
	}
}

/*
 * The peer announces closes, sets and clears registrations, and writes garbage. Only the socket tells
 * whether it lives, and only the ring which messages there are.
 */
Test(hostile_words, waiter_states_flipped_during_the_call)
{
	const struct bufpipe_options options = { .flags = BUFPIPE_DUPLEX };
	struct duel d = duel_begin(1, &options);
	pid_t pid = flipper_start(&d, flip_bells);
	int64_t begin = time_now();
	char byte;

	for (int i = 0; elapsed(begin) < attack_time(); i++) {
		int64_t before = time_now();

		exchange(&d, i);
		cr_assert_eq(bufpipe_recv(d.victim, &byte, 1, i % 64 ? 0 : MSEC),
			     i % 64 ? -EAGAIN : -ETIMEDOUT);
		cr_assert_lt(elapsed(before), SOON);
	}
	flipper_stop(pid);
	duel_end(&d);
}

/* The word on which the victim sleeps changes all the time, and the victim does not spin before it sleeps. */
static void bump_events(const struct duel *d, uint64_t random)
{
	struct control *c = d->rogue->ours.control;

	for (int i = 0; i < 8; i++) {
		atomic_fetch_add(&c->send_waiter.events, 1);
		atomic_fetch_add(&c->recv_waiter.events, 1);
	}
	atomic_store(&c->send_waiter.cpu, atomic_load(&d->rogue->theirs.control->recv_waiter.cpu));
	atomic_store(&c->recv_waiter.cpu, atomic_load(&d->rogue->theirs.control->send_waiter.cpu));
	/* A thread that fell asleep while this process did not run is woken too. */
	(void)random;
	sys_futex_wake(&c->send_waiter.events, INT32_MAX);
	sys_futex_wake(&c->recv_waiter.events, INT32_MAX);
}

static void time_out_under(flip_step *step, const struct bufpipe_options *options)
{
	struct duel d = duel_begin(1, options);
	pid_t pid;
	char byte;

	fill_victim(&d);
	pid = flipper_start(&d, step);
	for (int i = 0; i < 4; i++) {
		int64_t begin = time_now();

		cr_assert_eq(bufpipe_recv(d.victim, &byte, 1, 150 * MSEC), -ETIMEDOUT);
		cr_assert_eq(bufpipe_next(d.victim, 50 * MSEC), -ETIMEDOUT);
		cr_assert_lt(elapsed(begin), SOON, "receiving went on beyond its timeout");
		cr_assert_geq(elapsed(begin), 200 * MSEC, "receiving ended before its timeout");
		begin = time_now();
		cr_assert_eq(send_soon(&d, i, 50 * MSEC), -ETIMEDOUT);
		cr_assert_geq(elapsed(begin), 50 * MSEC, "sending ended before its timeout");
	}
	flipper_stop(pid);
	duel_end(&d);
}

Test(hostile_words, events_bumped_without_end)
{
	const struct bufpipe_options adaptive = { .flags = BUFPIPE_DUPLEX };
	const struct bufpipe_options sleepy = { .flags = BUFPIPE_DUPLEX, .spin_ns = BUFPIPE_NO_SPIN };
	const struct bufpipe_options spinning = { .flags = BUFPIPE_DUPLEX, .spin_ns = BUFPIPE_SPIN_ALWAYS };
	const struct bufpipe_options shared = { .flags = BUFPIPE_DUPLEX | BUFPIPE_SHARED,
						.spin_ns = BUFPIPE_NO_SPIN };

	time_out_under(bump_events, &adaptive);
	time_out_under(bump_events, &sleepy);
	time_out_under(bump_events, &spinning);
	time_out_under(bump_events, &shared);
}

/*
 * Bytes, empty packets, packets with descriptors, and oversized ones, in turn, as many as the socket takes.
 */
static void flood_doorbell(const struct duel *d, uint64_t random)
{
	static char big[100000];
	int fds[3] = { 0, 1, 2 };
	size_t lengths[] = { 1, 0, 64, 65, sizeof(big) };

	if (rogue_send(d->rogue->socket, big, lengths[random % 5], fds, random / 8 % 4 ? 0 : 3) < 0) {
		struct timespec moment = { .tv_nsec = 100000 };

		nanosleep(&moment, NULL);
	}
	if (random / 32 % 2)
		send(d->rogue->socket, "", 1, MSG_OOB | MSG_DONTWAIT | MSG_NOSIGNAL);
}

Test(hostile_words, doorbell_flooded_with_descriptors)
{
	const struct bufpipe_options adaptive = { .flags = BUFPIPE_DUPLEX };
	const struct bufpipe_options sleepy = { .flags = BUFPIPE_DUPLEX, .spin_ns = BUFPIPE_NO_SPIN };

	time_out_under(flood_doorbell, &adaptive);
	time_out_under(flood_doorbell, &sleepy);
}

Test(hostile_words, doorbell_bytes_are_no_messages)
{
	struct duel d = duel_begin(0, NULL);
	int fds[4] = { 0, 1, 2, 0 };
	char byte;

	while (rogue_send(d.rogue->socket, "x", 1, fds, 4) > 0)
		;
	cr_assert_eq(bufpipe_recv(d.victim, &byte, 1, 0), -EAGAIN);
	cr_assert_eq(bufpipe_recv(d.victim, &byte, 1, 150 * MSEC), -ETIMEDOUT);
	cr_assert_eq(bufpipe_send(d.rogue, "y", 1, 0), 0);
	cr_assert_eq(bufpipe_recv(d.victim, &byte, 1, 0), 1);
	cr_assert_eq(byte, 'y');
	/* A descriptor that came with the doorbell was dropped by the kernel or by recv. */
	duel_end(&d);
}

/*
 * The peer publishes a message and wakes nobody. The sleeper wakes at its own deadline and finds the
 * message.
 */
static void publish_silently(const struct duel *d, uint64_t random)
{
	const struct timespec later = { .tv_nsec = 20 * MSEC };

	(void)random;
	nanosleep(&later, NULL);
	if (!atomic_load(rogue_header(d, victim_head(d))))
		rogue_put(d, RECORD_WHOLE);
}

Test(hostile_words, never_rung)
{
	const struct bufpipe_options sleepy = { .spin_ns = BUFPIPE_NO_SPIN };
	struct duel d = duel_begin(0, &sleepy);
	pid_t pid = flipper_start(&d, publish_silently);
	int64_t begin = time_now();

	cr_assert_eq(bufpipe_recv(d.victim, NULL, 0, 300 * MSEC), 0);
	cr_assert_lt(elapsed(begin), SOON);
	flipper_stop(pid);
	duel_end(&d);
}

/*
 * The rogue is a process of its own. It exits while the victim tries, spins, is about to sleep, or is in a
 * short or a long sleep.
 */
static void exit_after(int64_t delay, int64_t spin_ns, int receiving)
{
	const struct bufpipe_options options = { .flags = BUFPIPE_DUPLEX, .spin_ns = spin_ns };
	struct duel d = duel_begin(1, &options);
	int64_t begin;
	pid_t pid;
	char byte;
	int r;

	fill_victim(&d);
	pid = fork();
	if (!pid) {
		struct timespec moment = time_spec(delay);

		close(d.victim->socket);
		set_bells(&d, delay % 2 ? UINT32_MAX : 0, 1, 0, 0);
		nanosleep(&moment, NULL);
		_exit(0);
	}
	close(d.rogue->socket); /* and keeps the memory, which duel_end lets go */
	d.rogue->socket = -1;
	begin = time_now();
	r = receiving ? (int)bufpipe_recv(d.victim, &byte, 1, -1) : send_somehow(d.victim, 0, -1);
	cr_assert_eq(r, -EPIPE, "%d", r);
	cr_assert_lt(elapsed(begin), SOON + delay);
	cr_assert_eq(waitpid(pid, NULL, 0), pid);
	duel_end(&d);
}

Test(hostile_words, exits_at_each_moment_of_a_wait)
{
	static const int64_t delays[] = { 0,       1,        10001,     100000,   1000001,
					  5000000, 50000001, 150000000, 250000001 };

	for (size_t i = 0; i < sizeof(delays) / sizeof(*delays); i++) {
		for (int receiving = 0; receiving < 2; receiving++) {
			exit_after(delays[i], 0, receiving);
			exit_after(delays[i], BUFPIPE_NO_SPIN, receiving);
			exit_after(delays[i], BUFPIPE_SPIN_ALWAYS, receiving);
		}
	}
}
