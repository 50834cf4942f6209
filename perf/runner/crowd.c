/* SPDX-License-Identifier: MIT */
/*
 * Many processes at each side of one pipe, or many pairs with a pipe each.
 *
 * Senders send until they are told to stop.  The last of them then sends a message
 * END for each receiver; of many pairs each sender sends one to its own receiver.
 * Every other message holds its sender and its number.  A receiver must get those of
 * one sender in order, and at the end the counts and the sums over all messages must
 * be equal on both sides.  Each process keeps a counter, and the runner measures by
 * reading these.
 */
#include "bench.h"

#include <errno.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define END     UINT64_MAX
#define LEN_MAX 256
/* A process that gets nothing for this long starves, even if it gets more later. */
#define WINDOW_NS UINT64_C(200000000)

/* Its process writes it; alone in its cache lines. */
struct member {
	_Alignas(128) _Atomic uint64_t count;
	uint64_t sum;
	struct usage usage[2];
	struct outcome outcome;
};

struct crowd_memory {
	_Alignas(128) atomic_bool go;
	atomic_bool stop;
	_Alignas(128) atomic_int ready;
	atomic_int sending;
	struct member members[2 * MAX_CROWD];
};

struct crowd {
	const struct job *job;
	struct crowd_memory *shared;
	int count;
	int running;
	int state_count; /* pipes */
	void *states[MAX_CROWD];
	struct process processes[2 * MAX_CROWD];
	uint64_t from[2 * MAX_CROWD]; /* the counts when the measured part began, */
	uint64_t to[2 * MAX_CROWD];   /* and when it ended */
	double least_sent;            /* share of a process in a part of it */
	double least_received;
	uint64_t elapsed_ns;
	uint64_t throttled_ns;
};

static void nap(uint64_t ns)
{
	nanosleep(
		&(struct timespec){ .tv_sec = (time_t)(ns / 1000000000), .tv_nsec = (long)(ns % 1000000000) },
		NULL);
}

/* Spreads what is summed, so that errors do not cancel out. */
static uint64_t mix(uint64_t word)
{
	word *= UINT64_C(0x9e3779b97f4a7c15);
	return word ^ word >> 29;
}

static int put(const struct crowd *c, void *state, uint64_t word)
{
	unsigned char buf[LEN_MAX] = { 0 };
	size_t len = c->job->shape.len;

	memcpy(buf, &word, 8);
	memcpy(buf + len - 8, &word, 8);
	return c->job->transport->send(state, buf, len);
}

static int send_all(const struct crowd *c, void *state, struct member *me, int number)
{
	struct crowd_memory *shared = c->shared;
	uint64_t count = 0, sum = 0;
	int err = 0;

	while (!err && !atomic_load_explicit(&shared->stop, memory_order_relaxed)) {
		uint64_t word = (uint64_t)number << 48 | ++count;

		err = put(c, state, word);
		sum += mix(word);
		atomic_store_explicit(&me->count, count, memory_order_relaxed);
	}
	me->sum = sum;
	if (!err && c->job->mode == MODE_PAIRS) {
		err = put(c, state, END);
	} else if (!err && atomic_fetch_sub(&shared->sending, 1) == 1) {
		for (int i = 0; i < c->job->receivers && !err; i++)
			err = put(c, state, END);
	}
	return err ? outcome_error(&me->outcome, err, "send") : 0;
}

static int recv_all(const struct crowd *c, void *state, struct member *me)
{
	uint64_t last[MAX_CROWD] = { 0 }, count = 0, sum = 0;
	unsigned char buf[LEN_MAX];
	size_t len = c->job->shape.len;

	for (;;) {
		ssize_t n = c->job->transport->recv(state, buf, len);
		uint64_t word, again, sender;

		if (n < 0)
			return outcome_error(&me->outcome, (int)n, "recv");
		memcpy(&word, buf, 8);
		memcpy(&again, buf + len - 8, 8);
		if ((size_t)n != len || word != again)
			return outcome_fail(&me->outcome, -EPROTO, "a message is torn");
		if (word == END)
			break;
		sender = word >> 48;
		word &= (UINT64_C(1) << 48) - 1;
		if (sender >= (uint64_t)c->job->senders || word <= last[sender])
			return outcome_fail(&me->outcome, -EPROTO, "a message is out of order");
		last[sender] = word;
		sum += mix(again);
		atomic_store_explicit(&me->count, ++count, memory_order_relaxed);
	}
	me->sum = sum;
	return 0;
}

/* Each process may run on both CPUs of the test; the scheduler chooses. */
static int spread_out(const struct job *job)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(job->cpu[0], &set);
	CPU_SET(job->cpu[1], &set);
	return sched_setaffinity(0, sizeof(set), &set) ? -errno : 0;
}

/* Closes the pipes of the other pairs. If this process kept their ends, no death would be noticed. */
static void *keep_one(const struct crowd *c, int which)
{
	for (int i = 0; i < c->state_count; i++) {
		if (i != which)
			c->job->transport->close(c->states[i]);
	}
	return c->states[which];
}

static int member_run(const struct crowd *c, int number)
{
	struct member *me = &c->shared->members[number];
	bool sends = number < c->job->senders;
	void *state = keep_one(c, number % c->job->senders % c->state_count);
	int err = spread_out(c->job);

	if (!err && c->job->syscalls_id)
		err = syscalls_count(c->job->syscalls_id);
	if (!err)
		err = c->job->transport->take(state, sends ? SIDE_LEAD : SIDE_ECHO);
	if (err)
		return outcome_error(&me->outcome, err, "take");
	atomic_fetch_add(&c->shared->ready, 1);
	while (!atomic_load(&c->shared->go))
		nap(100000);
	usage_take(&me->usage[USAGE_BEGIN]);
	err = sends ? send_all(c, state, me, number) : recv_all(c, state, me);
	usage_take(&me->usage[USAGE_END]);
	me->outcome.is_done = !err;
	c->job->transport->close(state);
	return err;
}

static void reap(struct crowd *c)
{
	c->running = processes_reap(c->processes, c->count);
}

static bool has_failed(const struct crowd *c)
{
	return processes_failed(c->processes, c->count);
}

static int tell(struct crowd *c)
{
	return processes_tell(c->job, c->processes, c->count);
}

/* Until the time is over, or nobody runs any more, or somebody has failed. */
static int watch_for(struct crowd *c, uint64_t ns)
{
	uint64_t end = clock_ns() + ns, now;

	while (c->running && !has_failed(c) && (now = clock_ns()) < end) {
		nap(end - now < 5000000 ? end - now : 5000000);
		reap(c);
	}
	return has_failed(c) ? tell(c) : 0;
}

static void look(const struct crowd *c, uint64_t *counts)
{
	for (int i = 0; i < c->count; i++)
		counts[i] = atomic_load_explicit(&c->shared->members[i].count, memory_order_relaxed);
}

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

/* The smallest, the median and the largest part of one side's messages between two looks; 1 is what is fair. */
static double find_shares(const uint64_t *from, const uint64_t *to, int n, double shares[3])
{
	double all[MAX_CROWD], total = 0;

	for (int i = 0; i < n; i++) {
		all[i] = (double)(to[i] - from[i]);
		total += all[i];
	}
	qsort(all, (size_t)n, sizeof(*all), compare);
	for (int i = 0; i < n; i++)
		all[i] *= total > 0 ? n / total : 0;
	shares[0] = all[0];
	shares[1] = (all[(n - 1) / 2] + all[n / 2]) / 2;
	shares[2] = all[n - 1];
	return total;
}

/* The measured part, window by window, so that a process that got nothing in one of them is seen. */
static int watch_windows(struct crowd *c)
{
	uint64_t start = clock_ns(), end = start + c->job->duration_ns, now = start;
	uint64_t before[2 * MAX_CROWD];
	int senders = c->job->senders, err = 0;

	look(c, c->from);
	look(c, c->to);
	c->least_sent = c->least_received = 1;
	while (!err && now < end && c->running) {
		uint64_t window = end - now < WINDOW_NS + WINDOW_NS / 2 ? end - now : WINDOW_NS;
		double shares[3];

		memcpy(before, c->to, sizeof(before));
		err = watch_for(c, window);
		look(c, c->to);
		find_shares(before, c->to, senders, shares);
		c->least_sent = shares[0] < c->least_sent ? shares[0] : c->least_sent;
		find_shares(before + senders, c->to + senders, c->job->receivers, shares);
		c->least_received = shares[0] < c->least_received ? shares[0] : c->least_received;
		now = clock_ns();
	}
	c->elapsed_ns = now - start;
	return err;
}

static int give_up(const struct crowd *c, const char *what)
{
	char text[REASON_MAX];

	snprintf(text, sizeof(text), "%s, %d of %d still run, given up", what, c->running, c->count);
	job_complain(c->job, text);
	return -ETIMEDOUT;
}

/* Until each process has its end of the pipe. */
static int await_all(struct crowd *c)
{
	uint64_t end = clock_ns() + c->job->grace_ns;

	while (atomic_load(&c->shared->ready) < c->count) {
		if (has_failed(c))
			return tell(c);
		if (clock_ns() > end)
			return give_up(c, "did not begin");
		nap(200000);
		reap(c);
	}
	return 0;
}

static int measure_crowd(struct crowd *c)
{
	uint64_t throttled_ns;
	int err = await_all(c);

	if (err)
		return err;
	atomic_store(&c->shared->go, true);
	err = watch_for(c, c->job->duration_ns / 4);
	throttled_ns = condition_throttled_ns();
	if (!err)
		err = watch_windows(c);
	c->throttled_ns = condition_throttled_ns() - throttled_ns;
	atomic_store(&c->shared->stop, true);
	if (!err)
		err = watch_for(c, c->job->grace_ns);
	if (!err && c->running)
		err = give_up(c, "no end in sight");
	return err;
}

static int check_totals(const struct crowd *c)
{
	uint64_t count = 0, sum = 0;

	for (int i = 0; i < c->count; i++) {
		const struct member *m = &c->shared->members[i];
		uint64_t sign = i < c->job->senders ? 1 : UINT64_MAX;

		count += sign * atomic_load(&m->count);
		sum += sign * m->sum;
	}
	if (!count && !sum)
		return 0;
	job_complain(c->job, "not what was sent has been received");
	return -EPROTO;
}

static void evaluate(const struct crowd *c, struct sample *sample)
{
	double cpu[2] = { 0 }, switches[2] = { 0 }, syscalls = 0, all = 0, received;
	int senders = c->job->senders;

	for (int i = 0; i < c->count; i++) {
		const struct member *m = &c->shared->members[i];
		int side = i >= c->job->senders;

		cpu[side] += (double)(m->usage[1].cpu_ns - m->usage[0].cpu_ns);
		switches[side] += (double)(m->usage[1].switches - m->usage[0].switches);
		syscalls += (double)(m->usage[1].syscalls - m->usage[0].syscalls);
		if (side)
			all += (double)atomic_load(&m->count);
	}
	if (all < 1)
		all = 1;
	*sample = (struct sample){
		.valid = true,
		.cpu_ns = (cpu[0] + cpu[1]) / all,
		.recv_cpu_ns = cpu[1] / all,
		.switches = (switches[0] + switches[1]) / all,
		.recv_switches = switches[1] / all,
		.syscalls = syscalls / all,
		.throttled = (double)c->throttled_ns / (double)c->elapsed_ns,
	};
	find_shares(c->from, c->to, senders, sample->send_share);
	received = find_shares(c->from + senders, c->to + senders, c->job->receivers, sample->recv_share);
	sample->send_share[0] = c->least_sent;
	sample->recv_share[0] = c->least_received;
	sample->ns = (double)c->elapsed_ns / (received < 1 ? 1 : received);
}

static int start_all(struct crowd *c)
{
	for (int i = 0; i < c->count; i++) {
		bool sends = i < c->job->senders;
		struct process *p = &c->processes[i];
		int err;

		snprintf(p->name, sizeof(p->name), "%s %d", sends ? "sender" : "receiver",
			 sends ? i : i - c->job->senders);
		err = process_start(p, sends ? SIDE_LEAD : SIDE_ECHO, &c->shared->members[i].outcome);
		/* Not _exit: some libraries tidy up when their process ends. */
		if (err == 0)
			exit(member_run(c, i) ? 1 : 0);
		if (err < 0)
			return job_fail(c->job, err, "fork");
		c->running++;
	}
	return 0;
}

static int open_all(struct crowd *c)
{
	int count = c->job->mode == MODE_PAIRS ? c->job->senders : 1, err = 0;

	for (c->state_count = 0; c->state_count < count && !err; c->state_count += !err)
		err = c->job->transport->open(&c->states[c->state_count], &c->job->shape);
	if (err && err != -EOPNOTSUPP)
		job_fail(c->job, err, "open");
	return err;
}

static void close_all(struct crowd *c)
{
	for (int i = 0; i < c->state_count; i++)
		c->job->transport->close(c->states[i]);
	c->state_count = 0;
}

int crowd_run(const struct job *job, struct sample *sample)
{
	struct crowd c = { .job = job, .count = job->senders + job->receivers };
	void *shared;
	int err;

	sample->valid = false;
	err = open_all(&c);
	if (err) {
		close_all(&c);
		return err;
	}
	shared = mmap(NULL, sizeof(*c.shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (shared == MAP_FAILED) {
		err = job_fail(job, -errno, "mmap");
		close_all(&c);
		return err;
	}
	c.shared = shared;
	atomic_store(&c.shared->sending, job->senders);
	err = start_all(&c);
	close_all(&c);
	if (!err)
		err = measure_crowd(&c);
	processes_stop(c.processes, c.count);
	if (!err)
		err = check_totals(&c);
	if (!err)
		evaluate(&c, sample);
	munmap(shared, sizeof(*c.shared));
	return err;
}
