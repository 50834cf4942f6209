/* SPDX-License-Identifier: MIT */
/*
 * The quick lock, which gives the turn on a shared end. One thread has the turn at a time, a thread that claims
 * it waits and gets it, and a dead thread does not keep it.
 */
#include "asleep.h"
#include "sandbox.h"
#include "support.h"

#include "sync/lock.h"
#include "sync/quick_lock.h"
#include "sync/wait.h"

#include <sys/mman.h>

SUITE(quick_lock);

static struct lock_habit habit;

struct shared {
	struct quick_lock quick_lock;
	struct lock lock;
	volatile long counter; /* guarded by the turn */
	_Atomic int inside;
	_Atomic int go;
	_Atomic int begun;
	_Atomic long rounds;
	_Atomic int refused; /* how many tries found the turn taken */
};

static struct shared *shared_new(void)
{
	struct shared *s = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	check(s != MAP_FAILED);
	check_eq(lock_init(&s->lock), 0);
	return s;
}

/* Claims the turn as an end does when its try has failed: with the robust lock of the end. */
static int claim(struct shared *s, int64_t deadline)
{
	int r;

	check(lock_take(&s->lock, &habit, TIME_FOREVER) >= 0);
	r = quick_lock_claim(&s->quick_lock, deadline);
	if (r < 0)
		lock_drop(&s->lock, &habit);
	return r < 0 ? r : 0; /* positive results tell of a death */
}

static void leave(struct shared *s)
{
	quick_lock_unclaim(&s->quick_lock);
	lock_drop(&s->lock, &habit);
}

Test(quick_lock, has_one_owner_at_a_time)
{
	struct shared *s = shared_new();

	for (int i = 0; i < 3; i++) {
		check(quick_lock_try(&s->quick_lock));
		check(!quick_lock_try(&s->quick_lock));
		check_eq(claim(s, TIME_TRY), -ETIMEDOUT);
		check_eq(claim(s, clock_ns() + MSEC), -ETIMEDOUT);
		quick_lock_release(&s->quick_lock, false);
		check_eq(claim(s, TIME_TRY), 0);
		check(!quick_lock_try(&s->quick_lock));
		leave(s);
	}
	munmap(s, 4096);
}

enum { COUNTERS = 4, ROUNDS = 20000 };

/*
 * All begin together, sometimes yield the CPU during a turn, and end only after one has found the turn taken.
 */
static void count(void *arg)
{
	struct shared *s = arg;
	int i = 0;

	atomic_fetch_add(&s->begun, 1);
	while (atomic_load(&s->begun) < COUNTERS)
		sched_yield();
	for (; i < ROUNDS || !atomic_load(&s->refused); i++) {
		bool brief = i % 5 && quick_lock_try(&s->quick_lock);
		long counter;

		if (!brief && i % 5) {
			atomic_fetch_add(&s->refused, 1);
			brief = quick_lock_retry(&s->quick_lock, TIME_FOREVER);
		}
		if (!brief)
			check_eq(claim(s, TIME_FOREVER), 0);
		counter = s->counter;
		if (i % 512 < 2)
			sched_yield();
		s->counter = counter + 1;
		if (brief)
			quick_lock_release(&s->quick_lock, i % 2);
		else
			leave(s);
	}
	atomic_fetch_add(&s->rounds, i);
}

Test(quick_lock, excludes_many_threads_and_processes)
{
	struct shared *s = shared_new();
	struct child children[2];
	struct thread threads[2];

	for (int i = 0; i < 2; i++)
		children[i] = child_start(count, s);
	for (int i = 0; i < 2; i++)
		thread_start(&threads[i], count, s);
	for (int i = 0; i < 2; i++) {
		thread_join(&threads[i]);
		child_join(&children[i]);
	}
	check_eq(s->counter, s->rounds);
	munmap(s, 4096);
}

/* Keeps the turn until it is told to go on. */
static void have(void *arg)
{
	struct shared *s = arg;

	check(quick_lock_try(&s->quick_lock));
	s->inside = 1;
	while (!s->go)
		cpu_relax();
	quick_lock_release(&s->quick_lock, false);
}

static struct child owner_of(struct shared *s)
{
	struct child child = child_start(have, s);

	while (!s->inside)
		sleep_ns(100 * USEC);
	return child;
}

static void claim_and_leave(void *arg)
{
	check_eq(claim(arg, TIME_FOREVER), 0);
	leave(arg);
}

/* Claims the turn and sleeps until it gets it. */
static struct child sleeper_for(struct shared *s)
{
	struct child child = child_start(claim_and_leave, s);

	wait_until_asleep(child.pid, child.pid, ASLEEP_ANY);
	return child;
}

Test(quick_lock, wakes_the_one_that_waits_for_it)
{
	struct shared *s = shared_new();
	struct child owner = owner_of(s);
	struct child waiter = sleeper_for(s);

	s->go = 1;
	child_join(&owner);
	child_join(&waiter);
	check(quick_lock_try(&s->quick_lock));
	quick_lock_release(&s->quick_lock, false);
	munmap(s, 4096);
}

Test(quick_lock, is_not_taken_again_while_somebody_waits_for_it)
{
	struct shared *s = shared_new();
	struct child owner = owner_of(s);
	struct child waiter = sleeper_for(s);

	/* The waiter is held up as well. Nobody else gets the turn before it. */
	check_eq(kill(waiter.pid, SIGSTOP), 0);
	s->go = 1;
	child_join(&owner);
	check(!quick_lock_try(&s->quick_lock));
	check_eq(kill(waiter.pid, SIGCONT), 0);
	child_join(&waiter);
	check(quick_lock_try(&s->quick_lock));
	quick_lock_release(&s->quick_lock, false);
	munmap(s, 4096);
}

Test(quick_lock, of_a_dead_owner_goes_to_the_next)
{
	struct shared *s = shared_new();
	struct child owner = owner_of(s);

	child_kill(&owner);
	check(!quick_lock_try(&s->quick_lock));
	/* The result says so, because the dead owner may have published something without ringing. */
	check_eq(lock_take(&s->lock, &habit, TIME_TRY), 0);
	check_eq(quick_lock_claim(&s->quick_lock, TIME_TRY), LOCK_RECOVERED);
	leave(s);
	check(quick_lock_try(&s->quick_lock));
	quick_lock_release(&s->quick_lock, false);
	munmap(s, 4096);
}

Test(quick_lock, wakes_the_waiter_when_its_owner_dies)
{
	struct shared *s = shared_new();
	struct child owner = owner_of(s);
	struct child waiter = sleeper_for(s);
	int64_t begin = clock_ns();

	child_kill(&owner);
	child_join(&waiter);
	check(clock_ns() - begin < PROMPT);
	munmap(s, 4096);
}

static void claim_for_ever(void *arg)
{
	struct shared *s = arg;

	check_eq(claim(s, TIME_FOREVER), 0);
	s->inside = 1;
	for (;;)
		pause();
}

Test(quick_lock, claimed_by_an_owner_that_died_is_free_with_the_robust_lock)
{
	struct shared *s = shared_new();
	struct child child = child_start(claim_for_ever, s);

	while (!s->inside)
		sleep_ns(100 * USEC);
	child_kill(&child);
	check(!quick_lock_try(&s->quick_lock));
	check_eq(claim(s, TIME_TRY), 0);
	leave(s);
	check(quick_lock_try(&s->quick_lock));
	quick_lock_release(&s->quick_lock, false);
	munmap(s, 4096);
}

Test(quick_lock, is_free_again_when_the_one_that_waited_has_died)
{
	struct shared *s = shared_new();
	struct child owner = owner_of(s);
	struct child waiter = sleeper_for(s);

	child_kill(&waiter);
	s->go = 1;
	child_join(&owner);
	check_eq(claim(s, TIME_TRY), 0);
	leave(s);
	check(quick_lock_try(&s->quick_lock));
	quick_lock_release(&s->quick_lock, false);
	munmap(s, 4096);
}

/* A child of fork or clone must not take itself for the thread that made it. */
static int die_in_a_copy(struct shared *s, pid_t pid)
{
	int status;

	if (pid == 0) {
		/* No check here: the child leaves in the way that the test wants to see. */
		if (quick_lock_try(&s->quick_lock))
			kill(getpid(), SIGKILL);
		_exit(1);
	}
	check(pid > 0);
	check_eq(waitpid(pid, &status, 0), pid);
	check_eq(claim(s, TIME_TRY), 0);
	leave(s);
	return status;
}

Test(quick_lock, of_a_forked_copy_ends_with_its_death)
{
	struct shared *s = shared_new();

	check(quick_lock_try(&s->quick_lock));
	quick_lock_release(&s->quick_lock, false);
	check(WIFSIGNALED(die_in_a_copy(s, fork())));
	/* The C library does not know this child, so it has no list of locks. */
	check(WIFEXITED(die_in_a_copy(s, (pid_t)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0))));
	check(quick_lock_try(&s->quick_lock));
	quick_lock_release(&s->quick_lock, false);
	munmap(s, 4096);
}

/* If the kernel does not tell where the robust list is, nobody takes a turn without the lock. */
static void live_without(void *arg)
{
	struct shared *s = arg;

	forbid(&(struct forbidden){ .call = SYS_get_robust_list, .error = ENOSYS }, 1);
	check(!quick_lock_try(&s->quick_lock));
	check_eq(claim(s, TIME_TRY), 0);
	leave(s);
}

Test(quick_lock, can_only_be_claimed_where_the_kernel_tells_no_robust_list)
{
	struct shared *s = shared_new();
	struct child child = child_start(live_without, s);

	child_join(&child);
	munmap(s, 4096);
}

/*
 * Without membarriers the owner may not see that somebody waits, because it does not fence. So the waiter
 * looks again after a while.
 */
static void claim_without_membarriers(void *arg)
{
	forbid(&(struct forbidden){ .call = SYS_membarrier, .error = ENOSYS }, 1);
	claim_and_leave(arg);
}

Test(quick_lock, is_found_free_without_a_wake_up_where_there_are_no_membarriers)
{
	struct shared *s = shared_new();
	struct child waiter;

	check(quick_lock_try(&s->quick_lock));
	waiter = child_start(claim_without_membarriers, s);
	wait_until_asleep(waiter.pid, waiter.pid, ASLEEP_ANY);
	/* Ends the turn as an owner does that has not seen the waiter. */
	atomic_store(&s->quick_lock.word, 0);
	child_join(&waiter);
	thread_release(&this_thread);
	munmap(s, 4096);
}

/*
 * A system call that the kernel refuses is not made again, because each attempt would cost more than the
 * message.
 */
static void ask_once(void *arg)
{
	static const int calls[] = { SYS_exit_group, SYS_mmap, SYS_munmap, SYS_brk, SYS_futex, SYS_write };
	struct shared *s = arg;

	forbid(&(struct forbidden){ .call = SYS_get_robust_list, .error = ENOSYS }, 1);
	check(!quick_lock_try(&s->quick_lock));
	allow_only(calls, sizeof(calls) / sizeof(calls[0]));
	check(!quick_lock_try(&s->quick_lock));
	check(!quick_lock_retry(&s->quick_lock, TIME_FOREVER));
	check_eq(claim(s, TIME_TRY), 0);
	leave(s);
}

Test(quick_lock, does_not_repeat_a_refused_system_call)
{
	struct shared *s;
	struct child child;

	need_jail();
	s = shared_new();
	child = child_start(ask_once, s);
	child_join(&child);
	munmap(s, 4096);
}

/*
 * A waiter with little time keeps its CPU. If it yielded, it would come back only after the turns of others.
 */
static void come_in_vain(void *arg)
{
	static const int calls[] = { SYS_exit_group,      SYS_mmap,   SYS_munmap,      SYS_brk,
				     SYS_write,           SYS_futex,  SYS_futex_waitv, SYS_membarrier,
				     SYS_get_robust_list, SYS_gettid, SYS_madvise,     SYS_clock_gettime };
	struct shared *s = arg;

	allow_only(calls, sizeof(calls) / sizeof(calls[0]));
	check(!quick_lock_retry(&s->quick_lock, TIME_TRY));
	check(!quick_lock_retry(&s->quick_lock, time_now() + MSEC));
	check_eq(claim(s, TIME_TRY), -ETIMEDOUT);
	check_eq(claim(s, time_now() + MSEC), -ETIMEDOUT);
	check_eq(lock_take(&s->lock, &habit, TIME_FOREVER), 0);
	lock_drop(&s->lock, &habit);
}

Test(quick_lock, is_waited_for_without_giving_up_the_cpu_when_there_is_little_time)
{
	struct shared *s;
	struct child child;

	need_jail();
	s = shared_new();
	check(quick_lock_try(&s->quick_lock));
	child = child_start(come_in_vain, s);
	child_join(&child);
	quick_lock_release(&s->quick_lock, false);
	munmap(s, 4096);
}
