/* SPDX-License-Identifier: MIT */
/*
 * Where in its ring a message lies that bufpipe_peek or bufpipe_reserve gave.
 *
 * Two processes that hold the same end one after the other map it at different
 * addresses.  The offset in the memory file behind the mapping is the same for
 * both, and /proc/self/maps tells it.  So a process can ask whether the message
 * before it is the one that its dead predecessor had before it: neighbouring
 * messages never lie at the same offset, as a ring is never filled by one.
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

/* No position is this: also the answer when /proc does not tell. */
#define POSITION_UNKNOWN UINT64_MAX

uint64_t position_of(struct position_map *map, const void *at);

#endif
