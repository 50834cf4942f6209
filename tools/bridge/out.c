/* SPDX-License-Identifier: MIT */
#include "out.h"

#include <endian.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* After so many bytes other lanes get their turn. */
#define TURN_BYTES    ((size_t)1 << 20)
#define TURN_MESSAGES 20000u

/*
 * A message that was longer than the pipe's buffer was being received, or was in
 * memory, when the worker was killed.  Some of it may be published already, so
 * its number is not given to another message.
 */
static void give_up_number(struct out *out)
{
	struct state_out *state = &out->state->out;

	complain_ratelimited(
		&out->ratelimit, out->line,
		"a message of %lu bytes was on its way when the worker was killed; it may be lost, as it is "
		"longer "
		"than --buffer",
		state->receiving);
	out->state->counts.doubts++;
	STATE_SET(state->marks[state->taken % 2].position, POSITION_UNKNOWN);
	STATE_SET(state->taken, state->taken + 1);
	STATE_SET(state->receiving, 0);
}

struct out *out_new(struct port *port, const struct bridge_config *config, struct state *state, int wake)
{
	struct out *out = calloc(1, sizeof(*out));
	char random[12];
	size_t at;

	if (!out)
		return NULL;
	out->port = port;
	out->line = port->config;
	out->config = config;
	out->state = state;
	out->chunk = malloc(OUT_FRAME);
	if (!out->chunk) {
		free(out);
		return NULL;
	}
	if (state->out.receiving)
		give_up_number(out);
	out->mode = out->line->nats.stream ? &out_by_stream : &out_by_core;
	if (!out->mode->init(out)) {
		out_free(out);
		return NULL;
	}
	link_init(&out->link, config, out->line, wake);
	out->link.owner = out;
	if (out->line->nats.stream)
		out->link.prepare = out_prepare_stream;
	state_random(random, sizeof(random));
	at = (size_t)snprintf(out->inbox, sizeof(out->inbox), "_INBOX.bufpipe.");
	for (unsigned i = 0; i < sizeof(random); i++)
		at += (size_t)snprintf(out->inbox + at, sizeof(out->inbox) - at, "%02x", random[i] & 0xffu);
	return out;
}

void out_subscribe(struct out *out)
{
	char subject[sizeof(out->inbox) + 4];
	natsStatus status;

	snprintf(subject, sizeof(subject), "%s.>", out->inbox);
	status = natsConnection_SubscribeSync(&out->answers, out->link.nc, subject);
	if (status != NATS_OK)
		out_report(out, status, "listening for answers");
}

void out_report(struct out *out, natsStatus status, const char *doing)
{
	complain_ratelimited(&out->ratelimit, out->line, "%s: %s: %s", out->line->nats.servers, doing,
			     natsStatus_GetText(status));
}

void out_seal(struct out *out)
{
	if (!out->frame)
		return;
	out->header.body_len = out->used - frame_body(out->header.kind);
	out->used = frame_finish(out->frame, &out->header);
	out->mode->seal(out);
	out->frame = NULL;
}

static bool begin_frame(struct out *out, enum frame_kind kind)
{
	struct state_out *state = &out->state->out;

	if (out->frame && (out->header.kind != kind || kind != FRAME_BATCH))
		out_seal(out);
	if (out->frame)
		return true;
	out->frame = out->mode->begin(out);
	if (!out->frame)
		return false;
	out->header = (struct frame){ .kind = kind, .first = state->taken, .ends = (uint32_t)state->ends };
	memcpy(out->header.session, state->session, FRAME_SESSION);
	out->used = frame_body(kind);
	return true;
}

/* Counts the message that was just put into the frame.  From here on it has left the pipe, even if a process dies. */
static void count_taken(struct out *out, uint64_t position)
{
	struct state_out *state = &out->state->out;
	struct state_mark *mark = &state->marks[state->taken % 2];

	STATE_SET(mark->position, position);
	STATE_SET(mark->generation, out->port->generation);
	STATE_SET(state->taken, state->taken + 1);
}

/* Whether the message at this position was counted last.  If so, the worker was killed before it released the message. */
static bool was_taken(struct out *out, uint64_t position)
{
	const struct state_out *state = &out->state->out;
	const struct state_mark *last = &state->marks[(state->taken + 1) % 2];

	if (!out->adopted)
		return false;
	out->adopted = false;
	if (state->taken == 0 || last->generation != out->port->generation)
		return false;
	if (position == POSITION_UNKNOWN) {
		out->state->counts.doubts++;
		return false;
	}
	return last->position == position;
}

static void append(struct out *out, const void *data, size_t len)
{
	uint32_t length = htole32((uint32_t)len);

	memcpy(out->frame + out->used, &length, FRAME_LENGTH);
	memcpy(out->frame + out->used + FRAME_LENGTH, data, len);
	out->used += FRAME_LENGTH + len;
	out->header.count++;
	out->state->counts.messages++;
	out->state->counts.bytes += len;
}

static void begin_long(struct out *out, const char *data, size_t len, uint64_t position)
{
	out->whole = (struct out_long){
		.data = data,
		.len = len,
		.whole = true,
		.position = position,
		.chunks = (uint32_t)((len + out->mode->chunk - 1) / out->mode->chunk),
	};
}

/* A peeked message.  False: no more for now. */
static bool take(struct out *out, const void *data, size_t len)
{
	uint64_t position = position_of(&out->positions, data);

	if (was_taken(out, position)) {
		bufpipe_release(out->port->pipe);
		return true;
	}
	if (len > OUT_WHOLE) {
		out_seal(out);
		begin_long(out, data, len, position);
		return false;
	}
	if (out->frame && out->used + FRAME_LENGTH + len > OUT_BATCH)
		out_seal(out);
	if (!begin_frame(out, FRAME_BATCH)) {
		bufpipe_unpeek(out->port->pipe);
		return false;
	}
	append(out, data, len);
	count_taken(out, position);
	bufpipe_release(out->port->pipe);
	return true;
}

/* A message cannot be taken, so neither can those behind it: the program finds its pipe broken. */
static void refuse_program(struct out *out)
{
	out->port->out_over = true;
	port_broke(out->port);
}

/* A message longer than the pipe's buffer comes in fragments, and is put together in memory. */
static void begin_to_receive(struct out *out)
{
	ssize_t len = bufpipe_next(out->port->pipe, 0);

	if (len < 0)
		return;
	out_seal(out);
	if ((size_t)len > out->config->longest) {
		complain_ratelimited(&out->ratelimit, out->line,
				     "the program sends a message of %zd bytes; --longest allows %zu", len,
				     out->config->longest);
		refuse_program(out);
		return;
	}
	out->whole.memory = malloc((size_t)len);
	if (!out->whole.memory) {
		complain_ratelimited(&out->ratelimit, out->line, "no memory for a message of %zd bytes", len);
		refuse_program(out);
		return;
	}
	out->adopted = false;
	out->whole.len = (size_t)len;
	STATE_SET(out->state->out.receiving, (uint64_t)len);
}

static void forget_long(struct out *out)
{
	free(out->whole.memory);
	out->whole = (struct out_long){ 0 };
	STATE_SET(out->state->out.receiving, 0);
}

/*
 * The program has ended its stream.  In a stream of the server the end has a number
 * like a message, so that it comes once and in order.  In core mode it has none,
 * because the loss of the end is not the loss of a message.  Ends are counted there
 * instead, and every later frame has the count.  If this frame is lost, or the worker
 * dies before it publishes it, the next probe tells the receivers.
 */
static void end(struct out *out)
{
	struct state_out *state = &out->state->out;
	struct state_mark *last = &state->marks[(state->taken + 1) % 2];
	bool told = last->generation == out->port->generation && last->position == STATE_MARK_END;

	/* When we are told to stop, the stream goes on with the next bridge, unless its program has ended it. */
	if (!told && (!worker_drains(out->port->worker) || out->port->in || out->port->ended)) {
		out_seal(out);
		if (out->line->nats.stream) {
			if (!begin_frame(out, FRAME_END))
				return;
			out->header.count = 1;
			count_taken(out, STATE_MARK_END);
		} else {
			/* Counted first: a worker that dies between the stores makes the next one count it again, which does no harm. */
			STATE_SET(state->ends, state->ends + 1);
			/* The pipe is drained, so nobody needs the mark of its last message. */
			STATE_SET(last->position, STATE_MARK_END);
			STATE_SET(last->generation, out->port->generation);
			if (out->link.state == LINK_UP)
				begin_frame(out, FRAME_END);
		}
		out->state->counts.ends++;
	}
	out_seal(out);
	port_over(out->port, true);
}

static void receive_long(struct out *out)
{
	struct out_long *whole = &out->whole;
	ssize_t got = bufpipe_recv(out->port->pipe, whole->memory, whole->len, 0);
	char *memory = whole->memory;

	if (got == -EAGAIN)
		return;
	/* -EMSGSIZE: its sender gave it up, and a longer one came. */
	if (got < 0) {
		forget_long(out);
		worker_again(out->port);
		return;
	}
	begin_long(out, memory, (size_t)got, POSITION_UNKNOWN);
	whole->memory = memory;
	/* A message that was given up may have been followed by a short one. */
	if (whole->chunks == 0)
		whole->chunks = 1;
}

size_t out_fill_chunk(struct out *out, uint32_t index)
{
	struct out_long *whole = &out->whole;
	size_t most = out->mode->chunk;
	size_t at = index * most;
	struct frame header = {
		.kind = FRAME_CHUNKED,
		.first = out->state->out.taken,
		.count = whole->chunks,
		.index = index,
		.ends = (uint32_t)out->state->out.ends,
		.whole_len = whole->len,
		.body_len = whole->len - at < most ? whole->len - at : most,
	};

	memcpy(header.session, out->state->out.session, FRAME_SESSION);
	/* Of the copy: a hostile program can still change what is in the pipe. */
	memcpy(out->chunk + frame_body(FRAME_CHUNKED), whole->data + at, header.body_len);
	whole->sum =
		frame_sum(index ? whole->sum : 0, out->chunk + frame_body(FRAME_CHUNKED), header.body_len);
	header.sum = whole->sum;
	return frame_finish(out->chunk, &header);
}

/* True: all of it was published, and others may follow. */
static bool go_on_with_long(struct out *out, int64_t now)
{
	struct out_long *whole = &out->whole;

	if (!whole->whole)
		receive_long(out);
	if (!whole->whole || !out->mode->send_long(out, now))
		return false;
	out->state->counts.messages++;
	out->state->counts.bytes += whole->len;
	count_taken(out, whole->position);
	if (!whole->memory)
		bufpipe_release(out->port->pipe);
	forget_long(out);
	return true;
}

static bool may_take(const struct out *out)
{
	return out->port->pipe && !out->port->out_over && out->link.state == LINK_UP &&
	       link_pending(&out->link) < OUT_PENDING && out->mode->has_room(out);
}

/*
 * While nobody receives, nothing is taken.  But a bridge that drains must know
 * whether anything is left in the pipe: if nothing is, it can end.
 */
static void look_for_rest(struct out *out)
{
	const void *data;
	ssize_t len;

	if (!worker_drains(out->port->worker) || !out->port->pipe || out->port->out_over)
		return;
	len = bufpipe_peek(out->port->pipe, &data, 0);
	if (len >= 0)
		bufpipe_unpeek(out->port->pipe);
	else if (len == -EAGAIN)
		out->empty = true;
	else if (len != -EMSGSIZE)
		end(out);
}

static void take_all(struct out *out)
{
	size_t bytes = 0;
	const void *data;
	ssize_t len;

	out->empty = false;
	if (!may_take(out)) {
		look_for_rest(out);
		return;
	}
	for (unsigned n = 0; n < TURN_MESSAGES && bytes < TURN_BYTES; n++) {
		if (!may_take(out))
			break;
		len = bufpipe_peek(out->port->pipe, &data, 0);
		if (len == -EMSGSIZE) {
			begin_to_receive(out);
			worker_again(out->port);
			return;
		}
		if (len == -EAGAIN) {
			out->empty = true;
			break;
		}
		if (len < 0) {
			if (len != -EPIPE)
				complain_ratelimited(&out->ratelimit, out->line, "%s: %s", out->line->pipe,
						     strerror((int)-len));
			end(out);
			return;
		}
		bytes += (size_t)len;
		if (!take(out, data, (size_t)len)) {
			if (out->whole.len)
				worker_again(out->port);
			break;
		}
	}
	out_seal(out);
	if (bytes >= TURN_BYTES)
		worker_again(out->port);
}

static void tick_link(struct out *out, int64_t now)
{
	switch (link_tick(&out->link, now)) {
	case LINK_UNCHANGED:
		break;
	case LINK_CAME_UP:
		out_subscribe(out);
		out->mode->came_up(out, now);
		break;
	case LINK_WENT_DOWN:
		complain_ratelimited(&out->ratelimit, out->line, "%s; trying again", out->link.why);
		natsSubscription_Destroy(out->answers);
		out->answers = NULL;
		link_drop(&out->link);
		break;
	case LINK_GAVE_UP:
		complain("%s: %s", out->line->text, out->link.why);
		worker_fail(out->port);
	}
}

void out_run(struct out *out, int64_t now)
{
	tick_link(out, now);
	if (out->link.state == LINK_UP)
		out->mode->tick(out, now);
	if (out->whole.len && out->link.state == LINK_UP && !go_on_with_long(out, now)) {
		link_flush(&out->link);
		return;
	}
	if (!out->whole.len)
		take_all(out);
	link_flush(&out->link);
}

bool out_wants(const struct out *out)
{
	/* More fragments of a message that has come in part. */
	if (out->whole.len)
		return !out->whole.whole;
	return may_take(out);
}

struct link *out_link(struct out *out)
{
	return &out->link;
}

bool out_is_idle(const struct out *out)
{
	/* The program at a duplex pipe cannot be kept from sending more, so what is there now must do. */
	bool rest = out->port->pipe && out->port->in && !out->port->out_over && !out->empty;

	return !rest && !out->whole.len && !out->frame && link_pending(&out->link) == 0 &&
	       out->mode->is_idle(out);
}

void out_port_changed(struct out *out)
{
	out->adopted = true;
	out->positions = (struct position_map){ 0 };
	/* Of a message that was to be received, or published from the pipe, nothing is left. */
	if (out->whole.len)
		forget_long(out);
}

const struct state_counts *out_counts(const struct out *out)
{
	return &out->state->counts;
}

void out_close(struct out *out)
{
	if (out->mode->leave && out->link.state == LINK_UP)
		out->mode->leave(out);
	natsSubscription_Destroy(out->answers);
	out->answers = NULL;
	link_close(&out->link);
}

void out_free(struct out *out)
{
	free(out->whole.memory);
	free(out->room);
	free(out->peers);
	free(out->sent_frames);
	free(out->chunk);
	free(out);
}
