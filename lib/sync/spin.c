/* SPDX-License-Identifier: MIT */
#include "sync/spin.h"

#include "bufpipe.h"

#include <sched.h>

#define USEC 1000ll

/* About the cost of a sleep and a wake-up.  A longer spin cannot pay. */
#define SPIN_MAX (50 * USEC)
#define SPIN_MIN (4 * USEC)
/*
 * The CPU time of a sleep and a wake-up: the limit if another program wants this CPU, because then
 * CPU time counts.
 */
#define SPIN_CROWDED SPIN_FIRST_GUESS
/* The estimate does not grow beyond this, so that it soon comes down again. */
#define EXPECTED_MAX (4 * SPIN_MAX)

void spin_note_cpu(struct wait *wait)
{
	uint32_t cpu = (uint32_t)sched_getcpu() + 1;

	if (atomic_load_explicit(&wait->ours->cpu, memory_order_relaxed) != cpu)
		atomic_store_explicit(&wait->ours->cpu, cpu, memory_order_relaxed);
}

static bool poll_word(const struct look *look, int times)
{
	while (times--) {
		if (changed(look))
			return true;
		cpu_relax();
	}
	return false;
}

/*
 * For wait_streams at the other end.  Stored only when it changes: a store takes the line from the
 * publisher.
 */
static void note_single(const struct wait *wait, uint32_t single)
{
	if (atomic_load_explicit(&wait->ours->single, memory_order_relaxed) != single)
		atomic_store_explicit(&wait->ours->single, single, memory_order_relaxed);
}

/*
 * A longer pause, for cache lines that are remote.  When we catch up with the
 * publisher, it waits long for the line that we look at, so a longer pause pays.  The
 * pause at most doubles at each wait, and is limited by the number of lines that
 * came, so that the end of a burst does not have to wait.  If the publisher lies
 * about this, it costs a few microseconds.
 */
static uint32_t longer(uint32_t pauses, uint32_t last, uint64_t bytes)
{
	enum { LONGEST_REMOTE = 384 }; /* on an EPYC a stream is 1 % faster at 512, and 2 % slower at 256 */
	uint64_t more = last < LONGEST_REMOTE / 2 ? 2 * last : LONGEST_REMOTE;

	if (more > bytes / LAYOUT_LINE)
		more = bytes / LAYOUT_LINE;
	return more > pauses ? (uint32_t)more : pauses;
}

/*
 * Pauses before the first look, so that more messages can gather.  Two sides that
 * move along the ring together compete for its cache lines at every message.  If
 * several messages came since the last wait, a short pause brings still more of
 * them.  If one message came each time, as in a dialogue, a pause only delays the
 * answer: then it is tried once in TRY_EVERY waits, and soon given up.  There is no
 * pause for long messages, because a few of them fill the cache.  The publisher is
 * told what we found, because in a dialogue it should not prefetch either.
 */
static void let_it_grow(struct wait *wait, const struct look *look)
{
	enum { MANY = 2, LONG = 16384 + 64, EACH = 16, LONGEST = 128, TRY_EVERY = 512, TRY_FOR = 32 };
	uint32_t total = atomic_load_explicit(&wait->published, memory_order_relaxed);
	uint32_t came = total - atomic_load_explicit(&wait->waited, memory_order_relaxed);
	uint32_t waits = atomic_load_explicit(&wait->waits, memory_order_relaxed) + 1;
	uint32_t last = atomic_load_explicit(&wait->pauses, memory_order_relaxed);
	uint32_t pauses = last / 2;
	/* The wanted position moves along with ours, so the difference is what came since the last wait. */
	uint64_t bytes = look->wanted - atomic_load_explicit(&wait->place, memory_order_relaxed);

	if (came >= MANY && bytes / came <= LONG) {
		pauses = came < LONGEST / EACH ? came * EACH : LONGEST;
		if (pauses == LONGEST && wait->may_linger &&
		    atomic_load_explicit(&wait->theirs->remote, memory_order_relaxed) > 0)
			pauses = longer(pauses, last, bytes);
	} else if (waits % TRY_EVERY == 0)
		pauses = TRY_FOR;
	if (came)
		note_single(wait, came < MANY && !pauses);
	atomic_store_explicit(&wait->waited, total, memory_order_relaxed);
	atomic_store_explicit(&wait->waits, waits, memory_order_relaxed);
	atomic_store_explicit(&wait->pauses, pauses, memory_order_relaxed);
	atomic_store_explicit(&wait->place, look->wanted, memory_order_relaxed);
	while (pauses--)
		cpu_relax();
}

bool wait_flows(const struct wait *wait, uint64_t position)
{
	/*
	 * STREAM is the pause after three messages a wait, and more than the trial pause of a
	 * dialogue; see let_it_grow.
	 */
	enum { STREAM = 48, LONG_AGO = 65536 };

	return atomic_load_explicit(&wait->pauses, memory_order_relaxed) >= STREAM ||
	       (atomic_load_explicit(&wait->waits, memory_order_relaxed) &&
		position - atomic_load_explicit(&wait->place, memory_order_relaxed) >= LONG_AGO);
}

static bool same_cpu(const struct wait *wait)
{
	return spin_is_here(wait, wait->ours);
}

int64_t wait_budget(struct wait *wait)
{
	int64_t expected = wait_expected(wait);
	int64_t most = SPIN_MAX;

	spin_note_cpu(wait);
	if (wait->spin_ns > 0)
		return wait->spin_ns;
	if (wait->spin_ns == BUFPIPE_NO_SPIN)
		return 0;
	if (wait->spin_ns == BUFPIPE_SPIN_ALWAYS)
		return INT64_MAX;
	if (backoff_crowded())
		most = SPIN_CROWDED;
	if (expected > most)
		return 0;
	if (expected * 4 < SPIN_MIN)
		return SPIN_MIN;
	return time_sooner(expected * 4, most);
}

/*
 * Yields, because the other side needs this CPU.  A yield costs less than half of a
 * sleep.  If the other side has published nothing after SPIN_TURNS yields, it waits
 * for something else, or its priority is lower than ours: then it is time to sleep.
 */
static int give_way(const struct look *look, int64_t deadline, int64_t *now)
{
	for (int i = 0; i < SPIN_TURNS; i++) {
		if (!backoff_give_way(deadline, now))
			break;
		if (changed(look))
			return 0;
	}
	return NOTHING;
}

int spin_until(struct wait *wait, const struct look *look, int64_t begin, int64_t deadline, int64_t *now)
{
	int64_t budget = wait_budget(wait);
	int64_t before;

	*now = begin;
	if (!budget)
		return NOTHING;
	if (same_cpu(wait) && wait->spin_ns == 0)
		return give_way(look, deadline, now);
	do {
		before = *now;
		if (same_cpu(wait))
			sched_yield();
		if (poll_word(look, 32))
			return 0;
		if (before >= deadline)
			return -ETIMEDOUT;
		if (wait_glance(wait) < 0)
			return changed(look) ? 0 : -EPIPE;
		*now = time_now();
		backoff_learn(before, *now);
	} while (*now - begin < budget);
	return NOTHING;
}

void wait_learn(struct wait *wait, int64_t took)
{
	int64_t expected = wait_expected(wait);

	expected += (time_sooner(took, EXPECTED_MAX) - expected) / 8;
	atomic_store_explicit(&wait->expected, expected, memory_order_relaxed);
}

slow_path bool wait_briefly(struct wait *wait, const struct look *look)
{
	meter_add(&wait->meter->waits, 1);
	if (!wait_budget(wait) || same_cpu(wait))
		return false;
	let_it_grow(wait, look);
	if (!poll_word(look, 64))
		return false;
	wait_learn(wait, 0);
	return true;
}
