/* SPDX-License-Identifier: MIT */
#include <stdio.h>
#include <unistd.h>

#include "common.h"
#include "progress.h"

#define SECOND_NS 1000000000LL
#define TICK_NS   (SECOND_NS / 4)

static struct {
	bool shown;
	bool drawn;
	uint64_t bytes;
	int64_t start_ns;
	uint64_t last_bytes;
	int64_t last_ns;
} progress;

void progress_start(void)
{
	progress.shown = isatty(STDERR_FILENO);
	progress.start_ns = now_ns();
	progress.last_ns = progress.start_ns;
}

bool progress_shown(void)
{
	return progress.shown;
}

int64_t progress_tick_ns(void)
{
	return progress.shown ? TICK_NS : -1;
}

static void format_bytes(char *text, size_t size, double bytes)
{
	static const char *const units[] = { "B", "KiB", "MiB", "GiB", "TiB", "PiB" };
	unsigned unit = 0;

	while (bytes >= 1024 && unit < 5) {
		bytes /= 1024;
		unit++;
	}
	snprintf(text, size, "%.*f %s", unit ? 2 : 0, bytes, units[unit]);
}

static void draw(double rate, int64_t now)
{
	char total[32], per_second[32], line[128];
	int seconds = (int)((now - progress.start_ns) / SECOND_NS);
	int len;

	format_bytes(total, sizeof(total), (double)progress.bytes);
	format_bytes(per_second, sizeof(per_second), rate);
	/* Fields of fixed width overwrite each other without terminal codes. */
	len = snprintf(line, sizeof(line), "\r%12s %12s/s %5d:%02d:%02d ", total, per_second, seconds / 3600,
		       seconds / 60 % 60, seconds % 60);
	/* A terminal that went away is no reason to stop the transfer. */
	if (write(STDERR_FILENO, line, (size_t)len) < 0)
		progress.shown = false;
	progress.drawn = true;
}

static double rate_since(uint64_t bytes, int64_t ns)
{
	return ns > 0 ? (double)bytes * SECOND_NS / (double)ns : 0;
}

void progress_draw(void)
{
	int64_t now;

	if (!progress.shown)
		return;
	now = now_ns();
	if (now - progress.last_ns < TICK_NS)
		return;
	draw(rate_since(progress.bytes - progress.last_bytes, now - progress.last_ns), now);
	progress.last_bytes = progress.bytes;
	progress.last_ns = now;
}

void progress_add(size_t bytes)
{
	progress.bytes += bytes;
	progress_draw();
}

void progress_end(void)
{
	int64_t now;

	if (!progress.shown)
		return;
	now = now_ns();
	draw(rate_since(progress.bytes, now - progress.start_ns), now);
	progress.shown = false;
	if (write(STDERR_FILENO, "\n", 1) < 0)
		return;
}
