/* SPDX-License-Identifier: MIT */
/* The tables of the tests with many processes, and with many pipes. */
#include "bench.h"

static double least_sent(const struct sample *sample)
{
	return sample->send_share[0];
}

static double most_sent(const struct sample *sample)
{
	return sample->send_share[2];
}

static double least_received(const struct sample *sample)
{
	return sample->recv_share[0];
}

static double most_received(const struct sample *sample)
{
	return sample->recv_share[2];
}

static double median_sent(const struct sample *sample)
{
	return sample->send_share[1];
}

static double median_received(const struct sample *sample)
{
	return sample->recv_share[1];
}

static void print_shares(const struct cell *cell, int which, measure least, measure median, measure most)
{
	printf("   %.2f %.2f %.2f", results_value(cell, which, least).median,
	       results_value(cell, which, median).median, results_value(cell, which, most).median);
}

static void print_crowd(const struct results *results, const struct cell *cell)
{
	char text[TEXT_MAX], spread[SPREAD_MAX];
	int base = results_base(results, cell);

	for (int i = 0; i < results->options->transport_count; i++) {
		if (!results_value(cell, i, sample_ns).count)
			continue;
		printf("%2d to %d  %-15s", cell->senders, cell->receivers,
		       results->options->transports[i]->name);
		printf(" %8s", text_count(text, 1e9 / results_value(cell, i, sample_ns).median));
		printf(" %8s", text_time(text, results_value(cell, i, sample_cpu).median));
		printf(" %6.3f", results_value(cell, i, sample_switches).median);
		text_spread(spread, results_ratio(cell, base, i, sample_ns));
		printf("   %-22s", i == base ? "1" : spread);
		text_spread(spread, results_ratio(cell, i, base, sample_cpu));
		printf(" %-20s", i == base ? "1" : spread);
		print_shares(cell, i, least_sent, median_sent, most_sent);
		print_shares(cell, i, least_received, median_received, most_received);
		printf("\n");
	}
}

static void print_wake(const struct results *results, const struct cell *cell)
{
	char text[TEXT_MAX], spread[SPREAD_MAX];
	bool busy = cell->mode == MODE_SET_BUSY;
	int base = results_base(results, cell);

	for (int i = 0; i < results->options->transport_count; i++) {
		double ns = results_value(cell, i, sample_ns).median;

		if (!results_value(cell, i, sample_ns).count)
			continue;
		printf("%7u  %-15s", cell->pipes, results->options->transports[i]->name);
		printf(" %8s", busy ? text_count(text, 1e9 / ns) : text_time(text, ns));
		printf(" %8s", text_time(text, results_value(cell, i, sample_cpu).median));
		printf(" %6.3f", results_value(cell, i, sample_switches).median);
		text_spread(spread, results_ratio(cell, base, i, sample_ns));
		printf("   %-22s\n", i == base ? "1" : spread);
	}
}

/* Of the receiver alone; its waking and its falling asleep are in it, once. */
static void print_idle(const struct results *results, const struct cell *cell)
{
	char text[TEXT_MAX];

	for (int i = 0; i < results->options->transport_count; i++) {
		if (!results_value(cell, i, sample_ns).count)
			continue;
		printf("%7u  %-15s", cell->pipes, results->options->transports[i]->name);
		printf(" %8s", text_time(text, results_value(cell, i, sample_ns).median));
		printf(" %8s", text_time(text, results_value(cell, i, sample_recv_cpu).median));
		printf(" %6.0f\n", results_value(cell, i, sample_recv_switches).median);
	}
}

/* The cells of the fewest and of the most pipes, to see whether the number matters. */
static void print_growth(const struct view *view, enum mode mode)
{
	const struct results *results = view->results;
	const struct cell *few = NULL, *many = NULL;
	char spread[SPREAD_MAX];

	for (int i = 0; i < results->cell_count; i++) {
		if (!view_has(view, &results->cells[i], mode))
			continue;
		many = &results->cells[i];
		few = few ? few : many;
	}
	if (few == many)
		return;
	printf("  with %u pipes / with %u:", many->pipes, few->pipes);
	for (int i = 0; i < results->options->transport_count; i++) {
		struct spread s = results_growth(few, many, i, sample_ns);

		if (s.count)
			printf("  %s %s", results->options->transports[i]->name, text_spread(spread, s));
	}
	printf("\n");
}

static void print_costs(const struct view *view)
{
	const struct results *results = view->results;
	bool first = true;

	for (int c = 0; c < results->cell_count; c++) {
		const struct cell *cell = &results->cells[c];

		if (!view_has(view, cell, MODE_SET_ANY))
			continue;
		if (first)
			printf("\nWhat a pipe in a set costs: to meet at an address and add it; idle, the "
			       "memory\n"
			       "of both processes, and of the kernel, as far as the machine's own noise lets "
			       "one see\n"
			       "  pipes  transport           time  processes     kernel\n");
		first = false;
		for (int i = 0; i < results->options->transport_count; i++) {
			char text[TEXT_MAX];

			if (!results_value(cell, i, sample_ns).count)
				continue;
			printf("%7u  %-15s %8s %8.1fKiB", cell->pipes, results->options->transports[i]->name,
			       text_time(text, results_value(cell, i, sample_setup).median),
			       results_value(cell, i, sample_memory).median / 1024);
			if (cell->pipes >= 1000)
				printf(" %7.1fKiB",
				       results_value(cell, i, sample_kernel_memory).median / 1024);
			printf("\n");
		}
	}
}

static void print_mode(const struct view *view, enum mode mode, const char *title, const char *columns)
{
	const struct results *results = view->results;
	bool first = true;

	for (int i = 0; i < results->cell_count; i++) {
		const struct cell *cell = &results->cells[i];

		if (!view_has(view, cell, mode))
			continue;
		if (first)
			printf("\n%s, %s\n%s\n", title,
			       view->placement == TWO_CORES ? "two cores" : "one core", columns);
		first = false;
		if (is_crowd(mode))
			print_crowd(results, cell);
		else if (mode == MODE_SET_IDLE)
			print_idle(results, cell);
		else
			print_wake(results, cell);
	}
	if (mode == MODE_SET_ONE || mode == MODE_SET_ANY || mode == MODE_SET_WAKE)
		print_growth(view, mode);
}

void report_many(const struct view *view)
{
	const char *trip = "  pipes  transport           time      CPU switch   speed / epoll";
	const char *rate = "  pipes  transport         msgs/s      CPU switch   speed / epoll";

	print_mode(
		view, MODE_MANY,
		"Many processes on one pipe, 64 bytes; shares: least of a process in 200 ms, median, most, 1 "
		"is fair",
		"          transport         msgs/s      CPU switch   speed / pipe           CPU / pipe    "
		"         senders' shares  receivers' shares");
	print_mode(
		view, MODE_PAIRS,
		"Many pairs with a pipe each, 64 bytes; shares: least of a process in 200 ms, median, most, "
		"1 is fair",
		"          transport         msgs/s      CPU switch   speed / pipe           CPU / pipe    "
		"         senders' shares  receivers' shares");
	print_mode(view, MODE_SET_ONE, "One receiver, many pipes: round trips, always through the same one",
		   trip);
	print_mode(view, MODE_SET_ANY, "One receiver, many pipes: round trips, each through another one",
		   trip);
	print_mode(
		view, MODE_SET_WAKE,
		"One receiver, many pipes: round trips, each through another one, and each wakes a sleeper",
		trip);
	print_mode(view, MODE_SET_BUSY, "One receiver, many pipes: all of them busy", rate);
	print_mode(view, MODE_SET_IDLE, "One receiver, many pipes: none is used",
		   "  pipes  transport          watched      CPU switch");
	print_costs(view);
}
