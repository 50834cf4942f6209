/* SPDX-License-Identifier: MIT */
/*
 * The order of the measurements.  The speed of a machine that others use changes with
 * time, so only measurements at neighbouring times are compared: in each round, each
 * cell runs all its transports one after the other.  Each round begins with another
 * transport, so that none gains from its place.
 */
#include "bench.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MS UINT64_C(1000000)
static bool is_fit(const struct options *options, const struct transport *transport, const struct cell *cell)
{
	enum mode mode = cell->mode;

	if (cell->pipes || transport->flags & TRANSPORT_SET)
		return cell->pipes && transport->flags & TRANSPORT_SET;
	/* With one process at each side, transports for one user at each end take part too. */
	if (mode == MODE_MANY && cell->senders == 1 && cell->receivers == 1)
		return !(transport->flags & (TRANSPORT_SPINS | TRANSPORT_EXTRA)) ||
		       transport->flags & TRANSPORT_MANY;
	if (mode == MODE_MANY)
		return transport->flags & TRANSPORT_MANY;
	if (mode == MODE_PAIRS && (transport->flags & TRANSPORT_SPINS || !transport->send))
		return false;
	if (transport->flags & TRANSPORT_EXTRA && !options->extra)
		return false;
	if (mode == MODE_STREAM)
		return !(transport->flags & TRANSPORT_NO_STREAM);
	if (mode == MODE_IDLE || mode == MODE_RATE || mode == MODE_ASLEEP)
		return !(transport->flags & TRANSPORT_SPINS);
	return true;
}

/*
 * Many processes take their turns, of some milliseconds each, and setting many
 * pipes up takes long.  So do the turns of busy programs, and a limit counts in
 * periods of 100 ms.
 */
static uint64_t duration(const struct options *options, const struct cell *cell)
{
	uint64_t least = cell->condition.throttle ? 1000 * MS : cell->condition.busy ? 200 * MS : 0;
	uint64_t ns = options->duration_ns;

	if (cell->mode == MODE_IDLE || cell->mode == MODE_SET_IDLE)
		return options->idle_duration_ns;
	if (cell->mode >= MODE_MANY)
		ns *= 4;
	else if (cell->mode == MODE_RATE || cell->mode == MODE_ASLEEP)
		ns = options->rate_duration_ns;
	if (is_crowd(cell->mode) && least < 200 * MS)
		least = 200 * MS;
	return ns < least && !options->time_given ? least : ns;
}

static struct job make_job(const struct results *results, const struct cell *cell)
{
	const struct options *options = results->options;
	const struct cpus *cpus = &results->cpus;
	struct job job = {
		.mode = cell->mode,
		.placement = cell->placement,
		.cpu = { cpus->pair[cell->placement == ONE_CORE], cpus->pair[1] },
		.shape = { .len = cell->len, .ring = options->ring, .pipes = cell->pipes },
		.senders = cell->senders,
		.receivers = cell->receivers,
		.rate = cell->rate,
		.grace_ns = options->grace_ns,
		.is_free = !cell->condition.busy && !cell->condition.throttle && !cell->condition.priority,
	};

	job.shape.one_core = job.cpu[0] == job.cpu[1];
	job.shape.stream = cell->mode == MODE_STREAM || is_crowd(cell->mode) || cell->mode == MODE_SET_BUSY;
	return job;
}

static bool has_histogram(enum mode mode)
{
	return mode != MODE_STREAM && mode != MODE_IDLE && !is_crowd(mode) && mode != MODE_SET_BUSY &&
	       mode != MODE_SET_IDLE;
}

/* A measurement that fails leaves its place empty. A transport that does so again is left out, so that it costs its own places alone. */
static void note_failure(struct results *results, const struct cell *cell, int round, int which,
			 const struct job *job)
{
	struct failure *failure = &results->failures[results->failure_count++];

	*failure = (struct failure){ .cell = cell, .transport = which, .round = round };
	text_job(failure->what, job);
	snprintf(failure->reason, sizeof(failure->reason), "%s", job->reason);
	if (++results->failed[which] == FAILURES_MOST)
		fprintf(stderr, "bufpipe-bench: %s is left out from here on\n", job->transport->name);
}

/* The round that counts system calls measures nothing else. */
static void run_one(struct results *results, struct cell *cell, struct job job, int round, int which)
{
	bool counts = round == results->options->rounds;
	struct sample counted, *sample = counts ? &counted : &cell->samples[round][which];
	char reason[REASON_MAX] = "";
	int err;

	if (results->failed[which] == FAILURES_MOST) {
		cell->left_out[which] |= !counts;
		return;
	}
	job.transport = results->options->transports[which];
	job.syscalls_id = counts ? results->syscalls_id : 0;
	job.duration_ns = duration(results->options, cell) / (counts ? 4 : 1);
	if (!counts && has_histogram(cell->mode) && !cell->histograms[which])
		cell->histograms[which] = calloc(1, sizeof(struct histogram));
	job.histogram = counts ? NULL : cell->histograms[which];
	job.reason = reason;
	err = (is_crowd(cell->mode) ? crowd_run : pair_run)(&job, sample);
	if (!err && counts)
		cell->syscalls[which] = counted.syscalls;
	if (err && err != -EOPNOTSUPP)
		note_failure(results, cell, round, which, &job);
}

static void run_cell(struct results *results, struct cell *cell, int round)
{
	const struct options *options = results->options;
	struct job job = make_job(results, cell);

	for (int i = 0; i < options->transport_count; i++) {
		int which = (i + round) % options->transport_count;

		if (is_fit(options, options->transports[which], cell))
			run_one(results, cell, job, round, which);
	}
}

static void show_progress(const struct results *results, const struct cell *cell, int round)
{
	char size[TEXT_MAX];

	if (!results->options->progress)
		return;
	fprintf(stderr, "\r\033[Kround %d of %d: %s, %s core%s, %s", round + 1, results->options->rounds,
		mode_name(cell->mode), placement_name(cell->placement),
		cell->placement == TWO_CORES ? "s" : "", text_size(size, cell->len));
}

/* What ran on the CPUs beside our own processes, as a part of all their time. */
static double load_of_others(const struct load *before, const struct load *after)
{
	double busy = (double)(after->busy_ns - before->busy_ns);
	double own = (double)(after->own_ns - before->own_ns);
	double all = (double)(after->at_ns - before->at_ns) * after->capacity;

	return busy > own ? (busy - own) / all : 0;
}

/* If this program may not limit anything or give real-time priorities, the rest is still measured. */
static int enter(struct results *results, const struct condition *condition)
{
	int err = condition_enter(condition, &results->cpus);

	if (err == -EPERM && condition->priority) {
		if (!results->priority_refused)
			fprintf(stderr, "bufpipe-bench: --priority: SCHED_FIFO is left out, it is not "
					"allowed here\n");
		results->priority_refused = true;
		return -EOPNOTSUPP;
	}
	if (!err || !condition->throttle)
		return err;
	if (!results->throttle_refused)
		fprintf(stderr,
			"bufpipe-bench: --throttle is left out: no control group with cpu.max here: %s\n",
			strerror(-err));
	results->throttle_refused = true;
	return -EOPNOTSUPP;
}

static bool is_idle(enum mode mode)
{
	return mode == MODE_IDLE || mode == MODE_SET_IDLE;
}

static int run_round(struct results *results, const struct condition *condition, int round)
{
	int err = enter(results, condition);

	if (err)
		return err == -EOPNOTSUPP ? 0 : err;
	for (int i = 0; i < results->cell_count; i++) {
		struct cell *cell = &results->cells[i];

		if (round >= cell->rounds && (round < results->options->rounds || is_idle(cell->mode)))
			continue;
		if (!is_same_condition(&cell->condition, condition))
			continue;
		show_progress(results, cell, round);
		run_cell(results, cell, round);
	}
	condition_leave();
	return 0;
}

int plan_run(struct results *results)
{
	struct load before, after;
	int rounds, err = 0;

	cpus_load(&results->cpus, &before);
	/* The last round counts system calls, where the kernel allows that. */
	results->syscalls_id = syscalls_find();
	rounds = results->options->rounds + (results->syscalls_id != 0);
	for (int round = 0; round < rounds && !err; round++) {
		for (int i = 0; i < results->condition_count && !err; i++)
			err = run_round(results, &results->conditions[i], round);
	}
	if (results->options->progress)
		fprintf(stderr, "\r\033[K");
	cpus_load(&results->cpus, &after);
	results->elapsed_ns = after.at_ns - before.at_ns;
	results->others = load_of_others(&before, &after);
	results->stolen =
		(double)(after.stolen_ns - before.stolen_ns) / after.capacity / (double)results->elapsed_ns;
	return err;
}
