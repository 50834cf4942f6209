/* SPDX-License-Identifier: MIT */
/* From regions to rings: which two belong together, and what their numbers mean. */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "inspect.h"

/* A plain load: the control page is our own copy. */
#define WORD(x) atomic_load_explicit(&(x), memory_order_relaxed)

/*
 * How far b is behind a, at most 'most'. The two were read at different moments, so b may be ahead; then the
 * distance is 0.
 */
static uint64_t distance(uint64_t a, uint64_t b, uint64_t most)
{
	int64_t d = (int64_t)(a - b);

	return d < 0 ? 0 : (uint64_t)d > most ? most : (uint64_t)d;
}

static void count_holders(struct side *side)
{
	const struct hold *h;

	side->stopped = true;
	for (h = side->region->holds; h; h = h->next) {
		if (!h->writes)
			continue;
		if (!side->first || h->process->pid < side->first->pid)
			side->first = h->process;
		side->holders++;
		side->stopped &= h->process->state == 'T' || h->process->state == 't';
	}
	side->stopped &= side->holders > 0;
}

static void read_meter(struct side *side, const struct meter *meter, const struct waiter_state *waiter,
		       int64_t now)
{
	uint64_t since = WORD(meter->since);

	side->waits = WORD(meter->waits);
	side->refusals = WORD(meter->refusals);
	side->sleeps_done = WORD(meter->sleeps);
	side->slept = WORD(meter->slept);
	side->wakeups = WORD(meter->rings);
	side->sleeps = WORD(waiter->flags) & WAITER_ASLEEP;
	/* A time in the future is a lie. A process that was killed in its sleep does not sleep any more. */
	if (since && since < (uint64_t)now && side->holders)
		side->asleep = now - (int64_t)since;
}

static void find_state(struct ring_view *r, const struct scan *scan, const struct filter *filter)
{
	bool sender = r->sender.holders;
	bool receiver = r->receiver.holders;

	if ((!sender || !receiver) && scan->unseen) {
		r->state = STATE_UNSEEN;
	} else if (!receiver) {
		r->state = STATE_RECEIVER_GONE;
	} else if (!sender) {
		r->state = STATE_SENDER_GONE;
	} else if (r->receiver.stopped) {
		r->state = STATE_RECEIVER_STOPPED;
	} else if (r->sender.stopped) {
		r->state = STATE_SENDER_STOPPED;
	} else if (r->sender.asleep) {
		r->state = STATE_FULL;
	} else if (r->receiver.sleeps && !r->used) {
		r->state = STATE_EMPTY;
	}
	if (r->sender.asleep)
		r->since = r->sender.asleep;
	else if (r->receiver.asleep)
		r->since = r->receiver.asleep;
	r->stuck = r->state == STATE_RECEIVER_STOPPED || r->state == STATE_SENDER_STOPPED ||
		   (r->state == STATE_RECEIVER_GONE && r->used) ||
		   (r->sender.asleep && r->sender.asleep >= filter->patience_ns);
}

static void read_ring(struct ring_view *r, const struct region_view *from, const struct region_view *to,
		      const struct scan *scan, const struct filter *filter)
{
	const struct control *s = &from->control;
	uint64_t tail = WORD(s->tail.tail);
	uint64_t sent = WORD(s->tail.records) - WORD(s->send_meter.fragments);

	*r = (struct ring_view){
		.sender.region = from,
		.receiver.region = to,
		.name = s->about.name,
		.is_static = s->identity.object_size,
		.duplex = s->identity.flags & LAYOUT_RECEIVES,
		.shared = s->identity.flags & LAYOUT_SHARED,
		.size = s->identity.limit,
		.sender.messages = sent,
		.sender.bytes = tail,
	};
	count_holders(&r->sender);
	read_meter(&r->sender, &s->send_meter, &s->send_waiter, scan->when);
	if (to) {
		const struct control *c = &to->control;
		uint64_t head = WORD(c->head) & ~HEAD_HELD;
		uint64_t received = WORD(c->released) + WORD(c->taken) - WORD(c->recv_meter.fragments);

		if (!*r->name)
			r->name = to->control.about.name;
		count_holders(&r->receiver);
		read_meter(&r->receiver, &c->recv_meter, &c->recv_waiter, scan->when);
		r->used = distance(tail, head, r->size);
		r->messages = distance(sent, received, r->used / RECORD_HEADER);
		r->receiver.bytes = tail - r->used;
		r->receiver.messages = sent - r->messages;
	}
	r->high_water = WORD(s->send_meter.high_water);
	if (r->high_water > r->size)
		r->high_water = r->size;
	if (r->high_water < r->used)
		r->high_water = r->used;
	find_state(r, scan, filter);
}

/* Finds the region of the other end: the one that this region names, and that names this region. */
static const struct region_view *find_peer(const struct scan *scan, const struct region_view *r)
{
	uint64_t inode = WORD(r->control.about.peer);
	const struct region_view *p = scan->buckets[inode % BUCKETS];

	while (p && (p->inode != inode || p->dev != r->dev))
		p = p->next_in_bucket;
	return p && p != r && p->ours && WORD(p->control.about.peer) == r->inode &&
			       p->control.identity.flags & LAYOUT_RECEIVES
		       ? p
		       : NULL;
}

static bool holds(const struct side *side, pid_t pid)
{
	for (const struct hold *h = side->region ? side->region->holds : NULL; h; h = h->next) {
		if (h->writes && h->process->pid == pid)
			return true;
	}
	return false;
}

static bool is_wanted(const struct ring_view *r, const struct filter *filter)
{
	if (filter->name && strcmp(filter->name, r->name) != 0 &&
	    (!r->receiver.region || strcmp(filter->name, r->receiver.region->control.about.name) != 0))
		return false;
	if (filter->pid && !holds(&r->sender, filter->pid) && !holds(&r->receiver, filter->pid))
		return false;
	if (filter->inode && r->sender.region->inode != filter->inode &&
	    (!r->receiver.region || r->receiver.region->inode != filter->inode))
		return false;
	return true;
}

int rings_find(struct rings *rings, const struct scan *scan, const struct filter *filter)
{
	*rings = (struct rings){ .list = calloc(scan->n + 1, sizeof(*rings->list)) };
	if (!rings->list)
		return -ENOMEM;
	for (size_t i = 0; i < scan->n; i++) {
		const struct region_view *r = scan->regions[i];
		struct ring_view *ring;

		if (!r->ours || !(r->control.identity.flags & LAYOUT_SENDS))
			continue;
		ring = &rings->list[rings->n];
		read_ring(ring, r, find_peer(scan, r), scan, filter);
		if (!is_wanted(ring, filter))
			continue;
		rings->known = true;
		rings->n += !filter->stuck || ring->stuck;
	}
	return 0;
}

void rings_free(struct rings *rings)
{
	free(rings->list);
}

void state_text(char *text, size_t size, const struct ring_view *r)
{
	static const char *const words[] = {
		[STATE_FLOWS] = "-",
		[STATE_EMPTY] = "empty",
		[STATE_FULL] = "full",
		[STATE_SENDER_STOPPED] = "send stopped",
		[STATE_RECEIVER_STOPPED] = "recv stopped",
		[STATE_SENDER_GONE] = "send gone",
		[STATE_RECEIVER_GONE] = "recv gone",
		[STATE_UNSEEN] = "unseen",
	};
	const char *more = "";
	char time[8] = "";

	if (r->since)
		short_time(time, r->since);
	if (*time && (r->state == STATE_EMPTY || r->state == STATE_FULL))
		more = " ";
	else if (*time && r->state != STATE_FLOWS)
		more = r->sender.asleep ? ", full " : ", empty ";
	snprintf(text, size, "%s%s%s", words[r->state], more, *more ? time : "");
}

static void print_first(FILE *file, const char *what, const struct side *side)
{
	if (!side->first)
		fprintf(file, "the %s", what);
	else if (side->holders > 1)
		fprintf(file, "the %s, pid %d (%s) and %u more,", what, (int)side->first->pid,
			side->first->command, side->holders - 1);
	else
		fprintf(file, "the %s, pid %d (%s),", what, (int)side->first->pid, side->first->command);
}

/* What the only process of a side does, according to the kernel. */
static void print_doing(FILE *file, const struct side *side)
{
	char state = side->first ? side->first->state : 0;

	if (side->holders != 1)
		return;
	if (state == 'R')
		fputs(": it runs", file);
	else if (state == 'S')
		fputs(": it sleeps in something else", file);
	else if (state == 'D')
		fputs(": it is in an uninterruptible sleep, as for a disk", file);
}

/* Messages that nobody is left to read. */
static void print_lost(FILE *file, const struct ring_view *r)
{
	if (r->messages)
		fprintf(file, "; unread: %" PRIu64, r->messages);
}

void print_verdict(FILE *file, const struct ring_view *r)
{
	char time[8];

	short_time(time, r->since);
	if (r->sender.asleep && r->state != STATE_SENDER_STOPPED)
		fprintf(file, "the sender has waited for room for %s; ", time);
	switch (r->state) {
	case STATE_FLOWS:
		fputs("no side waits for the other", file);
		break;
	case STATE_EMPTY:
		fputs("the ring is empty, and the receiver waits", file);
		if (r->receiver.asleep)
			fprintf(file, ", for %s", time);
		break;
	case STATE_FULL:
		print_first(file, "receiver", &r->receiver);
		fputs(" does not receive fast enough", file);
		if (!r->receiver.sleeps)
			print_doing(file, &r->receiver);
		break;
	case STATE_SENDER_STOPPED:
		print_first(file, "sender", &r->sender);
		fputs(" is stopped", file);
		break;
	case STATE_RECEIVER_STOPPED:
		print_first(file, "receiver", &r->receiver);
		fputs(" is stopped", file);
		break;
	case STATE_SENDER_GONE:
		fputs("nobody holds the sending end any more", file);
		print_lost(file, r);
		break;
	case STATE_RECEIVER_GONE:
		fputs("nobody holds the receiving end any more", file);
		print_lost(file, r);
		break;
	case STATE_UNSEEN:
		fputs("not all processes that hold it can be seen", file);
		break;
	}
	fputc('\n', file);
}
