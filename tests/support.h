/* SPDX-License-Identifier: MIT */
/*
 * What all tests share: checks that work in any thread and process, a fixture that finds leaks, pipes, children
 * and threads.
 */
#ifndef TESTS_SUPPORT_H
#define TESTS_SUPPORT_H

#include "bufpipe.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* Which end of bufpipe_create is which. */
enum { IN, OUT };

/* Not in musl 1.2.3. */
#ifndef SYS_futex_waitv
#define SYS_futex_waitv 449
#endif

#define USEC 1000ll
#define MSEC 1000000ll
#define SEC  1000000000ll
/* An emulated machine is slower than a busy real one. Its build defines by how much the limits are longer. */
#ifndef SLOWER
#define SLOWER 1
#endif
/*
 * Longer than anything in the tests takes. A call that would wait for ever fails, and does not hang the test.
 */
#define PLENTY (15 * SEC * SLOWER)
/* An upper bound for what is promised within 100 ms, generous enough for a busy machine. */
#define PROMPT (2 * SEC * SLOWER)

/*
 * Checks. In the main thread a failure ends the test, in any other thread the process. In a child it becomes
 * the child's report.
 */
#define check(condition)                                                    \
	do {                                                                \
		if (!(condition))                                           \
			support_fail(__FILE__, __LINE__, "%s", #condition); \
	} while (0)

#define check_eq(is, wanted)                                                                               \
	do {                                                                                               \
		long long is_ = (long long)(is);                                                           \
		long long wanted_ = (long long)(wanted);                                                   \
		if (is_ != wanted_)                                                                        \
			support_fail(__FILE__, __LINE__, "%s is %lld and not %s, %lld", #is, is_, #wanted, \
				     wanted_);                                                             \
	} while (0)

void support_fail(const char *file, int line, const char *format, ...)
	__attribute__((noreturn, format(printf, 3, 4)));

/*
 * Before each test: counts descriptors and mappings. After it: there must be no more of them, and no memory
 * may be lost.
 */
void support_begin(void);
void support_end(void);

/* A suite's own .init may set this. It is called after the test and before the search for leaks. */
extern void (*support_clean_up)(void);

#define SUITE(name) TestSuite(name, .init = support_begin, .timeout = 30 * SLOWER)

/* Called within the test, because libcriterion lets a test pass if its .fini fails. */
#undef Test
#define Test(Suite, Name, ...)                                              \
	static void Suite##_##Name##_inside(void);                          \
	CR_EXPAND(CR_TEST_BASE(Suite, Name, ##__VA_ARGS__, .sentinel_ = 0)) \
	{                                                                   \
		Suite##_##Name##_inside();                                  \
		support_end();                                              \
	}                                                                   \
	static void Suite##_##Name##_inside(void)

/* How many descriptors are open, and how many mappings of memfds there are. */
int descriptors_open(void);
int memfds_mapped(void);

/*
 * Waits until at most so many descriptors are open, or fails. A child of the library may still be closing
 * some.
 */
void wait_for_descriptors(int before);

/* Makes a pipe, or fails the test. */
void pipe_open(bufpipe_t *ends[2], const struct bufpipe_options *options);
void pipe_close(bufpipe_t *ends[2]);

/* Sends or receives one message, a text without its final 0, or fails the test. */
void say(bufpipe_t *pipe, const char *text);
void hear(bufpipe_t *pipe, const char *text);

/* Sends messages, tiny or of the object's size, until a try says -EAGAIN. Returns how many it sent. */
unsigned fill_up(bufpipe_t *pipe, size_t len);

/* Bytes that depend on their position and on a seed. */
void pattern_fill(void *buf, size_t len, uint64_t seed);
bool pattern_holds(const void *buf, size_t len, uint64_t seed);

int64_t clock_ns(void);

/* The CPU time of this process so far. */
double cpu_seconds(void);

/*
 * Starts a child that runs a function and exits with 0, unless a check fails in it. It dies with this thread.
 */
struct child {
	pid_t pid;
	int report;
};

struct child child_start(void (*run)(void *), void *arg);
/* Waits for the child, and fails if the child failed. */
void child_join(struct child *child);
/* Kills the child by SIGKILL, and waits until it is gone. */
void child_kill(struct child *child);

/* A thread, and its id in the kernel. */
struct thread {
	pthread_t handle;
	pid_t tid;
	void (*run)(void *);
	void *arg;
	_Atomic int started;
};

void thread_start(struct thread *thread, void (*run)(void *), void *arg);
void thread_join(struct thread *thread);

void sleep_ns(int64_t ns);
void pin_to_cpu(int cpu);

/* A pair of connected Unix sockets, close-on-exec. */
void sockets_open(int sockets[2], int type);
void sockets_close(int sockets[2]);

#endif
