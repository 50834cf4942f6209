/* SPDX-License-Identifier: MIT */
/*
 * The listening side of the handshake in handshake.h.  It never waits for one
 * connector: all that have not finished are in one epoll, beside the listening
 * socket, and the oldest goes when there are too many.
 */
#include "base/fd.h"
#include "base/thread.h"
#include "connect/address.h"
#include "connect/handshake.h"
#include "connect/packet.h"

#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#define PENDING_MAX 64
#define PATIENCE    (5 * NSEC_PER_SEC)
/* The largest ring that a listener without a wish of its own lets a connector ask for. */
#define SIZE_LIMIT ((uint64_t)1 << 30)

/* A connector whose handshake is under way. */
struct pending {
	int socket;
	int offered; /* we wait for its region; before that for its wishes */
	int64_t expires;
	struct region ours;
	struct identity expected; /* what the connector's region must be */
	struct bufpipe_options options;
};

struct bufpipe_listener {
	struct listening listening;
	int epoll;
	int unsized; /* the user named no size, so only SIZE_LIMIT bounds a wish */
	struct bufpipe_options options;
	char name[256];
	uint32_t process; /* that bound the address */
	struct pending pending[PENDING_MAX];
};

static int agree_on_directions(const struct handshake *wishes, unsigned ours, unsigned *connector_directions)
{
	unsigned theirs = wishes->flags & ~WISH_ANY;

	if (!(wishes->flags & WISH_ANY) && directions_duplex(theirs) != directions_duplex(ours))
		return -EPROTOTYPE;
	if (theirs && ours && theirs != directions_mirrored(ours))
		return -EPROTOTYPE;
	*connector_directions = theirs ? theirs : ours ? directions_mirrored(ours) : LAYOUT_SENDS;
	return 0;
}

static int agree_on_sizes(const struct bufpipe_listener *l, const struct handshake *wishes,
			  struct bufpipe_options *agreed)
{
	uint64_t bytes = wishes->buffer_size;
	uint64_t limit = l->unsized ? SIZE_LIMIT : agreed->buffer_size;

	if (wishes->object_size ? wishes->object_size != agreed->object_size
				: wishes->buffer_size && agreed->object_size)
		return -EPROTOTYPE;
	if (agreed->object_size) {
		limit = l->unsized ? SIZE_LIMIT / agreed->object_size : agreed->object_count;
		bytes = wishes->object_count;
	}
	if (bytes > limit)
		return -EMSGSIZE;
	if (bytes && agreed->object_size)
		agreed->object_count = bytes;
	else if (bytes)
		agreed->buffer_size = bytes;
	return 0;
}

/* What a pipe with this connector will be. */
static int negotiate(const struct bufpipe_listener *l, const struct handshake *wishes,
		     struct bufpipe_options *agreed, unsigned *connector_directions)
{
	int r;

	if (wishes->flags & ~(WISH_ANY | LAYOUT_SENDS | LAYOUT_RECEIVES))
		return -EBADMSG;
	r = agree_on_directions(wishes, directions_wanted(&l->options), connector_directions);
	if (r < 0)
		return r;
	*agreed = l->options;
	return agree_on_sizes(l, wishes, agreed);
}

int bufpipe_listen(bufpipe_listener_t **listener, const char *address, const struct bufpipe_options *options)
{
	struct epoll_event event = { .events = EPOLLIN };
	struct bufpipe_listener *l;
	struct bufpipe_options o;
	int r = options_check(&o, options);

	if (r < 0 || !listener || !address)
		return -EINVAL;
	l = calloc(1, sizeof(*l));
	if (!l)
		return -ENOMEM;
	for (int i = 0; i < PENDING_MAX; i++)
		l->pending[i].socket = -1;
	l->options = o;
	l->options.name = strcpy(l->name, o.name);
	l->unsized = !options || (!options->buffer_size && !options->object_count);
	l->epoll = fd_own(epoll_create1(EPOLL_CLOEXEC));
	if (l->epoll < 0) {
		r = l->epoll;
		goto fail;
	}
	r = address_listen(&l->listening, address);
	if (r < 0)
		goto fail_epoll;
	if (epoll_ctl(l->epoll, EPOLL_CTL_ADD, l->listening.fd, &event) < 0) {
		r = -errno;
		address_give_up(&l->listening);
		goto fail_epoll;
	}
	l->process = thread_process();
	*listener = l;
	return 0;
fail_epoll:
	close(l->epoll);
fail:
	free(l);
	return r;
}

int bufpipe_listener_fd(const bufpipe_listener_t *l)
{
	return l ? l->epoll : -EINVAL;
}

static void drop(struct pending *p)
{
	if (p->socket < 0)
		return;
	close(p->socket);
	if (p->offered)
		region_drop(&p->ours);
	*p = (struct pending){ .socket = -1 };
}

void bufpipe_listener_close(bufpipe_listener_t *l)
{
	if (!l)
		return;
	for (int i = 0; i < PENDING_MAX; i++)
		drop(&l->pending[i]);
	/* A child has the listener as well, but the address is its parent's. */
	if (l->process != thread_process())
		l->listening.path[0] = 0;
	address_unlisten(&l->listening);
	close(l->epoll);
	free(l);
}

/* A free place, if need be that of the oldest. */
static struct pending *make_place(struct bufpipe_listener *l)
{
	struct pending *oldest = &l->pending[0];

	for (int i = 0; i < PENDING_MAX; i++) {
		struct pending *p = &l->pending[i];

		if (p->socket < 0)
			return p;
		if (p->expires < oldest->expires)
			oldest = p;
	}
	drop(oldest);
	return oldest;
}

/* One connection from the backlog; a client that has gone again is no error. */
static int admit(struct bufpipe_listener *l)
{
	struct epoll_event event = { .events = EPOLLIN };
	struct pending *p;
	int fd = fd_own(accept4(l->listening.fd, NULL, NULL, SOCK_CLOEXEC));

	if (fd < 0)
		return fd == -EAGAIN || fd == -ECONNABORTED || fd == -EINTR ? 0 : fd;
	p = make_place(l);
	event.data.ptr = p;
	if (epoll_ctl(l->epoll, EPOLL_CTL_ADD, fd, &event) < 0) {
		int r = -errno;

		close(fd);
		return r;
	}
	p->socket = fd;
	p->expires = time_now() + PATIENCE;
	return 0;
}

static int make_offer(const struct bufpipe_listener *l, struct pending *p, const struct handshake *wishes)
{
	struct handshake offer = handshake_make(OFFER);
	struct identity id;
	unsigned directions;
	int shared_fd;
	int r = negotiate(l, wishes, &p->options, &directions);

	if (r < 0)
		return r;
	id = options_identity(&p->options, directions_identity(directions_mirrored(directions), &p->options));
	r = region_create(&p->ours, &shared_fd, &id, p->options.name, p->options.flags);
	if (r < 0)
		return r;
	p->offered = 1;
	p->expected = options_identity(&p->options, directions);
	offer.flags = directions;
	offer.buffer_size = p->options.object_size ? 0 : p->options.buffer_size;
	offer.object_size = p->options.object_size;
	offer.object_count = p->options.object_count;
	r = packet_send(p->socket, &offer, sizeof(offer), &shared_fd, 1, MSG_DONTWAIT);
	close(shared_fd);
	return r;
}

static void refuse(const struct pending *p, int error)
{
	struct handshake refusal = handshake_make(REFUSAL);

	refusal.error = error;
	packet_send(p->socket, &refusal, sizeof(refusal), NULL, 0, MSG_DONTWAIT);
}

/* The connector's region has come: the pipe is complete. */
static int complete(struct bufpipe_listener *l, struct pending *p, bufpipe_t **pipe)
{
	struct region theirs;
	struct handshake g;
	int fd;
	int r = handshake_receive(p->socket, &g, REGION, &fd);

	if (r < 0)
		return r;
	r = region_attach(&theirs, fd, 0, p->options.flags, &p->expected);
	if (r < 0) {
		close(fd);
		return r;
	}
	if (epoll_ctl(l->epoll, EPOLL_CTL_DEL, p->socket, NULL) < 0)
		r = -errno;
	else
		r = end_open(pipe, &p->ours, &theirs, p->socket, &p->options);
	if (r < 0) {
		region_drop(&theirs);
		return r;
	}
	end_settle(*pipe);
	*p = (struct pending){ .socket = -1 };
	return 1;
}

/* Something came from a connector, or it hung up.  1 when a pipe is complete; what it does wrong ends only itself. */
static int advance(struct bufpipe_listener *l, struct pending *p, bufpipe_t **pipe)
{
	struct handshake wishes;
	int r;

	if (p->offered) {
		r = complete(l, p, pipe);
	} else {
		r = handshake_receive(p->socket, &wishes, WISHES, NULL);
		if (r == 0)
			r = make_offer(l, p, &wishes);
		if (r < 0 && r != -EAGAIN && r != -EPIPE)
			refuse(p, r);
	}
	if (r < 0 && r != -EAGAIN)
		drop(p);
	return r > 0;
}

/* Drops who said nothing for too long; when the next one will have. */
static int64_t expire(struct bufpipe_listener *l)
{
	int64_t now = time_now();
	int64_t next = TIME_FOREVER;

	for (int i = 0; i < PENDING_MAX; i++) {
		struct pending *p = &l->pending[i];

		if (p->socket < 0)
			continue;
		if (p->expires <= now)
			drop(p);
		else
			next = time_sooner(next, p->expires);
	}
	return next;
}

static int epoll_timeout(int64_t until)
{
	int64_t now = time_now();

	if (until == TIME_FOREVER)
		return -1;
	if (until <= now)
		return 0;
	until = (until - now + 999999) / 1000000;
	return until > 1000000 ? 1000000 : (int)until;
}

/* Handles one event, or none in time.  1 when a pipe is complete, 0 to go on. */
static int serve(struct bufpipe_listener *l, bufpipe_t **pipe, int64_t deadline)
{
	struct epoll_event event;
	int64_t next = expire(l);
	int n = epoll_wait(l->epoll, &event, 1, epoll_timeout(time_sooner(next, deadline)));

	if (n < 0)
		return errno == EINTR && !(l->options.flags & BUFPIPE_INTERRUPTIBLE) ? 0 : -errno;
	if (n > 0)
		return event.data.ptr ? advance(l, event.data.ptr, pipe) : admit(l);
	if (deadline == TIME_TRY)
		return -EAGAIN;
	return time_now() >= deadline ? -ETIMEDOUT : 0;
}

int bufpipe_accept(bufpipe_listener_t *l, bufpipe_t **pipe, int64_t timeout_ns)
{
	int64_t deadline = time_deadline(timeout_ns);
	int r;

	if (!l || !pipe || !timeout_valid(timeout_ns))
		return -EINVAL;
	/* Strangers may knock without end: a try deals with a few, the others look at the clock. */
	for (int rounds = 0; (r = serve(l, pipe, deadline)) == 0; rounds++) {
		if (deadline == TIME_TRY && rounds == 4 * PENDING_MAX)
			return -EAGAIN;
		if (deadline != TIME_TRY && time_now() >= deadline)
			return -ETIMEDOUT;
	}
	return r < 0 ? r : 0;
}
