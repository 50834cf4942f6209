/* SPDX-License-Identifier: MIT */
/* The turn of a shared end: one has it, a claim waits for it and gets it, and no death keeps it. */
#include "support.h"

#include "lock.h"
#include "turn.h"
#include "wait.h"

#include <sys/mman.h>

SUITE(turn);

static struct lock_habit habit;

struct shared {
	struct turn turn;
	pthread_mutex_t lock;
	volatile long counter; /* guarded by the turn */
	_Atomic int inside;
	_Atomic int go;
};

static struct shared *shared_new(void)
{
	struct shared *s = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	check(s != MAP_FAILED);
	check_eq(lock_init(&s->lock), 0);
	return s;
}

/* As an end does it: for long, with its lock. */
static int claim(struct shared *s, int64_t deadline)
{
	int r;

	check_eq(lock_take(&s->lock, &habit, TIME_FOREVER), 0);
	r = turn_claim(&s->turn, deadline);
	if (r < 0)
		lock_drop(&s->lock);
	return r;
}

static void leave(struct shared *s)
{
	turn_leave(&s->turn);
	lock_drop(&s->lock);
}

Test(turn, is_one_at_a_time)
{
	struct shared *s = shared_new();

	for (int i = 0; i < 3; i++) {
		check(turn_take(&s->turn));
		check(!turn_take(&s->turn));
		check_eq(claim(s, TIME_TRY), -ETIMEDOUT);
		check_eq(claim(s, clock_ns() + MSEC), -ETIMEDOUT);
		turn_end(&s->turn, false);
		check_eq(claim(s, TIME_TRY), 0);
		check(!turn_take(&s->turn));
		leave(s);
	}
	munmap(s, 4096);
}

enum { ROUNDS = 20000 };

static void count(void *arg)
{
	struct shared *s = arg;

	for (int i = 0; i < ROUNDS; i++) {
		bool brief = i % 5 && (turn_take(&s->turn) || turn_await(&s->turn, TIME_FOREVER));

		if (!brief)
			check_eq(claim(s, TIME_FOREVER), 0);
		s->counter++;
		if (brief)
			turn_end(&s->turn, i % 2);
		else
			leave(s);
	}
}

Test(turn, is_had_by_one_of_many_threads_and_processes)
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
	check_eq(s->counter, 4 * ROUNDS);
	munmap(s, 4096);
}

/* Has the turn until it is told to go on. */
static void have(void *arg)
{
	struct shared *s = arg;

	check(turn_take(&s->turn));
	s->inside = 1;
	while (!s->go)
		wait_relax();
	turn_end(&s->turn, false);
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

/* One that claims the turn and sleeps for it. */
static struct child sleeper_for(struct shared *s)
{
	struct child child = child_start(claim_and_leave, s);

	wait_until_asleep(child.pid, child.pid, ASLEEP_ANY);
	return child;
}

Test(turn, wakes_the_one_that_waits_for_it)
{
	struct shared *s = shared_new();
	struct child owner = owner_of(s);
	struct child waiter = sleeper_for(s);

	s->go = 1;
	child_join(&owner);
	child_join(&waiter);
	check(turn_take(&s->turn));
	turn_end(&s->turn, false);
	munmap(s, 4096);
}

Test(turn, is_not_taken_again_while_somebody_waits_for_it)
{
	struct shared *s = shared_new();
	struct child owner = owner_of(s);
	struct child waiter = sleeper_for(s);

	/* The one that waits is held up as well: nobody else comes first. */
	check_eq(kill(waiter.pid, SIGSTOP), 0);
	s->go = 1;
	child_join(&owner);
	check(!turn_take(&s->turn));
	check_eq(kill(waiter.pid, SIGCONT), 0);
	child_join(&waiter);
	check(turn_take(&s->turn));
	turn_end(&s->turn, false);
	munmap(s, 4096);
}

Test(turn, of_a_dead_owner_goes_to_the_next)
{
	struct shared *s = shared_new();
	struct child owner = owner_of(s);

	child_kill(&owner);
	check(!turn_take(&s->turn));
	check_eq(claim(s, TIME_TRY), 0);
	leave(s);
	check(turn_take(&s->turn));
	turn_end(&s->turn, false);
	munmap(s, 4096);
}

Test(turn, of_an_owner_who_dies_wakes_the_one_that_waits)
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

Test(turn, that_was_claimed_by_the_dead_is_free_with_the_lock)
{
	struct shared *s = shared_new();
	struct child child = child_start(claim_for_ever, s);

	while (!s->inside)
		sleep_ns(100 * USEC);
	child_kill(&child);
	check(!turn_take(&s->turn));
	check_eq(claim(s, TIME_TRY), 0);
	leave(s);
	check(turn_take(&s->turn));
	turn_end(&s->turn, false);
	munmap(s, 4096);
}

Test(turn, is_free_again_when_the_one_that_waited_has_died)
{
	struct shared *s = shared_new();
	struct child owner = owner_of(s);
	struct child waiter = sleeper_for(s);

	child_kill(&waiter);
	s->go = 1;
	child_join(&owner);
	check_eq(claim(s, TIME_TRY), 0);
	leave(s);
	check(turn_take(&s->turn));
	turn_end(&s->turn, false);
	munmap(s, 4096);
}

/* A child of fork is not the thread that its parent's was, however it was made. */
static void die_in_a_copy(struct shared *s, pid_t pid)
{
	if (pid == 0) {
		/* No check: its way out is the test's. */
		if (turn_take(&s->turn))
			kill(getpid(), SIGKILL);
		_exit(1);
	}
	check(pid > 0);
	check_eq(waitpid(pid, NULL, 0), pid);
	check_eq(claim(s, TIME_TRY), 0);
	leave(s);
}

Test(turn, of_a_forked_copy_ends_with_its_death)
{
	struct shared *s = shared_new();

	check(turn_take(&s->turn));
	turn_end(&s->turn, false);
	die_in_a_copy(s, fork());
	die_in_a_copy(s, (pid_t)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0));
	check(turn_take(&s->turn));
	turn_end(&s->turn, false);
	munmap(s, 4096);
}

/* Where the kernel does not say how it would free a turn, nobody takes one without the lock. */
static void live_without(void *arg)
{
	struct shared *s = arg;

	forbid(&(struct forbidden){ .call = SYS_get_robust_list, .error = ENOSYS }, 1);
	check(!turn_take(&s->turn));
	check_eq(claim(s, TIME_TRY), 0);
	leave(s);
}

Test(turn, is_claimed_where_it_cannot_be_taken)
{
	struct shared *s = shared_new();
	struct child child = child_start(live_without, s);

	child_join(&child);
	munmap(s, 4096);
}
