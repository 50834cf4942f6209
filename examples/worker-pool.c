/* SPDX-License-Identifier: MIT */
/*
 * A pool of worker processes on a shared end: a worker that is free takes the next job.
 *
 *   worker-pool [WORKERS [JOBS]]
 *
 * Each job is a number, and its answer says how many divisors the number has. A worker
 * that is killed does not delay the others. At most the job that it had received is lost.
 */
#include <bufpipe.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

struct job {
	long number;
	long divisors;
};

/* ends[0] receives, ends[1] sends; each has many holders here. */
static bufpipe_t *jobs[2];
static bufpipe_t *answers[2];

static long count_divisors(long number)
{
	long n = 0;

	for (long i = 1; i <= number; i++)
		n += number % i == 0;
	return n;
}

static int work(void)
{
	struct job job;

	/* The stream of jobs ends when nobody holds its sending end any more, so close this copy of it. */
	bufpipe_close(jobs[1]);
	bufpipe_close(answers[0]);
	while (bufpipe_recv(jobs[0], &job, sizeof(job), -1) >= 0) {
		job.divisors = count_divisors(job.number);
		if (bufpipe_send(answers[1], &job, sizeof(job), -1) < 0)
			return 1;
	}
	bufpipe_close(jobs[0]);
	bufpipe_close(answers[1]);
	return 0;
}

int main(int argc, char **argv)
{
	const struct bufpipe_options options = {
		.flags = BUFPIPE_SHARED,
		.object_size = sizeof(struct job),
		.object_count = 64,
	};
	const int workers = argc > 1 ? atoi(argv[1]) : 4;
	const long all = argc > 2 ? atol(argv[2]) : 1000;
	long sum = 0, got = 0;
	struct job job;
	pid_t feeder;
	int r;

	if (workers < 1 || workers > 1000 || all < 1) {
		fprintf(stderr, "usage: worker-pool [WORKERS [JOBS]]\n");
		return 2;
	}
	r = bufpipe_create(jobs, &options);
	if (r == 0)
		r = bufpipe_create(answers, &options);
	if (r < 0) {
		fprintf(stderr, "worker-pool: the pipes: %s\n", bufpipe_strerror(r));
		return 1;
	}
	/* If not all can be made, those that are there do the work. */
	for (int i = 0; i < workers; i++) {
		if (fork() == 0)
			_exit(work());
	}
	/*
	 * One process hands the jobs out and another one collects the answers, so neither waits for the
	 * other.
	 */
	feeder = fork();
	if (feeder == 0) {
		/*
		 * A send fails when nobody holds the receiving end any more. Copies that are kept here would
		 * hide it from the others if the collector, or all workers, were killed.
		 */
		bufpipe_close(jobs[0]);
		bufpipe_close(answers[0]);
		bufpipe_close(answers[1]);
		for (job = (struct job){ .number = 1 }; job.number <= all; job.number++) {
			if (bufpipe_send(jobs[1], &job, sizeof(job), -1) < 0)
				_exit(1);
		}
		_exit(0);
	}
	bufpipe_close(jobs[0]);
	bufpipe_close(jobs[1]);
	bufpipe_close(answers[1]);
	/* The loop ends with the last worker. */
	while (bufpipe_recv(answers[0], &job, sizeof(job), -1) >= 0) {
		sum += job.divisors;
		got++;
	}
	bufpipe_close(answers[0]);
	while (wait(NULL) > 0)
		;
	printf("%ld answers, %ld divisors\n", got, sum);
	return got != all;
}
