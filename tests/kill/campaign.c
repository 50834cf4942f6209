/* SPDX-License-Identifier: MIT */
/* A campaign: one trial for each of many points of a call, in several workers, and what they report. */
#include "kill/stepper.h"

#include "support.h"

#include <criterion/criterion.h>
#include <dlfcn.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#define WORKERS_MAX  64
#define POINTS_MAX   65536
#define WORKER_LIMIT 30 /* seconds for one trial, whatever it does */

/* What workers and their children tell the test. */
struct report {
	atomic_int failed;
	char text[1024];
	atomic_ulong next;  /* the next point to try */
	atomic_uint early;  /* how many calls had returned before they reached their point */
	atomic_ulong tried; /* points at which a victim was killed */
	struct trial trials[WORKERS_MAX];
	int16_t reached[POINTS_MAX]; /* by point: what the trial returned, plus 1 */
};

static struct report *report;
static struct trial *current;
static const char *campaign_name;
/* One counter for all points, because the victims of a campaign follow the same path. */
static unsigned campaign_seed;

/* Prints a module and an offset in it, for addr2line. */
static void describe_place(char *to, size_t len, uintptr_t ip)
{
	char program[256] = "";
	const char *file;
	Dl_info info;

	if (ip && dladdr((void *)ip, &info) && info.dli_fname) {
		/* The name of the program itself is the one by which it was called. */
		file = info.dli_fname;
		if (!strchr(file, '/') && readlink("/proc/self/exe", program, sizeof(program) - 1) > 0 &&
		    !strstr(file, "vdso"))
			file = program;
		snprintf(to, len, "%s+0x%lx (%s)", file, (unsigned long)(ip - (uintptr_t)info.dli_fbase),
			 info.dli_sname ? info.dli_sname : "?");
	} else
		snprintf(to, len, "%#lx", (unsigned long)ip);
}

void trial_fail(const char *format, ...)
{
	char place[512];
	va_list args;
	int none = 0;
	int n;

	if (atomic_compare_exchange_strong(&report->failed, &none, 1)) {
		describe_place(place, sizeof(place), current->ip);
		n = snprintf(report->text, sizeof(report->text),
			     "%s, killed after %lu of %lu instructions at %s, seed %u: ", campaign_name,
			     current->steps, current->point, place, current->seed);
		if (n > 0 && (size_t)n < sizeof(report->text)) {
			va_start(args, format);
			vsnprintf(report->text + n, sizeof(report->text) - (size_t)n, format, args);
			va_end(args);
		}
		atomic_store(&report->failed, 2);
	}
	_exit(1);
}

static void on_alarm(int signal)
{
	(void)signal;
	trial_fail("the trial hangs");
}

static void pin(unsigned n)
{
	cpu_set_t all;
	cpu_set_t one;
	int cpu = 0;

	if (sched_getaffinity(0, sizeof(all), &all) < 0)
		return;
	n %= (unsigned)CPU_COUNT(&all);
	for (; cpu < CPU_SETSIZE; cpu++) {
		if (CPU_ISSET(cpu, &all) && n-- == 0)
			break;
	}
	CPU_ZERO(&one);
	CPU_SET(cpu, &one);
	sched_setaffinity(0, sizeof(one), &one);
}

static void run_trial(const struct campaign *c, unsigned long point)
{
	struct itimerval limit = { .it_value.tv_sec = WORKER_LIMIT };
	int reached;

	*current = (struct trial){ .point = point, .at_calls = c->at_calls, .seed = campaign_seed };
	setitimer(ITIMER_REAL, &limit, NULL);
	reached = c->run(c->plan, current);
	if (current->finished)
		atomic_fetch_add(&report->early, 1);
	else
		atomic_fetch_add(&report->tried, 1);
	if (point < POINTS_MAX)
		report->reached[point] = (int16_t)(reached + 1);
}

/*
 * Up to the end of the call, and a few points more in case it takes a longer path than when it was measured.
 */
static void run_worker(const struct campaign *c, unsigned n, unsigned long stride, unsigned long length)
{
	unsigned long point;

	current = &report->trials[n];
	pin(n);
	signal(SIGALRM, on_alarm);
	while (atomic_load(&report->early) < 3 && !atomic_load(&report->failed)) {
		point = atomic_fetch_add(&report->next, stride);
		if (point > length + 2 * stride)
			break;
		run_trial(c, point);
	}
	_exit(0);
}

/* How many instructions the call executes if it is not disturbed. */
static unsigned long measure(const struct campaign *c)
{
	pid_t pid = fork_mortal();

	cr_assert(pid >= 0);
	if (pid == 0) {
		current = &report->trials[0];
		pin(0);
		signal(SIGALRM, on_alarm);
		run_trial(c, 1000000);
		_exit(current->finished ? 0 : 1);
	}
	waitpid(pid, NULL, 0);
	atomic_store(&report->early, 0);
	return report->trials[0].steps;
}

/*
 * Later instructions do not undo what an instruction has done. The very next ones may seem to: one trial may
 * execute a few hundred more than another, when it finds that it is time to look at the socket.
 */
static void check_monotone(const struct campaign *c)
{
	enum { DETOUR = 300 };
	int highest = 0;

	for (unsigned long i = DETOUR; i < POINTS_MAX; i++) {
		int before = report->reached[i - DETOUR];
		int reached = report->reached[i];

		if (before > highest)
			highest = before;
		cr_assert(!reached || reached >= highest,
			  "%s: the call had reached %d, but only %d after %lu instructions", c->name,
			  highest - 1, reached - 1, i);
	}
}

/* The distance of two points. The first point differs from run to run. */
static unsigned long choose_stride(const struct campaign *c, unsigned long length)
{
	const char *part = getenv("BUFPIPE_KILL_PART");
	unsigned long all = length * length / 2;
	unsigned long stride = 1;

	if (c->at_calls || getenv("BUFPIPE_KILL_ALL"))
		return stride;
	if (all > c->budget)
		stride = (all + c->budget - 1) / c->budget;
	return part && atoi(part) > 0 ? stride * (unsigned long)atoi(part) : stride;
}

void stepper_campaign(const struct campaign *c)
{
	unsigned long length;
	unsigned long stride;
	pid_t workers[WORKERS_MAX];

	report = mmap(NULL, sizeof(*report), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	cr_assert(report != MAP_FAILED);
	campaign_name = c->name;
	campaign_seed = (unsigned)(clock_ns() / MSEC);
	length = measure(c);
	stride = choose_stride(c, length);
	atomic_store(&report->next, 1 + (unsigned long)(clock_ns() / MSEC) % stride);
	fflush(NULL);
	for (unsigned i = 0; i < c->workers; i++) {
		workers[i] = fork_mortal();
		cr_assert(workers[i] >= 0);
		if (workers[i] == 0)
			run_worker(c, i, stride, length);
	}
	for (unsigned i = 0; i < c->workers; i++)
		waitpid(workers[i], NULL, 0);
	cr_assert(!atomic_load(&report->failed), "%s", report->text);
	check_monotone(c);
	fprintf(stderr, "%s: killed at %lu points, every %lu of about %lu %s\n", c->name,
		atomic_load(&report->tried), stride, length, c->at_calls ? "system calls" : "instructions");
	munmap(report, sizeof(*report));
}
