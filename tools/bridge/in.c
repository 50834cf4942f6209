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
	in->mode = in->line->nats.stream ? &in_by_stream : &in_by_core;
	link_init(&in->link, config, in->line, wake);
	in->link.owner = in;
	state_random(random, sizeof(random));
	at = (size_t)snprintf(in->inbox, sizeof(in->inbox), "_INBOX.bufpipe.");
	for (unsigned i = 0; i < sizeof(random); i++)
		at += (size_t)snprintf(in->inbox + at, sizeof(in->inbox) - at, "%02x", random[i] & 0xffu);
	if (!in->senders || !in->mode->init(in)) {
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

/* 0: all of the frame is in the pipe; -EAGAIN: not yet; -EPIPE. */
static int deliver_frame(struct in *in)
{
	int r;

	while (in_next_message(in)) {
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
	complain_ratelimited(&in->ratelimit, in->line,
			     "%lu messages were in the pipe when its program left: they are lost", unread);
	in->state->counts.lost += unread;
}

static void program_left(struct in *in, int error)
{
	if (error != -EPIPE)
		complain_ratelimited(&in->ratelimit, in->line, "%s: %s", in->line->pipe, strerror(-error));
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
		if (!in->mode->is_status(in, in->msg))
			return true;
		natsMsg_Destroy(in->msg);
		in->msg = NULL;
	}
	return true;
}

static void end_pipe(struct in *in, enum in_verdict verdict)
{
	if (verdict == IN_ENDS) {
		in->mode->done(in, in->msg);
		drop_frame(in);
	}
	/* Else it is looked at again when there is another pipe. */
	in->in_session = false;
	in->data = NULL;
	link_flush(&in->link);
	port_over(in->port, false);
}

static void deliver_all(struct in *in, int64_t now)
{
	uint64_t messages = in->state->counts.messages + TURN_MESSAGES;
	uint64_t bytes = in->state->counts.bytes + TURN_BYTES;
	enum in_verdict verdict;
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
		verdict = in->in_session ? IN_GOES_ON : in_begin_frame(in);
		if (verdict != IN_GOES_ON) {
			end_pipe(in, verdict);
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
		in->mode->done(in, in->msg);
		drop_frame(in);
		if (in->state->counts.messages >= messages || in->state->counts.bytes >= bytes) {
			worker_again(in->port);
			return;
		}
	}
}

static void close_source(struct in *in)
{
	if (!in->opened)
		return;
	in->mode->close(in);
	natsSubscription_Destroy(in->messages);
	in->messages = NULL;
	in->opened = false;
}

static void went_down(struct in *in)
{
	complain_ratelimited(&in->ratelimit, in->line, "%s; trying again", in->link.why);
	close_source(in);
	/* The current frame stays: what is left of it is still delivered, and its numbers show if it comes again. */
	link_drop(&in->link);
}

static void tick_link(struct in *in, int64_t now)
{
	/* A stream is asked where to begin, so not before there is a program. */
	if (in->link.state == LINK_DOWN && in->line->nats.stream &&
	    (!in->port->pipe || in->port->in_over || in->msg))
		return;
	switch (link_tick(&in->link, now)) {
	case LINK_UNCHANGED:
	case LINK_CAME_UP:
		break;
	case LINK_WENT_DOWN:
		went_down(in);
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
	tick_link(in, now);
	if (!worker_drains(in->port->worker) && in->messages)
		natsSubscription_QueuedMsgs(in->messages, &in->left);
	open = in->link.state == LINK_UP && may_open(in, now) && !worker_drains(in->port->worker);
	if (open && !in->opened) {
		in->opened = true;
		in->opened_ns = now;
		in->mode->open(in);
	} else if (!open && !worker_drains(in->port->worker)) {
		if (in->opened && in->link.state == LINK_UP)
			STATE_SET(in->state->in.there_ns, 0);
		close_source(in);
		/* What comes without a subscription is lost, and counted by its numbers; so is what we have. */
		if (!in->line->nats.stream && !in->port->pipe)
			drop_frame(in);
	}
	deliver_all(in, now);
	if (in->opened) {
		STATE_SET(in->state->in.there_ns, now);
		in->mode->tick(in, now);
	}
	if (in->port->pipe && in->state->in.end_waits == in->port->generation && in_end_late(in, now))
		port_over(in->port, false);
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

	/* Without a pipe it would wait for a program, which may never come. */
	return (!in->msg || !in->port->pipe) && !rest && !in->sending && link_pending(&in->link) == 0;
}

/*
 * Streams that ended while no program was there, and no sender took us for there,
 * are not the new program's.  Else what was sent was for it, even if it was lost.
 */
static void note_pipe(struct in *in)
{
	struct state_in *state = &in->state->in;
	bool away;

	if (state->generation == in->port->generation)
		return;
	away = !in->opened && (!state->there_ns || now_ns() - state->there_ns > GRACE_NS);
	for (unsigned i = 0; away && i < STATE_SESSIONS; i++)
		STATE_SET(state->sessions[i].away, 1);
	STATE_SET(state->generation, in->port->generation);
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
	if (in->port->pipe)
		note_pipe(in);
	if (!in->port->pipe) {
		in->left_ns = now_ns();
		if (in->line->nats.stream)
			close_source(in);
	}
}

const struct state_counts *in_counts(const struct in *in)
{
	return &in->state->counts;
}

void in_close(struct in *in)
{
	in_join(in);
	in_leave_room(in);
	/* Senders without a stream need not wait for us. */
	if (in->opened && !in->line->nats.stream) {
		STATE_SET(in->state->in.there_ns, 0);
		in->mode->close(in);
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
