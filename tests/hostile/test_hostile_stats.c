/* SPDX-License-Identifier: MIT */
/* A peer that writes wrong numbers on purpose. */
#include "hostile/hostile.h"

TestSuite(hostile_stats, .timeout = 30);

static const uint64_t lies[] = {
	0, 1, 7, 8, 1000, 1ull << 20, 1ull << 32, INT64_MAX, 1ull << 63, UINT64_MAX - 7, UINT64_MAX,
};

enum { LIES = sizeof(lies) / sizeof(lies[0]) };

static void lie(struct control *c, uint64_t word)
{
	atomic_store(&c->head, word);
	atomic_store(&c->released, word);
	atomic_store(&c->taken, word);
	atomic_store(&c->tail.tail, word);
	atomic_store(&c->tail.records, word);
	memset(&c->send_meter, (int)(word & 0xff), sizeof(c->send_meter));
	memset(&c->recv_meter, (int)(word & 0xff), sizeof(c->recv_meter));
	atomic_store(&c->recv_meter.since, word);
	atomic_store(&c->send_meter.since, word);
}

static void check_sane(const struct bufpipe_ring_stats *r, uint64_t limit)
{
	cr_assert_eq(r->size, limit);
	cr_assert_leq(r->used, limit);
	cr_assert_leq(r->high_water, limit);
	cr_assert_leq(r->messages, limit / 8);
	cr_assert_eq(r->sender.messages - r->receiver.messages, r->messages);
	cr_assert_eq(r->sender.bytes - r->receiver.bytes, r->used);
	cr_assert_leq(r->sender.asleep, (uint64_t)time_now());
	cr_assert_leq(r->receiver.asleep, (uint64_t)time_now());
}

/* The victim's own numbers stay right, and the peer's numbers stay possible. */
Test(hostile_stats, of_a_victim_are_possible_whatever_the_peer_writes)
{
	for (int sends = 0; sends < 2; sends++) {
		for (int i = 0; i < LIES; i++) {
			struct duel d = duel_begin(sends, NULL);
			const struct bufpipe_ring_stats *r;
			struct bufpipe_stats s;
			char buf[8] = "";

			for (int n = 0; n < 3; n++)
				cr_assert_eq(bufpipe_send(sends ? d.victim : d.rogue, buf, 8, 0), 0);
			cr_assert_eq(bufpipe_recv(sends ? d.rogue : d.victim, buf, 8, 0), 8);
			lie(d.rogue->ours.control, lies[i]);
			cr_assert_eq(bufpipe_get_stats(d.victim, &s), 0);
			r = sends ? &s.out : &s.in;
			check_sane(r, record_size(65536));
			cr_assert_eq(sends ? r->sender.messages : r->receiver.messages, sends ? 3 : 1);
			cr_assert_eq(sends ? r->sender.bytes : r->receiver.bytes, sends ? 48 : 16);
			duel_end(&d);
		}
	}
}

Test(hostile_stats, drain_ends_in_time_whatever_the_head_says)
{
	for (int i = 0; i < LIES; i++) {
		struct duel d = duel_begin(1, NULL);
		int64_t begin = time_now();
		char buf[8] = "";
		int r;

		cr_assert_eq(bufpipe_send(d.victim, buf, 8, 0), 0);
		atomic_store(&d.rogue->ours.control->head, lies[i]);
		r = bufpipe_drain(d.victim, 1000000);
		cr_assert(r == -EPROTO || r == -ETIMEDOUT, "%d", r);
		cr_assert_lt(elapsed(begin), SOON);
		duel_end(&d);
	}
}
