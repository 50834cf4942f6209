/* SPDX-License-Identifier: MIT */
/* A look at all pipes, what changed since the one before, and in which order they are shown. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "inspect.h"

int sample_take(struct sample *s, const struct filter *filter)
{
	int r;

	*s = (struct sample){ 0 };
	r = scan_pipes(&s->scan);
	if (r < 0)
		return r;
	r = rings_find(&s->rings, s->scan, filter);
	if (r < 0) {
		scan_free(s->scan);
		s->scan = NULL;
		return r;
	}
	sample_sort(s, BY_PIPE);
	return 0;
}

void sample_drop(struct sample *s)
{
	if (!s->scan)
		return;
	rings_free(&s->rings);
	scan_free(s->scan);
	*s = (struct sample){ 0 };
}

static int compare(uint64_t x, uint64_t y)
{
	return x < y ? -1 : x > y;
}

static int by_pipe(const void *a, const void *b)
{
	const struct ring_view *x = a;
	const struct ring_view *y = b;

	return compare(x->sender.region->inode, y->sender.region->inode);
}

static int by_name(const void *a, const void *b)
{
	const struct ring_view *x = a;
	const struct ring_view *y = b;

	return strcmp(x->name, y->name) ?: by_pipe(a, b);
}

static int by_fill(const void *a, const void *b)
{
	const struct ring_view *x = a;
	const struct ring_view *y = b;

	return compare(percent(y->used, y->size), percent(x->used, x->size)) ?: by_pipe(a, b);
}

static int by_rate(const void *a, const void *b)
{
	const struct ring_view *x = a;
	const struct ring_view *y = b;

	return compare(y->rates.messages, x->rates.messages) ?: by_pipe(a, b);
}

static int by_since(const void *a, const void *b)
{
	const struct ring_view *x = a;
	const struct ring_view *y = b;

	return compare((uint64_t)y->since, (uint64_t)x->since) ?: by_pipe(a, b);
}

bool parse_order(enum order *order, const char *word)
{
	static const struct {
		const char *word;
		enum order order;
	} orders[] = {
		{ "pipe", BY_PIPE }, { "name", BY_NAME },  { "fill", BY_FILL },
		{ "rate", BY_RATE }, { "time", BY_SINCE },
	};

	for (unsigned i = 0; i < sizeof(orders) / sizeof(orders[0]); i++) {
		if (strcmp(word, orders[i].word) == 0) {
			*order = orders[i].order;
			return true;
		}
	}
	return false;
}

void sample_sort(struct sample *s, enum order order)
{
	int (*in_order)(const void *, const void *) = by_pipe;

	if (order == BY_NAME)
		in_order = by_name;
	else if (order == BY_FILL)
		in_order = by_fill;
	else if (order == BY_RATE)
		in_order = by_rate;
	else if (order == BY_SINCE)
		in_order = by_since;
	qsort(s->rings.list, s->rings.n, sizeof(*s->rings.list), in_order);
}

static uint64_t rate(uint64_t now, uint64_t before, int64_t ns)
{
	/* A count that went back is a lie, or that of another pipe with the same inode. */
	return now > before && ns > 0 ? (uint64_t)((double)(now - before) * 1e9 / (double)ns) : 0;
}

static unsigned share(const struct side *now, const struct side *before, int64_t ns)
{
	if (ns <= 0 || now->asleep >= ns)
		return now->asleep ? 100 : 0;
	return now->slept > before->slept ? percent(now->slept - before->slept, (uint64_t)ns) : 0;
}

void sample_compare(struct sample *now, struct sample *before)
{
	int64_t ns = now->scan->when - before->scan->when;

	sample_sort(now, BY_PIPE);
	sample_sort(before, BY_PIPE);
	for (size_t i = 0; i < now->rings.n; i++) {
		struct ring_view *ring = &now->rings.list[i];
		const struct ring_view *old =
			bsearch(ring, before->rings.list, before->rings.n, sizeof(*old), by_pipe);

		if (!old)
			continue;
		ring->rates = (struct rates){
			.messages = rate(ring->sender.messages, old->sender.messages, ns),
			.bytes = rate(ring->sender.bytes, old->sender.bytes, ns),
			.sender_waits = share(&ring->sender, &old->sender, ns),
			.receiver_waits = share(&ring->receiver, &old->receiver, ns),
		};
	}
}

int sample_measure(struct sample *s, const struct filter *filter, int64_t ns)
{
	struct filter any = *filter;
	struct sample before;
	int r;

	/* A ring that is stuck at the end need not have been so at the beginning. */
	any.stuck = false;
	r = sample_take(&before, &any);
	if (r < 0)
		return r;
	sleep_ns(ns);
	r = sample_take(s, filter);
	if (r == 0)
		sample_compare(s, &before);
	sample_drop(&before);
	return r;
}
