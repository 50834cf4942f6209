/* SPDX-License-Identifier: MIT */
/* Ten thousand pipes in one process: that it works, what they take, and that idle ones take no time. */
#include "sets.h"

#include <sys/resource.h>
#include <sys/stat.h>

SUITE(set_many);

enum { PIPES = 10000, FDS_EACH = 6, MAPS_EACH = 6, SPARE = 1000 };

static bufpipe_t *pipes[PIPES][2];

static long number_in(const char *path, const char *key)
{
	FILE *file = fopen(path, "re");
	char line[512];
	long n = -1;

	while (file && n < 0 && fgets(line, sizeof(line), file)) {
		if (!strncmp(line, key, strlen(key)))
			n = strtol(line + strlen(key), NULL, 10);
	}
	if (file)
		fclose(file);
	return n;
}

static int mappings(void)
{
	FILE *file = fopen("/proc/self/maps", "re");
	int n = 0;
	int c;

	while (file && (c = fgetc(file)) != EOF)
		n += c == '\n';
	if (file)
		fclose(file);
	return n;
}

static int64_t cpu_time(void)
{
	struct rusage u;

	getrusage(RUSAGE_SELF, &u);
	return (u.ru_utime.tv_sec + u.ru_stime.tv_sec) * SEC +
	       (u.ru_utime.tv_usec + u.ru_stime.tv_usec) * USEC;
}

/* As many as the limits allow. */
static unsigned how_many(void)
{
	struct rlimit limit = { PIPES * FDS_EACH + SPARE, PIPES * FDS_EACH + SPARE };
	long maps = number_in("/proc/sys/vm/max_map_count", "") - mappings() - SPARE;
	rlim_t n;

	if (setrlimit(RLIMIT_NOFILE, &limit) < 0) {
		getrlimit(RLIMIT_NOFILE, &limit);
		limit.rlim_cur = limit.rlim_max;
		setrlimit(RLIMIT_NOFILE, &limit);
	}
	n = limit.rlim_cur < SPARE ? 0 : (limit.rlim_cur - SPARE) / FDS_EACH;
	if (maps >= 0 && n > (rlim_t)maps / MAPS_EACH)
		n = (rlim_t)maps / MAPS_EACH;
	return n < PIPES ? (unsigned)n : PIPES;
}

struct file {
	ino_t inode;
	long kb;
};

static int compare_files(const void *a, const void *b)
{
	const struct file *x = a;
	const struct file *y = b;

	return x->inode < y->inode ? -1 : x->inode > y->inode;
}

/* What the memory of all pipes takes: each memfd once, however many descriptors it has. */
static long shared_kb(void)
{
	enum { MOST = PIPES * FDS_EACH + SPARE };
	static struct file files[MOST];
	size_t count = 0;
	struct stat st;
	long kb = 0;

	for (int fd = 0; fd < MOST; fd++) {
		if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && fcntl(fd, F_GET_SEALS) > 0)
			files[count++] = (struct file){ st.st_ino, (long)st.st_blocks / 2 };
	}
	qsort(files, count, sizeof(*files), compare_files);
	for (size_t i = 0; i < count; i++) {
		if (i == 0 || files[i].inode != files[i - 1].inode)
			kb += files[i].kb;
	}
	return kb;
}

struct cost {
	int fds;
	int maps;
	long shared_kb;
	long private_kb;
};

static struct cost cost_now(void)
{
	return (struct cost){ descriptors_open(), mappings(), shared_kb(),
			      number_in("/proc/self/status", "RssAnon:") };
}

/* By how much it is more than it was, for each pipe with both ends here; and that it is not more than was promised. */
static void report(const char *when, unsigned n, struct cost before)
{
	struct cost now = cost_now();
	long pages = now.shared_kb - before.shared_kb;

	fprintf(stderr,
		"%u pipes %s: %.1f descriptors, %.1f mappings, %.2f KiB of shared and %.2f KiB of private "
		"memory for each\n",
		n, when, (now.fds - before.fds) / (double)n, (now.maps - before.maps) / (double)n,
		(double)pages / n, (double)(now.private_kb - before.private_kb) / n);
	check(now.fds - before.fds <= FDS_EACH * (int)n);
	check(now.maps - before.maps <= MAPS_EACH * (int)n + 100);
	check(pages <= 4 * (sysconf(_SC_PAGESIZE) / 1024) * (long)n);
}

static void idle_for(bufpipe_set_t *set, int64_t ns)
{
	int64_t begin;
	int64_t used;

	/* The first waits put all of them to sleep. */
	check_eq(bufpipe_set_wait(set, &(struct bufpipe_event){ 0 }, 1, 100 * MSEC), 0);
	begin = cpu_time();
	check_eq(bufpipe_set_wait(set, &(struct bufpipe_event){ 0 }, 1, ns), 0);
	used = cpu_time() - begin;
	fprintf(stderr, "idle for %lld ms: %.3f ms of CPU\n", (long long)(ns / MSEC), (double)used / MSEC);
	check(used < ns / 50);
}

BOTH(set_many, ten_thousand_pipes_are_served_and_idle_ones_take_no_time)
{
	struct bufpipe_options options = { .buffer_size = 2000 };
	unsigned n = how_many();
	struct bufpipe_event events[64];
	struct cost before;
	bufpipe_set_t *set;
	unsigned heard = 0;

	if (n < 100)
		cr_skip_test("too few descriptors or mappings are allowed");
	set = set_open(flags);
	before = cost_now();
	for (unsigned i = 0; i < n; i++) {
		pipe_open(pipes[i], &options);
		check_eq(bufpipe_set_add(set, pipes[i][IN], BUFPIPE_IN, &pipes[i]), 0);
	}
	report("never used", n, before);

	idle_for(set, SEC);
	for (unsigned i = 0; i < 1000; i++) {
		bufpipe_t **p = pipes[i * 7919u % n];

		say(p[OUT], "x");
		check_eq(set_expect(set, p, PLENTY), BUFPIPE_IN);
		hear(p[IN], "x");
	}
	for (unsigned i = 0; i < n; i++)
		say(pipes[i][OUT], "all");
	while (heard < n) {
		int ready = bufpipe_set_wait(set, events, 64, PLENTY);

		check(ready > 0);
		for (int i = 0; i < ready; i++)
			hear(events[i].pipe, "all");
		heard += (unsigned)ready;
	}
	report("after a message", n, before);
	idle_for(set, SEC);
	for (unsigned i = 0; i < n; i++) {
		check_eq(bufpipe_set_remove(set, pipes[i][IN]), 0);
		pipe_close(pipes[i]);
	}
	bufpipe_set_destroy(set);
}
