/* SPDX-License-Identifier: MIT */
/*
 * The robust lock of a shared end. It has one owner at a time, a wait for it has a time limit, and the next
 * co-owner gets it when its owner dies.
 */
#include "asleep.h"
#include "sanitized.h"
#include "support.h"

#include "base/sys.h"
#include "sync/heal.h"
#include "sync/lock.h"

#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>

SUITE(lock);

static struct lock_habit habit;

struct shared {
	struct lock lock;
	volatile long counter; /* guarded by the lock */
	_Atomic int inside;
	_Atomic int begun;
	_Atomic long rounds;
	_Atomic int refused; /* how many tries found the lock taken */
	struct lock_owner owner;
};

static struct shared *shared_new(void)
{
	struct shared *s = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	check(s != MAP_FAILED);
	check_eq(lock_init(&s->lock), 0);
	return s;
}

Test(lock, is_taken_by_one_and_dropped)
{
	struct shared *s = shared_new();

	for (int i = 0; i < 3; i++) {
		check_eq(lock_take(&s->lock, &habit, TIME_FOREVER), 0);
		check_eq(lock_try(&s->lock, &habit), -EAGAIN);
		lock_drop(&s->lock, &habit);
		check_eq(lock_try(&s->lock, &habit), 0);
		lock_drop(&s->lock, &habit);
	}
	munmap(s, 4096);
}

enum { COUNTERS = 4, ROUNDS = 20000 };

/*
 * All begin together, sometimes yield the CPU with the lock, and end only after one has found the lock taken.
 */
static void count(void *arg)
{
	struct shared *s = arg;
	int i = 0;

	atomic_fetch_add(&s->begun, 1);
	while (atomic_load(&s->begun) < COUNTERS)
		sched_yield();
	for (; i < ROUNDS || !atomic_load(&s->refused); i++) {
		int64_t deadline = i % 2 ? TIME_FOREVER : time_deadline(PLENTY);
		long counter;

		if (lock_try(&s->lock, &habit) < 0) {
			atomic_fetch_add(&s->refused, 1);
			check_eq(lock_take(&s->lock, &habit, deadline), 0);
		}
		counter = s->counter;
		if (i % 512 < 2)
			sched_yield();
		s->counter = counter + 1;
		lock_drop(&s->lock, &habit);
	}
	atomic_fetch_add(&s->rounds, i);
}

Test(lock, lets_one_in_at_a_time)
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

static void hold(void *arg)
{
	struct shared *s = arg;

	check_eq(lock_take(&s->lock, &habit, TIME_FOREVER), 0);
	s->inside = 1;
	for (;;)
		pause();
}

static struct child holder_of(struct shared *s)
{
	struct child child = child_start(hold, s);

	while (!s->inside)
		sleep_ns(100 * USEC);
	return child;
}

Test(lock, is_waited_for_no_longer_than_asked)
{
	struct shared *s = shared_new();
	struct child holder = holder_of(s);
	int64_t begin = clock_ns();

	check_eq(lock_take(&s->lock, &habit, TIME_TRY), -ETIMEDOUT);
	check_eq(lock_take(&s->lock, &habit, begin + 1), -ETIMEDOUT);
	check_eq(lock_take(&s->lock, &habit, begin + 250 * MSEC), -ETIMEDOUT);
	check(clock_ns() - begin >= 250 * MSEC && clock_ns() - begin < PROMPT);
	child_kill(&holder);
	munmap(s, 4096);
}

Test(lock, of_a_dead_owner_goes_to_the_next)
{
	for (int i = 0; i < 3; i++) {
		struct shared *s = shared_new();
		struct child holder = holder_of(s);

		child_kill(&holder);
		check_eq(i == 0 ? lock_try(&s->lock, &habit)
				: lock_take(&s->lock, &habit, i == 1 ? TIME_FOREVER : time_now() + SEC),
			 LOCK_RECOVERED);
		check_eq(lock_try(&s->lock, &habit), -EAGAIN);
		lock_drop(&s->lock, &habit);
		check_eq(lock_try(&s->lock, &habit), 0);
		lock_drop(&s->lock, &habit);
		munmap(s, 4096);
	}
}

static void take(void *arg)
{
	struct shared *s = arg;

	check(lock_take(&s->lock, &habit, TIME_FOREVER) >= 0);
	lock_drop(&s->lock, &habit);
}

Test(lock, wakes_the_waiter_when_its_owner_dies)
{
	struct shared *s = shared_new();
	struct child holder = holder_of(s);
	struct child waiters[3];
	int64_t begin;

	for (int i = 0; i < 3; i++) {
		waiters[i] = child_start(take, s);
		wait_until_asleep(waiters[i].pid, waiters[i].pid, ASLEEP_ANY);
	}
	begin = clock_ns();
	child_kill(&holder);
	for (int i = 0; i < 3; i++)
		child_join(&waiters[i]);
	check(clock_ns() - begin < PROMPT);
	munmap(s, 4096);
}

#ifndef SANITIZED /* sanitizers do not know a child that was made by a bare clone */
/* Leaves a lock that the kernel does not free: its owner was a child of clone, and has ended. */
static void leave_to_nobody(struct shared *s, struct lock_habit *mine)
{
	int status;
	pid_t pid = (pid_t)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);

	check(pid >= 0);
	if (pid == 0) {
		lock_take(&s->lock, mine, TIME_FOREVER);
		_exit(0);
	}
	check_eq(waitpid(pid, &status, 0), pid);
}

/*
 * The lock stays as it is when its owner may be alive: when the id comes from another pid namespace, when the
 * mutex has another id, and when a thread has that id now.
 */
Test(lock, of_an_ended_owner_goes_to_the_next_unless_it_may_be_alive)
{
	enum { NONE, ANOTHER_SPACE, NO_SPACE, ANOTHER_HOLD, USED_AGAIN, DOUBTS };

	for (int doubt = NONE; doubt < DOUBTS; doubt++) {
		struct shared *s = shared_new();
		struct lock_habit mine = { .owner = &s->owner };

		leave_to_nobody(s, &mine);
		if (doubt == ANOTHER_SPACE)
			s->owner.pid_space--;
		if (doubt == NO_SPACE)
			s->owner.pid_space = UINT32_MAX;
		if (doubt == ANOTHER_HOLD)
			s->owner.holder++;
		if (doubt == USED_AGAIN)
			s->owner.holder = (uint64_t)getpid() << 22 | (s->owner.holder & 0x3fffff);
		check_eq(lock_take(&s->lock, &mine, time_now() + (doubt ? 3 * SEC : PLENTY)),
			 doubt ? -ETIMEDOUT : LOCK_RECOVERED);
		if (!doubt) {
			lock_drop(&s->lock, &mine);
			check_eq(lock_take(&s->lock, &mine, TIME_FOREVER), 0);
			lock_drop(&s->lock, &mine);
		}
		munmap(s, 4096);
	}
}

/* Looks again, as if the last look had been a minute ago. */
static bool look_again(struct shared *s, struct lock_habit *mine)
{
	mine->seen_at -= 60 * NSEC_PER_SEC;
	return heal(&s->lock, mine);
}

/*
 * The owner is alive at the first two looks. The third look finds it gone, and only the fourth one, which finds
 * it gone as well, frees the lock.
 */
Test(lock, of_an_ended_owner_is_freed_only_after_two_looks_that_find_it_gone)
{
	struct shared *s = shared_new();
	struct lock_habit mine = { .owner = &s->owner };
	int status;
	pid_t pid;

	check_eq(lock_take(&s->lock, &mine, TIME_FOREVER), 0);
	lock_drop(&s->lock, &mine);
	pid = (pid_t)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
	check(pid >= 0);
	if (pid == 0) {
		alarm(60); /* if the test fails before it kills this process */
		lock_take(&s->lock, &mine, TIME_FOREVER);
		s->inside = 1;
		for (;;)
			pause();
	}
	while (!s->inside)
		sleep_ns(100 * USEC);
	check(!look_again(s, &mine));
	check(!look_again(s, &mine));
	check_eq(kill(pid, SIGKILL), 0);
	check_eq(waitpid(pid, &status, 0), pid);
	check(!look_again(s, &mine));
	check_eq(lock_try(&s->lock, &mine), -EAGAIN);
	check(look_again(s, &mine));
	check_eq(lock_try(&s->lock, &mine), LOCK_RECOVERED);
	lock_drop(&s->lock, &mine);
	munmap(s, 4096);
}
#endif

/* The word of the owner holds the number of drops, the id of the thread, and its id in the mutex. */
Test(lock, names_its_owner_while_it_has_one)
{
	struct shared *s = shared_new();
	struct lock_habit mine = { .owner = &s->owner };
	uint64_t id = (uint64_t)getpid();

	check_eq(lock_take(&s->lock, &mine, TIME_FOREVER), 0);
	check_eq(s->owner.holder, id << 22 | id);
	lock_drop(&s->lock, &mine);
	check_eq(s->owner.holder, (uint64_t)1 << 44);
	munmap(s, 4096);
}

static void take_and_drop(struct shared *s)
{
	check_eq(lock_take(&s->lock, &habit, TIME_FOREVER), 0);
	lock_drop(&s->lock, &habit);
}

static void take_once(void *arg)
{
	take_and_drop(arg);
}

/*
 * As if this thread had taken the lock again and again for a second, while another one went to sleep for it.
 */
static void go_on_for_long(struct shared *s, bool wanted)
{
	s->lock.since -= NSEC_PER_SEC >> 16;
	s->lock.wanted = s->lock.since + (wanted ? 2 : 0);
}

static bool stepped_aside(const struct shared *s)
{
	return s->lock.changes & LOCK_ASIDE;
}

Test(lock, is_left_to_a_sleeper_once_by_an_owner_that_takes_it_again_and_again)
{
	struct shared *s = shared_new();
	struct child child;

	take_and_drop(s);
	go_on_for_long(s, false);
	take_and_drop(s);
	check(!stepped_aside(s));
	go_on_for_long(s, true);
	take_and_drop(s);
	check(stepped_aside(s));
	child = child_start(take_once, s);
	child_join(&child);
	check(!stepped_aside(s));
	take_and_drop(s);
	take_and_drop(s);
	check(!stepped_aside(s));
	munmap(s, 4096);
}

static void give_up_soon(void *arg)
{
	struct shared *s = arg;

	check_eq(lock_take(&s->lock, &habit, time_now() + 30 * MSEC), -ETIMEDOUT);
}

Test(lock, nobody_steps_aside_for_one_that_has_given_up)
{
	struct shared *s = shared_new();
	struct child child;

	check_eq(lock_take(&s->lock, &habit, TIME_FOREVER), 0);
	go_on_for_long(s, false);
	child = child_start(give_up_soon, s);
	child_join(&child);
	lock_drop(&s->lock, &habit);
	take_and_drop(s);
	check(!stepped_aside(s));
	munmap(s, 4096);
}

static uint32_t lock_clock(void)
{
	return (uint32_t)(time_now() >> 16);
}

/* The times are far ahead, as if many sleepers had each moved them a bit. */
Test(lock, its_times_do_not_run_ahead_of_the_clock)
{
	enum { MINUTE = (60 * NSEC_PER_SEC) >> 16 };
	struct shared *s = shared_new();
	struct child waiter;
	uint32_t begin;

	check_eq(lock_take(&s->lock, &habit, TIME_FOREVER), 0);
	begin = lock_clock();
	s->lock.wanted = begin & ~1u;
	s->lock.since = s->lock.wanted + MINUTE;
	waiter = child_start(take, s);
	wait_until_asleep(waiter.pid, waiter.pid, ASLEEP_ANY);
	check((int32_t)(s->lock.wanted - begin) < MINUTE / 2);
	lock_drop(&s->lock, &habit);
	child_join(&waiter);
	check((int32_t)(s->lock.since - begin) < MINUTE / 2);
	munmap(s, 4096);
}
