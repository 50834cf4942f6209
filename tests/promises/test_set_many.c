/* SPDX-License-Identifier: MIT */
/*
 * Ten thousand clients of one server: it works, it takes as much memory as documented, and idle clients take
 * no time.
 */
#include "sets.h"

#include <sys/resource.h>

SUITE(set_many);

enum { PIPES = 10000, FDS_EACH = 1, MAPS_EACH = 3, SPARE = 500 };

/* In the server the ends that receive, in the other process the ends that send. */
static bufpipe_t *pipes[PIPES];

/* An order to the clients: 'count' of them, from 'first' on and 'step' apart, send one message each. */
struct order {
	unsigned count;
	unsigned first;
	unsigned step;
};

struct clients {
	char address[64];
	unsigned n;
	bufpipe_t *orders[2];
};

static const struct bufpipe_options small = { .buffer_size = 2000, .flags = BUFPIPE_NO_HANDOVER };

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
	struct rlimit limit;
	long maps = number_in("/proc/sys/vm/max_map_count", "") - mappings() - SPARE;
	rlim_t n;

	getrlimit(RLIMIT_NOFILE, &limit);
	limit.rlim_cur = limit.rlim_max;
	setrlimit(RLIMIT_NOFILE, &limit);
	n = limit.rlim_cur < SPARE ? 0 : (limit.rlim_cur - SPARE) / FDS_EACH;
	if (maps >= 0 && n > (rlim_t)maps / MAPS_EACH)
		n = (rlim_t)maps / MAPS_EACH;
	return n < PIPES ? (unsigned)n : PIPES;
}

static void be_clients(void *arg)
{
	struct clients *c = arg;
	struct order order;

	bufpipe_close(c->orders[OUT]);
	for (unsigned i = 0; i < c->n; i++)
		check_eq(bufpipe_connect(&pipes[i], c->address, &small, PLENTY), 0);
	while (bufpipe_recv(c->orders[IN], &order, sizeof(order), -1) > 0) {
		for (unsigned i = 0; i < order.count; i++)
			say(pipes[(order.first + i * order.step) % c->n], "x");
	}
	for (unsigned i = 0; i < c->n; i++)
		bufpipe_close(pipes[i]);
}

static void tell(const struct clients *c, unsigned count, unsigned first, unsigned step)
{
	struct order order = { count, first, step };

	check_eq(bufpipe_send(c->orders[OUT], &order, sizeof(order), PLENTY), 0);
}

struct cost {
	int fds;
	int maps;
	long shared_kb; /* of both processes; what both of them map counts half in each */
	long private_kb;
};

static long of_both(pid_t other, const char *key)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/smaps_rollup", other);
	return number_in("/proc/self/smaps_rollup", key) + number_in(path, key);
}

static struct cost cost_now(pid_t other)
{
	return (struct cost){ descriptors_open(), mappings(), of_both(other, "Pss_Shmem:"),
			      of_both(other, "Pss_Anon:") };
}

/* Prints how much more it is for each pipe, and checks that it is not more than promised. */
static void report(const char *when, unsigned n, pid_t other, struct cost before, unsigned pages)
{
	struct cost now = cost_now(other);
	long shared = now.shared_kb - before.shared_kb;
	long page = sysconf(_SC_PAGESIZE) / 1024;

	fprintf(stderr,
		"%u pipes %s, each: here %.1f descriptors and %.1f mappings; in both processes %.2f KiB of "
		"shared and %.2f KiB of private memory\n",
		n, when, (now.fds - before.fds) / (double)n, (now.maps - before.maps) / (double)n,
		(double)shared / n, (double)(now.private_kb - before.private_kb) / n);
	check(now.fds - before.fds <= FDS_EACH * (int)n);
	check(now.maps - before.maps <= MAPS_EACH * (int)n + 100);
	check(shared <= pages * page * (long)n + 1024);
}

static void idle_for(bufpipe_set_t *set, int64_t ns)
{
	int64_t begin;
	int64_t used;

	/* The first waits put all pipes to sleep. */
	check_eq(bufpipe_set_wait(set, &(struct bufpipe_event){ 0 }, 1, 100 * MSEC), 0);
	begin = cpu_time();
	check_eq(bufpipe_set_wait(set, &(struct bufpipe_event){ 0 }, 1, ns), 0);
	used = cpu_time() - begin;
	fprintf(stderr, "idle for %lld ms: %.3f ms of CPU\n", (long long)(ns / MSEC), (double)used / MSEC);
	check(used < ns / 50);
}

static void accept_all(const struct clients *c, bufpipe_listener_t *listener, bufpipe_set_t *set)
{
	int64_t begin = clock_ns();

	for (unsigned i = 0; i < c->n; i++) {
		check_eq(bufpipe_accept(listener, &pipes[i], PLENTY), 0);
		check_eq(bufpipe_set_add(set, pipes[i], BUFPIPE_IN, &pipes[i]), 0);
	}
	fprintf(stderr, "%u clients connected, %.1f us for each\n", c->n, (clock_ns() - begin) / 1e3 / c->n);
}

static void hear_from_all(bufpipe_set_t *set, unsigned n)
{
	struct bufpipe_event events[64];
	unsigned heard = 0;

	while (heard < n) {
		int ready = bufpipe_set_wait(set, events, 64, PLENTY);

		check(ready > 0);
		for (int i = 0; i < ready; i++)
			hear(events[i].pipe, "x");
		heard += (unsigned)ready;
	}
}

BOTH(set_many, ten_thousand_pipes_are_served_and_idle_ones_take_no_time)
{
	struct clients c = { .n = how_many() };
	bufpipe_listener_t *listener;
	struct child child;
	struct cost before;
	bufpipe_set_t *set;

	if (c.n < 100)
		cr_skip_test("too few descriptors or mappings are allowed");
	snprintf(c.address, sizeof(c.address), "@bufpipe-set-many-%d", (int)getpid());
	pipe_open(c.orders, NULL);
	check_eq(bufpipe_listen(&listener, c.address, &small), 0);
	child = child_start(be_clients, &c);
	bufpipe_close(c.orders[IN]);
	set = set_open(flags);
	before = cost_now(child.pid);
	accept_all(&c, listener, set);
	report("never used", c.n, child.pid, before, 3);

	idle_for(set, SEC);
	for (unsigned i = 0; i < 1000; i++) {
		unsigned which = i * 7919u % c.n;

		tell(&c, 1, which, 1);
		check_eq(set_expect(set, &pipes[which], PLENTY), BUFPIPE_IN);
		hear(pipes[which], "x");
	}
	tell(&c, c.n, 0, 1);
	hear_from_all(set, c.n);
	report("after a message", c.n, child.pid, before, 3);
	idle_for(set, SEC);
	for (unsigned i = 0; i < c.n; i++) {
		check_eq(bufpipe_set_remove(set, pipes[i]), 0);
		bufpipe_close(pipes[i]);
	}
	bufpipe_close(c.orders[OUT]);
	child_join(&child);
	bufpipe_listener_close(listener);
	bufpipe_set_destroy(set);
}
