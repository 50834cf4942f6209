/* SPDX-License-Identifier: MIT */
#include "bench.h"

#include <errno.h>
#include <sched.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

uint64_t clock_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

/* Which core of which package a CPU is a thread of; -1 where the kernel does not tell. */
static long core_of(int cpu)
{
	static const char *const names[] = { "physical_package_id", "core_id" };
	long core = 0;

	for (int i = 0; i < 2; i++) {
		char path[96];
		FILE *file;
		int id;

		snprintf(path, sizeof(path), "/sys/devices/system/cpu/cpu%d/topology/%s", cpu, names[i]);
		file = fopen(path, "re");
		if (!file)
			return -1;
		if (fscanf(file, "%d", &id) != 1)
			id = -1;
		fclose(file);
		if (id < 0)
			return -1;
		core = core * 65536 + id;
	}
	return core;
}

static bool is_sibling(int a, int b)
{
	long core = core_of(a);

	return core >= 0 && core == core_of(b);
}

/* The second CPU is the next one of another core: two threads of one core share its caches. */
static void choose(struct cpus *cpus, const cpu_set_t *allowed)
{
	int first = -1, second = -1;

	for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
		if (!CPU_ISSET(cpu, allowed))
			continue;
		if (first < 0) {
			first = cpu;
		} else if (second < 0 || is_sibling(first, second)) {
			second = cpu;
			if (!is_sibling(first, cpu))
				break;
		}
	}
	cpus->pair[0] = first;
	cpus->pair[1] = second < 0 ? first : second;
}

int cpus_find(struct cpus *cpus, const int wanted[2])
{
	cpu_set_t allowed;

	CPU_ZERO(&allowed);
	if (sched_getaffinity(0, sizeof(allowed), &allowed))
		return -errno;
	memset(cpus, 0, sizeof(*cpus));
	cpus->count = CPU_COUNT(&allowed);
	if (wanted[0] >= 0) {
		for (int i = 0; i < 2; i++) {
			if (wanted[i] >= CPU_SETSIZE || !CPU_ISSET(wanted[i], &allowed))
				return -EINVAL;
			cpus->pair[i] = wanted[i];
		}
	} else {
		choose(cpus, &allowed);
	}
	cpus->siblings = cpus->pair[0] != cpus->pair[1] && is_sibling(cpus->pair[0], cpus->pair[1]);
	return 0;
}

int cpus_pin(int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	return sched_setaffinity(0, sizeof(set), &set) ? -errno : 0;
}

/* A line of /proc/stat: "cpu3 user nice system idle iowait irq softirq steal ...", in ticks. */
static void add_line(const char *line, const struct cpus *cpus, struct load *load)
{
	unsigned long long user, nice, system, idle, iowait, irq, softirq, stolen;
	uint64_t tick_ns = 1000000000 / (uint64_t)sysconf(_SC_CLK_TCK);
	int cpu;

	if (sscanf(line, "cpu%d %llu %llu %llu %llu %llu %llu %llu %llu", &cpu, &user, &nice, &system, &idle,
		   &iowait, &irq, &softirq, &stolen) != 9)
		return;
	if (cpu != cpus->pair[0] && cpu != cpus->pair[1])
		return;
	load->capacity++;
	load->busy_ns += (user + nice + system + irq + softirq) * tick_ns;
	load->stolen_ns += stolen * tick_ns;
}

void cpus_load(const struct cpus *cpus, struct load *load)
{
	struct rusage usage;
	char line[512];
	FILE *file;

	*load = (struct load){ .at_ns = clock_ns() };
	file = fopen("/proc/stat", "re");
	while (file && fgets(line, sizeof(line), file))
		add_line(line, cpus, load);
	if (file)
		fclose(file);
	if (load->capacity == 0)
		load->capacity = 1;
	getrusage(RUSAGE_CHILDREN, &usage);
	load->own_ns = (uint64_t)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1000000000 +
		       (uint64_t)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) * 1000;
}
