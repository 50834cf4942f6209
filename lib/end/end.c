/* SPDX-License-Identifier: MIT */
#include "end/end.h"

#include "base/fd.h"
#include "base/packet.h"
#include "base/probe.h"
#include "end/options.h"

#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

/*
 * How long to sleep on the futex before the socket.  Room comes soon in an honest pipe; data may
 * take long.
 */
#define DATA_PATIENCE 100000000
#define ROOM_PATIENCE 8000000
/* Larger than most second-level caches.  In smaller rings longer pauses gain nothing and cost up to 4 %. */
#define LARGE_RING (2 << 20)

/* Whether one end receives exactly where the other sends. */
static bool regions_fit(const struct identity *ours, const struct identity *theirs)
{
	bool out = ours->flags & LAYOUT_SENDS;
	bool in = ours->flags & LAYOUT_RECEIVES;

	return out == !!(theirs->flags & LAYOUT_RECEIVES) && in == !!(theirs->flags & LAYOUT_SENDS);
}

static void direction_init(struct direction *direction, const struct identity *ring, struct lock *lock,
			   unsigned state)
{
	direction->state = state;
	direction->shortest = ring->object_size;
	direction->span = ring->buffer_size - ring->object_size;
	direction->lock = lock;
	wait_init(&direction->wait);
}

static void init_out(struct bufpipe *p)
{
	struct control *ours = p->ours.control;

	if (!(p->ours.identity.flags & LAYOUT_SENDS)) {
		p->out.state = DIRECTION_NONE;
		return;
	}
	p->sender = (struct sender){
		.data = p->ours.data,
		.mask = p->ours.identity.data_size - 1,
		.limit = p->ours.identity.limit,
		.own = &ours->tail,
		.waiter = &ours->send_waiter,
		.meter = &ours->send_meter,
		.head = &p->theirs.control->head,
	};
	p->out.wait = (struct wait){
		.theirs = &p->theirs.control->recv_waiter,
		.ours = &ours->send_waiter,
		.meter = &ours->send_meter,
		.notify = &ours->tail.notify,
		.seen = &p->theirs.control->recv_notify,
		.patience = ROOM_PATIENCE,
		.sends = true,
		/*
		 * In a duplex end, bytes in the socket are about data only: room must not make
		 * bufpipe_fd readable.
		 */
		.silent = p->ours.identity.flags & LAYOUT_RECEIVES,
	};
	p->out.quick_lock = &ours->tail.quick_lock;
	direction_init(&p->out, &p->ours.identity, &ours->send_lock,
		       p->ours.identity.flags & LAYOUT_SHARED ? DIRECTION_SHARED : 0);
}

static void init_in(struct bufpipe *p)
{
	struct control *ours = p->ours.control;

	if (!(p->ours.identity.flags & LAYOUT_RECEIVES)) {
		p->in.state = DIRECTION_NONE;
		return;
	}
	p->receiver = (struct receiver){
		.data = p->theirs.data,
		.mask = p->theirs.identity.data_size - 1,
		.limit = p->theirs.identity.limit,
		.head = &ours->head,
	};
	p->in.wait = (struct wait){
		.theirs = &p->theirs.control->send_waiter,
		.ours = &ours->recv_waiter,
		.meter = &ours->recv_meter,
		.notify = &ours->recv_notify,
		.seen = &p->theirs.control->tail.notify,
		.patience = DATA_PATIENCE,
		.may_linger = p->theirs.identity.data_size >= LARGE_RING,
	};
	p->in.held = &p->receiver;
	direction_init(&p->in, &p->theirs.identity, &ours->recv_lock,
		       p->ours.identity.flags & LAYOUT_SHARED ? DIRECTION_SHARED : 0);
}

int end_open(bufpipe_t **pipe, const struct region *ours, const struct region *theirs, int socket,
	     const struct bufpipe_options *options)
{
	struct bufpipe *p;

	if (!regions_fit(&ours->identity, &theirs->identity))
		return -EBADMSG;
	p = aligned_alloc(_Alignof(struct bufpipe), sizeof(*p));
	if (!p)
		return -ENOMEM;
	memset(p, 0, sizeof(*p));
	p->ours = *ours;
	p->theirs = *theirs;
	p->socket = socket;
	p->guarded = packet_forbids_rights(socket);
	p->flags = options->flags;
	p->lead_lock = &ours->control->lead_lock;
	p->lead_habit.owner = &ours->control->lead_owner;
	/* For tools: two regions with each other's inode are one pipe. */
	atomic_store_explicit(&ours->control->about.peer, theirs->inode, memory_order_relaxed);
	init_out(p);
	init_in(p);
	p->out.habit.owner = &ours->control->send_owner;
	p->in.habit.owner = &ours->control->recv_owner;
	for (struct wait *w = &p->out.wait; w; w = w == &p->out.wait ? &p->in.wait : NULL) {
		w->socket = socket;
		w->sleepers = theirs->identity.flags & LAYOUT_SHARED ? FUTEX_MANY : FUTEX_FEW;
		w->doorbell_lock = &ours->control->doorbell_lock;
		w->sole = !(ours->identity.flags & LAYOUT_SHARED);
		w->many_there = theirs->identity.flags & LAYOUT_SHARED;
		w->interruptible = options->flags & BUFPIPE_INTERRUPTIBLE;
		w->spin_ns = options->spin_ns;
	}
	*pipe = p;
	return 0;
}

void end_guard(bufpipe_t *p)
{
	packet_forbid_rights(p->socket);
	p->guarded = packet_clear(p->socket) == 0 && packet_forbids_rights(p->socket);
}

void end_settle(bufpipe_t *p)
{
	if (!(p->flags & BUFPIPE_NO_HANDOVER))
		return;
	region_settle(&p->ours);
	region_settle(&p->theirs);
}

static int init_locks(struct control *control)
{
	int r = lock_init(&control->send_lock);

	if (!r)
		r = lock_init(&control->recv_lock);
	if (!r)
		r = lock_init(&control->lead_lock);
	if (!r)
		r = lock_init(&control->doorbell_lock);
	return r;
}

int end_make_region(struct region *region, int *shared_fd, const struct identity *identity,
		    const struct bufpipe_options *options)
{
	int r = region_create(region, shared_fd, identity, options->name, options->flags);

	if (r < 0)
		return r;
	r = init_locks(region->control);
	if (r < 0) {
		sys_close(*shared_fd);
		region_drop(region);
	}
	return r;
}

/* The parts of an end before end_open: shared_fd goes to the other end, the rest stays here. */
struct half {
	struct region ours;
	struct region theirs;
	int shared_fd;
	int socket;
};

static void half_drop(struct half *half)
{
	region_drop(&half->ours);
	region_drop(&half->theirs);
	if (half->shared_fd >= 0)
		sys_close(half->shared_fd);
	if (half->socket >= 0)
		sys_close(half->socket);
}

static int halves_join(struct half halves[2], const struct bufpipe_options *o)
{
	int r;

	for (int i = 0; i < 2; i++) {
		unsigned flags = (unsigned)(o->flags & BUFPIPE_SHARED ? LAYOUT_SHARED : 0);
		struct identity id;

		if (i == 0 || o->flags & BUFPIPE_DUPLEX)
			flags |= LAYOUT_RECEIVES;
		if (i == 1 || o->flags & BUFPIPE_DUPLEX)
			flags |= LAYOUT_SENDS;
		id = options_identity(o, flags);
		r = end_make_region(&halves[i].ours, &halves[i].shared_fd, &id, o);
		if (r < 0)
			return r;
	}
	for (int i = 0; i < 2; i++) {
		r = region_attach(&halves[i].theirs, halves[!i].shared_fd, 0, o->flags, NULL);
		if (r < 0)
			return r;
		halves[!i].shared_fd = -1;
	}
	return 0;
}

int bufpipe_create(bufpipe_t *ends[2], const struct bufpipe_options *options)
{
	struct half halves[2] = { { REGION_NONE, REGION_NONE, -1, -1 },
				  { REGION_NONE, REGION_NONE, -1, -1 } };
	struct bufpipe_options o;
	bufpipe_t *made[2] = { NULL, NULL };
	int sockets[2];
	int r = 0;

	if (!ends || options_check(&o, options) < 0 || o.flags & MEETING_FLAGS)
		return -EINVAL;
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sockets) < 0)
		return -errno;
	for (int i = 0; i < 2; i++) {
		halves[i].socket = fd_own(sockets[i]);
		if (halves[i].socket < 0)
			r = halves[i].socket;
		else
			packet_forbid_rights(halves[i].socket);
	}
	if (r == 0)
		r = halves_join(halves, &o);
	for (int i = 0; r == 0 && i < 2; i++)
		r = end_open(&made[i], &halves[i].ours, &halves[i].theirs, halves[i].socket, &o);
	if (r < 0) {
		free(made[0]);
		half_drop(&halves[0]);
		half_drop(&halves[1]);
		return r;
	}
	for (int i = 0; i < 2; i++) {
		end_settle(made[i]);
		ends[i] = made[i];
	}
	return 0;
}

void bufpipe_close(bufpipe_t *pipe)
{
	if (!pipe)
		return;
	PROBE(close, pipe->socket);
	if (pipe->leave_set)
		pipe->leave_set(pipe);
	/*
	 * Other holders may continue, and the receiver must learn that the rest of our message
	 * will not come.
	 */
	(void)bufpipe_cancel(pipe);
	if (direction_is_open(&pipe->in))
		direction_close(&pipe->in);
	/*
	 * Close the socket first: a peer that learns that we have left must find the hang-up, if
	 * we were the last.
	 */
	if (pipe->guarded)
		sys_close(pipe->socket);
	else
		packet_close(pipe->socket);
	if (!(pipe->out.state & DIRECTION_NONE))
		wait_leave(&pipe->out.wait);
	if (!(pipe->in.state & DIRECTION_NONE))
		wait_leave(&pipe->in.wait);
	region_drop(&pipe->theirs);
	region_drop(&pipe->ours);
	if (pipe->drop_poll_fds)
		pipe->drop_poll_fds(pipe);
	free(pipe->partial.data);
	free(pipe);
}

unsigned bufpipe_version(void)
{
	return BUFPIPE_VERSION;
}

/* Relaxed: each position is from some moment during the call, and no other memory depends on it. */
static uint64_t bytes_used(const bufpipe_t *pipe)
{
	bool sends = !(pipe->out.state & DIRECTION_NONE);
	uint64_t limit = sends ? pipe->sender.limit : pipe->receiver.limit;
	/* The other end writes one of the two positions, and may write anything into it. */
	uint64_t head = sends ? atomic_load_explicit(pipe->sender.head, memory_order_relaxed) & ~HEAD_HELD
			      : receiver_head(&pipe->receiver);
	uint64_t tail = sends ? sender_tail(&pipe->sender)
			      : atomic_load_explicit(&pipe->theirs.control->tail.tail, memory_order_relaxed);
	uint64_t used = tail - head;

	/* The positions are from different moments, so the head may be ahead of the tail. */
	return (int64_t)used < 0 ? 0 : used > limit ? limit : used;
}

int bufpipe_get_info(const bufpipe_t *pipe, struct bufpipe_info *info)
{
	const struct identity *ring;
	struct ucred cred = { 0 };
	socklen_t len = sizeof(cred);

	if (!pipe || !info)
		return -EINVAL;
	ring = pipe->out.state & DIRECTION_NONE ? &pipe->theirs.identity : &pipe->ours.identity;
	if (getsockopt(pipe->socket, SOL_SOCKET, SO_PEERCRED, &cred, &len) < 0)
		return -errno;
	*info = (struct bufpipe_info){
		.buffer_size = ring->object_size ? 0 : ring->buffer_size,
		.object_size = ring->object_size,
		.object_count = ring->object_size ? ring->limit / record_size(ring->object_size) : 0,
		.flags = pipe->flags,
		.can_send = !(pipe->out.state & DIRECTION_NONE),
		.can_recv = !(pipe->in.state & DIRECTION_NONE),
		.pid = cred.pid,
		.uid = cred.uid,
		.gid = cred.gid,
		.used = bytes_used(pipe),
	};
	memcpy(info->name, pipe->ours.control->about.name, sizeof(info->name) - 1);
	return 0;
}
