/* SPDX-License-Identifier: MIT */
#include "bench.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/resource.h>

double sample_ns(const struct sample *sample)
{
	return sample->ns;
}

double sample_cpu(const struct sample *sample)
{
	return sample->cpu_ns;
}

double sample_recv_cpu(const struct sample *sample)
{
	return sample->recv_cpu_ns;
}

double sample_switches(const struct sample *sample)
{
	return sample->switches;
}

double sample_recv_switches(const struct sample *sample)
{
	return sample->recv_switches;
}

double sample_settled_switches(const struct sample *sample)
{
	return sample->settled_switches;
}

double sample_p99(const struct sample *sample)
{
	return sample->latency[LATENCY_P99];
}

double sample_throttled(const struct sample *sample)
{
	return sample->throttled;
}

double sample_setup(const struct sample *sample)
{
	return sample->setup_ns;
}

double sample_memory(const struct sample *sample)
{
	return sample->memory;
}

double sample_kernel_memory(const struct sample *sample)
{
	return sample->kernel_memory;
}

static int add_cell(struct results *results, enum mode mode, enum placement placement, size_t len, int rounds)
{
	size_t size = (size_t)(results->cell_count + 1) * sizeof(*results->cells);
	struct cell *cells = realloc(results->cells, size), *cell;

	if (!cells)
		return -ENOMEM;
	results->cells = cells;
	cell = &cells[results->cell_count];
	*cell = (struct cell){
		.condition = results->conditions[results->condition_count - 1],
		.mode = mode,
		.placement = placement,
		.len = len,
		.rounds = rounds,
		.samples = calloc((size_t)rounds, sizeof(*cell->samples)),
	};
	for (int i = 0; i < MAX_TRANSPORTS; i++)
		cell->syscalls[i] = -1;
	if (!cell->samples)
		return -ENOMEM;
	results->cell_count++;
	return 0;
}

/* Long enough for the time in it, short enough to be one line. */
#define SLOW_LEN 64

/* Some with far more processes than there are CPUs. */
static int add_crowds(struct results *results, enum placement placement)
{
	static const struct {
		enum mode mode;
		int senders;
		int receivers;
	} crowds[] = {
		{ MODE_MANY, 1, 1 }, { MODE_MANY, 2, 2 },  { MODE_MANY, 4, 4 },  { MODE_MANY, 8, 8 },
		{ MODE_MANY, 4, 1 }, { MODE_MANY, 32, 1 }, { MODE_PAIRS, 2, 2 }, { MODE_PAIRS, 8, 8 },
	};
	int err = 0;

	for (size_t i = 0; i < sizeof(crowds) / sizeof(crowds[0]) && !err; i++) {
		if (!results->options->modes[crowds[i].mode])
			continue;
		err = add_cell(results, crowds[i].mode, placement, SLOW_LEN, results->options->rounds);
		if (err)
			break;
		results->cells[results->cell_count - 1].senders = crowds[i].senders;
		results->cells[results->cell_count - 1].receivers = crowds[i].receivers;
	}
	return err;
}

/* A pipe takes a descriptor in each process, and some are needed for other things. */
static unsigned pipes_possible(void)
{
	struct rlimit files;

	if (getrlimit(RLIMIT_NOFILE, &files) || files.rlim_cur > 1 << 20)
		return 1 << 18;
	return files.rlim_cur > 128 ? (unsigned)files.rlim_cur - 128 : 0;
}

/* If the limit of descriptors allows fewer pipes, there are as many as it allows, so that the trend can be seen. */
static int add_set(struct results *results, enum mode mode, enum placement placement, unsigned pipes)
{
	unsigned possible = pipes_possible();
	int err;

	if (!results->options->modes[mode])
		return 0;
	if (pipes > possible) {
		results->left_out = pipes;
		pipes = possible / 1000 * 1000;
		if (pipes * 2 < results->left_out)
			return 0;
	}
	/* An idle receiver does the same each time, so it is watched once. */
	err = add_cell(results, mode, placement, SLOW_LEN,
		       mode == MODE_SET_IDLE ? 1 : results->options->rounds);
	if (!err)
		results->cells[results->cell_count - 1].pipes = pipes;
	return err;
}

static int add_sets(struct results *results, enum placement placement)
{
	int err = 0;

	for (int i = 0; i < results->options->pipe_count && !err; i++) {
		unsigned pipes = (unsigned)results->options->pipes[i];

		err = add_set(results, MODE_SET_ONE, placement, pipes);
		if (!err)
			err = add_set(results, MODE_SET_ANY, placement, pipes);
		if (!err)
			err = add_set(results, MODE_SET_WAKE, placement, pipes);
		if (!err)
			err = add_set(results, MODE_SET_BUSY, placement, pipes);
		if (!err)
			err = add_set(results, MODE_SET_IDLE, placement, pipes);
	}
	return err;
}

static int add_mode(struct results *results, enum mode mode, enum placement placement)
{
	const struct options *options = results->options;
	int err = 0;

	if (!options->modes[mode])
		return 0;
	/* An idle receiver does the same each time, so it is watched once. */
	if (mode == MODE_IDLE)
		return add_cell(results, mode, placement, SLOW_LEN, 1);
	if (mode == MODE_ASLEEP)
		return add_cell(results, mode, placement, SLOW_LEN, options->rounds);
	if (mode == MODE_RATE) {
		for (int i = 0; i < options->rate_count && !err; i++) {
			err = add_cell(results, mode, placement, SLOW_LEN, options->rounds);
			if (!err)
				results->cells[results->cell_count - 1].rate = options->rates[i];
		}
		return err;
	}
	for (int i = 0; i < options->size_count && !err; i++)
		err = add_cell(results, mode, placement, options->sizes[i], options->rounds);
	return err;
}

static bool is_always_free(const struct options *options)
{
	return options->busy_count == 1 && !options->busy[0] && options->throttle_count == 1 &&
	       !options->throttle[0] && options->priority_count == 1 && !options->priority[0];
}

/* All that is measured under one condition, the last one of the list. */
static int add_condition(struct results *results)
{
	const struct options *options = results->options;
	bool slow_done = false;
	int err = 0;

	for (int p = 0; p < PLACEMENTS && !err; p++) {
		if (!options->placements[p])
			continue;
		err = add_mode(results, MODE_TRIP, (enum placement)p);
		if (!err)
			err = add_mode(results, MODE_STREAM, (enum placement)p);
	}
	for (int p = 0; p < PLACEMENTS && !err; p++) {
		/* On free CPUs the placement matters little for sleepers, so the slow cases have one placement there. */
		if (!options->placements[p] || (slow_done && !options->both && is_always_free(options)))
			continue;
		slow_done = true;
		err = add_mode(results, MODE_ASLEEP, (enum placement)p);
		if (!err)
			err = add_mode(results, MODE_IDLE, (enum placement)p);
		if (!err)
			err = add_mode(results, MODE_RATE, (enum placement)p);
		if (!err)
			err = add_crowds(results, (enum placement)p);
		if (!err)
			err = add_sets(results, (enum placement)p);
	}
	return err;
}

int results_init(struct results *results, const struct options *options, const struct cpus *cpus)
{
	int count = options->throttle_count * options->priority_count * options->busy_count, err = 0;

	*results = (struct results){ .options = options, .cpus = *cpus };
	for (int i = 0; i < count && !err; i++) {
		int rest = i / options->busy_count;

		results->conditions[results->condition_count++] = (struct condition){
			.busy = options->busy[i % options->busy_count],
			.priority = options->priority[rest % options->priority_count],
			.throttle = options->throttle[rest / options->priority_count],
		};
		err = add_condition(results);
	}
	return err;
}

void results_free(struct results *results)
{
	for (int i = 0; i < results->cell_count; i++) {
		free(results->cells[i].samples);
		for (int t = 0; t < MAX_TRANSPORTS; t++)
			free(results->cells[i].histograms[t]);
	}
	free(results->cells);
}

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static struct spread spread_of(double *values, int n)
{
	struct spread spread = { .count = n };

	if (n == 0)
		return spread;
	qsort(values, (size_t)n, sizeof(*values), compare);
	spread.min = values[0];
	spread.max = values[n - 1];
	spread.median = n % 2 ? values[n / 2] : (values[n / 2 - 1] + values[n / 2]) / 2;
	return spread;
}

struct spread results_value(const struct cell *cell, int transport, measure what)
{
	double values[MAX_ROUNDS];
	int n = 0;

	for (int round = 0; round < cell->rounds; round++) {
		const struct sample *sample = &cell->samples[round][transport];

		if (sample->valid)
			values[n++] = what(sample);
	}
	return spread_of(values, n);
}

struct spread results_ratio(const struct cell *cell, int over, int under, measure what)
{
	double values[MAX_ROUNDS];
	int n = 0;

	if (over < 0 || under < 0)
		return spread_of(values, 0);

	for (int round = 0; round < cell->rounds; round++) {
		const struct sample *a = &cell->samples[round][over], *b = &cell->samples[round][under];

		if (a->valid && b->valid && what(b) > 0)
			values[n++] = what(a) / what(b);
	}
	return spread_of(values, n);
}

struct spread results_growth(const struct cell *from, const struct cell *to, int transport, measure what)
{
	double values[MAX_ROUNDS];
	int n = 0;

	for (int round = 0; round < from->rounds && round < to->rounds; round++) {
		const struct sample *a = &from->samples[round][transport],
				    *b = &to->samples[round][transport];

		if (a->valid && b->valid && what(a) > 0)
			values[n++] = what(b) / what(a);
	}
	return spread_of(values, n);
}

int results_base(const struct results *results, const struct cell *cell)
{
	const struct options *options = results->options;
	const struct transport *base = cell->pipes ? &transport_epoll : &transport_pipe;

	for (int i = 0; i < options->transport_count; i++) {
		if (options->transports[i] == base)
			return i;
	}
	return -1;
}

/* The fastest of those that call themselves one. */
int results_floor(const struct results *results, const struct cell *cell)
{
	const struct options *options = results->options;
	unsigned flag = cell->mode == MODE_TRIP ? TRANSPORT_FLOOR_TRIP : TRANSPORT_FLOOR_STREAM;
	double best = 0;
	int floor = -1;

	if (cell->mode != MODE_TRIP && cell->mode != MODE_STREAM)
		return -1;
	for (int i = 0; i < options->transport_count; i++) {
		struct spread ns;

		if (!(options->transports[i]->flags & flag))
			continue;
		ns = results_value(cell, i, sample_ns);
		if (ns.count && (floor < 0 || ns.median < best)) {
			floor = i;
			best = ns.median;
		}
	}
	return floor;
}

bool view_has(const struct view *view, const struct cell *cell, enum mode mode)
{
	return cell->mode == mode && cell->placement == view->placement &&
	       is_same_condition(&cell->condition, &view->condition);
}
