/* SPDX-License-Identifier: MIT */
#include "bench.h"

#include <errno.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

FILE *save_open(const char *path)
{
	FILE *file = strcmp(path, "-") == 0 ? fdopen(dup(STDOUT_FILENO), "w") : fopen(path, "we");

	if (!file)
		fprintf(stderr, "bufpipe-bench: %s: %s\n", path, strerror(errno));
	else
		fflush(stdout);
	return file;
}

int save_close(FILE *file, const char *path)
{
	bool bad = ferror(file);

	if (fclose(file) || bad) {
		fprintf(stderr, "bufpipe-bench: %s: not written\n", path);
		return -EIO;
	}
	return 0;
}

static void json_who(FILE *file, const struct cell *cell)
{
	fprintf(file, ", \"busy\": %d, \"throttle\": %d", cell->condition.busy, cell->condition.throttle);
	if (cell->mode == MODE_MANY)
		fprintf(file, ", \"senders\": %d, \"receivers\": %d", cell->senders, cell->receivers);
	if (cell->pipes)
		fprintf(file, ", \"pipes\": %u", cell->pipes);
}

/* What identifies a cell is repeated in each line, so that a line can stand alone. */
static void json_sample(FILE *file, const struct results *results, const struct cell *cell, int round,
			int which)
{
	const struct sample *s = &cell->samples[round][which];

	fprintf(file,
		"{\"test\": \"%s\", \"placement\": \"%s\", \"size\": %zu, \"transport\": \"%s\", "
		"\"round\": %d, "
		"\"ns\": %.2f, \"cpu_ns\": %.2f, \"recv_cpu_ns\": %.2f, \"switches\": %.5f, "
		"\"recv_switches\": %.5f",
		mode_name(cell->mode), placement_name(cell->placement), cell->len,
		results->options->transports[which]->name, round, s->ns, s->cpu_ns, s->recv_cpu_ns,
		s->switches, s->recv_switches);
	if (cell->condition.throttle)
		fprintf(file, ", \"throttled\": %.4f", s->throttled);
	if (cell->mode == MODE_IDLE)
		fprintf(file, ", \"settled_switches\": %.0f", s->settled_switches);
	if (cell->mode == MODE_MANY)
		fprintf(file,
			", \"send_share\": [%.4f, %.4f, %.4f], "
			"\"recv_share\": [%.4f, %.4f, %.4f]",
			s->send_share[0], s->send_share[1], s->send_share[2], s->recv_share[0],
			s->recv_share[1], s->recv_share[2]);
	if (cell->pipes)
		fprintf(file, ", \"setup_ns\": %.0f, \"memory\": %.0f, \"kernel_memory\": %.0f", s->setup_ns,
			s->memory, s->kernel_memory);
	json_who(file, cell);
	fputs("}", file);
}

static void json_spread(FILE *file, const char *name, struct spread spread)
{
	if (spread.count)
		fprintf(file, ", \"%s\": [%.4f, %.4f, %.4f]", name, spread.min, spread.median, spread.max);
}

static void json_ratio(FILE *file, const struct results *results, const struct cell *cell, int which)
{
	int floor = results_floor(results, cell);
	int base = results_base(results, cell);

	fprintf(file, "{\"test\": \"%s\", \"placement\": \"%s\", \"size\": %zu, \"transport\": \"%s\"",
		mode_name(cell->mode), placement_name(cell->placement), cell->len,
		results->options->transports[which]->name);
	json_who(file, cell);
	if (cell->pipes) {
		json_spread(file, "speed_over_epoll", results_ratio(cell, base, which, sample_ns));
		json_spread(file, "cpu_over_epoll", results_ratio(cell, which, base, sample_cpu));
		fputs("}", file);
		return;
	}
	if (cell->mode == MODE_TRIP || cell->mode == MODE_STREAM || cell->mode == MODE_MANY)
		json_spread(file, "speed_over_pipe", results_ratio(cell, 0, which, sample_ns));
	if (floor >= 0)
		json_spread(file, "time_over_floor", results_ratio(cell, which, floor, sample_ns));
	json_spread(file, "cpu_over_pipe", results_ratio(cell, which, 0, sample_cpu));
	json_spread(file, "recv_cpu_over_pipe", results_ratio(cell, which, 0, sample_recv_cpu));
	fputs("}", file);
}

static void json_head(FILE *file, const struct results *results)
{
	const struct options *options = results->options;
	struct utsname uts;

	uname(&uts);
	fprintf(file,
		"{\n\"kernel\": \"%s\", \"machine\": \"%s\", \"cpus\": %d, \"two_cores\": [%d, %d], "
		"\"one_core\": %d,\n"
		"\"ring\": %zu, \"rounds\": %d, \"duration_ns\": %llu, \"idle_duration_ns\": %llu,\n"
		"\"others\": %.3f, \"stolen\": %.3f,\n",
		uts.release, uts.machine, results->cpus.count, results->cpus.pair[0], results->cpus.pair[1],
		results->cpus.pair[1], options->ring, options->rounds,
		(unsigned long long)options->duration_ns, (unsigned long long)options->idle_duration_ns,
		results->others, results->stolen);
}

int save_json(const struct results *results, const char *path)
{
	int count = results->options->transport_count;
	const char *comma = "\n";
	FILE *file = save_open(path);

	if (!file)
		return -EIO;
	json_head(file, results);
	fputs("\"ratios\": [", file);
	for (int i = 0; i < results->cell_count * count; i++) {
		const struct cell *cell = &results->cells[i / count];

		if (!results_value(cell, i % count, sample_ns).count)
			continue;
		fputs(comma, file);
		json_ratio(file, results, cell, i % count);
		comma = ",\n";
	}
	fputs("\n],\n\"samples\": [", file);
	comma = "\n";
	for (int i = 0; i < results->cell_count; i++) {
		const struct cell *cell = &results->cells[i];

		for (int k = 0; k < cell->rounds * count; k++) {
			if (!cell->samples[k / count][k % count].valid)
				continue;
			fputs(comma, file);
			json_sample(file, results, cell, k / count, k % count);
			comma = ",\n";
		}
	}
	fputs("\n]\n}\n", file);
	return save_close(file, path);
}

int save_csv(const struct results *results, const char *path)
{
	int count = results->options->transport_count;
	FILE *file = save_open(path);

	if (!file)
		return -EIO;
	fputs("test,placement,size,transport,round,"
	      "ns,cpu_ns,recv_cpu_ns,switches,recv_switches,settled_switches,"
	      "senders,receivers,least_sent,most_sent,least_received,most_received,"
	      "pipes,setup_ns,memory,kernel_memory\n",
	      file);
	for (int i = 0; i < results->cell_count; i++) {
		const struct cell *cell = &results->cells[i];

		for (int k = 0; k < cell->rounds * count; k++) {
			const struct sample *s = &cell->samples[k / count][k % count];

			if (!s->valid)
				continue;
			fprintf(file, "%s,%s,%zu,%s,%d,%.2f,%.2f,%.2f,%.5f,%.5f,%.0f,", mode_name(cell->mode),
				placement_name(cell->placement), cell->len,
				results->options->transports[k % count]->name, k / count, s->ns, s->cpu_ns,
				s->recv_cpu_ns, s->switches, s->recv_switches, s->settled_switches);
			fprintf(file, "%d,%d,%.4f,%.4f,%.4f,%.4f,%u,%.0f,%.0f,%.0f\n", cell->senders,
				cell->receivers, s->send_share[0], s->send_share[2], s->recv_share[0],
				s->recv_share[2], cell->pipes, s->setup_ns, s->memory, s->kernel_memory);
		}
	}
	return save_close(file, path);
}
