/* SPDX-License-Identifier: MIT */
/*
 * What the two processes of a measurement do.
 *
 * Each message consists of words that hold its number and some marks; all are
 * written, read and checked, so that what is counted is a real exchange.  The
 * marks tell the echo all it needs to know: it answers each message of a round
 * trip, and in the other modes the one marked END, so that the lead's clock
 * stops when the last message has arrived.
 *
 * Where single messages are timed, each carries the time from which it counts.
 */
#include "../payload.h"
#include "bench.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#define MARK_BEGIN (UINT64_C(1) << 63) /* the measured part begins */
#define MARK_END   (UINT64_C(1) << 62) /* something ends: answer this */
#define MARK_LAST  (UINT64_C(1) << 61) /* and so does the measured part, and all */
#define MARK_BACK \
	(UINT64_C(1) << 60) /* set by the echo, so that no side can take its own message for the other's */
#define MARKS (MARK_BEGIN | MARK_END | MARK_LAST)

/* Longer than any transport spins. */
#define FALL_ASLEEP_NS 200000

struct worker {
	const struct job *job;
	const struct transport *transport;
	void *state;
	unsigned char *buf;
	size_t len;
	uint64_t out_mark; /* MARK_BACK or 0 */
	bool is_timed;     /* the second word of some messages is a time */
	uint64_t sent;
	uint64_t received;
	uint64_t time; /* in the message that was received last */
	struct findings *found;
	const struct findings *peer;
};

static int fail(const struct worker *w, int err, const char *what)
{
	return outcome_error(&w->found->outcome, err, what);
}

void usage_take(struct usage *usage)
{
	struct rusage self;

	getrusage(RUSAGE_SELF, &self);
	usage->cpu_ns = (uint64_t)(self.ru_utime.tv_sec + self.ru_stime.tv_sec) * 1000000000 +
			(uint64_t)(self.ru_utime.tv_usec + self.ru_stime.tv_usec) * 1000;
	usage->switches = (uint64_t)(self.ru_nvcsw + self.ru_nivcsw);
	usage->throttled_ns = condition_throttled_ns();
	usage->syscalls = syscalls_so_far();
}

static inline int put_at(struct worker *w, uint64_t marks, uint64_t time)
{
	const struct transport *t = w->transport;
	uint64_t word = ++w->sent | marks | w->out_mark;
	void *room = w->buf;
	int err = t->reserve ? t->reserve(w->state, &room, w->len) : 0;

	if (!err) {
		payload_write(room, w->len, word, time ? time : word);
		err = t->reserve ? t->commit(w->state, w->len) : t->send(w->state, room, w->len);
	}
	return err ? fail(w, err, "send") : 0;
}

static inline int put(struct worker *w, uint64_t marks)
{
	return put_at(w, marks, 0);
}

static int bad_message(struct worker *w, ssize_t got, uint64_t word)
{
	struct outcome *outcome = &w->found->outcome;

	if ((size_t)got != w->len)
		return outcome_fail(outcome, -EPROTO, "message %llu has %zd bytes instead of %zu",
				    (unsigned long long)w->received, got, w->len);
	return outcome_fail(outcome, -EPROTO, "message %llu begins with %#llx, or is torn",
			    (unsigned long long)w->received, (unsigned long long)word);
}

static inline int take(struct worker *w, uint64_t *marks)
{
	const struct transport *t = w->transport;
	const void *message = w->buf;
	uint64_t word = 0;
	bool is_right;
	ssize_t got;
	int err;

	got = t->peek ? t->peek(w->state, &message) : t->recv(w->state, w->buf, w->len);
	if (got < 0)
		return fail(w, (int)got, "recv");
	w->received++;
	is_right = (size_t)got == w->len && payload_read(message, w->len, &word, &w->time) &&
		   (w->is_timed || w->time == word) &&
		   (word & ~MARKS) == (w->received | (w->out_mark ^ MARK_BACK));
	err = t->peek ? t->release(w->state) : 0;
	if (!is_right)
		return bad_message(w, got, word);
	*marks = word & MARKS;
	return err ? fail(w, err, "release") : 0;
}

/* A message that is answered, whatever the mode. */
static int ask(struct worker *w, uint64_t marks)
{
	int err = put(w, marks);

	return err ? err : take(w, &marks);
}

static int burst(struct worker *w, uint64_t n)
{
	uint64_t marks;
	int err = 0;

	if (w->job->mode == MODE_TRIP) {
		while (n-- && !err) {
			err = put(w, 0);
			if (!err)
				err = take(w, &marks);
		}
	} else {
		while (n-- && !err)
			err = put(w, 0);
	}
	return err;
}

/*
 * Warms up for a quarter of the time and finds how many messages are worth a
 * look at the clock: about a 32nd of the time.
 */
static int warm_up(struct worker *w, uint64_t *chunk)
{
	uint64_t start = clock_ns(), before = start, now;
	int err;

	*chunk = 1;
	for (;;) {
		err = burst(w, *chunk);
		if (err)
			return err;
		now = clock_ns();
		if (now - start > w->job->duration_ns / 4)
			break;
		if (now - before < w->job->duration_ns / 32)
			*chunk *= 2;
		before = now;
	}
	return ask(w, MARK_END);
}

/* BEGIN is not answered in a stream; the way back is not part of it. */
static int begin(struct worker *w)
{
	return w->job->mode == MODE_TRIP ? ask(w, MARK_BEGIN) : put(w, MARK_BEGIN);
}

/*
 * Reading the clock costs as much as a part of the shortest round trips. So the distribution is measured in a
 * part of the time of its own.
 */
static int time_trips(struct worker *w)
{
	uint64_t before = clock_ns(), end = before + w->job->duration_ns / 2, now, marks;
	int err = 0;

	while (!err && before < end) {
		err = put(w, 0);
		if (!err)
			err = take(w, &marks);
		now = clock_ns();
		histogram_add(&w->found->histogram, now - before);
		before = now;
	}
	return err;
}

static int lead_busy(struct worker *w)
{
	struct findings *found = w->found;
	uint64_t start, chunk, before;
	int err;

	err = warm_up(w, &chunk);
	if (!err && w->job->mode == MODE_TRIP)
		err = time_trips(w);
	if (err)
		return err;
	before = w->sent;
	usage_take(&found->usage[USAGE_BEGIN]);
	start = clock_ns();
	err = begin(w);
	while (!err && clock_ns() - start < w->job->duration_ns)
		err = burst(w, chunk);
	if (!err)
		err = ask(w, MARK_END | MARK_LAST);
	found->elapsed_ns = clock_ns() - start;
	usage_take(&found->usage[USAGE_END]);
	found->messages = w->sent - before;
	return err;
}

static void sleep_until(uint64_t ns)
{
	struct timespec at = { .tv_sec = (time_t)(ns / 1000000000), .tv_nsec = (long)(ns % 1000000000) };

	while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &at, NULL) == EINTR)
		;
}

static void note_latency(struct worker *w)
{
	uint64_t now = clock_ns();

	histogram_add(&w->found->histogram, now > w->time ? now - w->time : 0);
}

/*
 * Until a message is due.  On a CPU of its own the sender spins, because a sleep
 * ends some microseconds late; elsewhere that would take away the receiver's CPU.
 */
static void wait_until(const struct worker *w, uint64_t due)
{
	if (!w->job->is_free || w->job->shape.one_core) {
		sleep_until(due);
		return;
	}
	while (clock_ns() < due)
		;
}

/*
 * The time of a message counts from the moment when it was due, not from when it was sent,
 * because a message that a blocked sender could not send in time has waited too.  Otherwise
 * fewer messages would be measured just when a transport is slow.
 */
static int lead_rate(struct worker *w)
{
	struct findings *found = w->found;
	uint64_t interval = 1000000000 / (uint64_t)w->job->rate, start, due, end, before;
	int err;

	err = ask(w, MARK_END);
	if (err)
		return err;
	usage_take(&found->usage[USAGE_BEGIN]);
	err = put(w, MARK_BEGIN);
	start = clock_ns();
	end = start + w->job->duration_ns;
	for (due = start + interval; !err && due < end; due += interval) {
		wait_until(w, due);
		before = clock_ns();
		err = put_at(w, 0, due);
		found->sending_ns += clock_ns() - before;
		found->messages++;
	}
	found->elapsed_ns = clock_ns() - start;
	usage_take(&found->usage[USAGE_END]);
	return err ? err : ask(w, MARK_END | MARK_LAST);
}

/* Each side lets the other fall asleep before it sends; both note how long the message took. */
static int send_to_sleeper(struct worker *w)
{
	sleep_until(clock_ns() + FALL_ASLEEP_NS);
	return put_at(w, 0, clock_ns());
}

static int lead_asleep(struct worker *w)
{
	struct findings *found = w->found;
	uint64_t start, end, marks;
	int err;

	err = ask(w, MARK_END);
	if (err)
		return err;
	usage_take(&found->usage[USAGE_BEGIN]);
	start = clock_ns();
	end = start + w->job->duration_ns;
	err = put(w, MARK_BEGIN);
	while (!err && clock_ns() < end) {
		err = send_to_sleeper(w);
		if (!err)
			err = take(w, &marks);
		if (!err)
			note_latency(w);
		found->messages += 2;
	}
	found->elapsed_ns = clock_ns() - start;
	usage_take(&found->usage[USAGE_END]);
	return err ? err : ask(w, MARK_END | MARK_LAST);
}

static uint64_t switches_of(pid_t pid)
{
	unsigned long long sum = 0, n;
	char path[64], line[128];
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%d/status", (int)pid);
	file = fopen(path, "re");
	if (!file)
		return 0;
	while (fgets(line, sizeof(line), file)) {
		if (sscanf(line, "voluntary_ctxt_switches: %llu", &n) == 1 ||
		    sscanf(line, "nonvoluntary_ctxt_switches: %llu", &n) == 1)
			sum += n;
	}
	fclose(file);
	return sum;
}

/* Leaves the receiver alone for the whole time and looks at it twice from outside. */
static int lead_idle(struct worker *w)
{
	struct findings *found = w->found;
	uint64_t start, settled, end, before;
	int err;

	err = ask(w, MARK_END);
	if (err)
		return err;
	usage_take(&found->usage[USAGE_BEGIN]);
	err = put(w, MARK_BEGIN);
	if (err)
		return err;
	start = clock_ns();
	end = start + w->job->duration_ns;
	settled = start + (w->job->duration_ns < 2000000000 ? w->job->duration_ns / 4 : 500000000);
	sleep_until(settled);
	before = switches_of(w->peer->pid);
	sleep_until(end);
	found->settled_switches = switches_of(w->peer->pid) - before;
	found->settled_ns = end - settled;
	found->elapsed_ns = clock_ns() - start;
	usage_take(&found->usage[USAGE_END]);
	found->messages = 1;
	return ask(w, MARK_END | MARK_LAST);
}

static int echo(struct worker *w)
{
	enum mode mode = w->job->mode;
	uint64_t marks = 0;
	int err = 0;

	while (!err && !(marks & MARK_LAST)) {
		err = take(w, &marks);
		if (err)
			return err;
		if (marks & MARK_BEGIN)
			usage_take(&w->found->usage[USAGE_BEGIN]);
		if (marks & MARK_LAST)
			usage_take(&w->found->usage[USAGE_END]);
		if (!marks && (mode == MODE_RATE || mode == MODE_ASLEEP))
			note_latency(w);
		if (!marks && mode == MODE_ASLEEP)
			err = send_to_sleeper(w);
		else if (mode == MODE_TRIP || (marks & MARK_END))
			err = put(w, 0);
	}
	return err;
}

static int prepare(struct worker *w, enum side side)
{
	int err;

	err = cpus_pin(w->job->cpu[side]);
	if (err)
		return fail(w, err, "pin");
	err = w->job->syscalls_id ? syscalls_count(w->job->syscalls_id) : 0;
	if (err)
		return fail(w, err, "count system calls");
	err = w->transport->take(w->state, side);
	if (err)
		return fail(w, err, "take");
	w->buf = malloc(w->len);
	if (!w->buf)
		return fail(w, -ENOMEM, "malloc");
	memset(w->buf, 0x5a, w->len);
	/* A sleep should end when it is due, and not up to 50 us later. */
	if (prctl(PR_SET_TIMERSLACK, 1UL))
		return fail(w, -errno, "timer slack");
	return 0;
}

static int lead(struct worker *w)
{
	switch (w->job->mode) {
	case MODE_IDLE:
		return lead_idle(w);
	case MODE_RATE:
		return lead_rate(w);
	case MODE_ASLEEP:
		return lead_asleep(w);
	default:
		return lead_busy(w);
	}
}

int worker_run(const struct job *job, void *state, enum side side, struct shared *shared)
{
	struct worker w = {
		.job = job,
		.transport = job->transport,
		.state = state,
		.len = job->shape.len,
		.is_timed = job->mode == MODE_RATE || job->mode == MODE_ASLEEP,
		.out_mark = side == SIDE_ECHO ? MARK_BACK : 0,
		.found = &shared->side[side],
		.peer = &shared->side[!side],
	};
	int err;

	w.found->pid = getpid();
	err = prepare(&w, side);
	if (!err)
		err = side == SIDE_ECHO ? echo(&w) : lead(&w);
	w.found->outcome.is_done = !err;
	job->transport->close(state);
	free(w.buf);
	return err ? 1 : 0;
}
