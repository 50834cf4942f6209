/* SPDX-License-Identifier: MIT */
/*
 * All kinds of waiters on a few pipes, whose holders are stopped and killed at random
 * moments and replaced.  Nothing is lost, and nobody sleeps while there is something
 * for it.  Messages come in bursts with silence between them, and senders go on only
 * when everything that they sent was received.  So no later wake-up makes up for one
 * that was lost.
 *
 * A flow rests if there is something to do in it, and in each look each process that
 * could do it was asleep, and nobody was about to ring; one that was woken and only has
 * no CPU is not asleep.  A flow may rest for as long as the table of promises in
 * docs/architecture.md says.  Only looks that came on time, on a machine that wakes
 * sleepers on time, count.  While a flow rests nobody is stopped or killed, because a
 * replacement would begin with a look.
 *
 * BUFPIPE_STORM_SECONDS makes it longer; then every other round ends with the death of
 * all holders of one end, which test_kill_pairs.c has for each kind of waiter alone.
 */
#include "asleep.h"
#include "end/end.h"
#include "kill/heartbeat.h"
#include "kill/soak_life.h"
#include "support.h"

#include <sys/mman.h>
#include <sys/prctl.h>

enum {
	PIPES = SOAK_FLOWS / 2,
	SENDERS = 2, /* processes of one flow */
};
#define ROUND_NS (4 * SEC)
#define LOOK_NS  (2 * MSEC)
/* Nothing takes as long as this, however busy the machine is. */
#define NEVER (60 * SEC)

/*
 * The bounds.  At once: less than the 100 ms after which some waiters look by themselves, and more
 * than the 20 ms after which a descriptor says that a message was put back.
 */
#define AT_ONCE    (60 * MSEC)
#define LAST_DIED  (100 * MSEC + AT_ONCE)
#define LOOKS      (5 * SEC + LAST_DIED)  /* after a short sleep */
#define TIMER      (SOAK_TIMER + AT_ONCE) /* of those that do not look by themselves */
#define LOCK_LOOKS (2 * SEC + AT_ONCE)    /* see sleep_for in lib/sync/lock.c */

/* The test's own view of a flow. */
struct watch {
	int senders, crew; /* 0: a pipe that goes one way has no such flow */
	pid_t pids[SOAK_CREW];
	unsigned moved;
	int64_t since;    /* when it moved last */
	int64_t looked;   /* when the last look was */
	int64_t rest;     /* for how long all were asleep that should have moved it */
	bool excused;     /* a death may be what keeps it from moving: this counts once */
	unsigned died[2]; /* how much that side had published when a receiver or a sender died, */
	bool dead[2];     /* if any did */
};

static struct soak *soak;
static bufpipe_t *ends[PIPES][2];
static struct watch watches[SOAK_FLOWS];
static unsigned seed;
static unsigned kills, stops, excuses;

static const struct bufpipe_options kinds[PIPES] = {
	{ .buffer_size = 1000, .flags = BUFPIPE_SHARED | BUFPIPE_DUPLEX, .name = "soak-shared-duplex" },
	{ .buffer_size = 1000, .flags = BUFPIPE_DUPLEX, .name = "soak-duplex" },
	{ .buffer_size = 600, .flags = BUFPIPE_SHARED, .name = "soak-shared" },
};

static _Noreturn void live(int flow, int n, unsigned state)
{
	bool sends = n < watches[flow].senders;
	/* The second flow of a pipe goes the other way. */
	int which = sends == !(flow % 2) ? OUT : IN;

	for (int i = 0; i < PIPES; i++) {
		for (int e = IN; e <= OUT; e++) {
			if (i != flow / 2 || e != which)
				bufpipe_close(ends[i][e]);
		}
	}
	soak_live(soak, flow, n, ends[flow / 2][which], sends, state);
}

static void start(int flow, int n)
{
	struct soak_place *place = &soak->flows[flow].places[n];
	unsigned state = (unsigned)rand_r(&seed);
	pid_t parent = getpid();
	pid_t pid;

	memset(place->hand, 0, sizeof(place->hand));
	atomic_store(&place->doing, SOAK_STARTS);
	pid = fork();
	check(pid >= 0);
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (getppid() != parent)
			_exit(1);
		live(flow, n, state);
	}
	watches[flow].pids[n] = pid;
}

/* The parent keeps both ends, so that no pipe hangs up before the end of a round. */
static const struct sender *sender_of(int flow)
{
	return &ends[flow / 2][flow % 2 ? IN : OUT]->sender;
}

static uint64_t bytes_there(int flow)
{
	return ends[flow / 2][IN] && ends[flow / 2][OUT] ? ring_used(sender_of(flow)) : 0;
}

static void describe(int flow)
{
	const struct watch *w = &watches[flow];
	const struct soak_flow *f = &soak->flows[flow];

	fprintf(stderr, "%s, %s: %u sent, %u received, %llu bytes there, still for %lld ms\n",
		kinds[flow / 2].name, flow % 2 ? "back" : "forth", atomic_load(&f->sent),
		atomic_load(&f->received), (unsigned long long)bytes_there(flow),
		(long long)((clock_ns() - w->since) / MSEC));
	for (int i = 0; i < w->crew; i++)
		fprintf(stderr, "\t%s: %s, %s, call %ld\n", i < w->senders ? "sender" : "receiver",
			waiter_names[atomic_load(&f->places[i].kind)],
			atomic_load(&f->places[i].doing) == SOAK_WAITS ? "waits" : "does not wait",
			w->pids[i] ? sleeping_call(w->pids[i], w->pids[i]) : 0L);
}

static _Noreturn void abandon(int flow, const char *why)
{
	int status;

	if (flow >= 0)
		describe(flow);
	for (int i = 0; i < SOAK_FLOWS; i++) {
		for (int n = 0; n < SOAK_CREW; n++) {
			if (watches[i].pids[n])
				kill(watches[i].pids[n], SIGKILL);
		}
	}
	while (wait(&status) > 0)
		;
	support_fail(__FILE__, __LINE__, "%s", soak->failed ? soak->text : why);
}

/* Messages that a dead receiver held may be missing from the pipe. */
static void bury(int flow, int n)
{
	struct soak_flow *f = &soak->flows[flow];
	struct soak_message m;

	watches[flow].pids[n] = 0;
	memcpy(&m, f->places[n].hand, sizeof(m));
	if (n >= watches[flow].senders && soak_is_head(&m))
		atomic_fetch_or(&f->state[m.number], SOAK_TAKEN);
}

/* How many messages the senders (or else the room of how many the receivers) have published. */
static unsigned published(int flow, bool senders)
{
	const struct soak_flow *f = &soak->flows[flow];

	return senders ? atomic_load(&f->sent) : atomic_load(&f->received);
}

static void kill_one(int flow, int n)
{
	int status;
	int side;

	kill(watches[flow].pids[n], SIGKILL);
	waitpid(watches[flow].pids[n], &status, 0);
	if (WIFEXITED(status) && WEXITSTATUS(status))
		abandon(flow, "a process failed");
	bury(flow, n);
	side = n < watches[flow].senders;
	watches[flow].dead[side] = true;
	watches[flow].died[side] = published(flow, side);
}

/* Whether a process sleeps in a wait. */
static bool is_at_rest(int flow, int n)
{
	pid_t pid = watches[flow].pids[n];

	return atomic_load(&soak->flows[flow].places[n].doing) == SOAK_WAITS && sleeping_call(pid, pid) >= 0;
}

/*
 * Whether all processes of one side that are alive sleep in a wait, one at least, and none of the
 * other side is about to ring.  A sender that goes on has rung, and sends nothing before its
 * messages were received.
 */
static bool is_side_at_rest(int flow, bool senders)
{
	const struct watch *w = &watches[flow];
	int waiting = 0;

	for (int i = 0; i < w->crew; i++) {
		bool sends = i < w->senders;

		if (!w->pids[i] || (sends && atomic_load(&soak->flows[flow].places[i].doing) != SOAK_WAITS))
			continue;
		if (!is_at_rest(flow, i))
			return false;
		waiting += sends == senders;
	}
	return waiting > 0;
}

/* Adds the time since the last look to the rest of a flow, or ends the rest. */
static void note_rest(int flow, bool rests)
{
	struct watch *w = &watches[flow];
	int64_t now = clock_ns();
	int64_t gap = now - w->looked;

	if (!rests)
		w->rest = 0;
	else if (heartbeat_is_regular())
		w->rest += gap < 2 * LOOK_NS ? gap : 2 * LOOK_NS;
	w->looked = now;
}

/* Whether a holder of a side died, and those that live may not have published anything from beginning to end since. */
static bool may_be_unrung(int flow, bool senders)
{
	const struct watch *w = &watches[flow];
	unsigned holders = (unsigned)(senders ? w->senders : w->crew - w->senders);

	return w->dead[senders] && published(flow, senders) - w->died[senders] <= holders;
}

/* For how long one side may rest beside what it waits for. */
static int64_t bound_of(int flow, bool senders)
{
	const struct watch *w = &watches[flow];
	int64_t bound = TIMER;

	/* Nobody is told of what a dead holder did not ring for. */
	if (may_be_unrung(flow, !senders)) {
		for (int i = senders ? 0 : w->senders; i < (senders ? w->senders : w->crew); i++) {
			if (w->pids[i] && waiter_looks_again(atomic_load(&soak->flows[flow].places[i].kind)))
				bound = LOOKS;
		}
		return bound;
	}
	/* A dead co-owner may have dropped a lock and not woken the one that sleeps for it. */
	return may_be_unrung(flow, senders) ? LOCK_LOOKS : AT_ONCE;
}

/* Whether the flow rests.  Fails if it rests for too long. */
static bool look_at(int flow)
{
	struct watch *w = &watches[flow];
	unsigned moved = atomic_load(&soak->flows[flow].moved);
	bool message = ring_used(sender_of(flow)) > 0;

	if (moved != w->moved || !w->since) {
		w->moved = moved;
		w->since = clock_ns();
		w->excused = false;
		note_rest(flow, false);
		return false;
	}
	note_rest(flow, is_side_at_rest(flow, !message));
	/* It may have moved between two of these looks at it. */
	if (w->rest > bound_of(flow, !message) && atomic_load(&soak->flows[flow].moved) == moved)
		abandon(flow, message ? "receivers sleep beside a message" : "a sender sleeps beside room");
	if (w->rest > AT_ONCE && !w->excused) {
		excuses++;
		w->excused = true;
	}
	if (clock_ns() - w->since > NEVER)
		abandon(flow, "nothing moves");
	return w->rest > 0;
}

static bool any_rests(void)
{
	bool rests = false;

	if (atomic_load(&soak->failed))
		abandon(-1, "");
	for (int i = 0; i < SOAK_FLOWS; i++) {
		if (watches[i].crew)
			rests |= look_at(i);
	}
	return rests;
}

static void stop_one(int flow, int n)
{
	pid_t pid = watches[flow].pids[n];
	bool long_one = soak_random(&seed, 8) == 0;

	kill(pid, SIGSTOP);
	sleep_ns(soak_random(&seed, long_one ? 250000 : 2000) * USEC);
	kill(pid, SIGCONT);
	watches[flow].since = 0;
	stops++;
}

static void strike(void)
{
	int flow = (int)soak_random(&seed, SOAK_FLOWS);
	int n = (int)soak_random(&seed, SOAK_CREW);

	if (n >= watches[flow].crew)
		return;
	if (soak_random(&seed, 3)) {
		stop_one(flow, n);
		return;
	}
	kill_one(flow, n);
	start(flow, n);
	kills++;
}

/* Waits until the processes of a side have ended by themselves.  They may sleep for a limited time. */
static void await_end(int flow, bool senders, int64_t bound, const char *why)
{
	struct watch *w = &watches[flow];
	int first = senders ? 0 : w->senders;
	int last = senders ? w->senders : w->crew;
	int64_t begin = clock_ns();
	int alive = last - first;

	for (w->rest = 0;;) {
		int left = 0;
		int status;

		for (int i = first; i < last; i++) {
			if (!w->pids[i])
				continue;
			if (waitpid(w->pids[i], &status, WNOHANG) == 0) {
				left++;
				continue;
			}
			w->pids[i] = 0;
			if (status)
				abandon(flow, "a process failed");
		}
		if (!left)
			return;
		note_rest(flow, left == alive && is_side_at_rest(flow, senders));
		alive = left;
		if (w->rest > bound)
			abandon(flow, why);
		if (clock_ns() - begin > NEVER)
			abandon(flow, "a process does not end");
		sleep_ns(LOOK_NS);
	}
}

static void check_all_came(int flow)
{
	const struct soak_flow *f = &soak->flows[flow];

	for (unsigned i = 0; i < SOAK_MESSAGES && i < atomic_load(&f->next); i++) {
		if (atomic_load(&f->state[i]) == SOAK_SENT)
			abandon(flow, "a message was sent and never received");
	}
}

/* The senders end, and then the stream. Nobody has died. */
static void end_in_order(int pipe)
{
	for (int i = 2 * pipe; i < 2 * pipe + 2; i++) {
		struct watch *w = &watches[i];

		if (!w->crew)
			continue;
		await_end(i, true, bound_of(i, true), "a sender sleeps beside room");
		check_eq(bufpipe_shutdown(ends[pipe][i % 2 ? IN : OUT]), 0);
		await_end(i, false, AT_ONCE, "receivers are not told of the end of the stream");
		check_all_came(i);
	}
}

/*
 * All holders of one end are killed. The holders of the other end receive what was sent, and learn of the
 * end.
 */
static void end_suddenly(int pipe)
{
	int end = (int)soak_random(&seed, 2);

	for (int i = 2 * pipe; i < 2 * pipe + 2; i++) {
		struct watch *w = &watches[i];
		bool senders = (end == OUT) == !(i % 2);

		for (int n = senders ? 0 : w->senders; n < (senders ? w->senders : w->crew); n++)
			kill_one(i, n);
	}
	bufpipe_close(ends[pipe][end]);
	ends[pipe][end] = NULL;
	for (int i = 2 * pipe; i < 2 * pipe + 2; i++) {
		struct watch *w = &watches[i];
		bool senders = (end == OUT) == !(i % 2);

		if (!w->crew)
			continue;
		if (senders) {
			await_end(i, false, LAST_DIED, "receivers are not told that all senders died");
			check_all_came(i);
		} else {
			await_end(i, true, LAST_DIED, "senders are not told that all receivers died");
		}
	}
}

static void begin_round(void)
{
	memset(soak, 0, sizeof(*soak));
	memset(watches, 0, sizeof(watches));
	for (int i = 0; i < PIPES; i++)
		pipe_open(ends[i], &kinds[i]);
	for (int i = 0; i < SOAK_FLOWS; i++) {
		bool shared = kinds[i / 2].flags & BUFPIPE_SHARED;

		if (i % 2 && !(kinds[i / 2].flags & BUFPIPE_DUPLEX))
			continue;
		watches[i].senders = shared ? SENDERS : 1;
		watches[i].crew = shared ? SOAK_CREW : 2;
		for (int n = 0; n < watches[i].crew; n++)
			start(i, n);
	}
}

/*
 * A process that has just been made holds all ends of its parent until it has closed them, and
 * keeps other pipes from hanging up.  Beside a tracer that may last for seconds.
 */
static void await_all_begun(void)
{
	int64_t begin = clock_ns();

	for (int i = 0; i < SOAK_FLOWS; i++) {
		for (int n = 0; n < watches[i].crew; n++) {
			while (watches[i].pids[n] &&
			       atomic_load(&soak->flows[i].places[n].doing) == SOAK_STARTS) {
				check(clock_ns() - begin < 60 * SEC);
				sleep_ns(MSEC);
			}
		}
	}
}

static void run_round(bool sudden)
{
	int64_t until = clock_ns() + ROUND_NS;
	unsigned received = 0;

	begin_round();
	while (clock_ns() < until && !atomic_load(&soak->stop)) {
		if (any_rests()) {
			sleep_ns(LOOK_NS);
			until += LOOK_NS;
			continue;
		}
		sleep_ns(soak_random(&seed, 3000) * USEC);
		strike();
	}
	await_all_begun();
	atomic_store(&soak->fill, sudden);
	atomic_store(&soak->stop, 1);
	if (sudden)
		sleep_ns(soak_random(&seed, 20000) * USEC);
	for (int i = 0; i < PIPES; i++) {
		if (sudden)
			end_suddenly(i);
		else
			end_in_order(i);
		pipe_close(ends[i]);
	}
	for (int i = 0; i < SOAK_FLOWS; i++)
		received += atomic_load(&soak->flows[i].received);
	check(received > 0);
	fprintf(stderr, "%u messages; so far %u killed, %u stopped, %u late after a death\n", received, kills,
		stops, excuses);
}

TestSuite(kill_soak, .init = support_begin, .timeout = 100000);

Test(kill_soak, nobody_sleeps_beside_what_it_waits_for)
{
	const char *seconds = getenv("BUFPIPE_STORM_SECONDS");
	int64_t end = clock_ns() + (seconds ? atol(seconds) : 20) * SEC;

	seed = (unsigned)clock_ns();
	fprintf(stderr, "seed %u\n", seed);
	heartbeat_start();
	soak = mmap(NULL, sizeof(*soak), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	check(soak != MAP_FAILED);
	for (unsigned i = 0; clock_ns() < end; i++)
		run_round(seconds && i % 2);
	/* The time between publishing and ringing is only a few instructions. */
	check(excuses <= 2 + kills / 20);
	munmap(soak, sizeof(*soak));
	heartbeat_stop();
}
