/* SPDX-License-Identifier: MIT */
/* The result file; perf/README.md documents its keys, which do not change without a new "format". */
#include "bench.h"
#include "commit.h"

#include <bufpipe.h>
#include <errno.h>
#include <string.h>
#include <unistd.h>

#define FORMAT 1

static void put_string(FILE *file, const char *text)
{
	fputc('"', file);
	for (; *text; text++) {
		if (*text == '"' || *text == '\\')
			fputc('\\', file);
		if ((unsigned char)*text >= ' ')
			fputc(*text, file);
	}
	fputc('"', file);
}

static void put_text(FILE *file, const char *key, const char *text)
{
	fprintf(file, "\"%s\": ", key);
	put_string(file, text);
}

/* What identifies a cell is repeated in each line, so that a line can stand alone. */
static void put_cell(FILE *file, const struct results *results, const struct cell *cell, int which)
{
	fprintf(file,
		"{\"test\": \"%s\", \"placement\": \"%s\", \"busy\": %d, \"throttle\": %d, \"size\": %zu",
		mode_name(cell->mode), placement_name(cell->placement), cell->condition.busy,
		cell->condition.throttle, cell->len);
	if (cell->condition.priority)
		fprintf(file, ", \"priority\": \"%s\"", priority_name(cell->condition.priority));
	if (is_crowd(cell->mode))
		fprintf(file, ", \"senders\": %d, \"receivers\": %d", cell->senders, cell->receivers);
	if (cell->pipes)
		fprintf(file, ", \"pipes\": %u", cell->pipes);
	if (cell->rate)
		fprintf(file, ", \"rate\": %d", cell->rate);
	fprintf(file, ", \"transport\": \"%s\"", results->options->transports[which]->name);
}

static void put_percentiles(FILE *file, const double latency[LATENCIES])
{
	fprintf(file,
		", \"p50_ns\": %.0f, \"p90_ns\": %.0f, \"p99_ns\": %.0f, \"p999_ns\": %.0f, \"max_ns\": %.0f",
		latency[LATENCY_P50], latency[LATENCY_P90], latency[LATENCY_P99], latency[LATENCY_P999],
		latency[LATENCY_MAX]);
}

static void put_shares(FILE *file, const char *key, const double shares[3])
{
	fprintf(file, ", \"%s\": [%.4f, %.4f, %.4f]", key, shares[0], shares[1], shares[2]);
}

static void put_sample(FILE *file, const struct results *results, const struct cell *cell, int round,
		       int which)
{
	const struct sample *s = &cell->samples[round][which];

	put_cell(file, results, cell, which);
	fprintf(file,
		", \"round\": %d, \"ns\": %.2f, \"cpu_ns\": %.2f, \"recv_cpu_ns\": %.2f, \"switches\": %.5f, "
		"\"recv_switches\": %.5f",
		round, s->ns, s->cpu_ns, s->recv_cpu_ns, s->switches, s->recv_switches);
	if (cell->histograms[which])
		put_percentiles(file, s->latency);
	if (cell->condition.throttle)
		fprintf(file, ", \"throttled\": %.4f", s->throttled);
	if (cell->mode == MODE_IDLE)
		fprintf(file, ", \"settled_switches\": %.0f, \"settled_ns\": %.0f", s->settled_switches,
			s->settled_ns);
	if (is_crowd(cell->mode)) {
		put_shares(file, "send_share", s->send_share);
		put_shares(file, "recv_share", s->recv_share);
	}
	if (cell->pipes)
		fprintf(file, ", \"setup_ns\": %.0f, \"memory\": %.0f, \"kernel_memory\": %.0f", s->setup_ns,
			s->memory, s->kernel_memory);
	fputs("}", file);
}

/* Over all rounds: the system calls, and the distribution where there is one. */
static void put_total(FILE *file, const struct results *results, const struct cell *cell, int which)
{
	const struct histogram *histogram = cell->histograms[which];
	const char *comma = "";
	double latency[LATENCIES];

	put_cell(file, results, cell, which);
	if (cell->syscalls[which] >= 0)
		fprintf(file, ", \"syscalls\": %.5f", cell->syscalls[which]);
	if (histogram && histogram->count) {
		histogram_latencies(histogram, latency);
		put_percentiles(file, latency);
		fprintf(file, ", \"count\": %llu, \"buckets\": [", (unsigned long long)histogram->count);
		for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++) {
			if (!histogram->buckets[i])
				continue;
			fprintf(file, "%s[%llu, %llu]", comma, (unsigned long long)histogram_end(i),
				(unsigned long long)histogram->buckets[i]);
			comma = ", ";
		}
		fputs("]", file);
	}
	fputs("}", file);
}

static void put_machine(FILE *file, const struct results *results)
{
	const struct machine *m = &results->machine;
	const struct cpus *cpus = &results->cpus;

	fprintf(file, "\"machine\": {\"id\": \"%016llx\", ", (unsigned long long)m->id);
	put_text(file, "cpu", m->cpu);
	fprintf(file, ", \"cpus\": %d, \"two_cores\": [%d, %d], \"one_core\": %d, \"siblings\": %s, ",
		cpus->count, cpus->pair[0], cpus->pair[1], cpus->pair[1], cpus->siblings ? "true" : "false");
	put_text(file, "kernel", m->system.release);
	fputs(", ", file);
	put_text(file, "architecture", m->system.machine);
	fputs(", ", file);
	put_text(file, "libc", m->libc);
	fputs(", ", file);
	put_text(file, "governor", m->governor);
	fputs(", ", file);
	put_text(file, "clock", m->clock);
	fputs("},\n", file);
}

static void put_head(FILE *file, const struct results *results)
{
	const struct options *options = results->options;
	unsigned version = bufpipe_version();

	fprintf(file, "{\n\"format\": %d,\n", FORMAT);
	fprintf(file, "\"bufpipe\": {\"version\": \"%u.%u.%u\", \"commit\": \"%s\"},\n", version >> 16,
		version >> 8 & 0xff, version & 0xff, BUFPIPE_COMMIT);
	fprintf(file, "\"date\": \"%s\",\n", results->machine.date);
	put_machine(file, results);
	fprintf(file,
		"\"parameters\": {\"ring\": %zu, \"rounds\": %d, \"duration_ns\": %llu, "
		"\"rate_duration_ns\": %llu, \"idle_duration_ns\": %llu},\n",
		options->ring, options->rounds, (unsigned long long)options->duration_ns,
		(unsigned long long)options->rate_duration_ns, (unsigned long long)options->idle_duration_ns);
	fprintf(file,
		"\"noise\": {\"others\": %.4f, \"stolen\": %.4f, \"load\": %.2f, \"elapsed_ns\": %llu},\n"
		"\"complete\": %s, \"throttle_refused\": %s, \"priority_refused\": %s, \"syscalls_counted\": "
		"%s,\n",
		results->others, results->stolen, results->machine.load,
		(unsigned long long)results->elapsed_ns, results->complete ? "true" : "false",
		results->throttle_refused ? "true" : "false", results->priority_refused ? "true" : "false",
		results->syscalls_id ? "true" : "false");
}

static void put_transports(FILE *file, const struct results *results)
{
	fputs("\"transports\": [", file);
	for (int i = 0; i < results->options->transport_count; i++) {
		const struct transport *t = results->options->transports[i];

		fputs(i ? ",\n{" : "\n{", file);
		put_text(file, "name", t->name);
		fputs(", ", file);
		put_text(file, "about", t->about);
		fputs(", ", file);
		put_text(file, "room", t->room);
		fputs(", ", file);
		put_text(file, "version", t->version ? t->version() : "");
		fprintf(file, ", \"spins\": %s, \"floor\": %s}",
			t->flags & TRANSPORT_SPINS ? "true" : "false",
			t->flags & (TRANSPORT_FLOOR_TRIP | TRANSPORT_FLOOR_STREAM) ? "true" : "false");
	}
	fputs("\n],\n", file);
}

/* Calls put for each sample, or for each transport in a cell when rounds are not told apart. */
static void put_lines(FILE *file, const struct results *results, bool totals)
{
	int count = results->options->transport_count;
	const char *comma = "\n";

	for (int i = 0; i < results->cell_count; i++) {
		const struct cell *cell = &results->cells[i];

		for (int k = 0; k < (totals ? 1 : cell->rounds) * count; k++) {
			if (totals ? !results_value(cell, k, sample_ns).count
				   : !cell->samples[k / count][k % count].valid)
				continue;
			fputs(comma, file);
			comma = ",\n";
			if (totals)
				put_total(file, results, cell, k);
			else
				put_sample(file, results, cell, k / count, k % count);
		}
	}
}

/* Measurements that failed, and what was left out because of them. */
static void put_failures(FILE *file, const struct results *results)
{
	const char *comma = "\n";

	fputs("\"failures\": [", file);
	for (int i = 0; i < results->failure_count; i++) {
		const struct failure *failure = &results->failures[i];

		fputs(i ? ",\n" : "\n", file);
		put_cell(file, results, failure->cell, failure->transport);
		fprintf(file, ", \"round\": %d, ", failure->round);
		put_text(file, "reason", failure->reason);
		fputs("}", file);
	}
	fputs("\n],\n\"left_out\": [", file);
	for (int i = 0; i < results->cell_count; i++) {
		for (int t = 0; t < results->options->transport_count; t++) {
			if (!results->cells[i].left_out[t])
				continue;
			fputs(comma, file);
			comma = ",\n";
			put_cell(file, results, &results->cells[i], t);
			fputs("}", file);
		}
	}
	fputs("\n],\n", file);
}

static FILE *open_file(const char *path)
{
	FILE *file = strcmp(path, "-") == 0 ? fdopen(dup(STDOUT_FILENO), "w") : fopen(path, "we");

	if (!file)
		fprintf(stderr, "bufpipe-bench: %s: %s\n", path, strerror(errno));
	else
		fflush(stdout);
	return file;
}

int save_json(const struct results *results, const char *path)
{
	FILE *file = open_file(path);
	bool bad;

	if (!file)
		return -EIO;
	put_head(file, results);
	put_transports(file, results);
	put_failures(file, results);
	fputs("\"samples\": [", file);
	put_lines(file, results, false);
	fputs("\n],\n\"totals\": [", file);
	put_lines(file, results, true);
	fputs("\n]\n}\n", file);
	bad = ferror(file);
	if (fclose(file) || bad) {
		fprintf(stderr, "bufpipe-bench: %s: not written\n", path);
		return -EIO;
	}
	return 0;
}
