/* SPDX-License-Identifier: MIT */
/*
 * Statistics of a pipe, read without any lock.  All loads are relaxed: each number
 * is from some moment during the call, and no other memory depends on it.
 */
#include "end/end.h"

static uint64_t load(const _Atomic uint64_t *word)
{
	return atomic_load_explicit(word, memory_order_relaxed);
}

/* a - b, at most 'most'.  0 if b is ahead, which may be so because both were read at different moments. */
static uint64_t distance(uint64_t a, uint64_t b, uint64_t most)
{
	int64_t d = (int64_t)(a - b);

	return d < 0 ? 0 : (uint64_t)d > most ? most : (uint64_t)d;
}

static uint64_t sent_messages(const struct control *sender)
{
	return load(&sender->tail.records) - load(&sender->send_meter.fragments);
}

static uint64_t received_messages(const struct control *receiver)
{
	return load(&receiver->released) + load(&receiver->taken) - load(&receiver->recv_meter.fragments);
}

static void count_waits(struct bufpipe_side_stats *side, const struct meter *meter)
{
	uint64_t since = load(&meter->since);
	int64_t now = time_now();

	side->waits = load(&meter->waits);
	side->refusals = load(&meter->refusals);
	side->sleeps = load(&meter->sleeps);
	side->slept = load(&meter->slept);
	side->wakeups = load(&meter->rings);
	/* A time in the future is a lie, or comes from a holder in another time namespace. */
	side->asleep = since && since <= (uint64_t)now ? (uint64_t)now - since : 0;
}

/*
 * Only the numbers of our side are trusted.  Those of the other side follow from them and from
 * what is in the ring.
 */
static void count_ring(struct bufpipe_ring_stats *ring, const struct control *sender,
		       const struct control *receiver, uint64_t limit, bool ours_sends)
{
	/* The head comes first, as in ring_used: the other order could give less than there ever was. */
	uint64_t received = received_messages(receiver);
	uint64_t head = atomic_load_explicit(&receiver->head, memory_order_acquire) & ~HEAD_HELD;
	uint64_t tail = load(&sender->tail.tail);
	uint64_t sent = sent_messages(sender);

	ring->size = limit;
	ring->used = distance(tail, head, limit);
	ring->messages = distance(sent, received, ring->used / RECORD_HEADER);
	ring->high_water = load(&sender->send_meter.high_water);
	if (ring->high_water > limit)
		ring->high_water = limit;
	if (ring->high_water < ring->used)
		ring->high_water = ring->used;
	ring->sender.bytes = ours_sends ? tail : head + ring->used;
	ring->receiver.bytes = ours_sends ? tail - ring->used : head;
	ring->sender.messages = ours_sends ? sent : received + ring->messages;
	ring->receiver.messages = ours_sends ? sent - ring->messages : received;
	count_waits(&ring->sender, &sender->send_meter);
	count_waits(&ring->receiver, &receiver->recv_meter);
}

int bufpipe_get_stats(const bufpipe_t *p, struct bufpipe_stats *stats)
{
	if (!p || !stats)
		return -EINVAL;
	*stats = (struct bufpipe_stats){ 0 };
	if (!(p->out.state & DIRECTION_NONE))
		count_ring(&stats->out, p->ours.control, p->theirs.control, p->sender.limit, true);
	if (!(p->in.state & DIRECTION_NONE))
		count_ring(&stats->in, p->theirs.control, p->ours.control, p->receiver.limit, false);
	return 0;
}
