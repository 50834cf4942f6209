/* SPDX-License-Identifier: MIT */
/*
 * What the two processes do when one receiver has many pipes.
 *
 * A message holds its number in its pipe, the number of the pipe, and at its end its
 * number again; all are checked.  To separate two parts, the lead sends a mark through
 * every pipe, and the echo answers when it has all marks.  So every pipe has been used
 * before the measured part, and no message of a stream is in transit at its end.
 */
#include "bench.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define MARK_END  (UINT64_C(1) << 62) /* answer when all pipes had it */
#define MARK_LAST (UINT64_C(1) << 61) /* the same, and then end */
#define MARK_BACK (UINT64_C(1) << 60) /* from the echo */
#define MARKS     (MARK_END | MARK_LAST)

#define LEN_MAX 256
/* Longer than any transport spins. */
#define FALL_ASLEEP_NS 150000
/* The same for very many pipes that have all been used. */
#define SETTLE_NS 200000000

struct gather {
	const struct job *job;
	const struct transport *transport;
	void *state;
	struct findings *found;
	uint64_t *numbers; /* of the last message in each pipe */
	uint64_t answers;
	uint64_t messages;
	uint64_t random;
	unsigned pipes;
	size_t len;
};

static int fail(const struct gather *g, int err, const char *what)
{
	return outcome_error(&g->found->outcome, err, what);
}

static void fill(const struct gather *g, unsigned char *buf, uint64_t first, uint64_t second)
{
	memcpy(buf, &first, 8);
	memcpy(buf + 8, &second, 8);
	memcpy(buf + g->len - 8, &first, 8);
}

/* Whether a message is what fill made of these; *first then becomes its first word. */
static bool is_right(const struct gather *g, const unsigned char *buf, ssize_t len, uint64_t first,
		     uint64_t second, uint64_t marks, uint64_t *word)
{
	uint64_t got[3];

	if ((size_t)len != g->len)
		return false;
	memcpy(&got[0], buf, 8);
	memcpy(&got[1], buf + 8, 8);
	memcpy(&got[2], buf + len - 8, 8);
	*word = got[0];
	return got[0] == got[2] && (got[0] & ~marks) == first && got[1] == second;
}

static int put(struct gather *g, unsigned which, uint64_t marks)
{
	unsigned char buf[LEN_MAX];
	int err;

	fill(g, buf, ++g->numbers[which] | marks, which);
	err = g->transport->send_to(g->state, which, buf, g->len);
	return err ? fail(g, err, "send_to") : 0;
}

static int take(struct gather *g, unsigned *which, uint64_t *marks)
{
	unsigned char buf[LEN_MAX];
	ssize_t n = g->transport->recv_any(g->state, which, buf, g->len);
	uint64_t word;

	if (n < 0)
		return fail(g, (int)n, "recv_any");
	if (*which >= g->pipes || !is_right(g, buf, n, g->numbers[*which] + 1, *which, MARKS, &word))
		return outcome_fail(&g->found->outcome, -EPROTO, "pipe %u: not the message that comes next",
				    *which);
	g->numbers[*which]++;
	*marks = word & MARKS;
	return 0;
}

static int answer(struct gather *g)
{
	unsigned char buf[LEN_MAX] = { 0 };
	int err;

	fill(g, buf, ++g->answers | MARK_BACK, 0);
	err = g->transport->send(g->state, buf, g->len);
	return err ? fail(g, err, "send") : 0;
}

static int await_answer(struct gather *g)
{
	unsigned char buf[LEN_MAX];
	ssize_t n = g->transport->recv(g->state, buf, g->len);
	uint64_t word;

	if (n < 0)
		return fail(g, (int)n, "recv");
	if (!is_right(g, buf, n, ++g->answers | MARK_BACK, 0, 0, &word))
		return outcome_fail(&g->found->outcome, -EPROTO, "not the answer that comes next");
	return 0;
}

/*
 * Through how many pipes the marks go: the first ones through all.  At the end of a
 * dialogue nothing is in transit, so one pipe is enough, and pipes that must be idle
 * are not woken.
 */
static unsigned pipes_of_line(const struct gather *g, unsigned line, bool last)
{
	if (line == 0 || g->job->mode == MODE_SET_BUSY)
		return g->pipes;
	return last || g->job->mode == MODE_SET_IDLE ? 1 : g->pipes;
}

static int draw_line(struct gather *g, uint64_t marks, unsigned pipes)
{
	int err = 0;

	for (unsigned i = 0; i < pipes && !err; i++)
		err = put(g, i, marks);
	return err ? err : await_answer(g);
}

/* Good enough to spread over the pipes, and the same in every run. */
static unsigned pick(struct gather *g)
{
	g->random = g->random * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
	return (unsigned)(((g->random >> 32) * g->pipes) >> 32);
}

static int trip(struct gather *g, unsigned which)
{
	uint64_t start = clock_ns();
	int err;

	if (g->job->mode == MODE_SET_WAKE) {
		uint64_t asleep = start + FALL_ASLEEP_NS;

		while (start < asleep)
			start = clock_ns();
	}
	err = put(g, which, 0);

	if (!err)
		err = await_answer(g);
	histogram_add(&g->found->histogram, clock_ns() - start);
	g->messages++;
	return err;
}

/* How many trips, or how many messages into each pipe, are made between two looks at the clock. */
static int burst(struct gather *g)
{
	int err = 0;

	if (g->job->mode == MODE_SET_BUSY) {
		for (unsigned i = 0; i < g->pipes && !err; i++)
			err = put(g, i, 0);
		g->messages += g->pipes;
	} else if (g->job->mode != MODE_SET_ONE) {
		for (int i = 0; i < 8 && !err; i++)
			err = trip(g, pick(g));
	} else {
		for (int i = 0; i < 8 && !err; i++)
			err = trip(g, g->pipes / 2);
	}
	return err;
}

static int work_for(struct gather *g, uint64_t duration_ns)
{
	uint64_t start = clock_ns();
	int err = 0;

	while (!err && clock_ns() - start < duration_ns)
		err = burst(g);
	return err;
}

static int rest(uint64_t ns)
{
	const struct timespec time = { .tv_sec = (time_t)(ns / 1000000000),
				       .tv_nsec = (long)(ns % 1000000000) };

	return nanosleep(&time, NULL) ? -errno : 0;
}

static int lead(struct gather *g)
{
	struct findings *found = g->found;
	uint64_t start;
	int err;

	err = draw_line(g, MARK_END, pipes_of_line(g, 0, false));
	found->memory[USAGE_END] = memory_of_self();
	found->kernel_memory[USAGE_END] = memory_of_kernel();
	if (!err)
		err = g->job->mode == MODE_SET_IDLE ? rest(SETTLE_NS) : work_for(g, g->job->duration_ns / 4);
	if (!err)
		err = draw_line(g, MARK_END, pipes_of_line(g, 1, false));
	if (err)
		return err;
	g->messages = 0;
	memset(&found->histogram, 0, sizeof(found->histogram));
	usage_take(&found->usage[USAGE_BEGIN]);
	start = clock_ns();
	err = g->job->mode == MODE_SET_IDLE ? rest(g->job->duration_ns) : work_for(g, g->job->duration_ns);
	if (!err)
		err = draw_line(g, MARK_LAST, pipes_of_line(g, 2, true));
	found->elapsed_ns = clock_ns() - start;
	usage_take(&found->usage[USAGE_END]);
	found->messages = g->messages + pipes_of_line(g, 2, true);
	return err;
}

static int echo(struct gather *g)
{
	unsigned marked = 0, which, lines = 0;
	uint64_t marks = 0;
	int err = 0;

	while (!err) {
		err = take(g, &which, &marks);
		if (err)
			return err;
		if (!marks) {
			if (g->job->mode != MODE_SET_BUSY)
				err = answer(g);
			continue;
		}
		if (++marked < pipes_of_line(g, lines, marks & MARK_LAST))
			continue;
		marked = 0;
		if (lines++ == 0)
			g->found->memory[USAGE_END] = memory_of_self();
		usage_take(&g->found->usage[marks & MARK_LAST ? USAGE_END : USAGE_BEGIN]);
		err = answer(g);
		if (marks & MARK_LAST)
			break;
	}
	return err;
}

static int prepare(struct gather *g, enum side side)
{
	uint64_t start;
	int err;

	g->len = g->job->shape.len;
	g->pipes = g->job->shape.pipes;
	if (g->len < 24 || g->len > LEN_MAX)
		return fail(g, -EINVAL, "length");
	err = cpus_pin(g->job->cpu[side]);
	if (err)
		return fail(g, err, "pin");
	err = g->job->syscalls_id ? syscalls_count(g->job->syscalls_id) : 0;
	if (err)
		return fail(g, err, "count system calls");
	g->numbers = calloc(g->pipes, sizeof(*g->numbers));
	if (!g->numbers)
		return fail(g, -ENOMEM, "calloc");
	g->found->memory[USAGE_BEGIN] = memory_of_self();
	if (side == SIDE_LEAD)
		g->found->kernel_memory[USAGE_BEGIN] = memory_of_kernel();
	start = clock_ns();
	err = g->transport->take(g->state, side);
	g->found->setup_ns = clock_ns() - start;
	return err ? fail(g, err, "take") : 0;
}

int gather_run(const struct job *job, void *state, enum side side, struct shared *shared)
{
	struct gather g = {
		.job = job,
		.transport = job->transport,
		.state = state,
		.found = &shared->side[side],
		.random = 1,
	};
	int err;

	g.found->pid = getpid();
	err = prepare(&g, side);
	if (!err)
		err = side == SIDE_LEAD ? lead(&g) : echo(&g);
	g.found->outcome.is_done = !err;
	job->transport->close(state);
	free(g.numbers);
	return err ? 1 : 0;
}
