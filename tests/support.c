/* SPDX-License-Identifier: MIT */
#include "support.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <sys/prctl.h>
#include <sys/resource.h>

/* Where a failed check is reported: in the test itself, or through a pipe to the parent. */
static pid_t test_thread;
static int report_fd = -1;
void (*support_clean_up)(void);

int __lsan_do_recoverable_leak_check(void) __attribute__((weak));

/*
 * LeakSanitizer calls this at the end of each process. libcriterion leaks a little in the process that runs
 * the tests. That process never begins a test itself.
 */
int __lsan_is_turned_off(void);
int __lsan_is_turned_off(void)
{
	return !test_thread;
}

static pid_t thread_id(void)
{
	return (pid_t)syscall(SYS_gettid);
}

void support_fail(const char *file, int line, const char *format, ...)
{
	char text[512];
	int n = snprintf(text, sizeof(text), "%s:%d: ", file, line);
	va_list args;

	va_start(args, format);
	vsnprintf(text + n, sizeof(text) - (size_t)n, format, args);
	va_end(args);
	if (report_fd >= 0) {
		if (write(report_fd, text, strlen(text)) < 0)
			_exit(2);
		_exit(1);
	}
	if (thread_id() == test_thread)
		cr_assert(0, "%s", text);
	fprintf(stderr, "%s\n", text);
	abort();
}

/* What this process has open and mapped. */

enum { FDS_MAX = 256 };

static struct {
	int count;
	int fds[FDS_MAX];
	int memfds;
} before;

static int list_descriptors(int *fds, int max)
{
	DIR *dir = opendir("/proc/self/fd");
	struct dirent *entry;
	int n = 0;

	if (!dir)
		return -1;
	while ((entry = readdir(dir))) {
		int fd = atoi(entry->d_name);

		if (entry->d_name[0] == '.' || fd == dirfd(dir))
			continue;
		if (n < max)
			fds[n] = fd;
		n++;
	}
	closedir(dir);
	return n;
}

int descriptors_open(void)
{
	return list_descriptors(NULL, 0);
}

int memfds_mapped(void)
{
	FILE *maps = fopen("/proc/self/maps", "re");
	char line[512];
	int n = 0;

	if (!maps)
		return -1;
	while (fgets(line, sizeof(line), maps))
		n += strstr(line, "/memfd:") != NULL;
	fclose(maps);
	return n;
}

void support_begin(void)
{
	test_thread = thread_id();
	memfds_mapped(); /* stdio and the sanitizers allocate what they need now, and not between the two counts */
	before.count = list_descriptors(before.fds, FDS_MAX);
	before.memfds = memfds_mapped();
}

static void name_new_descriptors(char *text, size_t size)
{
	int fds[FDS_MAX];
	int n = list_descriptors(fds, FDS_MAX);

	*text = '\0';
	for (int i = 0; i < n && i < FDS_MAX; i++) {
		char path[32];
		char target[128];
		size_t used = strlen(text);
		ssize_t len;
		bool known = false;

		for (int j = 0; j < before.count; j++)
			known |= before.fds[j] == fds[i];
		if (known)
			continue;
		snprintf(path, sizeof(path), "/proc/self/fd/%d", fds[i]);
		len = readlink(path, target, sizeof(target));
		snprintf(text + used, size - used, " %d=%.*s", fds[i], len < 0 ? 0 : (int)len, target);
	}
}

/* The library lets a child close descriptors that strangers sent, and does not wait for that child. */
static int settle_descriptors(int wanted)
{
	int count;

	for (int i = 0; (count = descriptors_open()) > wanted && i < 2000; i++)
		sleep_ns(MSEC);
	return count;
}

void wait_for_descriptors(int wanted)
{
	check_eq(settle_descriptors(wanted), wanted);
}

void support_end(void)
{
	char fresh[400];
	int count;

	if (!test_thread) /* a suite without support_begin */
		return;
	if (support_clean_up)
		support_clean_up();
	count = settle_descriptors(before.count);
	if (count != before.count) {
		name_new_descriptors(fresh, sizeof(fresh));
		support_fail(__FILE__, __LINE__, "%d descriptors before, %d after:%s", before.count, count,
			     fresh);
	}
	check_eq(memfds_mapped(), before.memfds);
	/* The check is here because libcriterion ignores the exit status that a sanitizer changes. */
	if (__lsan_do_recoverable_leak_check)
		check_eq(__lsan_do_recoverable_leak_check(), 0);
}

/* Pipes. */

void pipe_open(bufpipe_t *ends[2], const struct bufpipe_options *options)
{
	check_eq(bufpipe_create(ends, options), 0);
}

void pipe_close(bufpipe_t *ends[2])
{
	bufpipe_close(ends[IN]);
	bufpipe_close(ends[OUT]);
}

void say(bufpipe_t *pipe, const char *text)
{
	check_eq(bufpipe_send(pipe, text, strlen(text), PLENTY), 0);
}

void hear(bufpipe_t *pipe, const char *text)
{
	char buf[256] = { 0 };
	ssize_t n = bufpipe_recv(pipe, buf, sizeof(buf) - 1, PLENTY);

	if (n != (ssize_t)strlen(text) || memcmp(buf, text, (size_t)n) != 0)
		support_fail(__FILE__, __LINE__, "heard %zd (%s) where \"%s\" was to come", n,
			     n < 0 ? strerror((int)-n) : buf, text);
}

unsigned fill_up(bufpipe_t *pipe, size_t len)
{
	char *message = calloc(1, len + 1);
	unsigned n = 0;
	int r;

	while ((r = bufpipe_send(pipe, message, len, 0)) == 0)
		n++;
	free(message);
	check_eq(r, -EAGAIN);
	return n;
}

static uint64_t pattern_word(uint64_t i, uint64_t seed)
{
	uint64_t x = (i + 1) * 0x9e3779b97f4a7c15ull ^ seed * 0xd6e8feb86659fd93ull;

	return x ^ x >> 29;
}

void pattern_fill(void *buf, size_t len, uint64_t seed)
{
	char *to = buf;

	for (size_t i = 0; i < len; i += 8) {
		uint64_t word = pattern_word(i, seed);

		memcpy(to + i, &word, len - i < 8 ? len - i : 8);
	}
}

bool pattern_holds(const void *buf, size_t len, uint64_t seed)
{
	const char *from = buf;

	for (size_t i = 0; i < len; i += 8) {
		uint64_t word = pattern_word(i, seed);

		if (memcmp(from + i, &word, len - i < 8 ? len - i : 8) != 0)
			return false;
	}
	return true;
}

int64_t clock_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * SEC + t.tv_nsec;
}

double cpu_seconds(void)
{
	struct rusage usage;

	getrusage(RUSAGE_SELF, &usage);
	return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
	       (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

/* Children and threads. */

struct child child_start(void (*run)(void *), void *arg)
{
	struct child child;
	int report[2];

	check_eq(pipe2(report, O_CLOEXEC), 0);
	fflush(NULL);
	child.pid = fork();
	check(child.pid >= 0);
	child.report = report[0];
	if (child.pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		close(report[0]);
		/* A high number, because some tests need the low ones. */
		report_fd = fcntl(report[1], F_DUPFD_CLOEXEC, 100);
		close(report[1]);
		run(arg);
		_exit(0);
	}
	close(report[1]);
	return child;
}

static void fail_for_child(const struct child *child, int status)
{
	char text[600];
	ssize_t n;

	/*
	 * A grandchild may hold the other side open. So read what is there, and do not wait for the end of
	 * file.
	 */
	fcntl(child->report, F_SETFL, O_NONBLOCK);
	n = read(child->report, text, sizeof(text) - 1);
	if (WIFSIGNALED(status))
		support_fail(__FILE__, __LINE__, "the child died of signal %d", WTERMSIG(status));
	support_fail(__FILE__, __LINE__, "in a child: %.*s (exit status %d)", n < 0 ? 0 : (int)n, text,
		     WEXITSTATUS(status));
}

void child_join(struct child *child)
{
	int status;

	check_eq(waitpid(child->pid, &status, 0), child->pid);
	if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
		fail_for_child(child, status);
	close(child->report);
}

void child_kill(struct child *child)
{
	int status;

	check_eq(kill(child->pid, SIGKILL), 0);
	check_eq(waitpid(child->pid, &status, 0), child->pid);
	if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGKILL)
		fail_for_child(child, status);
	close(child->report);
}

static void *thread_main(void *arg)
{
	struct thread *thread = arg;

	thread->tid = thread_id();
	atomic_store(&thread->started, 1);
	thread->run(thread->arg);
	return NULL;
}

void thread_start(struct thread *thread, void (*run)(void *), void *arg)
{
	thread->run = run;
	thread->arg = arg;
	atomic_store(&thread->started, 0);
	check_eq(pthread_create(&thread->handle, NULL, thread_main, thread), 0);
	while (!atomic_load(&thread->started))
		sched_yield();
}

void thread_join(struct thread *thread)
{
	check_eq(pthread_join(thread->handle, NULL), 0);
}

void sleep_ns(int64_t ns)
{
	struct timespec t = { .tv_sec = ns / SEC, .tv_nsec = ns % SEC };

	while (nanosleep(&t, &t) < 0 && errno == EINTR)
		;
}

void pin_to_cpu(int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	check_eq(sched_setaffinity(0, sizeof(set), &set), 0);
}

void sockets_open(int sockets[2], int type)
{
	check_eq(socketpair(AF_UNIX, type | SOCK_CLOEXEC, 0, sockets), 0);
}

void sockets_close(int sockets[2])
{
	close(sockets[0]);
	close(sockets[1]);
}
