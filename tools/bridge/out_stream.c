/* SPDX-License-Identifier: MIT */
/*
 * JetStream: a frame stays in the journal until the stream has acknowledged it.
 * So a message that has left the pipe is in the journal or in the stream, even if
 * processes die.
 *
 * The message id of a frame is made of the session and the number of its first
 * message.  Both are in the state, and a sealed frame never changes.  So the id is
 * the same when the frame is published again after a crash, and the server drops
 * the duplicate, within its time window.  After that the receiving bridge drops it,
 * by the numbers.
 *
 * Several frames are in transit.  Each but the first names its predecessor as the
 * last message that it expects in the stream.  So if a frame is refused, all behind
 * it are refused too, and the order is kept.  Then all are published again, from the
 * oldest on.  This works only if nobody else publishes into the stream at the same
 * time.  Otherwise (contended) one frame at a time is in transit.
 */
#include "out.h"

#include <endian.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MS 1000000LL
/* After this time without any answer, everything is published again. */
#define ANSWER_NS (5000 * MS)
/* After a refusal, such as of a full disk. */
#define PAUSE_NS   (500 * MS)
#define ID_LEN     (2 * FRAME_SESSION + 48)
#define ANSWER_LEN 400

/* The error of the server if the last message of the stream is not the one that we expect. */
#define WRONG_LAST_ID "10070"

static struct state_slot *slot_at(const struct out *out, uint64_t n)
{
	return &out->state->slots[n % STATE_SLOTS];
}

/*
 * Seals a frame that was growing when its worker was killed.  Its messages are found
 * by their lengths; the end of a stream has none.
 */
static void resume(struct out *out)
{
	struct state_out *state = &out->state->out;
	const struct state_slot *slot = slot_at(out, state->sealed);
	bool ends = state->marks[(state->taken + 1) % 2].position == STATE_MARK_END;
	uint32_t length;

	if (state->begun == state->sealed)
		return;
	if (slot->first >= state->taken) {
		STATE_SET(state->begun, state->sealed);
		return;
	}
	out->frame = out->state->journal + slot->offset;
	out->header = (struct frame){
		.kind = ends ? FRAME_END : FRAME_BATCH,
		.first = slot->first,
		.count = (uint32_t)(state->taken - slot->first),
	};
	memcpy(out->header.session, state->session, FRAME_SESSION);
	out->used = frame_body(out->header.kind);
	for (uint32_t n = 0; !ends && n < out->header.count; n++) {
		memcpy(&length, out->frame + out->used, sizeof(length));
		out->used += FRAME_LENGTH + le32toh(length);
	}
	out_seal(out);
}

static bool init(struct out *out)
{
	out->next = out->state->out.acked;
	out->furthest = out->next;
	resume(out);
	return true;
}

/* Where the journal has room for the next frame: contiguous, and behind everything that is kept. */
static bool find_space(const struct out *out, uint64_t *offset)
{
	const struct state_out *state = &out->state->out;
	const struct state_slot *oldest = slot_at(out, state->acked);
	const struct state_slot *newest;
	uint64_t end;

	if (state->acked == state->sealed) {
		*offset = 0;
		return true;
	}
	newest = slot_at(out, state->sealed - 1);
	end = newest->offset + newest->len;
	if (newest->offset >= oldest->offset) {
		if (STATE_JOURNAL - end >= OUT_FRAME) {
			*offset = end;
			return true;
		}
		*offset = 0;
		return oldest->offset > OUT_FRAME;
	}
	*offset = end;
	return oldest->offset - end > OUT_FRAME;
}

static bool has_room(const struct out *out)
{
	const struct state_out *state = &out->state->out;
	uint64_t offset;

	return out->settled &&
	       (out->frame || (state->sealed - state->acked < STATE_SLOTS - 1 && find_space(out, &offset)));
}

static char *begin(struct out *out)
{
	struct state_out *state = &out->state->out;
	struct state_slot *slot = slot_at(out, state->sealed);
	uint64_t offset;

	if (!has_room(out) || !find_space(out, &offset))
		return NULL;
	slot->offset = offset;
	slot->len = 0;
	slot->first = state->taken;
	slot->kind = FRAME_BATCH;
	STATE_SET(state->begun, state->sealed + 1);
	return out->state->journal + offset;
}

static void id_of(const struct out *out, char *id, uint64_t first, uint32_t chunk)
{
	size_t at = 0;

	for (unsigned i = 0; i < FRAME_SESSION; i++)
		at += (size_t)snprintf(id + at, ID_LEN - at, "%02x", out->state->out.session[i]);
	at += (size_t)snprintf(id + at, ID_LEN - at, ".%lu", first);
	if (chunk != UINT32_MAX)
		snprintf(id + at, ID_LEN - at, ".%u", chunk);
}

/* number comes back in the answer, and tells to which frame it belongs. */
static bool publish(struct out *out, const char *data, size_t len, uint64_t number, const char *id,
		    const char *previous)
{
	char reply[ANSWER_LEN];
	natsMsg *msg = NULL;
	natsStatus status;

	snprintf(reply, sizeof(reply), "%s.%lu.%lu", out->inbox, out->attempt, number);
	status = natsMsg_Create(&msg, out->line->out_subject, reply, data, (int)len);
	if (status == NATS_OK)
		status = natsMsgHeader_Set(msg, "Nats-Msg-Id", id);
	if (status == NATS_OK)
		status = natsMsgHeader_Set(msg, "Nats-Expected-Stream", out->line->nats.stream);
	if (status == NATS_OK && previous && !out->contended)
		status = natsMsgHeader_Set(msg, "Nats-Expected-Last-Msg-Id", previous);
	if (status == NATS_OK)
		status = natsConnection_PublishMsg(out->link.nc, msg);
	natsMsg_Destroy(msg);
	if (status != NATS_OK)
		out_report(out, status, "publishing");
	return status == NATS_OK;
}

/* How many frames may be on the way. */
static uint64_t width(const struct out *out)
{
	return out->contended ? 1 : STATE_SLOTS;
}

static void publish_slots(struct out *out, int64_t now)
{
	const struct state_out *state = &out->state->out;
	char id[ID_LEN], previous[ID_LEN];

	if (now < out->retry_ns || out->link.state != LINK_UP || !out->settled)
		return;
	while (out->next < state->sealed && out->next - state->acked < width(out) &&
	       link_pending(&out->link) < OUT_PENDING) {
		const struct state_slot *slot = slot_at(out, out->next);

		if (out->next == state->acked)
			out->progress_ns = now;
		id_of(out, id, slot->first, UINT32_MAX);
		if (out->next > state->acked)
			id_of(out, previous, slot_at(out, out->next - 1)->first, UINT32_MAX);
		if (!publish(out, out->state->journal + slot->offset, slot->len, out->next, id,
			     out->next > state->acked ? previous : NULL))
			return;
		if (out->next < out->furthest)
			out->state->counts.retries++;
		out->next++;
		if (out->next > out->furthest)
			out->furthest = out->next;
	}
}

static void seal(struct out *out)
{
	struct state_out *state = &out->state->out;
	struct state_slot *slot = slot_at(out, state->sealed);

	slot->kind = out->header.kind;
	slot->count = out->header.count;
	STATE_SET(slot->len, out->used);
	STATE_SET(state->sealed, state->sealed + 1);
	if (out->link.state == LINK_UP)
		publish_slots(out, now_ns());
}

/* From the oldest that is not acknowledged. */
static void begin_again(struct out *out, int64_t when)
{
	out->attempt++;
	out->next = out->state->out.acked;
	out->whole.next = 0;
	out->whole.acked = 0;
	out->retry_ns = when;
	out->progress_ns = when;
	worker_at(out->port->worker, when);
}

/*
 * The chunks of a long message wait until everything before them is in the
 * stream; the pipe, or our memory, keeps it until all of it is acknowledged.
 */
static bool send_long(struct out *out, int64_t now)
{
	const struct state_out *state = &out->state->out;
	struct out_long *whole = &out->whole;
	char id[ID_LEN], previous[ID_LEN];
	size_t len;

	if (state->acked < state->sealed || now < out->retry_ns)
		return false;
	if (whole->acked == whole->chunks)
		return true;
	while (whole->next < whole->chunks && whole->next - whole->acked < width(out) &&
	       (whole->next - whole->acked) * OUT_WHOLE < OUT_WINDOW &&
	       link_pending(&out->link) < OUT_PENDING) {
		if (whole->next == 0)
			out->progress_ns = now;
		len = out_fill_chunk(out, whole->next);
		id_of(out, id, state->taken, whole->next);
		if (whole->next > 0)
			id_of(out, previous, state->taken, whole->next - 1);
		if (!publish(out, out->chunk, len, whole->next, id, whole->next ? previous : NULL))
			return false;
		whole->next++;
		link_flush(&out->link);
	}
	return false;
}

static void acknowledged(struct out *out, uint64_t attempt, uint64_t number, int64_t now)
{
	struct state_out *state = &out->state->out;

	out->progress_ns = now;
	if (out->whole.len && state->acked == state->sealed) {
		/* Chunks are numbered from 0 each time; an answer to an earlier attempt says nothing. */
		if (attempt == out->attempt && number == out->whole.acked)
			out->whole.acked++;
		return;
	}
	/* In a connection the answers come in order, so one for a later frame means the earlier, too. */
	if (number >= state->acked && number < out->furthest)
		STATE_SET(state->acked, number + 1);
	if (out->next < state->acked)
		out->next = state->acked;
}

static void refused(struct out *out, const char *text, int64_t now)
{
	const char *begin_text = strstr(text, "\"description\":\"");
	int len = 0;

	if (strstr(text, WRONG_LAST_ID)) {
		/* Its predecessor was accepted, so somebody else has published in between. */
		out->contended = true;
		begin_again(out, now);
		return;
	}
	if (begin_text) {
		begin_text += strlen("\"description\":\"");
		len = (int)strcspn(begin_text, "\"");
	}
	complain_ratelimited(&out->ratelimit, out->line, "%s: stream %s refuses: %.*s; trying again",
			     out->line->nats.servers, out->line->nats.stream, len ? len : (int)strlen(text),
			     len ? begin_text : text);
	begin_again(out, now + PAUSE_NS);
}

static void read_answer(struct out *out, natsMsg *msg, int64_t now)
{
	const char *tail = natsMsg_GetSubject(msg) + strlen(out->inbox);
	unsigned long attempt, number;
	char text[ANSWER_LEN];

	if (sscanf(tail, ".%lu.%lu", &attempt, &number) != 2)
		return;
	if (natsMsg_IsNoResponders(msg)) {
		if (attempt == out->attempt)
			refused(out, "no stream listens to this subject", now);
		return;
	}
	snprintf(text, sizeof(text), "%.*s", natsMsg_GetDataLength(msg), natsMsg_GetData(msg));
	if (!strstr(text, "\"error\"")) {
		acknowledged(out, attempt, number, now);
		return;
	}
	/* One refusal starts all again.  The frames behind it are refused for the same reason, and ignored here. */
	if (attempt == out->attempt)
		refused(out, text, now);
}

static void tick(struct out *out, int64_t now)
{
	const struct state_out *state = &out->state->out;
	bool waits = out->next > state->acked || out->whole.next > out->whole.acked;
	natsMsg *msg;

	while (out->answers && natsSubscription_NextMsg(&msg, out->answers, 0) == NATS_OK) {
		read_answer(out, msg, now);
		natsMsg_Destroy(msg);
	}
	if (waits && now - out->progress_ns > ANSWER_NS) {
		complain_ratelimited(&out->ratelimit, out->line, "%s: no answer of stream %s; trying again",
				     out->line->nats.servers, out->line->nats.stream);
		begin_again(out, now);
	}
	publish_slots(out, now);
}

/*
 * What the stream's last message says about the frames that a predecessor, or an
 * earlier connection, published and got no answer for.
 */
static void settle_with_stream(struct out *out)
{
	struct state_out *state = &out->state->out;

	out->settled = true;
	if (!out->last_known)
		return;
	if (out->last_next > state->taken) {
		/*
		 * The stream has numbers that we have not given yet: the power failed
		 * and an old state came back.  They must not be given to others.
		 */
		complain_ratelimited(&out->ratelimit, out->line,
				     "the state is older than the stream: a new session begins");
		STATE_SET(state->acked, state->sealed);
		state_random(state->session, sizeof(state->session));
		out->state->counts.doubts++;
		return;
	}
	while (state->acked < state->sealed && slot_at(out, state->acked)->first < out->last_next)
		STATE_SET(state->acked, state->acked + 1);
}

static void came_up(struct out *out, int64_t now)
{
	settle_with_stream(out);
	out->contended = false;
	begin_again(out, now);
}

static bool is_idle(const struct out *out)
{
	return out->state->out.acked == out->state->out.begun;
}

const struct out_mode out_by_stream = {
	.chunk = OUT_WHOLE,
	.init = init,
	.has_room = has_room,
	.begin = begin,
	.seal = seal,
	.send_long = send_long,
	.tick = tick,
	.came_up = came_up,
	.is_idle = is_idle,
};
