/* SPDX-License-Identifier: MIT */
/*
 * All kinds of waiters on a few pipes, whose holders are stopped and killed at random
 * moments and replaced.  Nothing is lost, and nobody sleeps while there is something
 * for it.  Messages come in bursts with silence between them, and senders go on only
 * when everything that they sent was received.  So no later wake-up makes up for one
 * that was lost.
 *
 * A pipe stands still if each process that waits at it was asleep in each of many looks
 * in a row; one that was woken and only has no CPU is not asleep.  While a pipe stands
 * still nobody is stopped or killed, as a replacement would begin with a look.  This
 * lasts for LATE, half of the time after which waiters look by themselves; after a death
 * on the side that should have rung it may last until they do.
 *
 * BUFPIPE_STORM_SECONDS makes it longer; then every other round ends with the death of
 * all holders of one end, which test_kill_pairs.c has for each kind of waiter alone.
 */
#include "end/end.h"
#include "kill/soak_life.h"
#include "support.h"

#include <sys/mman.h>
#include <sys/prctl.h>

enum {
	PIPES = SOAK_FLOWS / 2,
	SENDERS = 2, /* processes of one flow */
	LOOKS = 50,  /* how many looks must find all of them asleep, at least LOOK_NS apart */
};
#define ROUND_NS     (4 * SEC)
#define LOOK_NS      (10 * MSEC)
#define LATE         (2500 * MSEC)
#define AFTER_DEATH  (12 * SEC)
#define STANDS_STILL (400 * MSEC)

/* The test's own view of a flow. */
struct watch {
	int senders, crew; /* 0: a pipe that goes one way has no such flow */
	pid_t pids[SOAK_CREW];
	unsigned moved;
	int64_t since;    /* when it moved last */
	int asleep;       /* in how many looks in a row all were asleep that should have moved it */
	bool excused;     /* a death may be what keeps it from moving: this counts once */
	unsigned died[2]; /* how far it had moved when a receiver or a sender died, */
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
	watches[flow].died[side] = atomic_load(&soak->flows[flow].moved);
}

/* Whether all of these processes that are alive sleep in a wait. There must be one, if one is enough. */
static bool all_asleep(int flow, int first, int last)
{
	const struct watch *w = &watches[flow];
	int waiting = 0;

	for (int i = first; i < last; i++) {
		int doing = atomic_load(&soak->flows[flow].places[i].doing);

		if (!w->pids[i])
			continue;
		if (doing == SOAK_WAITS && sleeping_call(w->pids[i], w->pids[i]) < 0)
			return false;
		/*
		 * Senders that wait for an answer may be between two messages. A receiver that has a message
		 * goes on with it.
		 */
		if (doing != SOAK_WAITS && i >= w->senders)
			return false;
		waiting += doing == SOAK_WAITS;
	}
	return waiting > 0;
}

/* Whether a holder that should have rung died, and few steps were made since. */
static bool may_be_unrung(const struct watch *w, bool message)
{
	return w->dead[message] && w->moved - w->died[message] <= 2 * SOAK_CREW;
}

/* Whether the flow stands still. Fails if a process sleeps too long while it has something to do. */
static bool look_at(int flow)
{
	struct watch *w = &watches[flow];
	unsigned moved = atomic_load(&soak->flows[flow].moved);
	bool message = ring_used(sender_of(flow)) > 0;
	int64_t now = clock_ns();
	bool excused;

	if (moved != w->moved || !w->since) {
		w->moved = moved;
		w->since = now;
		w->asleep = 0;
		w->excused = false;
		return false;
	}
	if (all_asleep(flow, message ? w->senders : 0, message ? w->crew : w->senders))
		w->asleep++;
	else
		w->asleep = 0;
	if (now - w->since > LATE && w->asleep >= LOOKS) {
		excused = may_be_unrung(w, message) && now - w->since < AFTER_DEATH;
		if (!excused)
			abandon(flow,
				message ? "receivers sleep beside a message" : "a sender sleeps beside room");
		excuses += !w->excused;
		w->excused = true;
	}
	if (now - w->since > 3 * AFTER_DEATH)
		abandon(flow, "nothing moves");
	return now - w->since > STANDS_STILL;
}

static bool any_stands_still(void)
{
	bool still = false;

	if (atomic_load(&soak->failed))
		abandon(-1, "");
	for (int i = 0; i < SOAK_FLOWS; i++) {
		if (watches[i].crew)
			still |= look_at(i);
	}
	return still;
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

/* Waits until these have ended by themselves. They may sleep for a limited time. */
static void await_end(int flow, int first, int last, int64_t limit, const char *why)
{
	struct watch *w = &watches[flow];
	int64_t begin = clock_ns();
	int asleep = 0;

	for (;;) {
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
		asleep = all_asleep(flow, first, last) ? asleep + 1 : 0;
		if (clock_ns() - begin > limit && asleep >= LOOKS)
			abandon(flow, why);
		check(clock_ns() - begin < 60 * SEC);
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
		await_end(i, 0, w->senders, may_be_unrung(w, false) ? AFTER_DEATH : LATE,
			  "a sender sleeps beside room");
		check_eq(bufpipe_shutdown(ends[pipe][i % 2 ? IN : OUT]), 0);
		await_end(i, w->senders, w->crew, LATE, "receivers are not told of the end of the stream");
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
			await_end(i, w->senders, w->crew, LATE,
				  "receivers are not told that all senders died");
			check_all_came(i);
		} else {
			await_end(i, 0, w->senders, LATE, "senders are not told that all receivers died");
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
		if (any_stands_still()) {
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
	soak = mmap(NULL, sizeof(*soak), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	check(soak != MAP_FAILED);
	for (unsigned i = 0; clock_ns() < end; i++)
		run_round(seconds && i % 2);
	/* The time between publishing and ringing is only a few instructions. */
	check(excuses <= 2 + kills / 20);
	munmap(soak, sizeof(*soak));
}
