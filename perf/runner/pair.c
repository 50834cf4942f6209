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
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* How much longer than planned an exchange may take on a busy machine. */
#define GRACE_NS UINT64_C(60000000000)

static const char *const side_names[] = { "lead", "echo" };

struct pair {
	const struct job *job;
	struct shared *shared;
	pid_t pid[2];
	int status[2];
	bool running[2];
};

static void complain(const struct job *job, const char *who, const char *text)
{
	char size[TEXT_MAX];

	fprintf(stderr, "bufpipe-bench: %s, %s, %s, %s core%s: %s%s%s\n", job->transport->name,
		mode_name(job->mode), text_size(size, job->shape.len), placement_name(job->placement),
		job->placement == TWO_CORES ? "s" : "", who, *who ? ": " : "", text);
}

pid_t worker_fork(void)
{
	pid_t runner = getpid(), pid;
	sigset_t none;

	fflush(NULL);
	pid = fork();
	if (pid)
		return pid;
	/* The runner's own death ends its workers; it may have come before the prctl. */
	if (prctl(PR_SET_PDEATHSIG, SIGKILL) || getppid() != runner)
		_exit(1);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	signal(SIGPIPE, SIG_IGN);
	return 0;
}

pid_t measured_fork(enum side side)
{
	pid_t pid = worker_fork();

	if (pid == 0 && condition_join(side)) {
		fprintf(stderr, "bufpipe-bench: cannot join the control group of the limit, or change the "
				"priority\n");
		_exit(1);
	}
	return pid;
}

static pid_t start(const struct job *job, void *state, enum side side, struct shared *shared)
{
	pid_t pid = measured_fork(side);

	if (pid)
		return pid;
	/* Not _exit: some libraries tidy up when their process ends. */
	if (job->shape.pipes)
		exit(gather_run(job, state, side, shared));
	exit(worker_run(job, state, side, shared));
}

static int reap(struct pair *p, int flags)
{
	for (int i = 0; i < 2; i++) {
		pid_t pid;

		if (!p->running[i])
			continue;
		do {
			pid = waitpid(p->pid[i], &p->status[i], flags);
		} while (pid < 0 && errno == EINTR);
		if (pid < 0)
			return -errno;
		if (pid > 0)
			p->running[i] = false;
	}
	return 0;
}

static bool is_failed(const struct pair *p, int side)
{
	return !p->running[side] && p->status[side] != 0;
}

static void stop(struct pair *p)
{
	for (int i = 0; i < 2; i++) {
		if (p->running[i])
			kill(p->pid[i], SIGKILL);
	}
	reap(p, 0);
}

/* A side that failed by itself has left a text; the other may have failed because of it. */
static int tell(const struct pair *p)
{
	int told = 0;

	for (int i = 0; i < 2; i++) {
		const struct findings *found = &p->shared->side[i];

		if (!is_failed(p, i) || !found->text[0])
			continue;
		complain(p->job, side_names[i], found->text);
		told = found->error;
	}
	for (int i = 0; i < 2; i++) {
		char text[WORKER_TEXT];

		if (!is_failed(p, i) || !WIFSIGNALED(p->status[i]))
			continue;
		snprintf(text, sizeof(text), "died of signal %d, %s", WTERMSIG(p->status[i]),
			 strsignal(WTERMSIG(p->status[i])));
		complain(p->job, side_names[i], text);
		told = -ECHILD;
	}
	return told ? told : -ECHILD;
}

/* SIGCHLD is blocked, so it cannot come between a look and the wait. */
static int watch(struct pair *p)
{
	uint64_t deadline = clock_ns() + 2 * p->job->duration_ns + GRACE_NS;
	const struct timespec slice = { .tv_sec = 1 };
	sigset_t child;
	int err;

	sigemptyset(&child);
	sigaddset(&child, SIGCHLD);
	for (;;) {
		err = reap(p, WNOHANG);
		if (err)
			return err;
		if (is_failed(p, SIDE_LEAD) || is_failed(p, SIDE_ECHO)) {
			/* The other one may be about to say why, so it gets a moment. */
			sigtimedwait(&child, NULL, &(struct timespec){ .tv_nsec = 200000000 });
			reap(p, WNOHANG);
			err = tell(p);
			stop(p);
			return err;
		}
		if (!p->running[SIDE_LEAD] && !p->running[SIDE_ECHO])
			return 0;
		if (clock_ns() > deadline) {
			complain(p->job, "", "no end in sight, given up");
			stop(p);
			return -ETIMEDOUT;
		}
		sigtimedwait(&child, NULL, &slice);
	}
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

static int start_both(struct pair *p, void *state)
{
	for (int i = 0; i < 2; i++) {
		p->pid[i] = start(p->job, state, (enum side)i, p->shared);
		if (p->pid[i] < 0) {
			int err = -errno;

			complain(p->job, "fork", strerror(-err));
			stop(p);
			return err;
		}
		p->running[i] = true;
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
	if (shared == MAP_FAILED) {
		err = -errno;
		complain(job, "mmap", strerror(-err));
		return err;
	}
	p.shared = shared;
	err = job->transport->open(&state, &job->shape);
	if (err) {
		if (err != -EOPNOTSUPP)
			complain(job, "open", strerror(-err));
		goto out;
	}
	err = start_both(&p, state);
	job->transport->close(state);
	if (!err)
		err = watch(&p);
	if (!err)
		evaluate(&p, sample);
out:
	munmap(shared, sizeof(*p.shared));
	return err;
}
