/* SPDX-License-Identifier: MIT */
#include "bench.h"

#include <errno.h>
#include <getopt.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MS UINT64_C(1000000)

static const char usage[] =
	"Usage: bufpipe-bench [OPTION]...\n"
	"Compares bufpipe with the Unix pipe and with the least that is possible.\n"
	"\n"
	"How much\n"
	"  --quick             a few sizes, 3 short rounds: under a minute\n"
	"  --full              all sizes and transports, 7 rounds: an hour\n"
	"  --sizes LIST        message sizes, as in 8,512,64k,1M; from 8 to 64M\n"
	"  --rounds N          rounds, 1 to 99; in each, all transports take turns\n"
	"  --time MS           milliseconds of each measurement\n"
	"  --idle SECONDS      how long the idle receiver is watched\n"
	"  --grace SECONDS     how much longer than planned a measurement may take before\n"
	"                      it is given up as hanging; default 60\n"
	"  --ring SIZE         bytes in flight, also of the Unix pipe; default 64k\n"
	"  --pipes LIST        how many pipes lead into one receiver, from 1 to 100000\n"
	"  --rates LIST        messages a second of a paced sender\n"
	"\n"
	"On what machine; several values give a table for each\n"
	"  --busy LIST         how many busy programs of nice 0 run on each CPU, 0 to 8\n"
	"  --throttle LIST     percent of one CPU that all processes measured may use\n"
	"                      together, by a control group; 0: no limit\n"
	"  --priority LIST     how the measured processes are scheduled, of normal,\n"
	"                      fifo-lead, fifo-echo, fifo-both, nice-lead, nice-echo: the\n"
	"                      lead (the senders), the echo (the receivers) or both are\n"
	"                      SCHED_FIFO, or one side is at nice 19\n"
	"\n"
	"Which part\n"
	"  --only NAME[,NAME]  these transports, and the Unix pipe\n"
	"  --tests LIST        of trip, stream, asleep, idle, rate, many, pairs, set\n"
	"  --placement LIST    of two, one: how many cores both processes have\n"
	"  --both              both placements of every test; on free CPUs, those with\n"
	"                      sleepers and many processes have one otherwise\n"
	"  --cpus A,B          the two CPUs; on one core both are on B\n"
	"  --list              names the transports, with what bounds their bytes in flight\n"
	"  --check             measures nothing; the status is 2 if an option is wrong\n"
	"\n"
	"  --json FILE         where to write all that was measured; - is standard output\n"
	"  --help\n";

enum option_id {
	OPT_QUICK = 1,
	OPT_FULL,
	OPT_SIZES,
	OPT_ROUNDS,
	OPT_TIME,
	OPT_IDLE,
	OPT_GRACE,
	OPT_RING,
	OPT_PIPES,
	OPT_RATES,
	OPT_BUSY,
	OPT_THROTTLE,
	OPT_PRIORITY,
	OPT_ONLY,
	OPT_ALL,
	OPT_TESTS,
	OPT_PLACEMENT,
	OPT_BOTH,
	OPT_CPUS,
	OPT_LIST,
	OPT_CHECK,
	OPT_JSON,
	OPT_HELP,
};

static const struct option long_options[] = {
	{ "quick", no_argument, NULL, OPT_QUICK },
	{ "full", no_argument, NULL, OPT_FULL },
	{ "sizes", required_argument, NULL, OPT_SIZES },
	{ "rounds", required_argument, NULL, OPT_ROUNDS },
	{ "time", required_argument, NULL, OPT_TIME },
	{ "idle", required_argument, NULL, OPT_IDLE },
	{ "grace", required_argument, NULL, OPT_GRACE },
	{ "ring", required_argument, NULL, OPT_RING },
	{ "pipes", required_argument, NULL, OPT_PIPES },
	{ "rates", required_argument, NULL, OPT_RATES },
	{ "busy", required_argument, NULL, OPT_BUSY },
	{ "throttle", required_argument, NULL, OPT_THROTTLE },
	{ "priority", required_argument, NULL, OPT_PRIORITY },
	{ "only", required_argument, NULL, OPT_ONLY },
	{ "all", no_argument, NULL, OPT_ALL },
	{ "tests", required_argument, NULL, OPT_TESTS },
	{ "placement", required_argument, NULL, OPT_PLACEMENT },
	{ "both", no_argument, NULL, OPT_BOTH },
	{ "cpus", required_argument, NULL, OPT_CPUS },
	{ "list", no_argument, NULL, OPT_LIST },
	{ "check", no_argument, NULL, OPT_CHECK },
	{ "json", required_argument, NULL, OPT_JSON },
	{ "help", no_argument, NULL, OPT_HELP },
	{ NULL, 0, NULL, 0 },
};

static int complain(const char *option, const char *value, const char *hint)
{
	fprintf(stderr, "bufpipe-bench: --%s: '%s' %s\n", option, value, hint);
	return -EINVAL;
}

static int parse_size(const char *text, size_t *size)
{
	unsigned long long value;
	char *end;
	int shift;

	if (*text < '0' || *text > '9')
		return -EINVAL;
	errno = 0;
	value = strtoull(text, &end, 10);
	shift = *end == 'k' || *end == 'K' ? 10 : *end == 'M' ? 20 : 0;
	if (shift)
		end++;
	if (errno || *end || value > 1 << 30)
		return -EINVAL;
	*size = (size_t)value << shift;
	return 0;
}

static int parse_number(const char *option, const char *text, double min, double max, double *number)
{
	char *end, hint[64];

	*number = strtod(text, &end);
	if (end != text && !*end && isfinite(*number) && *number >= min && *number <= max)
		return 0;
	snprintf(hint, sizeof(hint), "is not a number from %g to %g", min, max);
	return complain(option, text, hint);
}

static int parse_sizes(struct options *options, char *list)
{
	char *save = NULL;

	options->size_count = 0;
	for (char *item = strtok_r(list, ",", &save); item; item = strtok_r(NULL, ",", &save)) {
		size_t size;

		if (parse_size(item, &size) || size < 8 || size > 64 << 20)
			return complain("sizes", item, "is not a size from 8 to 64M");
		if (options->size_count == MAX_SIZES)
			return complain("sizes", item, "is one too many");
		options->sizes[options->size_count++] = size;
	}
	return options->size_count ? 0 : complain("sizes", list, "names no size");
}

static int parse_counts(const char *option, char *list, int min, int max, int counts[MAX_COUNTS], int *count)
{
	char *save = NULL;

	*count = 0;
	for (char *item = strtok_r(list, ",", &save); item; item = strtok_r(NULL, ",", &save)) {
		double number;
		int err = parse_number(option, item, min, max, &number);

		if (err)
			return err;
		if (*count == MAX_COUNTS || number != (double)(int)number)
			return complain(option, item, "is not whole, or one too many");
		counts[(*count)++] = (int)number;
	}
	return *count ? 0 : complain(option, list, "names no count");
}

static int parse_only(struct options *options, char *list)
{
	bool sets = false, epoll = false;
	char *save = NULL;

	options->transports[0] = &transport_pipe;
	options->transport_count = 1;
	options->extra = true;
	for (char *item = strtok_r(list, ",", &save); item; item = strtok_r(NULL, ",", &save)) {
		const struct transport *found = NULL;
		bool known = false;

		for (int i = 0; transports[i]; i++) {
			if (strcmp(transports[i]->name, item) == 0)
				found = transports[i];
		}
		if (!found)
			return complain("only", item, "is no transport; see --list");
		for (int i = 0; i < options->transport_count; i++)
			known |= options->transports[i] == found;
		if (!known)
			options->transports[options->transport_count++] = found;
		sets |= found->flags & TRANSPORT_SET && found != &transport_epoll;
		epoll |= found == &transport_epoll;
	}
	if (sets && !epoll)
		options->transports[options->transport_count++] = &transport_epoll;
	return 0;
}

static int parse_tests(struct options *options, char *list)
{
	char *save = NULL;

	memset(options->modes, 0, sizeof(options->modes));
	for (char *item = strtok_r(list, ",", &save); item; item = strtok_r(NULL, ",", &save)) {
		bool found = false;

		for (int mode = 0; mode < MODES; mode++) {
			const char *name = mode_name((enum mode)mode);

			/* "set" names all that begin with "set-". */
			if (strcmp(name, item) != 0 &&
			    (strcmp(item, "set") != 0 || strncmp(name, "set-", 4) != 0))
				continue;
			options->modes[mode] = true;
			found = true;
		}
		if (!found)
			return complain("tests", item,
					"is none of trip, stream, asleep, idle, rate, many, pairs, set");
	}
	return 0;
}

static int parse_placement(struct options *options, char *list)
{
	char *save = NULL;

	memset(options->placements, 0, sizeof(options->placements));
	for (char *item = strtok_r(list, ",", &save); item; item = strtok_r(NULL, ",", &save)) {
		int placement = 0;

		while (placement < PLACEMENTS && strcmp(placement_name((enum placement)placement), item) != 0)
			placement++;
		if (placement == PLACEMENTS)
			return complain("placement", item, "is none of two, one");
		options->placements[placement] = true;
	}
	return 0;
}

static int parse_priority(struct options *options, char *list)
{
	char *save = NULL;

	options->priority_count = 0;
	for (char *item = strtok_r(list, ",", &save); item; item = strtok_r(NULL, ",", &save)) {
		int priority = 0;

		while (priority < PRIORITIES && strcmp(priority_name((enum priority)priority), item) != 0)
			priority++;
		if (priority == PRIORITIES || options->priority_count == MAX_COUNTS)
			return complain("priority", item, "is no priority of --help, or one too many");
		options->priority[options->priority_count++] = (enum priority)priority;
	}
	return options->priority_count ? 0 : complain("priority", list, "names no priority");
}

static int parse_cpus(struct options *options, const char *text)
{
	int used = 0;

	if (sscanf(text, "%d,%d%n", &options->cpu[0], &options->cpu[1], &used) != 2 || text[used] ||
	    options->cpu[0] < 0 || options->cpu[1] < 0)
		return complain("cpus", text, "is not of the form A,B");
	return 0;
}

static int parse_ring(struct options *options, const char *text)
{
	if (parse_size(text, &options->ring) || options->ring < 4096 || options->ring > 64 << 20)
		return complain("ring", text, "is not a size from 4k to 64M");
	return 0;
}

static int parse_rounds(struct options *options, const char *text)
{
	double number;
	int err = parse_number("rounds", text, 1, MAX_ROUNDS, &number);

	if (!err && number != (double)(int)number)
		err = complain("rounds", text, "is not whole");
	if (!err)
		options->rounds = (int)number;
	return err;
}

/* A number in units of so many nanoseconds. */
static int parse_duration(const char *option, const char *text, double min, double max, double unit,
			  uint64_t *ns)
{
	double number;
	int err = parse_number(option, text, min, max, &number);

	if (!err)
		*ns = (uint64_t)(number * unit);
	return err;
}

static int apply(struct options *options, int id, char *value)
{
	switch (id) {
	case OPT_QUICK:
	case OPT_FULL:
		return 0;
	case OPT_SIZES:
		return parse_sizes(options, value);
	case OPT_ROUNDS:
		return parse_rounds(options, value);
	case OPT_TIME:
		options->time_given = true;
		return parse_duration("time", value, 1, 10000, 1e6, &options->duration_ns);
	case OPT_IDLE:
		return parse_duration("idle", value, 0.5, 600, 1e9, &options->idle_duration_ns);
	case OPT_GRACE:
		return parse_duration("grace", value, 0.1, 3600, 1e9, &options->grace_ns);
	case OPT_RING:
		return parse_ring(options, value);
	case OPT_PIPES:
		return parse_counts("pipes", value, 1, 100000, options->pipes, &options->pipe_count);
	case OPT_RATES:
		return parse_counts("rates", value, 1, 1000000, options->rates, &options->rate_count);
	case OPT_BUSY:
		return parse_counts("busy", value, 0, MAX_BUSY, options->busy, &options->busy_count);
	case OPT_THROTTLE:
		return parse_counts("throttle", value, 0, 6400, options->throttle, &options->throttle_count);
	case OPT_PRIORITY:
		return parse_priority(options, value);
	case OPT_ONLY:
		return parse_only(options, value);
	case OPT_ALL:
		options->extra = true;
		return 0;
	case OPT_TESTS:
		return parse_tests(options, value);
	case OPT_PLACEMENT:
		return parse_placement(options, value);
	case OPT_BOTH:
		options->both = true;
		return 0;
	case OPT_CHECK:
		options->check = true;
		return 0;
	case OPT_CPUS:
		return parse_cpus(options, value);
	default:
		options->json = value;
		return 0;
	}
}

static const size_t few_sizes[] = { 8, 64, 4096, 1 << 20, 0 };
static const size_t usual_sizes[] = { 8, 64, 512, 4096, 16384, 65536, 262144, 1 << 20, 0 };
static const size_t all_sizes[] = { 8,    16,    32,    64,    128,    256,    512,    1024,    2048, 4096,
				    8192, 16384, 32768, 65536, 131072, 262144, 524288, 1048576, 0 };

static const int few_pipes[] = { 10, 1000, 0 };
static const int all_pipes[] = { 1, 10, 100, 1000, 10000, 0 };

struct preset {
	const size_t *sizes;
	int rounds;
	unsigned ms;
	unsigned rate_ms;
	unsigned idle_ms;
	const int *pipes;
};

static const struct preset quick = { few_sizes, 3, 10, 100, 800, few_pipes };
static const struct preset usual = { usual_sizes, 5, 60, 400, 2000, all_pipes };
static const struct preset full = { all_sizes, 7, 100, 1000, 10000, all_pipes };

static void set_defaults(struct options *options, int id)
{
	const struct preset *preset = id == OPT_QUICK ? &quick : id == OPT_FULL ? &full : &usual;

	*options = (struct options){
		.ring = 65536,
		.rounds = preset->rounds,
		.grace_ns = 60000 * MS,
		.duration_ns = MS * preset->ms,
		.rate_duration_ns = MS * preset->rate_ms,
		.idle_duration_ns = MS * preset->idle_ms,
		.rates = { 1000, 10000, 100000 },
		.rate_count = 3,
		.busy_count = 1, /* of 0 */
		.throttle_count = 1,
		.priority_count = 1, /* of normal */
		.placements = { true, true },
		.extra = id == OPT_FULL,
		.cpu = { -1, -1 },
		.progress = isatty(STDERR_FILENO) == 1,
	};
	while (preset->sizes[options->size_count]) {
		options->sizes[options->size_count] = preset->sizes[options->size_count];
		options->size_count++;
	}
	for (; preset->pipes[options->pipe_count]; options->pipe_count++)
		options->pipes[options->pipe_count] = preset->pipes[options->pipe_count];
	for (int mode = 0; mode < MODES; mode++)
		options->modes[mode] = true;
	for (int i = 0; transports[i]; i++)
		options->transports[options->transport_count++] = transports[i];
}

static void list_transports(void)
{
	for (int i = 0; transports[i]; i++) {
		const struct transport *t = transports[i];

		printf("%-16s%s%s\n%16sin flight: %s\n", t->name, t->about,
		       t->flags & TRANSPORT_EXTRA ? " (by name, or with --all or --full)" : "", "", t->room);
	}
}

/* The preset comes first wherever it stands, so that the other options refine it. */
static int find_preset(int argc, char **argv)
{
	int preset = 0, id;

	while ((id = getopt_long(argc, argv, "", long_options, NULL)) != -1) {
		if (id == '?')
			return -EINVAL;
		if (id == OPT_HELP) {
			fputs(usage, stdout);
			return 0;
		}
		if (id == OPT_LIST) {
			list_transports();
			return 0;
		}
		if ((id == OPT_QUICK || id == OPT_FULL) && preset && preset != id) {
			fprintf(stderr, "bufpipe-bench: --quick and --full exclude each other\n");
			return -EINVAL;
		}
		if (id == OPT_QUICK || id == OPT_FULL)
			preset = id;
	}
	if (optind < argc) {
		fprintf(stderr, "bufpipe-bench: '%s' is not an option\n", argv[optind]);
		return -EINVAL;
	}
	return preset ? preset : OPT_HELP;
}

int options_parse(struct options *options, int argc, char **argv)
{
	int preset, id, err = 0;

	preset = find_preset(argc, argv);
	if (preset == 0)
		return 1;
	if (preset > 0) {
		set_defaults(options, preset);
		optind = 0; /* glibc and musl: from the beginning again */
		while (!err && (id = getopt_long(argc, argv, "", long_options, NULL)) != -1)
			err = apply(options, id, optarg);
	}
	if (preset < 0 || err) {
		fputs("Try 'bufpipe-bench --help'.\n", stderr);
		return -EINVAL;
	}
	return options->check ? 1 : 0;
}
