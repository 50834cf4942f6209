/* SPDX-License-Identifier: MIT */
/*
 * The place in the ring of a message from bufpipe_peek or bufpipe_reserve.
 *
 * Two processes that hold the same end one after the other map it at different
 * addresses.  The offset in the memory file behind the mapping is the same for
 * both, and /proc/self/maps tells it.  So a process can find out whether its next
 * message is the one that its dead predecessor had: neighbouring messages never
 * have the same offset, because one message never fills a ring.
 */
#ifndef BRIDGE_POSITION_H
#define BRIDGE_POSITION_H

#include <stdint.h>

/* The two mappings of one ring.  Zeroed: nothing is known yet. */
struct position_map {
	struct {
		uintptr_t begin;
		uintptr_t end;
		uint64_t offset;
	} parts[2];
	unsigned turn;
};

/* Not a position; the answer if /proc does not tell. */
#define POSITION_UNKNOWN UINT64_MAX

uint64_t position_of(struct position_map *map, const void *at);

#endif
