/* SPDX-License-Identifier: MIT */
/* The tables of how long single messages take, and what they cost. */
#include "bench.h"

/* One line: the distribution over all rounds, the costs, and two ratios to the Unix pipe. */
static void print_line(const struct results *results, const struct cell *cell, int which)
{
	const struct histogram *histogram = cell->histograms[which];
	char text[TEXT_MAX], spread[SPREAD_MAX];
	int base = results_base(results, cell);
	double latency[LATENCIES];

	histogram_latencies(histogram, latency);
	printf("  %-15s", results->options->transports[which]->name);
	for (int i = 0; i < LATENCIES; i++)
		printf(" %8s", text_time(text, latency[i]));
	printf(" %8s", text_time(text, results_value(cell, which, sample_recv_cpu).median));
	printf(" %8s", text_time(text, results_value(cell, which, sample_cpu).median));
	printf(" %6.2f", results_value(cell, which, sample_switches).median);
	if (cell->syscalls[which] >= 0)
		printf(" %5.2f", cell->syscalls[which]);
	else
		printf("     -");
	text_spread(spread, results_ratio(cell, which, base, sample_ns));
	printf("   %-20s", which == base ? "1" : spread);
	text_spread(spread, results_ratio(cell, which, base, sample_cpu));
	printf(" %s\n", which == base ? "1" : spread);
}

static void print_table(const struct results *results, const struct cell *cell, const char *title)
{
	char size[TEXT_MAX];

	printf("\n%s, %s, %s\n"
	       "  transport            p50      p90      p99    p99.9      max recv CPU      CPU switch  "
	       "calls   p50 / pipe           CPU / pipe\n",
	       title, text_size(size, cell->len), cell->placement == TWO_CORES ? "two cores" : "one core");
	for (int i = 0; i < results->options->transport_count; i++) {
		if (cell->histograms[i] && cell->histograms[i]->count)
			print_line(results, cell, i);
	}
}

/* Of round trips, those of one size: 64 bytes where that was measured, else the first. */
static const struct cell *typical_trip(const struct view *view)
{
	const struct cell *found = NULL;

	for (int i = 0; i < view->results->cell_count; i++) {
		const struct cell *cell = &view->results->cells[i];

		if (view_has(view, cell, MODE_TRIP) && (!found || cell->len == 64))
			found = cell;
	}
	return found;
}

void report_latency(const struct view *view)
{
	const struct results *results = view->results;
	const struct cell *trip = typical_trip(view);
	char title[96];

	if (trip)
		print_table(results, trip, "Round trips, each timed");
	for (int i = 0; i < results->cell_count; i++) {
		const struct cell *cell = &results->cells[i];

		if (view_has(view, cell, MODE_ASLEEP)) {
			print_table(results, cell, "From one side to the other, which sleeps");
		} else if (view_has(view, cell, MODE_RATE)) {
			snprintf(title, sizeof(title), "%d messages a second, each from when it was due",
				 cell->rate);
			print_table(results, cell, title);
		}
	}
}
