/* SPDX-License-Identifier: MIT */
#include "in.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* After so many bytes other lanes get their turn. */
#define TURN_BYTES    ((size_t)1 << 20)
#define TURN_MESSAGES 20000u
#define GRACE_NS      10000000000LL

struct in *in_new(struct port *port, const struct bridge_config *config, struct state *state, int wake)
{
	struct in *in = calloc(1, sizeof(*in));
	char random[12];
	size_t at;

	if (!in)
		return NULL;
	in->port = port;
	in->line = port->config;
	in->config = config;
	in->state = state;
	in->senders = calloc(STATE_SESSIONS, sizeof(*in->senders));
	in->way = in->line->nats.stream ? &in_by_stream : &in_by_core;
	link_init(&in->link, config, in->line, wake);
	in->link.owner = in;
	state_random(random, sizeof(random));
	at = (size_t)snprintf(in->inbox, sizeof(in->inbox), "_INBOX.bufpipe.");
	for (unsigned i = 0; i < sizeof(random); i++)
		at += (size_t)snprintf(in->inbox + at, sizeof(in->inbox) - at, "%02x", random[i] & 0xffu);
	if (!in->senders || !in->way->init(in)) {
		in_free(in);
		return NULL;
	}
	return in;
}

static void drop_frame(struct in *in)
{
	natsMsg_Destroy(in->msg);
	in->msg = NULL;
	in->data = NULL;
	in->in_session = false;
}

/* The session of the frame before us; the one that was silent for longest makes room for a new one. */
static void look_up_session(struct in *in, uint64_t first)
{
	struct state_in *state = &in->state->in;
	struct state_session *oldest = &state->sessions[0];
	struct state_session *s;

	for (s = state->sessions; s < state->sessions + STATE_SESSIONS; s++) {
		if (s->used && memcmp(s->id, in->frame.session, FRAME_SESSION) == 0)
			break;
		if (s->used < oldest->used)
			oldest = s;
	}
	if (s == state->sessions + STATE_SESSIONS) {
		s = oldest;
		/* Invalid while it changes. */
		STATE_SET(s->used, 0);
		memcpy(s->id, in->frame.session, FRAME_SESSION);
		s->open = 0;
		STATE_SET(s->next, first);
		free(in->senders[s - state->sessions].whole.data);
		in->senders[s - state->sessions] = (struct in_sender){ 0 };
	}
	STATE_SET(state->clock, state->clock + 1);
	STATE_SET(s->used, state->clock);
	in->session = (unsigned)(s - state->sessions);
	in->in_session = true;
}

/* Numbers from the one expected up to this one never came. */
static void note_losses(struct in *in, uint64_t number)
{
	struct state_session *session = &in->state->in.sessions[in->session];

	if (number <= session->next)
		return;
	if (in_counts_losses(in)) {
		grumble(&in->grumble, in->line, "%lu messages were lost before number %lu",
			number - session->next, number);
		in->state->counts.lost += number - session->next;
	}
	STATE_SET(session->next, number);
}

/* False: it was delivered before. */
static bool is_new(struct in *in)
{
	if (in->number >= in->state->in.sessions[in->session].next)
		return true;
	in->state->counts.duplicates++;
	return false;
}

/* Whether the last open session of this pipe has just ended. */
static bool all_ended(const struct in *in)
{
	for (unsigned i = 0; i < STATE_SESSIONS; i++) {
		if (in->state->in.sessions[i].open == OPEN)
			return false;
	}
	return true;
}

/* 0: go on with what follows; 1: this was the end of the pipe's stream. */
static int end_stream(struct in *in)
{
	struct state_session *session = &in->state->in.sessions[in->session];
	bool late = session->open == OPEN_EARLIER && !in->line->nats.stream;

	note_losses(in, in->number);
	if (!is_new(in))
		return 0;
	STATE_SET(session->open, 0);
	/* Its program left before the end came.  The next one must not take it for its own. */
	if (late || !all_ended(in)) {
		STATE_SET(session->next, in->number + in->frame.count);
		return 0;
	}
	/* Twice does no harm, so this may come before the number. */
	bufpipe_shutdown(in->port->pipe);
	STATE_SET(session->next, in->number + in->frame.count);
	in->state->counts.ends++;
	return 1;
}

/* The next chunk of a long message.  True: it is whole, and before us. */
static bool add_chunk(struct in *in)
{
	struct in_whole *whole = &in->senders[in->session].whole;
	const struct frame *frame = &in->frame;

	if (frame->index == 0 || !whole->data || whole->number != frame->first) {
		in_forget_whole(in);
		if (frame->index != 0 || frame->whole_len > in->config->longest || in->line->nats.queue)
			goto corrupt;
		whole->data = malloc(frame->whole_len);
		if (!whole->data)
			goto corrupt;
		whole->len = frame->whole_len;
		whole->count = frame->count;
		whole->number = frame->first;
	}
	if (frame->index < whole->next)
		return false; /* published again */
	if (frame->index != whole->next || frame->body_len > whole->len - whole->have)
		goto corrupt;
	memcpy(whole->data + whole->have, frame->body, frame->body_len);
	whole->have += frame->body_len;
	whole->sum = frame_sum(whole->sum, frame->body, frame->body_len);
	whole->next++;
	if (whole->sum == frame->sum && whole->next < whole->count)
		return false;
	if (whole->sum == frame->sum && whole->have == whole->len)
		return true;
corrupt:
	in_forget_whole(in);
	in->state->counts.corrupt++;
	if (in->line->nats.queue)
		grumble(&in->grumble, in->line,
			"a message came in chunks, which a queue scatters: let the server's max_payload be "
			"larger "
			"than the messages, and --buffer");
	return false;
}

/* Takes the next message of the frame: in->data; or says that there is none. */
static bool next_message(struct in *in)
{
	struct frame *frame = &in->frame;

	if (in->foreign) {
		if (in->data || in->number == UINT64_MAX)
			return in->data != NULL;
		in->data = natsMsg_GetData(in->msg);
		in->len = (size_t)natsMsg_GetDataLength(in->msg);
		return true;
	}
	if (frame->kind == FRAME_BATCH) {
		while (!in->data && frame_next(frame, &in->data, &in->len)) {
			note_losses(in, in->number);
			if (is_new(in))
				return true;
			in->data = NULL;
			in->number++;
		}
		return in->data != NULL;
	}
	/* A chunk that completes its message was put there by begin_frame. */
	return in->data != NULL;
}

/* Looks at what came.  1: the pipe's stream ends here. */
static int begin_frame(struct in *in)
{
	int len = natsMsg_GetDataLength(in->msg);
	enum frame_verdict verdict =
		frame_read(&in->frame, natsMsg_GetData(in->msg), len < 0 ? 0 : (size_t)len);

	in->foreign = verdict == FRAME_FOREIGN;
	in->data = NULL;
	if (verdict == FRAME_CORRUPT) {
		in->state->counts.corrupt++;
		grumble(&in->grumble, in->line, "a frame is damaged, or of a later version: dropped");
		in->frame.kind = FRAME_END;
		in->frame.body_len = 0;
		return 0;
	}
	if (in->foreign) {
		/* A message of a program without a bridge: one session for all of them, numbered by us. */
		memset(&in->frame, 0, sizeof(in->frame));
		if (!in_stream_place(in->msg, &in->number, &(uint64_t){ 0 }))
			in->number = 0;
		look_up_session(in, in->number);
		if (in->number == 0)
			in->number = in->state->in.sessions[in->session].next;
		if (!is_new(in))
			in->number = UINT64_MAX;
		return 0;
	}
	in->number = in->frame.first;
	look_up_session(in, in->frame.first);
	switch (in->frame.kind) {
	case FRAME_BATCH:
		break;
	case FRAME_PROBE:
		note_losses(in, in->number);
		break;
	case FRAME_END:
		return end_stream(in);
	case FRAME_CHUNKED:
		note_losses(in, in->number);
		/* Once, not for each chunk. */
		if (in->frame.index == 0 ? !is_new(in)
					 : in->number < in->state->in.sessions[in->session].next)
			break;
		if (add_chunk(in)) {
			in->data = in->senders[in->session].whole.data;
			in->len = in->senders[in->session].whole.len;
		}
	}
	return 0;
}

/* 0: all of the frame is in the pipe; -EAGAIN: not yet; -EPIPE. */
static int deliver_frame(struct in *in)
{
	int r;

	while (next_message(in)) {
		r = in_deliver(in, in->data, in->len);
		if (r < 0)
			return r;
		in->data = NULL;
		if (in->foreign)
			in->number = UINT64_MAX;
		else
			in->number++;
		if (in->frame.kind == FRAME_CHUNKED && !in->foreign)
			in_forget_whole(in);
	}
	return 0;
}

/* What the program had not received when it left is lost with its pipe. */
static void note_unread(struct in *in)
{
	struct bufpipe_stats stats;
	uint64_t unread;

	if (bufpipe_get_stats(in->port->pipe, &stats) < 0)
		return;
	unread = stats.out.messages;
	/* A message in pieces, of which some are there, comes again. */
	if (in->sending && unread > 0)
		unread--;
	if (unread == 0)
		return;
	grumble(&in->grumble, in->line, "%lu messages were in the pipe when its program left: they are lost",
		unread);
	in->state->counts.lost += unread;
}

static void program_left(struct in *in, int error)
{
	if (error != -EPIPE)
		grumble(&in->grumble, in->line, "%s: %s", in->line->pipe, strerror(-error));
	note_unread(in);
	in_join(in);
	/* The message was not delivered, so it waits for the next program. */
	port_broke(in->port);
}

static bool is_due(struct in *in, int64_t now)
{
	uint64_t sequence, time_ns;
	int64_t due_ns;

	if (!in->line->rate_original || !in_stream_place(in->msg, &sequence, &time_ns))
		return true;
	if (!in->base_time) {
		in->base_time = time_ns;
		in->base_ns = now;
	}
	due_ns = in->base_ns + (int64_t)(time_ns - in->base_time);
	if (due_ns <= now)
		return true;
	worker_at(in->port->worker, due_ns);
	return false;
}

static bool take_msg(struct in *in)
{
	while (!in->msg) {
		if (worker_drains(in->port->worker) && in->left-- == 0) {
			in->left = 0;
			return false;
		}
		if (!in->messages || natsSubscription_NextMsg(&in->msg, in->messages, 0) != NATS_OK)
			return false;
		if (!in->way->is_news(in, in->msg))
			return true;
		natsMsg_Destroy(in->msg);
		in->msg = NULL;
	}
	return true;
}

static void deliver_all(struct in *in, int64_t now)
{
	uint64_t messages = in->state->counts.messages + TURN_MESSAGES;
	uint64_t bytes = in->state->counts.bytes + TURN_BYTES;
	int r;

	in->blocked = false;
	while (in->port->pipe && !in->port->in_over && take_msg(in)) {
		if (!is_due(in, now))
			return;
		r = in_settle(in);
		if (r == -EAGAIN) {
			in->blocked = true;
			return;
		}
		if (r < 0) {
			program_left(in, r);
			return;
		}
		if (!in->in_session && begin_frame(in) == 1) {
			in->way->done(in, in->msg);
			drop_frame(in);
			link_flush(&in->link);
			port_over(in->port, false);
			return;
		}
		r = deliver_frame(in);
		if (r == -EAGAIN) {
			in->blocked = true;
			return;
		}
		if (r < 0) {
			program_left(in, r);
			return;
		}
		in->way->done(in, in->msg);
		drop_frame(in);
		if (in->state->counts.messages >= messages || in->state->counts.bytes >= bytes) {
			worker_again(in->port);
			return;
		}
	}
}

static void close_way(struct in *in)
{
	if (!in->opened)
		return;
	in->way->close(in);
	natsSubscription_Destroy(in->messages);
	in->messages = NULL;
	in->opened = false;
}

static void fell(struct in *in)
{
	grumble(&in->grumble, in->line, "%s; trying again", in->link.why);
	close_way(in);
	/* The frame before us goes on into the pipe, if it has begun to: its messages have their numbers. */
	link_drop(&in->link);
}

static void tend_link(struct in *in, int64_t now)
{
	/* A stream is asked where to begin, so not before there is a program. */
	if (in->link.state == LINK_DOWN && in->line->nats.stream &&
	    (!in->port->pipe || in->port->in_over || in->msg))
		return;
	switch (link_tend(&in->link, now)) {
	case LINK_SAME:
	case LINK_CAME_UP:
		break;
	case LINK_FELL:
		fell(in);
		break;
	case LINK_GAVE_UP:
		complain("%s: %s", in->line->text, in->link.why);
		worker_fail(in->port);
	}
}

/*
 * A stream waits for a program.  In core mode what comes without a subscription is
 * lost, so it is kept for a while when a program leaves: the next one may be about
 * to come, and until then senders are held by what is not confirmed.
 */
static bool may_open(const struct in *in, int64_t now)
{
	if (in->port->pipe && !in->port->in_over)
		return true;
	return !in->line->nats.stream && in->opened && now - in->left_ns < GRACE_NS;
}

void in_run(struct in *in, int64_t now)
{
	bool open;

	if (in->port->hung_up && in->port->pipe && !in->port->in_over && !in->sending) {
		program_left(in, -EPIPE);
		if (!in->port->pipe)
			return;
	}
	tend_link(in, now);
	if (!worker_drains(in->port->worker) && in->messages)
		natsSubscription_QueuedMsgs(in->messages, &in->left);
	open = in->link.state == LINK_UP && may_open(in, now) && !worker_drains(in->port->worker);
	if (open && !in->opened) {
		in->opened = true;
		in->way->open(in);
	} else if (!open && !worker_drains(in->port->worker)) {
		close_way(in);
		/* What comes without a subscription is lost, and counted by its numbers; so is what we have. */
		if (!in->line->nats.stream && !in->port->pipe)
			drop_frame(in);
	}
	deliver_all(in, now);
	if (in->opened)
		in->way->tend(in, now);
	link_flush(&in->link);
}

bool in_wants(const struct in *in)
{
	return in->blocked && !in->sending;
}

bool in_is_sending(const struct in *in)
{
	return in->sending != NULL;
}

struct link *in_link(struct in *in)
{
	return &in->link;
}

bool in_is_idle(const struct in *in)
{
	bool rest = in->left > 0 && in->port->pipe && !in->port->in_over;

	return !in->msg && !rest && !in->sending && link_pending(&in->link) == 0;
}

void in_port_changed(struct in *in)
{
	struct bufpipe_info info;

	in->positions = (struct position_map){ 0 };
	in->blocked = false;
	in->unsettled = true;
	in_join(in);
	if (in->port->pipe && bufpipe_get_info(in->port->pipe, &info) == 0)
		in->buffer_size = info.object_size ? info.object_size : info.buffer_size;
	for (unsigned i = 0; !in->port->pipe && i < STATE_SESSIONS; i++) {
		if (in->state->in.sessions[i].open)
			STATE_SET(in->state->in.sessions[i].open, OPEN_EARLIER);
	}
	if (!in->port->pipe) {
		in->left_ns = now_ns();
		if (in->line->nats.stream)
			close_way(in);
	}
}

const struct state_counts *in_counts(const struct in *in)
{
	return &in->state->counts;
}

void in_close(struct in *in)
{
	in_join(in);
	/* Senders without a stream need not wait for us. */
	if (in->opened && !in->line->nats.stream) {
		in->way->close(in);
		link_flush(&in->link);
	}
	natsMsg_Destroy(in->msg);
	in->msg = NULL;
	natsSubscription_Destroy(in->messages);
	in->messages = NULL;
	link_close(&in->link);
}

void in_free(struct in *in)
{
	for (unsigned i = 0; in->senders && i < STATE_SESSIONS; i++)
		free(in->senders[i].whole.data);
	while (in->n_acks > 0)
		free(in->acks[--in->n_acks]);
	free(in->acks);
	free(in->senders);
	free(in);
}
