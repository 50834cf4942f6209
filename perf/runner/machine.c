/* SPDX-License-Identifier: MIT */
/* Where and when a run takes place. */
#include "bench.h"

#include <gnu/libc-version.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysinfo.h>
#include <time.h>
#include <unistd.h>

/* The first line of a file, without its end; empty where there is none. */
static void read_line(const char *path, char *line, size_t size)
{
	FILE *file = fopen(path, "re");

	line[0] = '\0';
	if (file && fgets(line, (int)size, file))
		line[strcspn(line, "\n")] = '\0';
	if (file)
		fclose(file);
}

static void find_cpu(char *model, size_t size)
{
	FILE *file = fopen("/proc/cpuinfo", "re");
	char line[256], *colon;

	snprintf(model, size, "unknown");
	while (file && fgets(line, sizeof(line), file)) {
		colon = strchr(line, ':');
		if (strncmp(line, "model name", 10) != 0 || !colon)
			continue;
		line[strcspn(line, "\n")] = '\0';
		snprintf(model, size, "%s", colon + 2);
		break;
	}
	if (file)
		fclose(file);
}

/* FNV-1a: enough to tell two machines apart, and nobody learns the name from it. */
static uint64_t hash(uint64_t sum, const char *text)
{
	for (; *text; text++)
		sum = (sum ^ (unsigned char)*text) * UINT64_C(0x100000001b3);
	return sum;
}

void machine_find(struct machine *machine)
{
	char id[64], host[256] = "", governor[64];
	time_t now = time(NULL);
	double load[1];
	struct tm utc;

	memset(machine, 0, sizeof(*machine));
	uname(&machine->system);
	find_cpu(machine->cpu, sizeof(machine->cpu));
	read_line("/etc/machine-id", id, sizeof(id));
	gethostname(host, sizeof(host) - 1);
	machine->id = hash(hash(hash(UINT64_C(0xcbf29ce484222325), id), host), machine->cpu);
	read_line("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", governor, sizeof(governor));
	snprintf(machine->governor, sizeof(machine->governor), "%s", governor[0] ? governor : "unknown");
	read_line("/sys/devices/system/clocksource/clocksource0/current_clocksource", machine->clock,
		  sizeof(machine->clock));
	snprintf(machine->libc, sizeof(machine->libc), "glibc %s", gnu_get_libc_version());
	strftime(machine->date, sizeof(machine->date), "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&now, &utc));
	machine->load = getloadavg(load, 1) == 1 ? load[0] : 0;
}
