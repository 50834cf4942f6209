/* SPDX-License-Identifier: MIT */
/*
 * What BUFPIPE_SHARED adds to a message when nobody else is there, beside bare
 * pthread mutexes.  One thread sends and receives in turn, so nothing waits and
 * no cache line travels: what is left is instructions.
 *
 * All cases take turns in each round, and the figures are medians of the
 * rounds, with the smallest and the largest.
 */
#include <bufpipe.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { ROUNDS = 21, TIMES = 200000, LEN = 64 };

struct state {
	bufpipe_t *exclusive[2];
	bufpipe_t *shared[2];
	pthread_mutex_t plain;
	pthread_mutex_t robust;
};

static int exchange(bufpipe_t *ends[2])
{
	char message[LEN] = { 0 };

	for (int i = 0; i < TIMES; i++) {
		if (bufpipe_send(ends[1], message, LEN, -1) || bufpipe_recv(ends[0], message, LEN, -1) != LEN)
			return -1;
	}
	return 0;
}

static int take_and_drop(pthread_mutex_t *mutex)
{
	for (int i = 0; i < TIMES; i++) {
		if (pthread_mutex_lock(mutex) || pthread_mutex_unlock(mutex))
			return -1;
	}
	return 0;
}

static int run_exclusive(struct state *s)
{
	return exchange(s->exclusive);
}

static int run_shared(struct state *s)
{
	return exchange(s->shared);
}

static int run_plain(struct state *s)
{
	return take_and_drop(&s->plain);
}

static int run_robust(struct state *s)
{
	return take_and_drop(&s->robust);
}

enum { EXCLUSIVE, SHARED, PLAIN, ROBUST, CASES };
static int (*const cases[CASES])(struct state *) = { run_exclusive, run_shared, run_plain, run_robust };

static double now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static int make_mutex(pthread_mutex_t *mutex, int robust)
{
	pthread_mutexattr_t attributes;
	int r;

	pthread_mutexattr_init(&attributes);
	pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
	if (robust)
		pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST);
	r = pthread_mutex_init(mutex, &attributes);
	pthread_mutexattr_destroy(&attributes);
	return r;
}

static int prepare(struct state *s)
{
	struct bufpipe_options shared = { .flags = BUFPIPE_SHARED };

	return bufpipe_create(s->exclusive, NULL) || bufpipe_create(s->shared, &shared) ||
	       make_mutex(&s->plain, 0) || make_mutex(&s->robust, 1);
}

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static void print(const char *what, double *ns)
{
	qsort(ns, ROUNDS, sizeof(*ns), compare);
	printf("%-44s %5.1f ns  (%.1f - %.1f)\n", what, ns[ROUNDS / 2], ns[0], ns[ROUNDS - 1]);
}

int main(void)
{
	static double ns[CASES + 1][ROUNDS];
	struct state s;

	if (prepare(&s)) {
		fprintf(stderr, "bufpipe-bench-sharing: cannot make what is to be measured\n");
		return 1;
	}
	for (int round = -1; round < ROUNDS; round++) { /* the first only warms up */
		for (int i = 0; i < CASES; i++) {
			double begin = now_ns();

			if (cases[i](&s)) {
				fprintf(stderr, "bufpipe-bench-sharing: a call failed\n");
				return 1;
			}
			if (round >= 0)
				ns[i][round] = (now_ns() - begin) / TIMES;
		}
		if (round >= 0)
			ns[CASES][round] = ns[SHARED][round] - ns[EXCLUSIVE][round];
	}
	printf("One thread, %d rounds in turns, messages of %d bytes\n", ROUNDS, LEN);
	print("send and recv, exclusive end", ns[EXCLUSIVE]);
	print("send and recv, shared end", ns[SHARED]);
	print("what sharing adds, both sides", ns[CASES]);
	print("pthread mutex, process-shared: lock, unlock", ns[PLAIN]);
	print("the same, robust", ns[ROBUST]);
	for (int i = 0; i < 2; i++) {
		bufpipe_close(s.exclusive[i]);
		bufpipe_close(s.shared[i]);
	}
	return fflush(stdout) ? 1 : 0;
}
