/* SPDX-License-Identifier: MIT */
/*
 * If anything is uncertain, the lock stays as it is: to take it from an owner that lives
 * would break the ring.  A lock is taken from its owner only if
 *
 *   - all processes that ever took it are in one pid namespace, which is ours, so that an
 *     id means the same thread to all of them;
 *   - the id in the mutex is the one that the owner found there when it took the lock;
 *   - the owner, by its real id, does not exist.  If its id belongs to a new thread, the
 *     lock stays;
 *   - a look some time ago found all this, too.  A child of a bare clone may have taken the
 *     mutex after its parent, and with the same id, and be about to note itself: it has
 *     that long for it.
 *
 * The number of drops in `holder` tells one hold from a later one of the same thread.  Only
 * the thread that replaces `holder` may free the mutex, so the lock is freed once.
 */
#include "sync/heal.h"

#include "base/sys.h"
#include "base/thread.h"

#include <fcntl.h>
#include <stdlib.h>

#define ID_MASK (((uint64_t)1 << HEAL_ID_BITS) - 1)

/* In pid_space: not all are in one namespace, or one could not be found out. */
#define MIXED UINT32_MAX

/* How long the same hold must have been seen.  Two looks of a sleeper in slices are further apart. */
#define LOOK_EVERY NSEC_PER_SEC

/* The link reads "pid:[4026531836]".  No two namespaces have the same number at a time. */
static uint32_t find_pid_space(void)
{
	char text[64];
	ssize_t n = syscall(SYS_readlinkat, AT_FDCWD, "/proc/self/ns/pid", text, sizeof(text) - 1);
	uint32_t number;

	if (n < 6)
		return MIXED;
	text[n] = 0;
	number = (uint32_t)strtoul(text + 5, NULL, 10);
	return number ? number : MIXED;
}

slow_path void heal_enroll_process(struct lock_habit *habit, uint32_t process)
{
	uint32_t found = 0;
	uint32_t space;

	if (habit->owner) {
		space = find_pid_space();
		if (!atomic_compare_exchange_strong_explicit(&habit->owner->pid_space, &found, space,
							     memory_order_relaxed, memory_order_relaxed) &&
		    found != space)
			atomic_store_explicit(&habit->owner->pid_space, MIXED, memory_order_relaxed);
	}
	atomic_store_explicit(&habit->process, process, memory_order_relaxed);
	/* Pairs with the acquire of the mutex in is_gone: if our id is seen there, this is, too. */
	atomic_thread_fence(memory_order_seq_cst);
}

#ifdef __GLIBC__
static _Atomic uint32_t *word_of(const struct lock *lock)
{
	return (_Atomic uint32_t *)(uintptr_t)&lock->mutex.__data.__lock;
}

static uint32_t id_in(const struct lock *lock)
{
	/* Acquire pairs with the fence in heal_enroll_process, and with the release of a former owner in heal_forget. */
	return atomic_load_explicit(word_of(lock), memory_order_acquire) & FUTEX_TID_MASK;
}

/* As the kernel does when the owner of a robust lock dies. */
static bool free_mutex(const struct lock *lock, uint32_t id)
{
	_Atomic uint32_t *word = word_of(lock);
	uint32_t found = atomic_load_explicit(word, memory_order_relaxed);

	/* The loop ends: the one thing that changes in the word is that a sleeper sets FUTEX_WAITERS. */
	while ((found & FUTEX_TID_MASK) == id) {
		if (!atomic_compare_exchange_strong_explicit(word, &found,
							     FUTEX_OWNER_DIED | (found & FUTEX_WAITERS),
							     memory_order_release, memory_order_relaxed))
			continue;
		sys_futex_wake(word, 1);
		return true;
	}
	return false;
}
#else
/* The mutex of another C library is not ours to look into.  No id is 0, so no note agrees with it. */
static uint32_t id_in(const struct lock *lock)
{
	(void)lock;
	return 0;
}

static bool free_mutex(const struct lock *lock, uint32_t id)
{
	(void)lock;
	(void)id;
	return false;
}
#endif

uint64_t heal_ids(const struct lock *lock)
{
	return (thread_id() & ID_MASK) << HEAL_ID_BITS | (id_in(lock) & ID_MASK);
}

static bool is_gone(const struct lock *lock, const struct lock_owner *owner, uint64_t holder)
{
	uint32_t id = (uint32_t)(holder >> HEAL_ID_BITS & ID_MASK);
	uint32_t space;

	if (!id || id_in(lock) != (holder & ID_MASK))
		return false;
	space = atomic_load_explicit(&owner->pid_space, memory_order_relaxed);
	/* The cheap call first: nearly always the owner lives. */
	return space != MIXED && syscall(SYS_tkill, id, 0) < 0 && errno == ESRCH && space == find_pid_space();
}

bool heal(struct lock *lock, struct lock_habit *habit)
{
	struct lock_owner *owner = habit->owner;
	bool same, gone, before;
	uint64_t holder;
	int64_t now;

	if (!owner)
		return false;
	holder = atomic_load_explicit(&owner->holder, memory_order_relaxed);
	now = time_of(CLOCK_MONOTONIC_COARSE);
	/* The threads of a process share these.  If they mix them up, a look comes sooner or later than it should. */
	same = atomic_load_explicit(&habit->seen, memory_order_relaxed) == holder;
	if (same && now - atomic_load_explicit(&habit->seen_at, memory_order_relaxed) < LOOK_EVERY)
		return false;
	gone = is_gone(lock, owner, holder);
	before = same && atomic_load_explicit(&habit->gone, memory_order_relaxed);
	atomic_store_explicit(&habit->gone, gone, memory_order_relaxed);
	atomic_store_explicit(&habit->seen_at, now, memory_order_relaxed);
	atomic_store_explicit(&habit->seen, holder, memory_order_relaxed);
	if (!gone || !before)
		return false;
	/*
	 * If this succeeds, the hold that we have seen has not ended, and its owner did not exist
	 * before now.  Nobody else frees the mutex: holder names nobody any more.
	 */
	return atomic_compare_exchange_strong_explicit(&owner->holder, &holder,
						       (holder & ~HEAL_BOTH_IDS) + HEAL_ONE_DROP,
						       memory_order_relaxed, memory_order_relaxed) &&
	       free_mutex(lock, (uint32_t)(holder & ID_MASK));
}
