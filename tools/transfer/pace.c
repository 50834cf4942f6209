/* SPDX-License-Identifier: MIT */
#include "pace.h"

#include "../clock.h"
#include "../common.h"
#include "../progress.h"

/* After a pause, only this much time may be made up for, so that no long burst follows. */
#define CREDIT_NS (SECOND_NS / 10)
/* One piece takes this part of a second, or longer. */
#define PIECES 10

static struct {
	size_t rate;
	int64_t due_ns; /* when what was moved so far should have been moved */
} pace;

void pace_start(size_t bytes_per_second)
{
	pace.rate = bytes_per_second;
	pace.due_ns = now_ns();
}

size_t pace_piece(size_t len)
{
	size_t most = pace.rate / PIECES;

	if (pace.rate == 0)
		return len;
	if (most == 0)
		most = 1;
	return len < most ? len : most;
}

void pace_spend(size_t bytes)
{
	int64_t tick_ns, left_ns;
	double due_ns;

	if (pace.rate == 0)
		return;
	if (pace.due_ns < now_ns() - CREDIT_NS)
		pace.due_ns = now_ns() - CREDIT_NS;
	/* 2^40 bytes at one byte a second take longer than an int64_t of nanoseconds can express. */
	due_ns = (double)pace.due_ns + (double)bytes / (double)pace.rate * SECOND_NS;
	pace.due_ns = due_ns < (double)(INT64_MAX / 2) ? (int64_t)due_ns : INT64_MAX / 2;
	while (!stop_signal()) {
		left_ns = pace.due_ns - now_ns();
		if (left_ns <= 0)
			return;
		tick_ns = progress_tick_ns();
		sleep_ns(tick_ns > 0 && tick_ns < left_ns ? tick_ns : left_ns);
		progress_draw();
	}
}
