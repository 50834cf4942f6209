/* SPDX-License-Identifier: MIT */
/*
 * Reassembly of messages that are longer than the ring.  If a call gives up in the
 * middle, it keeps what it has consumed for a later call.  In an exclusive end this
 * is always so.  In a shared end it is so if the end is interruptible: then the
 * thread that gave up keeps the turn as well.
 */
#include "end/reassembly.h"

#include "base/probe.h"

#include <stdlib.h>

/*
 * A shared end that cannot keep the beginning does not give up at the deadline of
 * the caller, because that would lose the message.  It gives up when the sender is
 * slower than this.
 */
#define GRACE         NSEC_PER_SEC
#define BYTES_PER_SEC ((uint64_t)16 << 20)

bool reassembly_in_middle(const bufpipe_t *p)
{
	return p->in.state & DIRECTION_SHARED && direction_is_open(&p->in) && p->partial.data;
}

void reassembly_drop(bufpipe_t *p)
{
	free(p->partial.data);
	p->partial = (struct partial){ 0 };
	if (p->in.state & DIRECTION_PARTIAL)
		p->in.state &= ~(unsigned)DIRECTION_PARTIAL;
}

int reassembly_total(const struct direction *in, const struct record *record, uint64_t *total)
{
	if (record->len <= sizeof(*total))
		return protocol_error("first fragment too short");
	/* Read once: the sender may change it. */
	memcpy(total, record->payload, sizeof(*total));
	if (*total <= in->span || *total > LAYOUT_MAX || *total <= record->len - sizeof(*total))
		return protocol_error("length of a long message");
	return 0;
}

/*
 * Copies the first fragment into buf.  In an exclusive end, also allocates the memory in
 * which the beginning is kept if this call gives up.  A shared end seldom needs that
 * memory, and allocates it only then.
 */
static int begin_long(bufpipe_t *p, const struct record *record, char *buf, size_t cap)
{
	const uint64_t prefix = sizeof(uint64_t);
	struct partial begun = {
		.have = record->len - prefix,
		.begin = receiver_head(&p->receiver),
		.given_up = record_given_up(p),
	};
	int r = reassembly_total(&p->in, record, &begun.total);

	if (r < 0)
		return r;
	if (begun.total > cap)
		return -EMSGSIZE;
	if (!(p->in.state & DIRECTION_SHARED)) {
		begun.data = malloc(begun.total); /* untouched, so without pages, until we give up */
		if (!begun.data)
			return -ENOMEM;
	}
	memcpy(buf, record->payload + prefix, begun.have);
	record_consume(p, record->len);
	p->partial = begun;
	return 0;
}

/*
 * Whether the sender has given up this message.  It may also have given up a later
 * one: then a co-owner took over after the death of the first sender.
 */
static bool is_given_up(const bufpipe_t *p)
{
	uint64_t given_up = record_given_up(p);

	return given_up != p->partial.given_up || given_up == (p->partial.begin | GIVEN_UP);
}

/* Waits for the next record: 0, or 1 if no more of this message will come. */
static int await_fragment(bufpipe_t *p, struct record *record, struct effort *effort)
{
	int64_t deadline = effort->deadline;
	bool given_up;
	int r;

	do {
		/*
		 * Load this before the look, so that the look finds every fragment that was sent
		 * before the give-up.
		 */
		given_up = is_given_up(p);
		r = record_look(p, record);
		if (r != -EAGAIN)
			return r;
		if (given_up)
			return 1;
		r = deadline == TIME_TRY ? record_try_again(p) : record_wait(p, &p->partial, deadline);
		if (r == 0)
			r = effort_spend(effort, EFFORT_IN_VAIN);
	} while (r == 0);
	return r;
}

/* Copies the next fragment.  1 if the sender gave the message up. */
static int add_fragment(bufpipe_t *p, char *buf, struct effort *effort)
{
	struct partial *part = &p->partial;
	struct record record;
	int r;

	r = await_fragment(p, &record, effort);
	if (r != 0)
		return r;
	if (record.flags != RECORD_MORE)
		return 1;
	if (record.len > part->total - part->have)
		return protocol_error("fragment too long");
	memcpy(buf + part->have, record.payload, record.len);
	part->have += record.len;
	record_consume(p, record.len);
	meter_add(&p->in.wait.meter->fragments, 1);
	/* A complete message is returned even if the time is up. */
	return part->have == part->total ? 0 : effort_spend(effort, 1 + record.len / EFFORT_BYTES);
}

/* The grace counts the bytes that have come, not the announced total, which a sender can choose freely. */
static int64_t slowest(const struct partial *part, int64_t begin, int64_t deadline)
{
	int64_t granted = begin + GRACE + (int64_t)(part->have * NSEC_PER_SEC / BYTES_PER_SEC);

	return deadline > granted ? deadline : granted;
}

/*
 * Whether a call that gives up can keep the beginning.  The next receiver of a shared
 * end may be another process, so there the thread must keep the turn as well.
 */
static bool can_keep(const bufpipe_t *p)
{
	return !(p->in.state & DIRECTION_SHARED) || p->in.wait.interruptible;
}

static bool gave_up(int r)
{
	return r == -EINTR || r == -ETIMEDOUT || r == -EAGAIN;
}

/*
 * Keeps the beginning for a later call.  It is copied only once: later fragments are
 * appended to it.  -ENOMEM in a shared end, which has allocated nothing before.
 */
static int keep_partial(bufpipe_t *p, const char *buf)
{
	struct partial *part = &p->partial;

	if (!part->data)
		part->data = malloc(part->total);
	if (!part->data)
		return -ENOMEM;
	if (buf != part->data)
		memcpy(part->data, buf, part->have);
	part->at = receiver_head(&p->receiver);
	if (p->in.state & DIRECTION_SHARED)
		direction_open(&p->in, 0);
	else
		p->in.state |= DIRECTION_PARTIAL;
	return 0;
}

/*
 * In our turn: receives the rest of a long message.  Returns the length of the
 * message; -EAGAIN with *restart set if the rest will not come.  kept means that the
 * beginning is in partial.data.  Then the rest is appended there, so that a call that
 * gives up again has nothing to copy.
 */
static ssize_t finish_long(bufpipe_t *p, char *buf, bool kept, struct effort *effort, bool *restart)
{
	struct partial *part = &p->partial;
	bool shared = p->in.state & DIRECTION_SHARED;
	ssize_t total = (ssize_t)part->total;
	int64_t deadline = effort->deadline;
	int64_t begin = can_keep(p) ? 0 : time_now();
	char *to = kept ? part->data : buf;
	int r = 0;

	while (r == 0 && part->have < part->total) {
		if (!can_keep(p))
			effort->deadline = slowest(part, begin, deadline);
		r = add_fragment(p, to, effort);
		if (gave_up(r) && can_keep(p) && keep_partial(p, to) == 0)
			return r;
		if (r == -EINTR)
			r = 0; /* there is no memory to keep the beginning, so stopping here would lose it */
	}
	effort->deadline = deadline;
	if (r < 0 && r != -EPIPE && !shared) {
		keep_partial(p, to);
		return r;
	}
	if (r == 0 && kept)
		memcpy(buf, part->data, part->total);
	reassembly_drop(p);
	*restart = r > 0;
	return r < 0 ? r : r > 0 ? -EAGAIN : total;
}

ssize_t reassembly_take(bufpipe_t *p, const struct record *record, char *buf, size_t cap,
			struct effort *effort, bool *restart)
{
	int r;

	if (record->flags == RECORD_FIRST) {
		r = begin_long(p, record, buf, cap);
		if (r < 0)
			return r;
	} else if (p->partial.total > cap) {
		return -EMSGSIZE;
	}
	return finish_long(p, buf, record->flags != RECORD_FIRST, effort, restart);
}

ssize_t reassembly_resume(bufpipe_t *p, char *buf, size_t cap, struct effort *effort, bool *restart)
{
	if (p->partial.total > cap)
		return -EMSGSIZE;
	direction_resume(&p->in);
	return finish_long(p, buf, true, effort, restart);
}

/* In our turn: begins to take a fragment from a record, whose first bytes do not belong to the message. */
static void begin_fragment(struct partial *part, const struct record *record, uint64_t front)
{
	part->fragment = record->payload + front;
	part->fragment_left = record->len - front;
	part->fragment_len = record->len;
}

int parts_begin(bufpipe_t *p, const struct record *record)
{
	struct partial begun = { .begin = receiver_head(&p->receiver), .given_up = record_given_up(p) };
	int r = reassembly_total(&p->in, record, &begun.total);

	if (r < 0)
		return r;
	begin_fragment(&begun, record, sizeof(begun.total));
	p->partial = begun;
	return 0;
}

/* Like add_fragment, but the fragment stays in the ring until all its bytes are taken.  Its length is read once. */
static int await_next_fragment(bufpipe_t *p, struct effort *effort)
{
	struct partial *part = &p->partial;
	struct record record;
	int r = await_fragment(p, &record, effort);

	if (r != 0)
		return r;
	if (record.flags != RECORD_MORE)
		return 1;
	if (record.len > part->total - part->have)
		return protocol_error("fragment too long");
	begin_fragment(part, &record, 0);
	return 0;
}

static size_t take_of_fragment(bufpipe_t *p, char *buf, size_t cap)
{
	struct partial *part = &p->partial;
	size_t n = part->fragment_left < cap ? part->fragment_left : cap;

	memcpy(buf, part->fragment, n);
	part->fragment += n;
	part->fragment_left -= n;
	part->have += n;
	if (!part->fragment_left) {
		if (receiver_head(&p->receiver) != part->begin)
			meter_add(&p->in.wait.meter->fragments, 1);
		record_consume(p, part->fragment_len);
	}
	return n;
}

ssize_t parts_take(bufpipe_t *p, char *buf, size_t cap, struct effort *effort)
{
	struct partial *part = &p->partial;
	size_t got = 0;
	int r = 0;

	while (got < cap && part->have < part->total) {
		size_t n;

		if (!part->fragment_left)
			r = await_next_fragment(p, effort);
		if (r != 0)
			break;
		n = take_of_fragment(p, buf + got, cap - got);
		got += n;
		if (effort_spend(effort, 1 + n / EFFORT_BYTES) < 0)
			break;
	}
	if (r > 0 || (r < 0 && !gave_up(r))) {
		reassembly_drop(p);
		return r > 0 ? -ECANCELED : r;
	}
	return got ? (ssize_t)got : r;
}
