/* SPDX-License-Identifier: MIT */
/*
 * Core NATS: a frame is published and forgotten.  Receiving bridges confirm to the
 * reply subject what they have delivered, and the slowest one that is alive limits
 * what is in transit.  So a slow receiver slows the sender down, and loses nothing.
 * If something is lost all the same, the receiver notices it by the numbers.
 *
 * A confirmation is the text "NAME NEXT BYTES MESSAGES ENDS MEMBER": the name of a
 * bridge or of a queue of bridges, the number of the message that it expects next,
 * how much it has delivered since its last confirmation, and how many streams have
 * ended for it.  For a single bridge NEXT counts, which skips what was lost.  In a
 * queue the numbers mean little, and BYTES count.  MEMBER is the name of the bridge
 * itself, because the stream of each member's program must end; each probe reaches a
 * random member.  "NAME bye" says that no more confirmations will come.
 *
 * A probe tells receivers the next number and the count of ends if nothing else does:
 * after a new connection, while no receiver is known, and if confirmations do not
 * come.  Everything that was published before it on this connection arrives before
 * it, or never.  While a program is connected, a probe every few seconds shows
 * receivers that the sender is alive.
 */
#include "out.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MS        1000000LL
#define PEERS     64u
#define SENT      1024u
#define FORGET_NS (5000 * MS)
#define PROBE_NS  (200 * MS)
#define ALIVE_NS  (5000 * MS)
/* Written to the socket together, as each write costs some microseconds. */
#define FLUSH       ((size_t)64 << 10)
#define NAME_LEN    80u
#define QUEUE_MARK  'q'
#define MEMBER_MARK 'm'

struct out_peer {
	char name[NAME_LEN];
	bool queue;
	bool member; /* of a queue: only the ends of streams are its own */
	int64_t heard_ns;
	int64_t moved_ns; /* when it last confirmed anything */
	uint64_t confirmed_bytes;
	uint64_t confirmed_messages;
	uint64_t frame; /* a bridge alone: the oldest frame that it has not confirmed */
	uint64_t next;  /* and the number that it expects next */
	uint64_t ends;
};

struct out_sent {
	uint64_t end;   /* the number after its last message */
	uint64_t bytes; /* all that was sent before it */
};

static bool init(struct out *out)
{
	out->room = malloc(OUT_FRAME);
	out->peers = calloc(PEERS, sizeof(*out->peers));
	out->sent_frames = calloc(SENT, sizeof(*out->sent_frames));
	return out->room && out->peers && out->sent_frames;
}

static bool is_heard(const struct out_peer *peer, int64_t now)
{
	return peer->name[0] && now - peer->heard_ns < FORGET_NS;
}

/* Bytes on the way to a receiver. */
static uint64_t on_the_way(const struct out *out, const struct out_peer *peer)
{
	if (peer->member)
		return 0;
	if (peer->queue)
		return out->sent_bytes - peer->confirmed_bytes;
	if (peer->frame >= out->sent_count)
		return 0;
	return out->sent_bytes - out->sent_frames[peer->frame % SENT].bytes;
}

static bool has_room(const struct out *out)
{
	bool any = out->line->nats.no_hold;
	int64_t now = now_ns();

	for (unsigned i = 0; i < PEERS; i++) {
		const struct out_peer *peer = &out->peers[i];

		if (!is_heard(peer, now))
			continue;
		any = true;
		if (on_the_way(out, peer) >= OUT_WINDOW)
			return false;
		if (!peer->queue && !peer->member && out->sent_count - peer->frame >= SENT - 1)
			return false;
	}
	return any;
}

static char *begin(struct out *out)
{
	return out->room;
}

static void publish(struct out *out, const char *frame, size_t len, uint64_t messages)
{
	struct out_sent *sent = &out->sent_frames[out->sent_count % SENT];
	char reply[sizeof(out->inbox) + 4];
	natsStatus status;

	snprintf(reply, sizeof(reply), "%s.c", out->inbox);
	status = natsConnection_PublishRequest(out->link.nc, out->line->out_subject, reply, frame, (int)len);
	if (status != NATS_OK)
		out_report(out, status, "publishing");
	sent->end = out->state->out.taken;
	sent->bytes = out->sent_bytes;
	out->sent_count++;
	out->sent_bytes += len;
	out->sent_messages += messages;
}

static void seal(struct out *out)
{
	publish(out, out->frame, out->used, out->header.count);
}

static bool send_long(struct out *out, int64_t now)
{
	struct out_long *whole = &out->whole;
	size_t len;

	(void)now;
	while (whole->next < whole->chunks && link_pending(&out->link) < OUT_PENDING && has_room(out)) {
		len = out_fill_chunk(out, whole->next++);
		publish(out, out->chunk, len, whole->next == whole->chunks);
		/* The frame ends where the message does. */
		if (whole->next == whole->chunks)
			out->sent_frames[(out->sent_count - 1) % SENT].end++;
		if (link_pending(&out->link) >= FLUSH)
			link_flush(&out->link);
	}
	return whole->next == whole->chunks;
}

/* Publishes a frame without messages. */
static void tell(struct out *out, enum frame_kind kind)
{
	const struct state_out *state = &out->state->out;
	struct frame header = { .kind = kind, .first = state->taken, .ends = (uint32_t)state->ends };
	char frame[FRAME_HEADER];
	char reply[sizeof(out->inbox) + 4];

	/* While a long message is on the way, its number is the next. */
	memcpy(header.session, out->state->out.session, FRAME_SESSION);
	frame_finish(frame, &header);
	snprintf(reply, sizeof(reply), "%s.c", out->inbox);
	natsConnection_PublishRequest(out->link.nc, out->line->out_subject, reply, frame, sizeof(frame));
}

static void probe(struct out *out, int64_t now)
{
	tell(out, FRAME_PROBE);
	out->probed_ns = now;
}

static void leave(struct out *out)
{
	tell(out, FRAME_LEAVE);
}

static struct out_peer *find_peer(struct out *out, const char *name, int64_t now)
{
	struct out_peer *oldest = &out->peers[0];
	struct out_peer *peer;

	for (peer = out->peers; peer < out->peers + PEERS; peer++) {
		if (strcmp(peer->name, name) == 0)
			break;
		if (peer->heard_ns < oldest->heard_ns)
			oldest = peer;
	}
	if (peer == out->peers + PEERS)
		peer = oldest;
	else if (is_heard(peer, now))
		return peer;
	/* What was sent before it came, or while it was silent, is not expected of it. */
	*peer = (struct out_peer){
		.queue = name[0] == QUEUE_MARK,
		.member = name[0] == MEMBER_MARK,
		.heard_ns = now,
		.moved_ns = now,
		.confirmed_bytes = out->sent_bytes,
		.confirmed_messages = out->sent_messages,
		.frame = out->sent_count,
		.next = out->state->out.taken,
	};
	snprintf(peer->name, sizeof(peer->name), "%s", name);
	return peer;
}

/*
 * A bridge alone is gone, or cannot be reached.  If it comes back, it counts what
 * it has missed; if it does not, nobody else can tell that.
 */
static void give_up_peer(struct out *out, struct out_peer *peer)
{
	uint64_t taken = out->state->out.taken;

	if (peer->next < taken) {
		complain_ratelimited(&out->ratelimit, out->line,
				     "a receiving bridge left, or fell silent: it has not confirmed "
				     "the last %lu messages",
				     taken - peer->next);
		out->state->counts.doubts += taken - peer->next;
	} else if (peer->ends < out->state->out.ends) {
		complain_ratelimited(
			&out->ratelimit, out->line,
			"a receiving bridge left, or fell silent: it has not confirmed the end of the "
			"stream");
	}
	peer->name[0] = 0;
}

/* A bridge whose program is away, or that ends; other members of its queue are heard again soon. */
static void forget_peer(struct out *out, const char *name)
{
	for (unsigned i = 0; i < PEERS; i++) {
		struct out_peer *peer = &out->peers[i];

		if (strcmp(peer->name, name) != 0)
			continue;
		if (peer->queue)
			peer->heard_ns -= FORGET_NS;
		else if (peer->member)
			peer->name[0] = 0;
		else
			give_up_peer(out, peer);
	}
}

/* While our own connection is broken, nobody can be heard. */
static bool is_silent(const struct out *out, const struct out_peer *peer, int64_t now)
{
	return !peer->queue && !peer->member && peer->name[0] && now - peer->heard_ns >= FORGET_NS &&
	       now - out->up_ns >= FORGET_NS;
}

static void read_confirmation(struct out *out, const char *text, int64_t now)
{
	unsigned long next, bytes, messages, ends;
	char name[NAME_LEN], member[NAME_LEN];
	struct out_peer *peer;

	if (sscanf(text, "%79s %lu %lu %lu %lu %79s", name, &next, &bytes, &messages, &ends, member) != 6) {
		if (sscanf(text, "%79s bye", name) == 1)
			forget_peer(out, name);
		return;
	}
	peer = find_peer(out, name, now);
	peer->heard_ns = now;
	if (next > peer->next)
		peer->next = next;
	if (bytes)
		peer->moved_ns = now;
	peer->confirmed_bytes += bytes;
	if (peer->confirmed_bytes > out->sent_bytes)
		peer->confirmed_bytes = out->sent_bytes;
	peer->confirmed_messages += messages;
	while (peer->frame < out->sent_count && out->sent_frames[peer->frame % SENT].end <= next) {
		peer->frame++;
		peer->moved_ns = now;
	}
	if (strcmp(member, name) != 0)
		peer = find_peer(out, member, now);
	peer->heard_ns = now;
	if (ends > peer->ends)
		peer->ends = ends;
}

/* What a member of a queue had when it died is never confirmed, so the others must not wait for that. */
static void write_off(struct out *out, struct out_peer *peer, int64_t now)
{
	uint64_t missing = out->sent_messages - peer->confirmed_messages;

	if (!peer->queue || on_the_way(out, peer) == 0 || now - peer->moved_ns < FORGET_NS)
		return;
	if (peer->confirmed_messages < out->sent_messages) {
		complain_ratelimited(&out->ratelimit, out->line, "queue %s has not confirmed %lu messages",
				     peer->name + 1, missing);
		out->state->counts.lost += missing;
	}
	peer->confirmed_bytes = out->sent_bytes;
	peer->confirmed_messages = out->sent_messages;
	peer->moved_ns = now;
}

static bool all_confirmed(const struct out *out, int64_t now, bool *any)
{
	*any = false;
	for (unsigned i = 0; i < PEERS; i++) {
		const struct out_peer *peer = &out->peers[i];

		if (!is_heard(peer, now))
			continue;
		*any = true;
		if (on_the_way(out, peer) > 0 || (!peer->queue && peer->ends < out->state->out.ends))
			return false;
	}
	return true;
}

/* Notes what nobody need confirm any more: all receivers have confirmed it, or none has answered for long. */
static void settle(struct out *out, int64_t now)
{
	struct state_out *state = &out->state->out;
	bool any;

	if (!all_confirmed(out, now, &any) || (!any && now - out->up_ns < FORGET_NS))
		return;
	state->settled_taken = state->taken;
	state->settled_ends = state->ends;
}

static void tick(struct out *out, int64_t now)
{
	natsMsg *msg;
	bool any;

	while (out->answers && natsSubscription_NextMsg(&msg, out->answers, 0) == NATS_OK) {
		/* libnats keeps a zero behind the data. */
		if (natsMsg_GetDataLength(msg) > 0)
			read_confirmation(out, natsMsg_GetData(msg), now);
		natsMsg_Destroy(msg);
	}
	for (unsigned i = 0; i < PEERS; i++) {
		if (is_heard(&out->peers[i], now))
			write_off(out, &out->peers[i], now);
		else if (is_silent(out, &out->peers[i], now))
			give_up_peer(out, &out->peers[i]);
	}
	settle(out, now);
	if (now < out->probe_ns)
		return;
	if (!all_confirmed(out, now, &any) || !any || (out->port->pipe && now - out->probed_ns >= ALIVE_NS))
		probe(out, now);
	out->probe_ns = now + PROBE_NS;
	worker_at(out->port->worker, out->probe_ns);
}

static void came_up(struct out *out, int64_t now)
{
	out->up_ns = now;
	/* A long message begins anew, as its first chunks may have been lost. */
	out->whole.next = 0;
	probe(out, now);
	out->probe_ns = now + PROBE_NS;
}

/* Also while the connection is broken: what was published before may have to be told again. */
static bool is_idle(const struct out *out)
{
	const struct state_out *state = &out->state->out;
	bool any;

	if (!all_confirmed(out, now_ns(), &any))
		return false;
	return out->line->nats.no_hold ||
	       (state->settled_taken == state->taken && state->settled_ends == state->ends);
}

const struct out_mode out_by_core = {
	.chunk = OUT_BATCH,
	.init = init,
	.has_room = has_room,
	.begin = begin,
	.seal = seal,
	.send_long = send_long,
	.tick = tick,
	.came_up = came_up,
	.is_idle = is_idle,
	.leave = leave,
};
