/* SPDX-License-Identifier: MIT */
#include "bench.h"

#include <errno.h>
#include <string.h>
#include <sys/resource.h>

/* For ten thousand pipes into one receiver. */
#define WANTED_FILES 40000

/* Many pipes need many descriptors. If the limit cannot be raised, there will be fewer pipes. */
static void raise_limit(void)
{
	struct rlimit files;

	if (getrlimit(RLIMIT_NOFILE, &files))
		return;
	files.rlim_cur = files.rlim_max;
	if (files.rlim_max < WANTED_FILES)
		files.rlim_cur = files.rlim_max = WANTED_FILES;
	if (setrlimit(RLIMIT_NOFILE, &files) && getrlimit(RLIMIT_NOFILE, &files) == 0) {
		files.rlim_cur = files.rlim_max;
		setrlimit(RLIMIT_NOFILE, &files);
	}
}

static int find_cpus(struct options *options, struct cpus *cpus)
{
	int err = cpus_find(cpus, options->cpu);

	if (err == -EINVAL) {
		fprintf(stderr, "bufpipe-bench: --cpus: not both CPUs may be used here\n");
		return err;
	}
	if (err) {
		fprintf(stderr, "bufpipe-bench: the CPUs: %s\n", strerror(-err));
		return err;
	}
	if (cpus->pair[0] != cpus->pair[1] || !options->placements[TWO_CORES])
		return 0;
	fprintf(stderr, "bufpipe-bench: there is one CPU only, so the two-core part is left out\n");
	options->placements[TWO_CORES] = false;
	/* If only that part was asked for, nothing can be measured, so this is an error. */
	if (!options->placements[ONE_CORE])
		return -ENODEV;
	return 0;
}

/* Reports and saves what was measured, even if something failed. */
static int run(struct results *results)
{
	int err, save_err;

	report_head(results);
	err = plan_run(results);
	results->complete = !err && !results->failure_count;
	report_tables(results);
	save_err = results->options->json ? save_json(results, results->options->json) : 0;
	if (results->failure_count)
		fprintf(stderr, "bufpipe-bench: %d measurements failed\n", results->failure_count);
	if (!err && results->failure_count)
		err = -EIO;
	return err ? err : save_err;
}

int main(int argc, char **argv)
{
	struct options options;
	struct results results;
	struct cpus cpus;
	int err;

	err = options_parse(&options, argc, argv);
	if (err)
		return err > 0 ? 0 : 2;
	err = find_cpus(&options, &cpus);
	if (err)
		return err == -EINVAL ? 2 : 1;
	raise_limit();
	err = results_init(&results, &options, &cpus);
	machine_find(&results.machine);
	if (err)
		fprintf(stderr, "bufpipe-bench: %s\n", strerror(-err));
	else
		err = run(&results);
	results_free(&results);
	if (fflush(stdout) && !err) {
		perror("bufpipe-bench: standard output");
		err = -EIO;
	}
	return err ? 1 : 0;
}
