/* SPDX-License-Identifier: MIT */
/*
 * The waiter raises its flags, and orders that before its last look: by a membarrier, or
 * by telling publishers to fence; docs/waiting.md, section 4.
 */
#include "sync/doorbell.h"
#include "sync/wait.h"

/*
 * After SPARSE_RAISES raises in a row, with at most SPARSE_PUBLICATIONS publications before
 * each, the waiter tells publishers to fence.  Then a fence for each publication
 * costs less than a membarrier for each sleep.
 */
#define SPARSE_RAISES       4
#define SPARSE_PUBLICATIONS 8

/* A processor makes a store visible after some microseconds at most.  This is far more. */
#define STORE_DELAY 1000000ll

/*
 * Whether membarriers work for this process.  A child of fork inherits both the registration and
 * this word.
 */
enum { UNKNOWN, USABLE, UNUSABLE };
static _Atomic int membarrier_state;

static bool membarrier_usable(void)
{
	int state = atomic_load_explicit(&membarrier_state, memory_order_relaxed);

	if (state == UNKNOWN) {
		state = sys_membarrier(MEMBARRIER_CMD_REGISTER_GLOBAL_EXPEDITED) ? UNUSABLE : USABLE;
		atomic_store_explicit(&membarrier_state, state, memory_order_relaxed);
	}
	return state == USABLE;
}

/* Makes publishers fence for good, even if other holders of this end can issue membarriers. */
static void keep_fence(struct wait *wait)
{
	atomic_store_explicit(&wait->ours->fence_stays, 1, memory_order_relaxed);
	/* Release pairs with the acquire in wait_take_fence_back. */
	if (!(atomic_fetch_or_explicit(&wait->ours->flags, WAITER_FENCE, memory_order_release) &
	      WAITER_FENCE))
		/* Also if we had raised it before: another holder has taken it back since. */
		atomic_store_explicit(&wait->unfenced, time_now(), memory_order_relaxed);
}

void wait_order_init(struct wait *wait)
{
	wait->fence = !membarrier_usable();
	if (wait->fence)
		keep_fence(wait);
}

/* Whether so few publications came before the recent raises that publishers should fence. */
static bool is_sparse(struct wait *wait)
{
	uint32_t published = atomic_load_explicit(&wait->published, memory_order_relaxed);
	uint32_t sparse = atomic_load_explicit(&wait->sparse, memory_order_relaxed);

	/* This is only an estimate, which the threads of a process share.  A lost update does no harm. */
	if (published - atomic_load_explicit(&wait->raised, memory_order_relaxed) > SPARSE_PUBLICATIONS)
		sparse = 0;
	else if (sparse < SPARSE_RAISES)
		sparse++;
	atomic_store_explicit(&wait->raised, published, memory_order_relaxed);
	atomic_store_explicit(&wait->sparse, sparse, memory_order_relaxed);
	return sparse == SPARSE_RAISES;
}

slow_path void wait_take_fence_back(struct wait *wait)
{
	if (atomic_load_explicit(&wait->ours->fence_stays, memory_order_relaxed))
		return;
	/*
	 * In one step, so that no waiter finds an old WAITER_FENCED beside a new WAITER_FENCE.
	 * Acquire pairs with the release in keep_fence: if another holder has raised it for good
	 * just before this, we see that.
	 */
	atomic_fetch_and_explicit(&wait->ours->flags, ~(uint32_t)(WAITER_FENCE | WAITER_FENCED),
				  memory_order_acquire);
	atomic_store_explicit(&wait->unfenced, 0, memory_order_relaxed);
	if (atomic_load_explicit(&wait->ours->fence_stays, memory_order_relaxed))
		keep_fence(wait);
	atomic_store_explicit(&wait->sparse, 0, memory_order_relaxed);
}

/* One waiter leads and alone changes WAITER_FENCE.  On a shared end that is the one that sleeps in a call. */
static bool leads(const struct wait *wait, uint32_t mode)
{
	return wait->sole || mode & WAITER_MODE;
}

/* Returns WAITER_FENCE if publishers should fence from now on, else 0. */
static uint32_t fence_wanted(struct wait *wait, uint32_t mode)
{
	if (!membarrier_usable()) {
		keep_fence(wait);
		return WAITER_FENCE;
	}
	if (!leads(wait, mode))
		return 0;
	if (is_sparse(wait))
		return WAITER_FENCE;
	wait_unfence(wait);
	return 0;
}

static bool is_fenced(uint32_t flags)
{
	return (flags & (WAITER_FENCE | WAITER_FENCED)) == (WAITER_FENCE | WAITER_FENCED);
}

/* Whether publishers have woken all that had raised their flags, with these modes, when there were so many raises. */
static bool all_woken(const struct wait *wait, uint64_t raises, uint32_t modes)
{
	/*
	 * Relaxed: the publisher stores this after it has woken them.  If it lies, only its own
	 * pipe suffers.
	 */
	uint64_t rung = atomic_load_explicit(&wait->seen->rung, memory_order_relaxed);

	return rung >> 8 == (raises & UINT64_MAX >> 8) && !(modes & WAITER_ASLEEP & ~rung);
}

/*
 * Added to the number of a raise: a number that no raise near it has.  It replaces numbers that are
 * out of date, because `wanted` has only 16 bits of them: without it, an old one would hold again
 * after 65536 raises that no publisher has answered.
 */
#define NO_RAISE 0x8000

/*
 * Counts a raise for room on a shared end, whose holders may wait for different positions.
 * `wanted` becomes the least position of all that may be asleep.  It names the raise for
 * which it holds: for any other number of raises publishers ring at every position.  So
 * wake-ups come too early, and are never lost, while several raise at once, or when one dies in
 * here.  Without the number, one holder could replace the lesser wish of another that it has
 * not seen.  Returns the number of raises before this one.
 */
static uint64_t want_least(struct wait *wait, uint64_t wanted, uint32_t mode)
{
	struct waiter_state *ours = wait->ours;
	/* Acquire pairs with the next two: whoever is counted here has its mode in the flags. */
	uint64_t before = atomic_load_explicit(&ours->raises, memory_order_acquire);
	uint32_t modes = atomic_fetch_or_explicit(&ours->flags, mode, memory_order_relaxed);
	uint64_t raises = atomic_fetch_add_explicit(&ours->raises, 1, memory_order_acq_rel);
	uint64_t found = atomic_load_explicit(&ours->wanted, memory_order_relaxed);
	bool woken = all_woken(wait, raises, modes);
	bool known;

	/* Otherwise another has raised meanwhile, or has not said yet what it wants. */
	known = raises == before && (woken || wanted_holds(found, raises));
	if (known && !woken && wanted_distance(found, wanted) > 0)
		wanted = found;
	/* Fails if another was quicker.  Relaxed: the number of the raise tells what this is worth. */
	atomic_compare_exchange_strong_explicit(&ours->wanted, &found,
						wanted_for(wanted, raises + (known ? 1 : NO_RAISE)),
						memory_order_relaxed, memory_order_relaxed);
	return raises;
}

bool wait_raise(struct wait *wait, uint64_t wanted, uint32_t mode)
{
	uint32_t fence = fence_wanted(wait, mode);
	uint64_t raises;
	uint32_t found;

	if (wait->sends && !wait->sole) {
		raises = want_least(wait, wanted, mode);
	} else {
		atomic_store_explicit(&wait->ours->wanted, wanted, memory_order_relaxed);
		raises = atomic_fetch_add_explicit(&wait->ours->raises, 1, memory_order_relaxed);
	}
	/*
	 * Release pairs with the acquire in ring: a publisher that sees the mode also sees raises
	 * and wanted.
	 */
	found = atomic_fetch_or_explicit(&wait->ours->flags, mode | fence, memory_order_release);
	/*
	 * Clear the other mode, of our shorter sleep before or of a leader that was killed: publishers
	 * would ring in vain there, too, and wait_stop would wait for that sleeper.
	 */
	if (mode & WAITER_MODE && found & WAITER_MODE & ~mode)
		wait_lower(wait, WAITER_MODE & ~mode);
	if (fence && !is_fenced(found) && !atomic_load_explicit(&wait->unfenced, memory_order_relaxed))
		atomic_store_explicit(&wait->unfenced, time_now(), memory_order_relaxed);
	if (raises % DOORBELL_TRIM_EVERY == DOORBELL_TRIM_EVERY - 1)
		doorbell_trim(wait->socket, wait->doorbell_lock);
	return is_fenced(found);
}

void wait_lower(struct wait *wait, uint32_t mode)
{
	atomic_fetch_and_explicit(&wait->ours->flags, ~mode, memory_order_relaxed);
}

/* False if membarriers do not work, or no longer work because the process has entered a sandbox. */
static bool issue_membarrier(void)
{
	if (!membarrier_usable())
		return false;
	if (sys_membarrier(MEMBARRIER_CMD_GLOBAL_EXPEDITED) == 0)
		return true;
	/* The next raise tells publishers to fence. */
	atomic_store_explicit(&membarrier_state, UNUSABLE, memory_order_relaxed);
	return false;
}

/* A membarrier, or enough time, has come after WAITER_FENCE. */
static void note_fenced(struct wait *wait)
{
	if (!atomic_load_explicit(&wait->unfenced, memory_order_relaxed))
		return;
	atomic_store_explicit(&wait->unfenced, 0, memory_order_relaxed);
	/* Relaxed: the membarrier, or the time, comes between WAITER_FENCE and this. */
	atomic_fetch_or_explicit(&wait->ours->flags, WAITER_FENCED, memory_order_relaxed);
}

/*
 * For a process without membarriers: whether each publisher has seen WAITER_FENCE by now.
 * One that loaded the flags before WAITER_FENCE was raised has stored its publication
 * before, and the store has left its store buffer within STORE_DELAY.
 */
static bool is_known(struct wait *wait)
{
	int64_t since = atomic_load_explicit(&wait->unfenced, memory_order_relaxed);

	if (!since || time_now() - since < STORE_DELAY)
		return false;
	note_fenced(wait);
	return true;
}

bool wait_ordered(struct wait *wait, bool issued)
{
	uint32_t flags;

	if (issued) {
		if (wait->sole)
			note_fenced(wait);
		return true;
	}
	flags = atomic_load_explicit(&wait->ours->flags, memory_order_relaxed);
	return is_fenced(flags) || is_known(wait);
}

static bool order(struct wait *wait, bool fenced, bool leading)
{
	if (!fenced && issue_membarrier()) {
		if (leading)
			note_fenced(wait);
		return true;
	}
	/* Pairs with the fence in wait_ring or in wait_must_ring. */
	atomic_thread_fence(memory_order_seq_cst);
	return fenced || is_known(wait);
}

bool wait_order(struct wait *wait, bool fenced)
{
	return order(wait, fenced, wait->sole);
}

bool wait_raise_and_order(struct wait *wait, uint64_t wanted, uint32_t mode)
{
	return order(wait, wait_raise(wait, wanted, mode), true);
}

bool wait_membarrier(void)
{
	if (issue_membarrier())
		return true;
	atomic_thread_fence(memory_order_seq_cst);
	return false;
}

bool wait_order_all(void)
{
	/* Without a membarrier: pairs as in order. */
	return wait_membarrier();
}
