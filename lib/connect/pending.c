/* SPDX-License-Identifier: MIT */
#include "connect/pending.h"

#include "base/packet.h"
#include "base/stray.h"
#include "connect/agree.h"
#include "end/options.h"

#include <sys/epoll.h>
#include <sys/socket.h>

void pending_drop(struct bufpipe_listener *l, struct pending *p)
{
	if (p->socket < 0)
		return;
	/* The close would not remove it from the epoll, if a child of fork still has the socket. */
	if (!p->stalled)
		epoll_ctl(l->epoll, EPOLL_CTL_DEL, p->socket, NULL);
	shutdown(p->socket, SHUT_RDWR);
	if (!p->offered || !unread_keep(&l->unread, p->socket, p->uid))
		packet_close(p->socket);
	if (p->offered)
		region_drop(&p->ours);
	*p = (struct pending){ .socket = -1 };
	l->retry = 0; /* there is room for others now */
}

static bool is_waiting(const struct pending *p)
{
	return p->socket >= 0 && !p->stalled;
}

/* Whether nothing is in the queue of the connector. */
static bool is_silent(const struct pending *p)
{
	struct pollfd look = { .fd = p->socket, .events = POLLIN };

	return sys_poll(&look, 0) == 0;
}

int pending_count_of(const struct bufpipe_listener *l, uid_t uid)
{
	int n = 0;

	for (int i = 0; i < PENDING_MAX; i++)
		n += l->pending[i].socket >= 0 && l->pending[i].uid == uid;
	return n;
}

/*
 * The region of the connector has come, so the connector counts on its pipe.  If we
 * lack descriptors or memory for the pipe now, we may have them later.  So the packet
 * is taken out of the queue only when nothing can fail any more.
 */
static int complete(struct bufpipe_listener *l, struct pending *p, bufpipe_t **pipe)
{
	struct region theirs;
	struct handshake g;
	int fd;
	int r;

	/*
	 * An honest connector has read the offer, which it needs for its region.  Here the offer
	 * would stay in flight, with our descriptor, and nobody would count it any more.
	 */
	if (unread_is_left(p->socket))
		return -EBADMSG;
	r = handshake_look(p->socket, &g, REGION, &fd);
	if (r < 0)
		return r;
	/*
	 * Here, and not only in end_guard: a send that the kernel allowed just before this may
	 * queue its descriptors a moment later.  The map takes longer, so end_guard finds them.
	 */
	packet_forbid_rights(p->socket);
	r = region_attach(&theirs, fd, 0, p->options.flags, &p->expected);
	if (r < 0) {
		stray_close(fd);
		return r;
	}
	if (p->options.flags & (BUFPIPE_PREFAULT | BUFPIPE_LOCKED))
		r = region_prefault(&p->ours);
	if (r == 0)
		r = end_open(pipe, &p->ours, &theirs, p->socket, &p->options);
	if (r < 0) {
		region_drop(&theirs);
		return r;
	}
	packet_take(p->socket);
	end_guard(*pipe);
	epoll_ctl(l->epoll, EPOLL_CTL_DEL, p->socket, NULL);
	end_settle(*pipe);
	*p = (struct pending){ .socket = -1 };
	l->retry = 0;
	l->told = false;
	l->grace = l->grace < GRACE / 2 ? 2 * l->grace : GRACE;
	return 1;
}

/*
 * Drops a connector that was silent for too long.  It may send its region at this
 * very moment, so the connection is shut down first.  If the region came before that,
 * the pipe is completed: both sides get a pipe that has hung up, like any other
 * hang-up.
 */
static int dismiss(struct bufpipe_listener *l, struct pending *p, bufpipe_t **pipe)
{
	shutdown(p->socket, SHUT_RDWR);
	if (p->offered && complete(l, p, pipe) == 1)
		return 1;
	pending_drop(l, p);
	return 0;
}

/* Which of two connectors is dropped first: that of the user with more connectors, or else the older one. */
static bool goes_before(const struct bufpipe_listener *l, const struct pending *a, const struct pending *b)
{
	int of_a = pending_count_of(l, a->uid);
	int of_b = pending_count_of(l, b->uid);

	return of_a != of_b ? of_a > of_b : a->since < b->since;
}

/*
 * For how long this connector keeps its place even if others need it.
 *
 * The backlog has room for thousands of connections of one user, and the kernel keeps
 * their order.  If each silent one had a place for all of GRACE, clients of other users
 * behind them would wait for many seconds.  So while one user has at least half of the
 * places, those of its connectors that have sent no wishes keep theirs for less: for
 * half as long after each one that was dropped, and for twice as long after each
 * handshake that was finished.  An honest client sends its wishes right after it has
 * connected, most often before its connection leaves the backlog.  Users with fewer
 * places, and whoever has got an offer, keep all of GRACE.
 */
static int64_t grace_of(const struct bufpipe_listener *l, const struct pending *p)
{
	return !p->offered && pending_count_of(l, p->uid) >= PENDING_MAX / 2 ? l->grace : GRACE;
}

int pending_evict(struct bufpipe_listener *l, const struct pending *except, bufpipe_t **pipe, bool *evicted)
{
	int64_t now = time_now();
	struct pending *victim = NULL;

	for (int i = 0; i < PENDING_MAX; i++) {
		struct pending *p = &l->pending[i];

		if (is_waiting(p) && p != except && p->since + grace_of(l, p) <= now &&
		    (!victim || goes_before(l, p, victim)) && is_silent(p))
			victim = p;
	}
	*evicted = victim != NULL;
	if (!victim)
		return 0;
	if (!victim->offered && l->grace > GRACE_LEAST)
		l->grace /= 2;
	return dismiss(l, victim, pipe);
}

int pending_schedule_retry(struct bufpipe_listener *l, const struct pending *except, int error)
{
	int64_t now = time_now();
	bool soon = false;

	l->retry = now + RETRY;
	for (int i = 0; i < PENDING_MAX; i++) {
		const struct pending *p = &l->pending[i];
		int64_t end;

		if (!is_waiting(p) || p == except)
			continue;
		soon = true;
		end = p->since + grace_of(l, p);
		l->retry = time_sooner(l->retry, end > now ? end : now + RETRY / 10);
	}
	if (soon || l->told || !error)
		return 0;
	l->told = true;
	return error;
}

/* Makes room for a connector.  If that fails, its packet stays in its queue until there may be room again. */
static int evict_or_stall(struct bufpipe_listener *l, struct pending *p, int error, bufpipe_t **pipe)
{
	bool evicted;
	int r = pending_evict(l, p, pipe, &evicted);

	if (r == 1 || evicted)
		return r;
	epoll_ctl(l->epoll, EPOLL_CTL_DEL, p->socket, NULL);
	p->stalled = true;
	return pending_schedule_retry(l, p, error);
}

void pending_retry(struct bufpipe_listener *l)
{
	struct epoll_event event = { .events = EPOLLIN };

	if (l->retry > time_now())
		return;
	if (l->paused && epoll_ctl(l->epoll, EPOLL_CTL_MOD, l->listening.fd, &event) == 0)
		l->paused = false;
	for (int i = 0; i < PENDING_MAX; i++) {
		struct pending *p = &l->pending[i];

		event.data.ptr = p;
		if (p->socket >= 0 && p->stalled &&
		    epoll_ctl(l->epoll, EPOLL_CTL_ADD, p->socket, &event) == 0)
			p->stalled = false;
	}
	l->retry = time_now() + RETRY;
}

bool pending_answers_soon(const struct bufpipe_listener *l, int64_t now)
{
	for (int i = 0; i < PENDING_MAX; i++) {
		const struct pending *p = &l->pending[i];

		if (p->socket >= 0 && p->offered && now - p->since < SLEEP_BRIEF)
			return true;
	}
	return false;
}

int64_t pending_next(const struct bufpipe_listener *l)
{
	int64_t next = l->paused ? l->retry : TIME_FOREVER;

	if (l->unread.n)
		next = time_sooner(next, l->unread.next);
	for (int i = 0; i < PENDING_MAX; i++) {
		const struct pending *p = &l->pending[i];

		if (p->socket >= 0)
			next = time_sooner(next, p->stalled ? l->retry : p->since + PATIENCE);
	}
	return next;
}

int pending_expire(struct bufpipe_listener *l, bufpipe_t **pipe)
{
	int64_t now = time_now();
	int64_t latest = now - PATIENCE;

	unread_release(&l->unread, now);
	for (int i = 0; i < PENDING_MAX; i++) {
		struct pending *p = &l->pending[i];

		if (is_waiting(p) && p->since <= latest && is_silent(p) && dismiss(l, p, pipe) == 1)
			return 1;
	}
	return 0;
}

/* The bytes of rings that exist for connectors that may never finish. */
static uint64_t memory_waiting(const struct bufpipe_listener *l)
{
	uint64_t sum = 0;

	for (int i = 0; i < PENDING_MAX; i++)
		sum += l->pending[i].memory;
	return sum;
}

static int make_offer(struct pending *p, const struct bufpipe_options *o, unsigned directions)
{
	struct handshake offer = handshake_make(OFFER);
	struct identity id = options_identity(o, directions_identity(directions_mirrored(directions), o));
	struct bufpipe_options lean = *o;
	int shared_fd;
	int r;

	/*
	 * The memory of an unread offer stays until it is read, even if we drop the connector.  So
	 * prefault later.
	 */
	lean.flags &= ~(unsigned)BUFPIPE_PREFAULT;
	lean.flags |= REGION_LOCK_LATER;
	r = end_make_region(&p->ours, &shared_fd, &id, &lean);

	if (r < 0)
		return r;
	offer.flags = directions | (o->flags & BUFPIPE_NO_HANDOVER ? HANDSHAKE_SEALED : 0);
	offer.buffer_size = o->object_size ? 0 : o->buffer_size;
	offer.object_size = o->object_size;
	offer.object_count = o->object_count;
	packet_allow_rights(p->socket);
	r = packet_send(p->socket, &offer, sizeof(offer), &shared_fd, 1, MSG_DONTWAIT);
	close(shared_fd);
	if (r < 0) {
		region_drop(&p->ours);
		return r;
	}
	p->offered = true;
	p->options = *o;
	p->memory = agree_memory(o, directions);
	p->expected = options_identity(o, directions);
	p->since = time_now();
	return 0;
}

/* The wishes of the connector have come. */
static int answer(struct bufpipe_listener *l, struct pending *p, bufpipe_t **pipe)
{
	struct handshake wishes;
	struct bufpipe_options o;
	unsigned directions;
	int r = handshake_look(p->socket, &wishes, WISHES, NULL);

	if (r < 0)
		return r;
	r = agree_on_offer(&l->options, l->size_limit, &wishes, &o, &directions);
	if (r < 0)
		return r;
	if (memory_waiting(l) + agree_memory(&o, directions) > l->memory_limit)
		return evict_or_stall(l, p, 0, pipe);
	r = make_offer(p, &o, directions);
	if (r == 0)
		packet_take(p->socket);
	return r;
}

/*
 * The error that the connector gets.  A shortage here becomes -ENOBUFS, so that it does not look
 * like its own.
 */
static int reason(int error)
{
	switch (error) {
	case -EPROTOTYPE:
	case -EMSGSIZE:
	case -EPROTONOSUPPORT:
	case -EBADMSG:
		return error;
	default:
		return -ENOBUFS;
	}
}

int pending_advance(struct bufpipe_listener *l, struct pending *p, bool gone, bufpipe_t **pipe)
{
	bool offered = p->offered;
	int r;

	/* Nobody would read an offer.  If it has got one, its region may have come before it went. */
	if (gone && !offered)
		r = -EPIPE;
	else
		r = offered ? complete(l, p, pipe) : answer(l, p, pipe);
	if (r >= 0 || r == -EAGAIN)
		return r == 1;
	if (r == -EMFILE || r == -ENFILE || (offered && pending_is_shortage(r)))
		return evict_or_stall(l, p, r, pipe);
	/*
	 * Empty the queue: if a packet were unread at the close, the connector would get an error
	 * in place of the refusal.
	 */
	packet_discard(p->socket);
	if (!offered && r != -EPIPE && r != -ECONNRESET)
		handshake_refuse(p->socket, reason(r));
	pending_drop(l, p);
	return 0;
}
