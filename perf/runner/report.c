/* SPDX-License-Identifier: MIT */
#include "bench.h"

static void print_placements(const struct results *results)
{
	const struct cpus *cpus = &results->cpus;

	if (results->options->placements[TWO_CORES])
		printf("Two cores: lead on CPU %d, echo on CPU %d%s.  ", cpus->pair[0], cpus->pair[1],
		       cpus->siblings ? ", which are threads of one core" : "");
	if (results->options->placements[ONE_CORE])
		printf("One core: both on CPU %d.", cpus->pair[1]);
	printf("\n");
}

void report_head(const struct results *results)
{
	const struct options *options = results->options;
	const struct machine *m = &results->machine;
	char text[TEXT_MAX], size[TEXT_MAX];

	printf("%s %s, %s, %s, %d CPU%s, load %.2f", m->system.sysname, m->system.release, m->system.machine,
	       m->cpu, results->cpus.count, results->cpus.count == 1 ? "" : "s", m->load);
	printf("\n%d round%s of %s, interleaved; buffer and pipe capacity %s.\n", options->rounds,
	       options->rounds == 1 ? "" : "s", text_time(text, (double)options->duration_ns),
	       text_size(size, options->ring));
	print_placements(results);
	fflush(stdout);
}

static void print_cell(const struct results *results, const struct cell *cell)
{
	int floor = results_floor(results, cell);
	char size[TEXT_MAX], cpu[TEXT_MAX], text[TEXT_MAX], spread[SPREAD_MAX];

	text_size(size, cell->len);
	for (int i = 0; i < results->options->transport_count; i++) {
		double ns = results_value(cell, i, sample_ns).median;

		if (!results_value(cell, i, sample_ns).count)
			continue;
		printf("%8s  %-15s", size, results->options->transports[i]->name);
		if (cell->mode == MODE_TRIP)
			printf(" %8s", text_time(text, ns));
		else
			printf(" %8s %8.3g", text_count(text, 1e9 / ns), (double)cell->len / ns);
		text_time(cpu, results_value(cell, i, sample_cpu).median);
		printf(" %8s %6.2f", cpu, results_value(cell, i, sample_switches).median);
		if (cell->condition.throttle)
			printf(" %7.0f %%", 100 * results_value(cell, i, sample_throttled).median);
		text_spread(spread, results_ratio(cell, 0, i, sample_ns));
		printf("   %-22s", i == 0 ? "1" : spread);
		text_spread(spread, results_ratio(cell, i, 0, sample_cpu));
		printf(" %-22s", i == 0 ? "1" : spread);
		if (floor >= 0 && floor != i)
			printf(" %s", text_spread(spread, results_ratio(cell, i, floor, sample_ns)));
		else if (floor == i)
			printf(" 1");
		printf("\n");
		size[0] = '\0';
	}
}

static void print_exchange(const struct view *view, enum mode mode)
{
	const struct results *results = view->results;
	bool first = true;

	for (int i = 0; i < results->cell_count; i++) {
		const struct cell *cell = &results->cells[i];

		if (!view_has(view, cell, mode))
			continue;
		if (first)
			printf("\n%s, %s\n    size  transport       %8s%s      CPU switch%s   %-22s %-22s "
			       "%s\n",
			       mode == MODE_TRIP ? "Round trips" : "Streams",
			       view->placement == TWO_CORES ? "two cores" : "one core",
			       mode == MODE_TRIP ? "time" : "msgs/s", mode == MODE_TRIP ? "" : "     GB/s",
			       cell->condition.throttle ? " throttled" : "", "speed / pipe", "CPU / pipe",
			       "time / floor");
		first = false;
		print_cell(results, cell);
	}
}

static void print_idle(const struct results *results, const struct cell *cell)
{
	char whole[TEXT_MAX], settled[TEXT_MAX], cpu[TEXT_MAX];
	bool first = true;

	for (int i = 0; i < results->options->transport_count; i++) {
		const struct sample *sample = &cell->samples[0][i];

		if (!sample->valid)
			continue;
		text_time(whole, (double)results->options->idle_duration_ns);
		text_time(settled, sample->settled_ns);
		if (first)
			printf("\nAn idle receiver: its context switches in %s, and in the last %s of these\n"
			       "  transport          in all   settled        CPU\n",
			       whole, settled);
		first = false;
		printf("  %-15s %9.0f %9.0f %10s\n", results->options->transports[i]->name,
		       sample->recv_switches, sample->settled_switches, text_time(cpu, sample->recv_cpu_ns));
	}
}

static void print_failures(const struct results *results)
{
	const struct options *options = results->options;

	if (results->failure_count)
		printf("\nFailed:\n");
	for (int i = 0; i < results->failure_count; i++) {
		const struct failure *failure = &results->failures[i];
		char text[CONDITION_MAX];

		text_condition(text, &failure->cell->condition);
		printf("  %s%s%s: %s\n", failure->what, text[0] ? ", " : "", text, failure->reason);
	}
	for (int i = 0; i < options->transport_count; i++) {
		if (results->failed[i] == FAILURES_MOST)
			printf("  %s was left out after that.\n", options->transports[i]->name);
	}
}

static void print_notes(const struct results *results)
{
	char text[TEXT_MAX];

	if (results->left_out)
		printf("%u pipes need %u descriptors, more than RLIMIT_NOFILE allows here.\n",
		       results->left_out, results->left_out + 128);
	if (results->throttle_refused)
		printf("\nNothing was throttled: no control group with cpu.max may be made here.\n");
	if (results->priority_refused)
		printf("\nNothing was SCHED_FIFO: that is not allowed here.\n");
	printf("\nMedians of the rounds; in brackets the smallest and the largest.  Ratios are taken within\n"
	       "a round: 'speed / pipe' above 1 is faster than the Unix pipe, 'time / floor' is how many\n"
	       "times the time of the fastest bare exchange.  CPU and switches: all processes, per "
	       "message.\n"
	       "Took %s; meanwhile other programs had %.0f %% of these CPUs and the host took %.0f %%.\n",
	       text_time(text, (double)results->elapsed_ns), 100 * results->others, 100 * results->stolen);
}

static void print_view(const struct view *view)
{
	const struct results *results = view->results;

	print_exchange(view, MODE_TRIP);
	print_exchange(view, MODE_STREAM);
	for (int i = 0; i < results->cell_count; i++) {
		if (view_has(view, &results->cells[i], MODE_IDLE))
			print_idle(results, &results->cells[i]);
	}
	report_latency(view);
	report_many(view);
}

void report_tables(const struct results *results)
{
	for (int i = 0; i < results->condition_count; i++) {
		struct view view = { .results = results, .condition = results->conditions[i] };
		char text[CONDITION_MAX];

		if (view.condition.throttle && results->throttle_refused)
			continue;
		if (needs_real_time(view.condition.priority) && results->priority_refused)
			continue;
		text_condition(text, &view.condition);
		if (text[0] || results->condition_count > 1)
			printf("\n== %s\n", text[0] ? text : "free CPUs");
		for (int p = 0; p < PLACEMENTS; p++) {
			view.placement = (enum placement)p;
			print_view(&view);
		}
	}
	print_failures(results);
	print_notes(results);
}
