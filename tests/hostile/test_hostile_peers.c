/* SPDX-License-Identifier: MIT */
/* A peer attacks by what it writes into its own region. hostile/attack.h says what is checked. */
#include "hostile/attack.h"

TestSuite(hostile_peers, .timeout = 120);

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

Test(hostile_peers, waiting_flags_of_any_kind)
{
	attack_from_each(rogue_wave_flags, LATE);
}

static void claim_fences(const struct duel *d, uint64_t random)
{
	struct waiter_state *w = rogue_waiter(d, random);

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
	struct waiter_state *w = rogue_waiter(d, random);

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
	struct waiter_state *w = rogue_waiter(d, random);

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
