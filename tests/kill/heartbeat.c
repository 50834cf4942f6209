/* SPDX-License-Identifier: MIT */
#include "kill/heartbeat.h"

#include "support.h"

#include <stdatomic.h>

/* On larger machines, only so many CPUs are watched. */
#define CPUS_MOST 64
#define BEAT      (2 * MSEC)
/* A thread beside a busy one waits for the end of that one's time slice, some milliseconds. */
#define LATE (12 * MSEC)

struct heart {
	struct thread thread;
	int cpu;
	_Atomic int64_t beat; /* when it woke up last */
};

static struct heart hearts[CPUS_MOST];
static int count;
static atomic_int stop;

static void live(void *arg)
{
	struct heart *heart = arg;

	pin_to_cpu(heart->cpu);
	while (!atomic_load(&stop)) {
		atomic_store(&heart->beat, clock_ns());
		sleep_ns(BEAT);
	}
}

void heartbeat_start(void)
{
	cpu_set_t cpus;

	check_eq(sched_getaffinity(0, sizeof(cpus), &cpus), 0);
	atomic_store(&stop, 0);
	count = 0;
	for (int cpu = 0; cpu < CPU_SETSIZE && count < CPUS_MOST; cpu++) {
		if (!CPU_ISSET(cpu, &cpus))
			continue;
		hearts[count].cpu = cpu;
		atomic_store(&hearts[count].beat, 0);
		thread_start(&hearts[count].thread, live, &hearts[count]);
		count++;
	}
}

void heartbeat_stop(void)
{
	atomic_store(&stop, 1);
	for (int i = 0; i < count; i++)
		thread_join(&hearts[i].thread);
	count = 0;
}

bool heartbeat_is_regular(void)
{
	int64_t now = clock_ns();

	for (int i = 0; i < count; i++) {
		if (now - atomic_load(&hearts[i].beat) > BEAT + LATE)
			return false;
	}
	return true;
}
