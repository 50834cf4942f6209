/* SPDX-License-Identifier: MIT */
#include "connect/agree.h"

#include "end/options.h"

/* The default of size_limit: more than most users need, and harmless if a hostile peer asks for it. */
#define SIZE_LIMIT ((uint64_t)16 << 20)
/* The default with PREFAULT or LOCKED: a stranger must not choose how long a call takes. */
#define SIZE_LIMIT_NOW ((uint64_t)1 << 20)
/* Pending connectors may have this many rings of the largest size, but at least LEAST_MEMORY in all. */
#define LARGEST_WAITING 4
#define LEAST_MEMORY    ((uint64_t)64 << 20)

uint64_t agree_size_limit(const struct bufpipe_options *checked, bool sized)
{
	uint64_t limit = checked->flags & (BUFPIPE_PREFAULT | BUFPIPE_LOCKED) ? SIZE_LIMIT_NOW : SIZE_LIMIT;

	if (checked->size_limit)
		return checked->size_limit;
	return sized || options_size(checked) > limit ? options_size(checked) : limit;
}

uint64_t agree_memory(const struct bufpipe_options *o, unsigned directions)
{
	uint64_t ring = options_identity(o, LAYOUT_SENDS).data_size;

	return directions_duplex(directions) ? 2 * ring : ring;
}

uint64_t agree_memory_limit(const struct bufpipe_options *checked, uint64_t size_limit)
{
	struct bufpipe_options largest = *checked;
	uint64_t all;

	if (largest.object_size)
		largest.object_count = size_limit / record_size(largest.object_size);
	else
		largest.buffer_size = size_limit;
	all = LARGEST_WAITING * agree_memory(&largest, LAYOUT_SENDS | LAYOUT_RECEIVES);
	return all > LEAST_MEMORY ? all : LEAST_MEMORY;
}

static int agree_on_directions(const struct handshake *wishes, unsigned ours, unsigned *connector_directions)
{
	unsigned theirs = wishes->flags & (LAYOUT_SENDS | LAYOUT_RECEIVES);

	if (!(wishes->flags & WISH_ANY) && directions_duplex(theirs) != directions_duplex(ours))
		return -EPROTOTYPE;
	if (theirs && ours && theirs != directions_mirrored(ours))
		return -EPROTOTYPE;
	*connector_directions = theirs ? theirs : ours ? directions_mirrored(ours) : LAYOUT_SENDS;
	return 0;
}

static int agree_on_sizes(uint64_t limit, const struct handshake *wishes, struct bufpipe_options *agreed)
{
	uint64_t wish = wishes->buffer_size;

	if (wishes->object_size ? wishes->object_size != agreed->object_size
				: wishes->buffer_size && agreed->object_size)
		return -EPROTOTYPE;
	if (agreed->object_size) {
		limit /= record_size(agreed->object_size);
		wish = wishes->object_count;
	}
	if (wish > limit)
		return -EMSGSIZE;
	if (wish && agreed->object_size)
		agreed->object_count = wish;
	else if (wish)
		agreed->buffer_size = wish;
	return 0;
}

int agree_on_offer(const struct bufpipe_options *listener, uint64_t size_limit,
		   const struct handshake *wishes, struct bufpipe_options *agreed,
		   unsigned *connector_directions)
{
	int r;

	if (wishes->flags & ~(WISH_ANY | HANDSHAKE_SEALED | LAYOUT_SENDS | LAYOUT_RECEIVES))
		return -EBADMSG;
	r = agree_on_directions(wishes, directions_wanted(listener), connector_directions);
	if (r < 0)
		return r;
	*agreed = *listener;
	if (wishes->flags & HANDSHAKE_SEALED)
		agreed->flags |= BUFPIPE_NO_HANDOVER;
	return agree_on_sizes(size_limit, wishes, agreed);
}

/* A size of 0 means no wish. */
static bool as_wished(uint64_t offered, uint64_t wished)
{
	return !wished || offered == wished;
}

static int check_directions(unsigned offered, const struct bufpipe_options *wishes)
{
	unsigned wanted = directions_wanted(wishes);

	if (directions_duplex(wanted) != directions_duplex(offered) || (wanted && wanted != offered))
		return -EPROTOTYPE;
	return 0;
}

static int check_sizes(const struct handshake *offer, const struct bufpipe_options *wishes)
{
	if (!as_wished(offer->object_size, wishes->object_size) ||
	    !as_wished(offer->object_count, wishes->object_count) ||
	    !as_wished(offer->buffer_size, wishes->buffer_size))
		return -EPROTOTYPE;
	return 0;
}

/* Checks what the listener chose.  What the connector itself wished for is within the limit. */
static int check_limit(const struct bufpipe_options *offered, const struct bufpipe_options *wishes)
{
	struct bufpipe_options o = { 0 };
	bool sized = wishes && (wishes->buffer_size || wishes->object_count);

	if (wishes)
		o = *wishes;
	if (sized)
		return 0;
	/* One object of the size that the connector wished for is always allowed. */
	if (o.object_size && !o.object_count)
		o.object_count = 1;
	return options_size(offered) > agree_size_limit(&o, false) ? -E2BIG : 0;
}

int agree_to_offer(const struct handshake *offer, const struct bufpipe_options *wishes,
		   struct bufpipe_options *agreed)
{
	unsigned directions = offer->flags & ~HANDSHAKE_SEALED;
	struct bufpipe_options o = { 0 };
	int r = 0;

	if (!directions || directions & ~(uint32_t)(LAYOUT_SENDS | LAYOUT_RECEIVES))
		return -EBADMSG;
	if (wishes) {
		o = *wishes;
		r = check_directions(directions, wishes);
	}
	if (r == 0 && wishes)
		r = check_sizes(offer, wishes);
	if (r < 0)
		return r;
	o.flags &= ~(unsigned)(BUFPIPE_DUPLEX | BUFPIPE_SEND | BUFPIPE_RECEIVE | BUFPIPE_WAIT_FOR_LISTENER);
	if (directions_duplex(directions))
		o.flags |= BUFPIPE_DUPLEX;
	if (offer->flags & HANDSHAKE_SEALED)
		o.flags |= BUFPIPE_NO_HANDOVER;
	o.size_limit = 0;
	o.buffer_size = offer->buffer_size;
	o.object_size = offer->object_size;
	o.object_count = offer->object_count;
	if (options_check(agreed, &o) < 0)
		return -EBADMSG;
	return check_limit(agreed, wishes);
}
