/* SPDX-License-Identifier: MIT */
#include "progress.h"

#include <stdio.h>
#include <unistd.h>

#include "clock.h"

#define TICK_NS (SECOND_NS / 4)
/* The longest time that is shown for the rest, in seconds. */
#define LONGEST_ETA (99 * 3600)

static struct {
	bool shown;
	const bufpipe_t *pipe;
	bool sends;
	uint64_t size;
	uint64_t bytes;
	int64_t start_ns;
	uint64_t last_bytes;
	int64_t last_ns;
} progress;

void progress_start(uint64_t size)
{
	progress.shown = isatty(STDERR_FILENO);
	progress.size = size;
	progress.start_ns = now_ns();
	progress.last_ns = progress.start_ns;
}

void progress_watch(const bufpipe_t *pipe, bool sends)
{
	progress.pipe = pipe;
	progress.sends = sends;
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

static double rate_since(uint64_t bytes, int64_t ns)
{
	return ns > 0 ? (double)bytes * SECOND_NS / (double)ns : 0;
}

/* If the buffer is full, the receiver is the slow side; if it is empty, the sender is. */
static void format_fill(char *text, size_t size)
{
	const struct bufpipe_ring_stats *ring;
	struct bufpipe_stats stats;
	double percent;

	text[0] = '\0';
	if (!progress.pipe || bufpipe_get_stats(progress.pipe, &stats) < 0)
		return;
	ring = progress.sends ? &stats.out : &stats.in;
	if (ring->size == 0)
		return;
	percent = (double)ring->used * 100 / (double)ring->size;
	snprintf(text, size, " buffer %3d%%", percent < 100 ? (int)percent : 100);
}

/* How much of the size has come, and how long the rest takes at the mean rate so far. */
static void format_rest(char *text, size_t size, int64_t now)
{
	double rate = rate_since(progress.bytes, now - progress.start_ns);
	double done = (double)progress.bytes / (double)progress.size;
	double seconds;
	int eta;

	text[0] = '\0';
	if (progress.size == 0)
		return;
	if (done > 1)
		done = 1;
	seconds = rate > 0 ? (1 - done) * (double)progress.size / rate : LONGEST_ETA;
	eta = seconds < LONGEST_ETA ? (int)seconds : LONGEST_ETA;
	snprintf(text, size, " %3d%% ETA %2d:%02d:%02d", (int)(done * 100), eta / 3600, eta / 60 % 60,
		 eta % 60);
}

static void draw(double rate, int64_t now)
{
	char total[32], per_second[32], fill[32], rest[64], line[256];
	int seconds = (int)((now - progress.start_ns) / SECOND_NS);
	int len;

	format_bytes(total, sizeof(total), (double)progress.bytes);
	format_bytes(per_second, sizeof(per_second), rate);
	format_fill(fill, sizeof(fill));
	format_rest(rest, sizeof(rest), now);
	/* Fields of fixed width overwrite each other without terminal codes. */
	len = snprintf(line, sizeof(line), "\r%12s %12s/s %5d:%02d:%02d%12s%s ", total, per_second,
		       seconds / 3600, seconds / 60 % 60, seconds % 60, fill, rest);
	/* The transfer goes on without a terminal. */
	if (write(STDERR_FILENO, line, (size_t)len) < 0)
		progress.shown = false;
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
