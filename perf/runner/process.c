/* SPDX-License-Identifier: MIT */
/*
 * The processes of a measurement: how they start and end, and which of them failed first.
 *
 * If one process fails, the others lose their peer and fail too, within microseconds.  The runner
 * cannot see in which order that happened, so each process writes down when and why it failed,
 * before it lets go of the transport.
 */
#include "bench.h"

#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

int outcome_fail(struct outcome *outcome, int err, const char *format, ...)
{
	va_list arguments;

	if (outcome->error)
		return err;
	outcome->error = err;
	outcome->at_ns = clock_ns();
	va_start(arguments, format);
	vsnprintf(outcome->text, sizeof(outcome->text), format, arguments);
	va_end(arguments);
	return err;
}

int outcome_error(struct outcome *outcome, int err, const char *what)
{
	return outcome_fail(outcome, err, "%s: %s", what, strerror(-err));
}

pid_t worker_fork(void)
{
	pid_t runner = getpid(), pid;
	sigset_t none;

	fflush(NULL);
	pid = fork();
	if (pid)
		return pid;
	/* The runner's own death ends its workers; it may have come before the prctl. */
	if (prctl(PR_SET_PDEATHSIG, SIGKILL) || getppid() != runner)
		_exit(1);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	signal(SIGPIPE, SIG_IGN);
	return 0;
}

int process_start(struct process *process, enum side side, struct outcome *outcome)
{
	pid_t pid = worker_fork();
	int err;

	if (pid < 0)
		return -errno;
	process->outcome = outcome;
	process->pid = pid;
	process->is_running = pid > 0;
	if (pid > 0)
		return 1;
	err = condition_join(side);
	if (err) {
		outcome_error(outcome, err, "join the control group of the limit, or change the priority");
		_exit(1);
	}
	return 0;
}

int processes_reap(struct process *processes, int count)
{
	int running = 0;

	for (int i = 0; i < count; i++) {
		struct process *p = &processes[i];

		if (p->is_running && waitpid(p->pid, &p->status, WNOHANG) == p->pid)
			p->is_running = false;
		running += p->is_running;
	}
	return running;
}

void processes_stop(struct process *processes, int count)
{
	for (int i = 0; i < count; i++) {
		if (processes[i].is_running)
			kill(processes[i].pid, SIGKILL);
	}
	for (int i = 0; i < count; i++) {
		struct process *p = &processes[i];

		while (p->is_running && waitpid(p->pid, &p->status, 0) < 0 && errno == EINTR)
			;
		p->is_running = false;
	}
}

/* A library may end its process with status 0, so the status alone does not tell. */
static bool has_failed(const struct process *p)
{
	return p->pid > 0 && !p->is_running && (p->status || !p->outcome->is_done);
}

bool processes_failed(const struct process *processes, int count)
{
	for (int i = 0; i < count; i++) {
		if (has_failed(&processes[i]))
			return true;
	}
	return false;
}

static bool has_lost_its_peer(const struct outcome *outcome)
{
	return outcome->error == -EPIPE || outcome->error == -ECONNRESET;
}

/*
 * Whether a failed before b.  A process that died without a word cannot say when, but no peer can
 * have caused that; and a process that lost its peer did so because another one had failed.
 */
static bool is_earlier(const struct outcome *a, const struct outcome *b)
{
	if (has_lost_its_peer(a) != has_lost_its_peer(b))
		return has_lost_its_peer(b);
	return a->at_ns < b->at_ns;
}

static const struct process *find_first(const struct process *processes, int count)
{
	const struct process *first = NULL;

	for (int i = 0; i < count; i++) {
		const struct process *p = &processes[i];

		if (has_failed(p) && (!first || is_earlier(p->outcome, first->outcome)))
			first = p;
	}
	return first;
}

static void tell_one(const struct job *job, const struct process *p)
{
	char text[REASON_MAX];

	if (p->outcome->text[0])
		snprintf(text, sizeof(text), "%s: %s", p->name, p->outcome->text);
	else if (WIFSIGNALED(p->status))
		snprintf(text, sizeof(text), "%s: died of signal %d, %s", p->name, WTERMSIG(p->status),
			 strsignal(WTERMSIG(p->status)));
	else
		snprintf(text, sizeof(text), "%s: exited with status %d before it was done", p->name,
			 WEXITSTATUS(p->status));
	job_complain(job, text);
}

/* The one that failed first may end last, so the others get some time. */
static void settle(struct process *processes, int count)
{
	uint64_t end = clock_ns() + TELL_NS;

	while (processes_reap(processes, count) && clock_ns() < end)
		nanosleep(&(struct timespec){ .tv_nsec = 2000000 }, NULL);
}

int processes_tell(const struct job *job, struct process *processes, int count)
{
	const struct process *first;

	settle(processes, count);
	first = find_first(processes, count);
	tell_one(job, first);
	for (int i = 0; i < count; i++) {
		if (has_failed(&processes[i]) && &processes[i] != first)
			tell_one(job, &processes[i]);
	}
	return first->outcome->error ? first->outcome->error : -ECHILD;
}

int job_fail(const struct job *job, int err, const char *what)
{
	char text[REASON_MAX];

	snprintf(text, sizeof(text), "%s: %s", what, strerror(-err));
	job_complain(job, text);
	return err;
}

void job_complain(const struct job *job, const char *text)
{
	char what[JOB_MAX];

	fprintf(stderr, "bufpipe-bench: %s: %s\n", text_job(what, job), text);
	if (!job->reason[0])
		snprintf(job->reason, REASON_MAX, "%s", text);
}
