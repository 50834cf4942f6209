/* SPDX-License-Identifier: MIT */
#include "position.h"

#include <inttypes.h>
#include <stdio.h>

/* Finds the mapping that holds an address, and keeps it in place of the older one. */
static uint64_t look_up(struct position_map *map, uintptr_t address)
{
	FILE *file = fopen("/proc/self/maps", "re");
	uint64_t found = POSITION_UNKNOWN;
	uintptr_t begin, end;
	uint64_t offset;
	char line[512];

	if (!file)
		return found;
	while (found == POSITION_UNKNOWN && fgets(line, sizeof(line), file)) {
		if (sscanf(line, "%" SCNxPTR "-%" SCNxPTR " %*s %" SCNx64, &begin, &end, &offset) != 3)
			continue;
		if (address < begin || address >= end)
			continue;
		map->turn = !map->turn;
		map->parts[map->turn].begin = begin;
		map->parts[map->turn].end = end;
		map->parts[map->turn].offset = offset;
		found = offset + (address - begin);
	}
	fclose(file);
	return found;
}

uint64_t position_of(struct position_map *map, const void *at)
{
	uintptr_t address = (uintptr_t)at;

	for (unsigned i = 0; i < 2; i++) {
		if (address >= map->parts[i].begin && address < map->parts[i].end)
			return map->parts[i].offset + (address - map->parts[i].begin);
	}
	return look_up(map, address);
}
