/* SPDX-License-Identifier: MIT */
#include "keeper.h"
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

struct kept {
	const struct line_config *config;
	struct inherited held;
	bufpipe_listener_t *listener;
	int64_t retry_ns; /* connect or listen again at that time */
	bool done;        /* --once, and it was */
	bool said;        /* it was reported that the address cannot be used */
};

struct keeper {
	const struct bridge_config *config;
	struct kept *lines;
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
		       const char *way)
{
	size_t at = (size_t)snprintf(path, size, "%s/", dir);

	for (const char *c = line->text; *c && at < size - 8; c++) {
		if (isalnum((unsigned char)*c) || strchr("-_@.", *c))
			path[at++] = *c;
		else if (path[at - 1] != '+')
			path[at++] = '+';
	}
	snprintf(path + at, size - at, ".%s", way);
}

/* The directory of the states that must outlive the keeper; NULL: there is none. */
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
		       const struct line_config *line, const char *way)
{
	/* A replay begins where it was told each time, so nothing of it is kept. */
	bool in = way[0] == 'i';
	bool needed = line->nats.stream && !(in && line->nats.start);
	const char *dir = in && line->nats.start ? NULL : state_dir(config, needed);
	char path[PATH_MAX];
	const char *why = "make";
	int r = 0;

	if (dir) {
		state_path(path, sizeof(path), dir, line, way);
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

static bool open_states(struct keeper *k)
{
	for (unsigned i = 0; i < k->config->n; i++) {
		const struct line_config *line = &k->config->lines[i];
		struct inherited *held = &k->lines[i].held;

		k->lines[i].config = line;
		if ((line->to_nats || line->duplex) && !open_state(&held->out, k->config, line, "out"))
			return false;
		if ((!line->to_nats || line->duplex) && !open_state(&held->in, k->config, line, "in"))
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

static void pass_on(struct keeper *k, unsigned i)
{
	const struct inherited *held = &k->lines[i].held;
	const struct note note = { .kind = NOTE_PIPE, .line = i, .generation = held->generation };

	/* A worker that just died misses it; the next one inherits it. */
	if (k->restart_ns == 0 && send(k->control, &note, sizeof(note), MSG_NOSIGNAL) == sizeof(note))
		bufpipe_send_end(k->control, held->pipe);
}

static void take_pipe(struct keeper *k, unsigned i, bufpipe_t *pipe)
{
	struct kept *line = &k->lines[i];

	if (!peer_is_welcome(pipe, line->config->pipe, k->config->any_user)) {
		bufpipe_close(pipe);
		line->retry_ns = now_ns() + RETRY_NS;
		return;
	}
	line->held.pipe = pipe;
	state_random(&line->held.generation, sizeof(line->held.generation));
	pass_on(k, i);
}

/* True: go on.  An error that no configuration can mend is reported, and ends the bridge. */
static bool meet(struct keeper *k, unsigned i)
{
	struct kept *line = &k->lines[i];
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
		take_pipe(k, i, pipe);
	}
	if (r >= 0 || (line->listener && r == -EAGAIN))
		return true;
	line->retry_ns = now_ns() + RETRY_NS;
	/* A program to connect to need not exist yet, and a client that has come may be gone. */
	if ((line->listener || !line->config->listen) &&
	    (r == -ENOENT || r == -ECONNREFUSED || r == -ETIMEDOUT || r == -EAGAIN || r == -ECONNRESET ||
	     r == -EPIPE))
		return true;
	if (r == -EINVAL || r == -ENAMETOOLONG || r == -EPROTOTYPE || r == -EMSGSIZE || r == -EACCES) {
		complain("%s: %s: %s", line->config->text, line->config->pipe,
			 r == -EINVAL       ? "it is not the address of a pipe"
			 : r == -EPROTOTYPE ? "the pipe there has the other direction, or is of another kind"
			 : r == -EMSGSIZE   ? "the program there allows less than --buffer"
					    : strerror(-r));
		k->status = r == -EINVAL ? STATUS_USAGE : STATUS_FAILED;
		return false;
	}
	/* A predecessor that is finishing may still use the address; a missing directory may be made later. */
	if (!line->said)
		complain("%s: %s: %s; trying again", line->config->text, line->config->pipe, strerror(-r));
	line->said = true;
	return true;
}

static void let_go(struct kept *line)
{
	bufpipe_close(line->held.pipe);
	line->held.pipe = NULL;
}

static bool all_done(const struct keeper *k)
{
	for (unsigned i = 0; i < k->config->n; i++) {
		if (!k->lines[i].done)
			return false;
	}
	return true;
}

/* Handles all notes of the worker. */
static void read_notes(struct keeper *k)
{
	struct note note;

	while (recv(k->control, &note, sizeof(note), MSG_DONTWAIT) == sizeof(note)) {
		struct kept *line = &k->lines[note.line < k->config->n ? note.line : 0];

		if (!line->held.pipe || line->held.generation != note.generation)
			continue;
		let_go(line);
		line->done = note.kind == NOTE_DONE;
	}
}

/* It is tried again, but not for ever when we are to end. */
static void cannot_start(struct keeper *k)
{
	if (!k->finishing || k->finishers++ < FINISHERS)
		return;
	k->finishing = false;
	k->status = STATUS_FAILED;
}

static void start_worker(struct keeper *k)
{
	struct inherited *all;
	int pair[2];
	int worker;

	k->restart_ns = now_ns() + RETRY_NS;
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0) {
		cannot_start(k);
		return;
	}
	k->worker = fork();
	if (k->worker == 0) {
		all = calloc(k->config->n, sizeof(*all));
		if (!all)
			_exit(STATUS_FAILED);
		for (unsigned i = 0; i < k->config->n; i++) {
			all[i] = k->lines[i].held;
			bufpipe_listener_close(k->lines[i].listener);
		}
		close(pair[0]);
		worker = worker_run(k->config, all, pair[1]);
		free(all);
		exit(worker);
	}
	close(pair[1]);
	if (k->worker < 0) {
		close(pair[0]);
		cannot_start(k);
		return;
	}
	k->control = pair[0];
	k->started_ns = now_ns();
	k->restart_ns = 0;
	if (k->finishing)
		kill(k->worker, SIGTERM);
	k->finishing = false;
}

static void bury_worker(struct keeper *k)
{
	int status;

	if (k->restart_ns || waitpid(k->worker, &status, WNOHANG) != k->worker)
		return;
	/* Handle the notes that it sent before it died. */
	read_notes(k);
	close(k->control);
	k->control = -1;
	k->worker = 0;
	if (WIFEXITED(status)) {
		k->ending = true;
		k->status = WEXITSTATUS(status);
	} else {
		k->finishing = k->ending && k->finishers++ < FINISHERS;
		complain("the worker was killed by signal %d; %s", WTERMSIG(status),
			 k->ending && !k->finishing ? "unfinished messages stay where they are"
						    : "another one goes on");
		if (k->ending && !k->finishing)
			k->status = STATUS_FAILED;
	}
	/* A worker that dies at once, again and again, must not keep the machine busy. */
	k->restart_ns = now_ns() + (now_ns() - k->started_ns < FAST_DEATH_NS ? FAST_DEATH_NS / 4 : 1);
}

static void read_signals(struct keeper *k)
{
	struct signalfd_siginfo info;

	while (read(k->signals, &info, sizeof(info)) == sizeof(info)) {
		if (info.ssi_signo == SIGCHLD) {
			bury_worker(k);
			continue;
		}
		/* The worker finishes, and ends.  If it has just died, the next one does. */
		if (k->worker > 0)
			kill(k->worker, SIGTERM);
		else if (!k->ending)
			k->finishing = true;
		k->ending = true;
	}
}

static bool wants_pipe(const struct kept *line)
{
	return !line->held.pipe && !line->done;
}

/* Fills what to poll; returns how long. */
static int plan(struct keeper *k, unsigned *n)
{
	int64_t now = now_ns();
	int64_t next = INT64_MAX;

	*n = 0;
	k->polled[(*n)++] = (struct pollfd){ .fd = k->signals, .events = POLLIN };
	k->polled[(*n)++] = (struct pollfd){ .fd = k->control, .events = POLLIN };
	for (unsigned i = 0; i < k->config->n && !k->ending; i++) {
		struct kept *line = &k->lines[i];

		if (wants_pipe(line) && line->listener)
			k->polled[(*n)++] = (struct pollfd){
				.fd = bufpipe_listener_fd(line->listener),
				.events = POLLIN,
			};
		else if (wants_pipe(line) && line->retry_ns < next)
			next = line->retry_ns;
	}
	if (k->restart_ns && k->restart_ns < next)
		next = k->restart_ns;
	if (next == INT64_MAX)
		return -1;
	return next <= now ? 0 : (int)((next - now) / MS) + 1;
}

static bool meet_all(struct keeper *k)
{
	int64_t now = now_ns();

	for (unsigned i = 0; i < k->config->n; i++) {
		struct kept *line = &k->lines[i];

		if (wants_pipe(line) && (line->listener || line->retry_ns <= now) && !meet(k, i))
			return false;
	}
	return true;
}

static void finish(struct keeper *k)
{
	if (k->worker > 0) {
		kill(k->worker, SIGTERM);
		waitpid(k->worker, NULL, 0);
	}
	for (unsigned i = 0; i < k->config->n; i++) {
		bufpipe_listener_close(k->lines[i].listener);
		bufpipe_close(k->lines[i].held.pipe);
	}
}

int keeper_run(const struct bridge_config *config)
{
	struct keeper k = { .config = config, .control = -1 };
	unsigned n;
	int timeout;
	sigset_t set;

	k.lines = calloc(config->n, sizeof(*k.lines));
	k.polled = calloc(config->n + 2, sizeof(*k.polled));
	if (!k.lines || !k.polled || !open_states(&k))
		return STATUS_FAILED;
	sigemptyset(&set);
	sigaddset(&set, SIGCHLD);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGHUP);
	sigprocmask(SIG_BLOCK, &set, NULL);
	k.signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	k.restart_ns = 1;
	while (!k.ending || k.worker > 0 || k.finishing) {
		if ((!k.ending || k.finishing) && k.restart_ns && k.restart_ns <= now_ns())
			start_worker(&k);
		if (!k.ending && !meet_all(&k))
			break;
		timeout = plan(&k, &n);
		if (poll(k.polled, n, timeout) < 0 && errno != EINTR)
			break;
		read_signals(&k);
		read_notes(&k);
		if (!k.ending && all_done(&k)) {
			k.ending = true;
			if (k.worker > 0)
				kill(k.worker, SIGTERM);
		}
	}
	finish(&k);
	free(k.lines);
	free(k.polled);
	return k.status;
}
