/* SPDX-License-Identifier: MIT */
/*
 * Runs the tests one after the other, each in a process of its own and with a time
 * limit, and ends with a summary like that of Criterion.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { PASSED = 0, FAILED = 1, SKIPPED = 77 };

#define DEFAULT_TIMEOUT 60.0

static struct cr_test *first;
static struct cr_test **last = &first;
static pid_t test_pid;
static int soft_failures;

void cr_register(struct cr_test *test)
{
	*last = test;
	last = &test->next;
}

#ifdef __SANITIZE_THREAD__
#include <sanitizer/tsan_interface.h>

/*
 * The ThreadSanitizer of GCC 12 does not know pthread_mutex_clocklock, so it would
 * take a lock for unlocked.  It knows the older call.
 */
int pthread_mutex_clocklock(pthread_mutex_t *lock, clockid_t clock, const struct timespec *until)
{
	struct timespec now;
	struct timespec there;
	int result;

	clock_gettime(clock, &now);
	clock_gettime(CLOCK_REALTIME, &there);
	there.tv_sec += until->tv_sec - now.tv_sec;
	there.tv_nsec += until->tv_nsec - now.tv_nsec;
	if (there.tv_nsec < 0) {
		there.tv_nsec += 1000000000;
		there.tv_sec--;
	} else if (there.tv_nsec >= 1000000000) {
		there.tv_nsec -= 1000000000;
		there.tv_sec++;
	}
	result = pthread_mutex_timedlock(lock, &there);
	/* It also does not know that EOWNERDEAD means that the lock was taken. */
	if (result == EOWNERDEAD) {
		__tsan_mutex_pre_lock(lock, __tsan_mutex_try_lock);
		__tsan_mutex_post_lock(lock, __tsan_mutex_try_lock, 0);
	}
	return result;
}
#endif

/* Ends the whole process, because each test has its own.  In a child of the test every failure does. */
void cr_fail(int stop, const char *file, int line, const char *format, ...)
{
	va_list args;

	fprintf(stderr, "%s:%d: ", file, line);
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fputc('\n', stderr);
	soft_failures++;
	if (stop || getpid() != test_pid)
		_exit(FAILED);
}

void cr_skip(const char *format, ...)
{
	va_list args;

	printf("skipped: ");
	va_start(args, format);
	vprintf(format, args);
	va_end(args);
	putchar('\n');
	fflush(stdout);
	_exit(SKIPPED);
}

static void run(const struct cr_test *test, const struct cr_options *suite)
{
	void (*init)(void) = test->options.init ? test->options.init : suite->init;
	void (*fini)(void) = test->options.fini ? test->options.fini : suite->fini;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	setpgid(0, 0);
	test_pid = getpid();
	if (init)
		init();
	test->run();
	if (fini)
		fini();
	fflush(NULL);
	/* exit, not _exit: the sanitizer turns its findings into the status there. */
	exit(soft_failures ? FAILED : PASSED);
}

static struct cr_options suite_options(const char *suite)
{
	for (const struct cr_test *t = first; t; t = t->next) {
		if (!t->name && !strcmp(t->suite, suite))
			return t->options;
	}
	return (struct cr_options){ 0 };
}

/* Returns the status as wait does, or -1 if the time limit was exceeded. */
static int wait_for(pid_t pid, double timeout)
{
	struct timespec pause = { .tv_nsec = 2000000 };
	struct timespec now;
	double begin;
	int status;

	clock_gettime(CLOCK_MONOTONIC, &now);
	begin = (double)now.tv_sec + (double)now.tv_nsec / 1e9;
	while (waitpid(pid, &status, WNOHANG) == 0) {
		clock_gettime(CLOCK_MONOTONIC, &now);
		if ((double)now.tv_sec + (double)now.tv_nsec / 1e9 - begin > timeout) {
			kill(-pid, SIGKILL);
			kill(pid, SIGKILL);
			waitpid(pid, &status, 0);
			return -1;
		}
		nanosleep(&pause, NULL);
	}
	return status;
}

static int run_one(const struct cr_test *test)
{
	struct cr_options suite = suite_options(test->suite);
	double timeout = test->options.timeout > 0 ? test->options.timeout : suite.timeout;
	int status;
	pid_t pid;

	fflush(NULL);
	pid = fork();
	if (pid < 0) {
		perror("fork");
		exit(2);
	}
	if (pid == 0)
		run(test, &suite);
	/* With the sanitizer everything takes longer. */
	status = wait_for(pid, 3 * (timeout > 0 ? timeout : DEFAULT_TIMEOUT));
	if (status >= 0 && WIFEXITED(status) && WEXITSTATUS(status) == PASSED)
		return PASSED;
	if (status >= 0 && WIFEXITED(status) && WEXITSTATUS(status) == SKIPPED)
		return SKIPPED;
	if (status < 0)
		printf("FAILED %s::%s: its time was up\n", test->suite, test->name);
	else if (WIFSIGNALED(status))
		printf("FAILED %s::%s: signal %d\n", test->suite, test->name, WTERMSIG(status));
	else
		printf("FAILED %s::%s: status %d\n", test->suite, test->name, WEXITSTATUS(status));
	return FAILED;
}

/* An argument selects the tests whose suite::name contains it. */
int main(int argc, char **argv)
{
	int passed = 0;
	int skipped = 0;
	int failed = 0;

	for (const struct cr_test *t = first; t; t = t->next) {
		char name[256];
		int result;

		if (!t->name || t->options.disabled)
			continue;
		snprintf(name, sizeof(name), "%s::%s", t->suite, t->name);
		if (argc > 1 && !strstr(name, argv[1]))
			continue;
		result = run_one(t);
		passed += result == PASSED;
		skipped += result == SKIPPED;
		failed += result == FAILED;
	}
	printf("Synthesis: Tested: %d | Passing: %d | Failing: %d | Skipped: %d\n", passed + failed, passed,
	       failed, skipped);
	return failed > 0;
}
