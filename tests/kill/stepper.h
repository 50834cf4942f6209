/* SPDX-License-Identifier: MIT */
/*
 * Death at a chosen instruction.  A victim is forked, stops right before a
 * call, is single-stepped through it and killed; a trial does that once, and
 * a campaign runs a trial for every instruction of the call, in several
 * worker processes at once.
 */
#ifndef TESTS_STEPPER_H
#define TESTS_STEPPER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* How long the survivors may take for what they do at once. Longer counts as a hang. */
#define STEPPER_PATIENCE_MS 8000

/* One death, in memory that the worker shares with all its children. */
struct trial {
	unsigned long point; /* after how many instructions, or system calls, the victim is stopped */
	unsigned long steps; /* how many it executed */
	bool at_calls;       /* the point is a system call */
	bool finished;       /* the call returned before the point, or fell asleep */
	bool returned;       /* the call returned */
	uintptr_t ip;        /* where the victim was killed */
	unsigned seed;       /* for rand_r */
};

struct campaign {
	const char *name;
	/*
	 * Runs in a worker. Returns how far the victim got as others see it, or -1 if that cannot be judged.
	 */
	int (*run)(const void *plan, struct trial *trial);
	const void *plan;
	unsigned workers;
	bool at_calls; /* before each system call, and not before each instruction; the budget does not matter */
	/*
	 * About how many instructions all trials together step through. This decides how far apart the
	 * points are. With BUFPIPE_KILL_ALL each instruction is a point. With BUFPIPE_KILL_PART=N only
	 * every Nth point is tried.
	 */
	unsigned long budget;
};

/* Runs a campaign. Fails the test if a survivor of a trial complained. */
void stepper_campaign(const struct campaign *campaign);

/* Skips the test where a tracer cannot work. */
void stepper_require(void);

/* For trials, and for all their processes: records the first complaint, and exits. */
_Noreturn void trial_fail(const char *format, ...) __attribute__((format(printf, 1, 2)));
#define trial_assert(condition, ...)             \
	do {                                     \
		if (!(condition))                \
			trial_fail(__VA_ARGS__); \
	} while (0)

/* Forks a child that dies with its parent. */
pid_t fork_mortal(void);

/* A child that dies with its parent, stopped before it runs role(arg); it exits when that returns. */
pid_t actor_start(void (*role)(void *), void *arg);

/*
 * The same, but the child is traced. prepare(arg) runs before it stops, and it stops again when call(arg)
 * has returned.
 */
pid_t victim_start(void (*prepare)(void *), void (*call)(void *), void *arg);

/*
 * Steps the victim until the point of the trial or the end of the call, and leaves it there; kills it; does
 * both.
 */
void victim_step(pid_t victim, struct trial *trial);
void victim_kill(pid_t victim);
void victim_step_and_kill(pid_t victim, struct trial *trial);

/*
 * As victim_step, but also stops when the victim is about to fall asleep in the kernel. The test may then
 * do something in another process. After that, victim_go_on lets the victim run without the tracer, until
 * it stops when call(arg) has returned.
 */
void victim_step_awake(pid_t victim, struct trial *trial);
void victim_go_on(pid_t victim, const struct trial *trial);

void actor_continue(pid_t child);

/* Waits until the child has exited with 0. */
void actor_await(pid_t child, const char *who);

/* Waits until the process sleeps on a futex, or on the socket; or on either. */
enum { SLEEP_FUTEX = 1 << 0, SLEEP_SOCKET = 1 << 1 };
void actor_await_sleep(pid_t child, unsigned where);

/* Kills a child, also one that shares our memory, and waits for its end. */
void end_actor(pid_t pid);

/* Waits until *flag is set. */
void flag_await(const _Atomic int *flag, const char *what);

/* Descriptors and mappings of this process. */
struct belongings {
	int fds;
	int mappings;
};
struct belongings belongings_count(void);

#endif
