/* SPDX-License-Identifier: MIT */
#include "fuzz/input.h"

#include <fcntl.h>

/* How much longer than its timeout a call may take, not counting the time in which it waits for a CPU. */
#define SOON (NSEC_PER_SEC / 10)
/* The same where the kernel does not report that time, because the machine may be busy. */
#define SOON_BLIND (2 * NSEC_PER_SEC)

void fuzz_fail(const char *what, long long result)
{
	fprintf(stderr, "%s: %lld\n", what, result);
	abort();
}

/* For how long this thread has waited for a CPU, -1 if unknown. */
static int64_t time_queued(void)
{
	static int fd = -1;
	long long ran;
	long long queued;
	char text[64];
	ssize_t n;

	if (fd < 0)
		fd = open("/proc/thread-self/schedstat", O_RDONLY | O_CLOEXEC);
	n = pread(fd, text, sizeof(text) - 1, 0);
	if (n <= 0)
		return -1;
	text[n] = 0;
	return sscanf(text, "%lld %lld", &ran, &queued) == 2 ? queued : -1;
}

struct stopwatch stopwatch_start(void)
{
	struct stopwatch watch = { .queued = time_queued() };

	watch.begin = time_now();
	return watch;
}

void stopwatch_stop(const struct stopwatch *watch, const char *call, int64_t timeout)
{
	int64_t took = time_now() - watch->begin - timeout;
	int64_t most = watch->queued < 0 ? SOON_BLIND : SOON + time_queued() - watch->queued;

	if (took > most) {
		fprintf(stderr, "%s was late: ", call);
		fuzz_fail("ns", took);
	}
}
