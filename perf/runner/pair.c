/* SPDX-License-Identifier: MIT */
/*
 * Runs one measurement in two new processes.  The runner itself does not hold the
 * transport, so that each side notices the death of the other.  A floor does not notice
 * it, so the runner watches both processes, and ends both if one fails or the time is up.
 */
#include "bench.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>

struct pair {
	const struct job *job;
	struct shared *shared;
	struct process side[2];
};

static void wait_for_signal(const sigset_t *signals, uint64_t ns)
{
	sigtimedwait(signals, NULL,
		     &(struct timespec){ .tv_sec = (time_t)(ns / 1000000000),
					 .tv_nsec = (long)(ns % 1000000000) });
}

/* SIGCHLD is blocked, so it cannot come between a look and the wait. */
static int watch(struct pair *p)
{
	uint64_t deadline = clock_ns() + 2 * p->job->duration_ns + p->job->grace_ns, now;
	sigset_t child;

	sigemptyset(&child);
	sigaddset(&child, SIGCHLD);
	while (processes_reap(p->side, 2)) {
		if (processes_failed(p->side, 2))
			break;
		now = clock_ns();
		if (now >= deadline) {
			job_complain(p->job, "no end in sight, given up");
			return -ETIMEDOUT;
		}
		wait_for_signal(&child, deadline - now);
	}
	if (!processes_failed(p->side, 2))
		return 0;
	return processes_tell(p->job, p->side, 2);
}

static double difference(const struct findings *found, bool cpu)
{
	const struct usage *from = &found->usage[USAGE_BEGIN], *to = &found->usage[USAGE_END];

	return cpu ? (double)(to->cpu_ns - from->cpu_ns) : (double)(to->switches - from->switches);
}

static double growth(const uint64_t memory[2])
{
	return (double)memory[USAGE_END] - (double)memory[USAGE_BEGIN];
}

static void evaluate_pipes(const struct pair *p, struct sample *sample)
{
	const struct findings *lead = &p->shared->side[SIDE_LEAD], *echo = &p->shared->side[SIDE_ECHO];
	double n = p->job->shape.pipes;

	/* Both set up at the same time; the slower one counts. */
	sample->setup_ns = (double)(lead->setup_ns > echo->setup_ns ? lead->setup_ns : echo->setup_ns) / n;
	sample->memory = (growth(lead->memory) + growth(echo->memory)) / n;
	sample->kernel_memory = growth(lead->kernel_memory) / n;
	/* Neighbours on the machine disturb a median less than a mean. */
	if (p->job->mode != MODE_SET_BUSY && p->job->mode != MODE_SET_IDLE)
		sample->ns = sample->latency[LATENCY_P50];
}

static void evaluate_latencies(const struct pair *p, struct sample *sample)
{
	struct histogram *both = &p->shared->side[SIDE_LEAD].histogram;

	histogram_merge(both, &p->shared->side[SIDE_ECHO].histogram);
	histogram_latencies(both, sample->latency);
	if (p->job->histogram)
		histogram_merge(p->job->histogram, both);
}

/* A sender that spins until a message is due uses all of its CPU; only what it does to send counts. */
static void evaluate_rate(const struct pair *p, struct sample *sample)
{
	const struct findings *lead = &p->shared->side[SIDE_LEAD];

	sample->ns = sample->latency[LATENCY_P50];
	if (p->job->is_free && !p->job->shape.one_core)
		sample->cpu_ns = sample->recv_cpu_ns + (double)lead->sending_ns / (double)lead->messages;
}

static void evaluate(const struct pair *p, struct sample *sample)
{
	const struct findings *lead = &p->shared->side[SIDE_LEAD], *echo = &p->shared->side[SIDE_ECHO];
	double n = (double)lead->messages;

	*sample = (struct sample){
		.valid = true,
		.ns = (double)lead->elapsed_ns / n,
		.cpu_ns = (difference(lead, true) + difference(echo, true)) / n,
		.recv_cpu_ns = difference(echo, true) / n,
		.switches = (difference(lead, false) + difference(echo, false)) / n,
		.recv_switches = difference(echo, false) / n,
		.settled_switches = (double)lead->settled_switches,
		.settled_ns = (double)lead->settled_ns,
	};
	if (lead->elapsed_ns)
		sample->throttled = (double)(lead->usage[USAGE_END].throttled_ns -
					     lead->usage[USAGE_BEGIN].throttled_ns) /
				    (double)lead->elapsed_ns;
	sample->syscalls = (double)(lead->usage[USAGE_END].syscalls - lead->usage[USAGE_BEGIN].syscalls +
				    echo->usage[USAGE_END].syscalls - echo->usage[USAGE_BEGIN].syscalls) /
			   n;
	evaluate_latencies(p, sample);
	if (p->job->mode == MODE_RATE)
		evaluate_rate(p, sample);
	if (p->job->mode == MODE_ASLEEP)
		sample->ns = sample->latency[LATENCY_P50];
	if (p->job->shape.pipes)
		evaluate_pipes(p, sample);
}

/* Not _exit: some libraries tidy up when their process ends. */
static void play(const struct pair *p, void *state, enum side side)
{
	if (p->job->shape.pipes)
		exit(gather_run(p->job, state, side, p->shared));
	exit(worker_run(p->job, state, side, p->shared));
}

static int start_both(struct pair *p, void *state)
{
	static const char *const names[] = { "lead", "echo" };

	for (int i = 0; i < 2; i++) {
		int err;

		snprintf(p->side[i].name, sizeof(p->side[i].name), "%s", names[i]);
		err = process_start(&p->side[i], (enum side)i, &p->shared->side[i].outcome);
		if (err == 0)
			play(p, state, (enum side)i);
		if (err < 0)
			return job_fail(p->job, err, "fork");
	}
	return 0;
}

int pair_run(const struct job *job, struct sample *sample)
{
	struct pair p = { .job = job };
	void *state, *shared;
	sigset_t child;
	int err;

	sample->valid = false;
	sigemptyset(&child);
	sigaddset(&child, SIGCHLD);
	sigprocmask(SIG_BLOCK, &child, NULL);
	shared = mmap(NULL, sizeof(*p.shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (shared == MAP_FAILED)
		return job_fail(job, -errno, "mmap");
	p.shared = shared;
	err = job->transport->open(&state, &job->shape);
	if (err) {
		if (err != -EOPNOTSUPP)
			job_fail(job, err, "open");
		goto out;
	}
	err = start_both(&p, state);
	job->transport->close(state);
	if (!err)
		err = watch(&p);
	processes_stop(p.side, 2);
	if (!err)
		evaluate(&p, sample);
out:
	munmap(shared, sizeof(*p.shared));
	return err;
}
