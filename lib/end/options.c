/* SPDX-License-Identifier: MIT */
#include "end/options.h"

#include "base/sys.h"

#include <string.h>
#include <unistd.h>

#define DEFAULT_SIZE 65536
#define NAME_MAX_LEN BUFPIPE_NAME_MAX

#define CREATE_FLAGS                                                                               \
	(BUFPIPE_DUPLEX | BUFPIPE_SHARED | BUFPIPE_HUGEPAGES | BUFPIPE_PREFAULT | BUFPIPE_LOCKED | \
	 BUFPIPE_INTERRUPTIBLE | BUFPIPE_NO_HANDOVER)
#define MODE_BITS 0777u

static bool sizes_valid(const struct bufpipe_options *o)
{
	uint64_t bytes;

	if (!o->object_size)
		return !o->object_count && o->buffer_size <= LAYOUT_MAX;
	if (o->buffer_size || o->object_size > LAYOUT_MAX || o->object_count > LAYOUT_MAX)
		return false;
	return !__builtin_mul_overflow(record_size(o->object_size), o->object_count, &bytes) &&
	       bytes <= 2 * LAYOUT_MAX;
}

uint64_t options_size(const struct bufpipe_options *o)
{
	return o->object_size ? o->object_count * record_size(o->object_size) : o->buffer_size;
}

int options_check(struct bufpipe_options *checked, const struct bufpipe_options *options)
{
	struct bufpipe_options o = { 0 };

	if (options)
		o = *options;
	if (o.flags & ~(unsigned)(CREATE_FLAGS | MEETING_FLAGS) || o.spin_ns < BUFPIPE_SPIN_ALWAYS ||
	    !sizes_valid(&o))
		return -EINVAL;
	if ((o.flags & ROLE_FLAGS) == ROLE_FLAGS || (o.flags & ROLE_FLAGS && o.flags & BUFPIPE_DUPLEX))
		return -EINVAL;
	if (o.size_limit > LAYOUT_MAX || o.mode & ~MODE_BITS)
		return -EINVAL;
	if (!o.name)
		o.name = "bufpipe";
	else if (strnlen(o.name, NAME_MAX_LEN + 1) > NAME_MAX_LEN)
		return -EINVAL;
	if (!o.object_size && !o.buffer_size)
		o.buffer_size = DEFAULT_SIZE;
	if (!o.object_size && o.buffer_size < LEAST_SIZE)
		o.buffer_size = LEAST_SIZE;
	if (o.object_size && !o.object_count)
		o.object_count = o.object_size < DEFAULT_SIZE ? DEFAULT_SIZE / o.object_size : 1;
	if (o.size_limit && o.size_limit < options_size(&o))
		return -EINVAL;
	*checked = o;
	return 0;
}

static uint64_t power_of_two(uint64_t at_least)
{
	uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);

	return at_least <= page ? page : (uint64_t)1 << (64 - __builtin_clzll(at_least - 1));
}

struct identity options_identity(const struct bufpipe_options *o, unsigned flags)
{
	struct identity id = { .magic = LAYOUT_MAGIC, .version = LAYOUT_VERSION, .flags = flags };

	if (!(flags & LAYOUT_SENDS))
		return id;
	if (o->object_size) {
		id.object_size = o->object_size;
		id.buffer_size = o->object_size;
		id.limit = o->object_count * record_size(o->object_size);
		id.data_size = power_of_two(id.limit + RECORD_HEADER);
		return id;
	}
	/*
	 * The limit is what the user asked for, who may want a short queue.  The ring has the next
	 * power of two.
	 */
	id.buffer_size = o->buffer_size;
	id.limit = record_size(o->buffer_size);
	id.data_size = power_of_two(id.limit + RECORD_HEADER);
	return id;
}
