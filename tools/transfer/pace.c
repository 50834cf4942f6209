/* SPDX-License-Identifier: MIT */
#include "pace.h"

#include "../clock.h"
#include "../common.h"
#include "../progress.h"

/* What was not used in the past is lost but for this long, so that a pause causes no burst. */
#define CREDIT_NS (SECOND_NS / 10)
/* A piece takes at least this part of a second. */
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
	/* 2^40 bytes at one a second take longer than an integer can say. */
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
