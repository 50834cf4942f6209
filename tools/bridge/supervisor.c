/* SPDX-License-Identifier: MIT */
#include "supervisor.h"
#include "../welcome.h"
#include "worker.h"

#include <ctype.h>
#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define MS 1000000LL
/* How long to wait for a program that listens.  It answers at once, or is stopped and must not delay other pipes. */
#define CONNECT_NS    (200 * MS)
#define RETRY_NS      (250 * MS)
#define FAST_DEATH_NS (1000 * MS)
/* How many workers are started in turn to finish the work, if each is killed. */
#define FINISHERS 3u

struct line {
	const struct line_config *config;
	struct inherited held;
	bufpipe_listener_t *listener;
	int64_t retry_ns; /* connect or listen again at that time */
	bool done;        /* with --once: its stream has ended */
	bool said;        /* it was reported that the address cannot be used */
};

struct supervisor {
	const struct bridge_config *config;
	struct line *lines;
	struct pollfd *polled;
	int signals;
	int control;
	pid_t worker;
	int64_t started_ns;
	int64_t restart_ns; /* 0: it runs */
	bool ending;
	bool finishing; /* a worker died while it finished, so another one is to finish */
	unsigned finishers;
	int status;
};

static void state_path(char *path, size_t size, const char *dir, const struct line_config *line,
		       const char *direction)
{
	size_t at = (size_t)snprintf(path, size, "%s/", dir);

	for (const char *c = line->text; *c && at < size - 8; c++) {
		if (isalnum((unsigned char)*c) || strchr("-_@.", *c))
			path[at++] = *c;
		else if (path[at - 1] != '+')
			path[at++] = '+';
	}
	snprintf(path + at, size - at, ".%s", direction);
}

/* The directory of the states that must outlive the supervisor; NULL: there is none. */
static const char *state_dir(const struct bridge_config *config, bool needed)
{
	static char dir[PATH_MAX - 256];
	const char *base = getenv("STATE_DIRECTORY");

	if (config->state_dir)
		return config->state_dir;
	/* The service manager may name several directories. */
	if (base && snprintf(dir, sizeof(dir), "%.*s", (int)strcspn(base, ":"), base) > 0)
		return dir;
	if (!needed)
		return NULL;
	base = getenv("XDG_STATE_HOME");
	if (base && *base == '/')
		snprintf(dir, sizeof(dir), "%s/bufpipe", base);
	else if (getenv("HOME"))
		snprintf(dir, sizeof(dir), "%s/.local/state/bufpipe", getenv("HOME"));
	else
		return "/var/lib/bufpipe";
	return dir;
}

static int make_dir(const char *dir)
{
	char path[PATH_MAX];

	snprintf(path, sizeof(path), "%s", dir);
	for (char *slash = path + 1; (slash = strchr(slash, '/')); slash++) {
		*slash = 0;
		mkdir(path, 0777);
		*slash = '/';
	}
	return mkdir(path, 0700) < 0 && errno != EEXIST ? -errno : 0;
}

static bool open_state(struct state **state, const struct bridge_config *config,
		       const struct line_config *line, const char *direction)
{
	/* A replay begins where it was told each time, so nothing of it is kept. */
	bool in = direction[0] == 'i';
	bool needed = line->nats.stream && !(in && line->nats.start);
	const char *dir = in && line->nats.start ? NULL : state_dir(config, needed);
	char path[PATH_MAX];
	const char *why = "make";
	int r = 0;

	if (dir) {
		state_path(path, sizeof(path), dir, line, direction);
		r = make_dir(dir);
	} else {
		snprintf(path, sizeof(path), "the state of %s", line->text);
	}
	if (r == 0)
		r = state_open(state, dir ? path : NULL, !in && line->nats.stream, &why);
	if (r == 0)
		return true;
	if (r == -EWOULDBLOCK)
		complain("%s: %s: another bridge of this pipe is running", line->text, path);
	else
		complain("%s: cannot %s %s: %s", line->text, why, path, strerror(-r));
	return false;
}

static bool open_states(struct supervisor *s)
{
	for (unsigned i = 0; i < s->config->n; i++) {
		const struct line_config *line = &s->config->lines[i];
		struct inherited *held = &s->lines[i].held;

		s->lines[i].config = line;
		if ((line->to_nats || line->duplex) && !open_state(&held->out, s->config, line, "out"))
			return false;
		if ((!line->to_nats || line->duplex) && !open_state(&held->in, s->config, line, "in"))
			return false;
	}
	return true;
}

static struct bufpipe_options pipe_options(const struct line_config *line)
{
	return (struct bufpipe_options){
		.buffer_size = line->buffer,
		.flags = line->duplex    ? BUFPIPE_DUPLEX
			 : line->to_nats ? BUFPIPE_RECEIVE
					 : BUFPIPE_SEND,
		.name = "bufpipe-bridge",
	};
}

static void pass_on(struct supervisor *s, unsigned i)
{
	const struct inherited *held = &s->lines[i].held;
	const struct note note = { .kind = NOTE_PIPE, .line = i, .generation = held->generation };

	/* A worker that just died misses it; the next one inherits it. */
	if (s->restart_ns == 0 && send(s->control, &note, sizeof(note), MSG_NOSIGNAL) == sizeof(note))
		bufpipe_send_end(s->control, held->pipe);
}

static void take_pipe(struct supervisor *s, unsigned i, bufpipe_t *pipe)
{
	struct line *line = &s->lines[i];

	if (!peer_is_welcome(pipe, line->config->pipe, s->config->any_user)) {
		bufpipe_close(pipe);
		line->retry_ns = now_ns() + RETRY_NS;
		return;
	}
	line->held.pipe = pipe;
	state_random(&line->held.generation, sizeof(line->held.generation));
	pass_on(s, i);
}

/* True: go on.  False: an error that waiting cannot mend was reported, and the bridge ends. */
static bool meet(struct supervisor *s, unsigned i)
{
	struct line *line = &s->lines[i];
	struct bufpipe_options options = pipe_options(line->config);
	bufpipe_t *pipe = NULL;
	int r;

	if (line->listener)
		r = bufpipe_accept(line->listener, &pipe, 0);
	else if (line->config->listen)
		r = bufpipe_listen(&line->listener, line->config->pipe, &options);
	else
		r = bufpipe_connect(&pipe, line->config->pipe, &options, CONNECT_NS);
	if (pipe) {
		line->said = false;
		take_pipe(s, i, pipe);
	}
	if (r >= 0 || (line->listener && r == -EAGAIN))
		return true;
	line->retry_ns = now_ns() + RETRY_NS;
	/* A program to connect to need not exist yet, and a client that has come may be gone. */
	if ((line->listener || !line->config->listen) &&
	    (r == -ENOENT || r == -ECONNREFUSED || r == -ETIMEDOUT || r == -EAGAIN || r == -ECONNRESET ||
	     r == -EPIPE))
		return true;
	if (r == -EINVAL || r == -ENAMETOOLONG || r == -EPROTOTYPE || r == -EMSGSIZE || r == -EACCES ||
	    r == -EBADF || r == -ENOTSOCK || r == -ESOCKTNOSUPPORT) {
		complain("%s: %s: %s", line->config->text, line->config->pipe,
			 r == -EINVAL       ? "it is not the address of a pipe"
			 : r == -EPROTOTYPE ? "the pipe there has the other direction, or is of another kind"
			 : r == -EMSGSIZE   ? "the program there allows less than --buffer"
					    : strerror(-r));
		s->status = r == -EINVAL ? STATUS_USAGE : STATUS_FAILED;
		return false;
	}
	/* A predecessor that is finishing may still use the address; a missing directory may be made later. */
	if (!line->said)
		complain("%s: %s: %s; trying again", line->config->text, line->config->pipe, strerror(-r));
	line->said = true;
	return true;
}

static void let_go(struct line *line)
{
	bufpipe_close(line->held.pipe);
	line->held.pipe = NULL;
}

static bool all_done(const struct supervisor *s)
{
	for (unsigned i = 0; i < s->config->n; i++) {
		if (!s->lines[i].done)
			return false;
	}
	return true;
}

/* Handles all notes of the worker. */
static void read_notes(struct supervisor *s)
{
	struct note note;

	while (recv(s->control, &note, sizeof(note), MSG_DONTWAIT) == sizeof(note)) {
		struct line *line = &s->lines[note.line < s->config->n ? note.line : 0];

		if (!line->held.pipe || line->held.generation != note.generation)
			continue;
		let_go(line);
		line->done = note.kind == NOTE_DONE;
	}
}

/* A worker that could not be started is tried again; only a few times if the bridge is to end. */
static void cannot_start(struct supervisor *s)
{
	if (!s->finishing || s->finishers++ < FINISHERS)
		return;
	s->finishing = false;
	s->status = STATUS_FAILED;
}

static void start_worker(struct supervisor *s)
{
	struct inherited *all;
	int pair[2];
	int worker;

	s->restart_ns = now_ns() + RETRY_NS;
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0) {
		cannot_start(s);
		return;
	}
	s->worker = fork();
	if (s->worker == 0) {
		all = calloc(s->config->n, sizeof(*all));
		if (!all)
			_exit(STATUS_FAILED);
		for (unsigned i = 0; i < s->config->n; i++) {
			all[i] = s->lines[i].held;
			bufpipe_listener_close(s->lines[i].listener);
		}
		close(pair[0]);
		worker = worker_run(s->config, all, pair[1]);
		free(all);
		exit(worker);
	}
	close(pair[1]);
	if (s->worker < 0) {
		close(pair[0]);
		cannot_start(s);
		return;
	}
	s->control = pair[0];
	s->started_ns = now_ns();
	s->restart_ns = 0;
	if (s->finishing)
		kill(s->worker, SIGTERM);
	s->finishing = false;
}

static void reap_worker(struct supervisor *s)
{
	int status;

	if (s->restart_ns || waitpid(s->worker, &status, WNOHANG) != s->worker)
		return;
	/* Handle the notes that it sent before it died. */
	read_notes(s);
	close(s->control);
	s->control = -1;
	s->worker = 0;
	if (WIFEXITED(status)) {
		s->ending = true;
		s->status = WEXITSTATUS(status);
	} else {
		s->finishing = s->ending && s->finishers++ < FINISHERS;
		complain("the worker was killed by signal %d; %s", WTERMSIG(status),
			 s->ending && !s->finishing ? "unfinished messages stay where they are"
						    : "another one goes on");
		if (s->ending && !s->finishing)
			s->status = STATUS_FAILED;
	}
	/* A worker that dies at once, again and again, must not keep the machine busy. */
	s->restart_ns = now_ns() + (now_ns() - s->started_ns < FAST_DEATH_NS ? FAST_DEATH_NS / 4 : 1);
}

static void read_signals(struct supervisor *s)
{
	struct signalfd_siginfo info;

	while (read(s->signals, &info, sizeof(info)) == sizeof(info)) {
		if (info.ssi_signo == SIGCHLD) {
			reap_worker(s);
			continue;
		}
		/* The worker finishes, and ends.  If it has just died, the next one does. */
		if (s->worker > 0)
			kill(s->worker, SIGTERM);
		else if (!s->ending)
			s->finishing = true;
		s->ending = true;
	}
}

static bool wants_pipe(const struct line *line)
{
	return !line->held.pipe && !line->done;
}

/* Fills what to poll; returns how long. */
static int plan(struct supervisor *s, unsigned *n)
{
	int64_t now = now_ns();
	int64_t next = INT64_MAX;

	*n = 0;
	s->polled[(*n)++] = (struct pollfd){ .fd = s->signals, .events = POLLIN };
	s->polled[(*n)++] = (struct pollfd){ .fd = s->control, .events = POLLIN };
	for (unsigned i = 0; i < s->config->n && !s->ending; i++) {
		struct line *line = &s->lines[i];

		if (wants_pipe(line) && line->listener)
			s->polled[(*n)++] = (struct pollfd){
				.fd = bufpipe_listener_fd(line->listener),
				.events = POLLIN,
			};
		else if (wants_pipe(line) && line->retry_ns < next)
			next = line->retry_ns;
	}
	if (s->restart_ns && s->restart_ns < next)
		next = s->restart_ns;
	if (next == INT64_MAX)
		return -1;
	return next <= now ? 0 : (int)((next - now) / MS) + 1;
}

static bool meet_all(struct supervisor *s)
{
	int64_t now = now_ns();

	for (unsigned i = 0; i < s->config->n; i++) {
		struct line *line = &s->lines[i];

		if (wants_pipe(line) && (line->listener || line->retry_ns <= now) && !meet(s, i))
			return false;
	}
	return true;
}

static void finish(struct supervisor *s)
{
	if (s->worker > 0) {
		kill(s->worker, SIGTERM);
		waitpid(s->worker, NULL, 0);
	}
	for (unsigned i = 0; i < s->config->n; i++) {
		bufpipe_listener_close(s->lines[i].listener);
		bufpipe_close(s->lines[i].held.pipe);
	}
}

int supervisor_run(const struct bridge_config *config)
{
	struct supervisor s = { .config = config, .control = -1 };
	unsigned n;
	int timeout;
	sigset_t set;

	s.lines = calloc(config->n, sizeof(*s.lines));
	s.polled = calloc(config->n + 2, sizeof(*s.polled));
	if (!s.lines || !s.polled || !open_states(&s))
		return STATUS_FAILED;
	sigemptyset(&set);
	sigaddset(&set, SIGCHLD);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGHUP);
	sigprocmask(SIG_BLOCK, &set, NULL);
	s.signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	s.restart_ns = 1;
	while (!s.ending || s.worker > 0 || s.finishing) {
		if ((!s.ending || s.finishing) && s.restart_ns && s.restart_ns <= now_ns())
			start_worker(&s);
		if (!s.ending && !meet_all(&s))
			break;
		timeout = plan(&s, &n);
		if (poll(s.polled, n, timeout) < 0 && errno != EINTR)
			break;
		read_signals(&s);
		read_notes(&s);
		if (!s.ending && all_done(&s)) {
			s.ending = true;
			if (s.worker > 0)
				kill(s.worker, SIGTERM);
		}
	}
	finish(&s);
	free(s.lines);
	free(s.polled);
	return s.status;
}
