/* SPDX-License-Identifier: MIT */
#include "bench.h"

#include <string.h>

/* The sum of the lines of a file that begin with one of these names and then give kilobytes. */
static uint64_t sum_lines(const char *path, const char *const *names)
{
	FILE *file = fopen(path, "re");
	unsigned long long kib;
	uint64_t sum = 0;
	char line[256];

	while (file && fgets(line, sizeof(line), file)) {
		for (int i = 0; names[i]; i++) {
			size_t len = strlen(names[i]);

			if (strncmp(line, names[i], len) == 0 && sscanf(line + len, ": %llu", &kib) == 1)
				sum += kib * 1024;
		}
	}
	if (file)
		fclose(file);
	return sum;
}

/* Pages that several processes map count in parts, so that the sum over all is right. */
uint64_t memory_of_self(void)
{
	return sum_lines("/proc/self/smaps_rollup", (const char *const[]){ "Pss", NULL });
}

/* Of the whole machine, so it takes many objects to see what one of them costs. */
uint64_t memory_of_kernel(void)
{
	return sum_lines("/proc/meminfo",
			 (const char *const[]){ "Slab", "PageTables", "KernelStack", "Percpu", NULL });
}
