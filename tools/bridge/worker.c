/* SPDX-License-Identifier: MIT */
#include "worker.h"
#include "lane.h"
#include "port.h"
#include "report.h"

#include <errno.h>
#include <malloc.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <unistd.h>

#define MS        1000000LL
#define EVENTS    64u
#define TICK_NS   (250 * MS)
#define DRAIN_NS  (10000 * MS)
#define MINUTE_NS (60000 * MS)
#define CLOSE_MS  2000
/*
 * The process keeps the memory of frames that it frees, because the kernel would
 * clear new memory each time.  Longer blocks, of long messages, go back to the kernel.
 */
#define KEPT_BLOCK (4 << 20)
#define KEPT_TOTAL (16 << 20)

enum source_kind { SOURCE_CONTROL, SOURCE_SIGNALS, SOURCE_WAKE, SOURCE_PORT, SOURCE_LINK };

/* What an event of the set belongs to. */
struct source {
	enum source_kind kind;
	struct port *port;
	struct link *link;
	int fd; /* as it is in the set; -1: it is not */
	short events;
};

struct place {
	struct port port;
	struct source pipe, out_socket, in_socket;
	bool ready;
};

struct worker {
	const struct bridge_config *config;
	struct place *places;
	bufpipe_set_t *set;
	int control;
	int signals;
	int wake;
	int64_t tick_ns;   /* when all lanes are looked at */
	int64_t next_ns;   /* when one wants to be run, at the latest */
	int64_t report_ns; /* when to tell how it goes */
	int64_t drain_ns;  /* when draining ends; 0: it has not begun */
	bool failed;
	bool again;
	uint64_t reported; /* the sum of all counts at the last report */
};

bool worker_drains(const struct worker *worker)
{
	return worker->drain_ns != 0;
}

void worker_fail(struct port *port)
{
	struct worker *worker = port->worker;

	port->failed = true;
	worker->failed = true;
	for (unsigned i = 0; i < worker->config->n; i++)
		worker->failed = worker->failed && worker->places[i].port.failed;
}

void worker_at(struct worker *worker, int64_t when_ns)
{
	if (when_ns < worker->next_ns)
		worker->next_ns = when_ns;
}

static struct place *place_of(struct port *port)
{
	return &port->worker->places[port->index];
}

void worker_again(struct port *port)
{
	place_of(port)->ready = true;
	port->worker->again = true;
}

static void unwatch(struct port *port)
{
	if (port->watched)
		bufpipe_set_remove(port->worker->set, port->pipe);
	port->watched = false;
}

/* Tells the set what the lanes of a port wait for. */
static void watch(struct port *port)
{
	unsigned events = 0;
	bool keep;

	if (!port->pipe)
		return;
	if (port->out && !port->out_over && out_wants(port->out))
		events |= BUFPIPE_IN;
	if (port->in && !port->in_over && in_wants(port->in))
		events |= BUFPIPE_OUT;
	/* A set reports a hang-up again and again, so a pipe that waits for nothing must leave the set. */
	keep = events || (port->in && !port->in_over && !port->hung_up);
	if (port->in && in_is_sending(port->in))
		keep = false;
	if (!keep) {
		unwatch(port);
		return;
	}
	if (!port->watched)
		port->watched =
			bufpipe_set_add(port->worker->set, port->pipe, events, &place_of(port)->pipe) == 0;
	else if (port->events != events)
		bufpipe_set_modify(port->worker->set, port->pipe, events, &place_of(port)->pipe);
	port->events = events;
}

static void let_go(struct port *port, enum note_kind kind)
{
	const struct note note = { .kind = kind, .line = port->index, .generation = port->generation };

	unwatch(port);
	if (port->in)
		in_leave_room(port->in);
	bufpipe_close(port->pipe);
	port->pipe = NULL;
	if (port->out)
		out_port_changed(port->out);
	if (port->in)
		in_port_changed(port->in);
	/* If the supervisor is gone, nobody need know. */
	if (send(port->worker->control, &note, sizeof(note), MSG_NOSIGNAL) < 0)
		return;
}

void port_over(struct port *port, bool outward)
{
	if (outward)
		port->out_over = true;
	else
		port->in_over = true;
	if ((port->out && !port->out_over) || (port->in && !port->in_over))
		return;
	let_go(port, port->worker->config->once ? NOTE_DONE : NOTE_GONE);
}

void port_broke(struct port *port)
{
	/* What its program had sent before must still be taken. */
	if (port->out && !port->out_over) {
		port->in_over = true;
		return;
	}
	let_go(port, NOTE_GONE);
}

static void adopt(struct port *port, bufpipe_t *pipe, uint64_t generation)
{
	port->pipe = pipe;
	port->generation = generation;
	port->out_over = false;
	port->in_over = false;
	port->ended = false;
	port->hung_up = false;
	if (port->out)
		out_port_changed(port->out);
	if (port->in)
		in_port_changed(port->in);
	worker_again(port);
}

/* Asked before our own shutdown, after which the end of its stream could not be told from ours. */
static bool program_has_gone(const struct port *port)
{
	struct bufpipe_pollfd look = { .pipe = port->pipe };

	return port->pipe && bufpipe_wait(&look, 1, 0) > 0 && (look.revents & BUFPIPE_HUP);
}

static void start_drain(struct worker *w)
{
	if (w->drain_ns)
		return;
	w->drain_ns = now_ns() + DRAIN_NS;
	for (unsigned i = 0; i < w->config->n; i++) {
		struct port *port = &w->places[i].port;

		port->ended = program_has_gone(port);
		/* No more from its program; what it has sent still comes. */
		if (port->pipe && port->out && !port->in && !port->ended)
			bufpipe_shutdown(port->pipe);
		worker_again(port);
	}
}

static void read_control(struct worker *w)
{
	struct note note;
	struct port *port;
	bufpipe_t *pipe;
	ssize_t got = recv(w->control, &note, sizeof(note), MSG_DONTWAIT);

	if (got < 0 && errno == EAGAIN)
		return;
	if (got != sizeof(note) || note.line >= w->config->n || bufpipe_recv_end(w->control, &pipe) < 0) {
		/* The supervisor is gone, so nobody would continue our work. */
		bufpipe_set_remove_fd(w->set, w->control);
		start_drain(w);
		return;
	}
	port = &w->places[note.line].port;
	if (port->pipe)
		bufpipe_close(pipe); /* as inherited */
	else
		adopt(port, pipe, note.generation);
}

static void read_signals(struct worker *w)
{
	struct signalfd_siginfo info;

	while (read(w->signals, &info, sizeof(info)) == sizeof(info))
		start_drain(w);
}

static void read_wake(struct worker *w)
{
	uint64_t count;

	if (read(w->wake, &count, sizeof(count)) < 0)
		return;
	/* The thread of some link has finished, or reports an error, so look at all of them. */
	w->tick_ns = 0;
}

static void watch_socket(struct worker *w, struct source *source)
{
	struct link *link = source->link;
	short events = POLLIN;

	if (link->fd >= 0 && atomic_load_explicit(&link->wants_write, memory_order_relaxed))
		events |= POLLOUT;
	if (source->fd == link->fd && source->events == events)
		return;
	if (source->fd >= 0)
		bufpipe_set_remove_fd(w->set, source->fd);
	source->fd = link->fd;
	source->events = events;
	if (source->fd >= 0)
		bufpipe_set_add_fd(w->set, source->fd, (unsigned)events, source);
}

static void run_place(struct worker *w, struct place *place, int64_t now)
{
	struct port *port = &place->port;

	place->ready = false;
	if (port->in)
		in_run(port->in, now);
	if (port->out)
		out_run(port->out, now);
	if (port->in)
		watch_socket(w, &place->in_socket);
	if (port->out)
		watch_socket(w, &place->out_socket);
	watch(port);
}

static void on_event(struct worker *w, const struct bufpipe_event *event)
{
	struct source *source = event->user;

	switch (source->kind) {
	case SOURCE_CONTROL:
		read_control(w);
		return;
	case SOURCE_SIGNALS:
		read_signals(w);
		return;
	case SOURCE_WAKE:
		read_wake(w);
		return;
	case SOURCE_LINK:
		/* An event of a socket that was closed meanwhile does no harm: a read finds nothing. */
		if (event->events & (POLLIN | POLLHUP | POLLERR))
			link_read(source->link);
		if (event->events & POLLOUT)
			link_flush(source->link);
		break;
	case SOURCE_PORT:
		if (event->events & BUFPIPE_HUP)
			source->port->hung_up = true;
		break;
	}
	worker_again(source->port);
}

static bool make_place(struct worker *w, unsigned i, const struct inherited *inherited)
{
	struct place *place = &w->places[i];
	struct port *port = &place->port;

	*port = (struct port){ .worker = w, .config = &w->config->lines[i], .index = i };
	place->pipe = (struct source){ .kind = SOURCE_PORT, .port = port };
	if (inherited->out) {
		port->out = out_new(port, w->config, inherited->out, w->wake);
		if (!port->out)
			return false;
		place->out_socket = (struct source){
			.kind = SOURCE_LINK, .port = port, .link = out_link(port->out), .fd = -1
		};
	}
	if (inherited->in) {
		port->in = in_new(port, w->config, inherited->in, w->wake);
		if (!port->in)
			return false;
		place->in_socket = (struct source){
			.kind = SOURCE_LINK, .port = port, .link = in_link(port->in), .fd = -1
		};
	}
	if (inherited->pipe)
		adopt(port, inherited->pipe, inherited->generation);
	return true;
}

static bool set_up(struct worker *w, const struct inherited *inherited)
{
	static struct source control = { .kind = SOURCE_CONTROL };
	static struct source signals = { .kind = SOURCE_SIGNALS };
	static struct source wake = { .kind = SOURCE_WAKE };
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGHUP);
	w->signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	w->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	w->places = calloc(w->config->n, sizeof(*w->places));
	if (w->signals < 0 || w->wake < 0 || !w->places || bufpipe_set_create(&w->set, 0) < 0)
		return false;
	if (bufpipe_set_add_fd(w->set, w->control, POLLIN, &control) < 0 ||
	    bufpipe_set_add_fd(w->set, w->signals, POLLIN, &signals) < 0 ||
	    bufpipe_set_add_fd(w->set, w->wake, POLLIN, &wake) < 0)
		return false;
	for (unsigned i = 0; i < w->config->n; i++) {
		if (!make_place(w, i, &inherited[i]))
			return false;
	}
	return true;
}

/* A line for each lane, if anything happened. */
static void report(struct worker *w, int64_t now, bool last)
{
	uint64_t sum = 0;

	w->report_ns = now + (w->config->progress ? MINUTE_NS / 60 : MINUTE_NS);
	for (unsigned i = 0; i < w->config->n; i++) {
		const struct port *port = &w->places[i].port;

		sum += port->out ? report_sum(out_counts(port->out)) : 0;
		sum += port->in ? report_sum(in_counts(port->in)) : 0;
	}
	if (sum == w->reported && !last)
		return;
	w->reported = sum;
	for (unsigned i = 0; i < w->config->n; i++) {
		const struct port *port = &w->places[i].port;

		if (port->out)
			report_lane(port->config, "sent", out_counts(port->out));
		if (port->in)
			report_lane(port->config, "received", in_counts(port->in));
	}
}

static bool is_drained(const struct worker *w)
{
	for (unsigned i = 0; i < w->config->n; i++) {
		const struct port *port = &w->places[i].port;

		if (port->out && (!out_is_idle(port->out) || (port->pipe && !port->in && !port->out_over)))
			return false;
		if (port->in && !in_is_idle(port->in))
			return false;
	}
	return true;
}

/* Runs what is ready; now and then, everything. */
static void run_ready(struct worker *w)
{
	int64_t now = now_ns();
	bool all = now >= w->tick_ns || now >= w->next_ns;

	if (all) {
		w->tick_ns = now + TICK_NS;
		w->next_ns = INT64_MAX;
	}
	w->again = false;
	for (unsigned i = 0; i < w->config->n; i++) {
		if (all || w->places[i].ready)
			run_place(w, &w->places[i], now);
	}
	if (now >= w->report_ns)
		report(w, now, false);
}

static int64_t patience(const struct worker *w)
{
	int64_t next_ns = w->tick_ns < w->next_ns ? w->tick_ns : w->next_ns;
	int64_t left_ns = next_ns - now_ns();

	return w->again || left_ns < 0 ? 0 : left_ns;
}

static void tear_down(struct worker *w)
{
	for (unsigned i = 0; i < w->config->n; i++) {
		struct port *port = &w->places[i].port;

		unwatch(port);
		if (port->out)
			out_close(port->out);
		if (port->in)
			in_close(port->in);
		bufpipe_close(port->pipe);
	}
	bufpipe_set_destroy(w->set);
	/* Its threads may still be telling that a connection was closed. */
	if (nats_CloseAndWait(CLOSE_MS) != NATS_OK)
		_exit(0);
	for (unsigned i = 0; i < w->config->n; i++) {
		if (w->places[i].port.out)
			out_free(w->places[i].port.out);
		if (w->places[i].port.in)
			in_free(w->places[i].port.in);
	}
	free(w->places);
}

int worker_run(const struct bridge_config *config, const struct inherited *inherited, int control)
{
	struct worker w = { .config = config, .control = control };
	struct bufpipe_event events[EVENTS];
	bool whole = true;
	int n;

#ifdef M_TRIM_THRESHOLD
	mallopt(M_MMAP_THRESHOLD, KEPT_BLOCK);
	mallopt(M_TRIM_THRESHOLD, KEPT_TOTAL);
#endif
	w.next_ns = INT64_MAX;
	w.report_ns = now_ns() + (config->progress ? MINUTE_NS / 60 : MINUTE_NS);
	if (!set_up(&w, inherited)) {
		complain("the worker cannot start: %s", strerror(errno));
		return STATUS_FAILED;
	}
	while (!w.failed) {
		run_ready(&w);
		if (w.drain_ns && is_drained(&w))
			break;
		if (w.drain_ns && now_ns() > w.drain_ns) {
			complain("not all was finished within %lld seconds", DRAIN_NS / (1000 * MS));
			whole = false;
			break;
		}
		n = bufpipe_set_wait(w.set, events, EVENTS, patience(&w));
		if (n < 0 && n != -EINTR) {
			complain("waiting: %s", strerror(-n));
			w.failed = true;
		}
		for (int i = 0; i < n; i++)
			on_event(&w, &events[i]);
	}
	report(&w, now_ns(), true);
	/* A lane that waits for a program, or for a server, must not delay the end. */
	if (!whole || w.failed)
		_exit(STATUS_FAILED);
	tear_down(&w);
	return 0;
}
