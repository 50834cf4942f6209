/* SPDX-License-Identifier: MIT */
/*
 * What a frame means: its session, what is missing before it, what has been
 * delivered already, and which messages it holds.
 */
#include "in.h"

#include <stdlib.h>
#include <string.h>

/* A sender with an open stream probes every five seconds. */
#define SENDER_SILENT_NS 15000000000LL

/* The session of the current frame.  If it is new, it replaces the session that was silent for longest. */
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
		if (in->room_session == (unsigned)(s - state->sessions))
			in_leave_room(in);
		/* Invalid while it changes. */
		STATE_SET(s->used, 0);
		memcpy(s->id, in->frame.session, FRAME_SESSION);
		s->open = 0;
		s->away = 0;
		s->ends = in->frame.ends;
		if (in->frame.kind == FRAME_END && s->ends > 0)
			s->ends--;
		STATE_SET(s->next, first);
		free(in->senders[s - state->sessions].whole.data);
		in->senders[s - state->sessions] = (struct in_sender){ 0 };
	}
	STATE_SET(state->clock, state->clock + 1);
	STATE_SET(s->used, state->clock);
	in->session = (unsigned)(s - state->sessions);
	in->in_session = true;
}

/* The messages from the expected number up to this one never came. */
static void note_losses(struct in *in, uint64_t number)
{
	struct state_session *session = &in->state->in.sessions[in->session];

	if (number <= session->next)
		return;
	if (in_counts_losses(in)) {
		complain_ratelimited(&in->ratelimit, in->line, "%lu messages were lost before number %lu",
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

/*
 * Whether a session that has a part of its stream in this pipe can still be waited
 * for.  A sender of core mode that was killed cannot say that it leaves, but it is
 * silent.
 */
static bool is_alive(const struct in *in, unsigned session, int64_t now)
{
	int64_t heard_ns = in->senders[session].heard_ns;

	if (in->line->nats.stream || !in->opened)
		return true;
	if (heard_ns < in->opened_ns)
		heard_ns = in->opened_ns;
	return now - heard_ns < SENDER_SILENT_NS;
}

/* Whether all streams of which this pipe has a part have ended; that of one session is not asked. */
static bool all_ended(const struct in *in, unsigned but, int64_t now)
{
	for (unsigned i = 0; i < STATE_SESSIONS; i++) {
		if (i != but && in->state->in.sessions[i].open == in->port->generation &&
		    is_alive(in, i, now))
			return false;
	}
	return true;
}

static void end_session(struct in *in)
{
	struct state_session *session = &in->state->in.sessions[in->session];

	/* In a stream an end has a number. */
	if (in->frame.kind == FRAME_END)
		STATE_SET(session->next, in->number + in->frame.count);
	if (in->frame.ends)
		STATE_SET(session->ends, in->frame.ends);
	STATE_SET(session->open, 0);
}

/* IN_ENDS: this was the end of the pipe's stream, too. */
static enum in_verdict end_stream(struct in *in)
{
	struct state_session *session = &in->state->in.sessions[in->session];
	/* If another stream ended after that of the earlier pipe, then all of it was lost, and it was for this one. */
	bool late = session->open && session->open != in->port->generation && !in->line->nats.stream &&
		    in->frame.ends <= session->ends + 1;

	note_losses(in, in->number);
	if (!is_new(in) || (in->frame.ends && in->frame.ends <= session->ends))
		return IN_GOES_ON;
	/* The program left before the end came.  The next program must not take it for its own end. */
	if (late) {
		end_session(in);
		return IN_GOES_ON;
	}
	if (!all_ended(in, in->session, now_ns())) {
		STATE_SET(in->state->in.end_waits, in->port->generation);
		end_session(in);
		return IN_GOES_ON;
	}
	/* If the worker dies from here on, then the next one sees that the end was for this pipe. */
	STATE_SET(session->open, in->port->generation);
	in_leave_room(in);
	/* To do this twice does no harm, so it may come before the end is stored. */
	bufpipe_shutdown(in->port->pipe);
	end_session(in);
	in->state->counts.ends++;
	return IN_ENDS;
}

bool in_end_late(struct in *in, int64_t now)
{
	uint64_t queued = 0;

	/* A sender whose frames wait here because the pipe is full is not silent. */
	if (in->port->in_over || in->msg || in->sending || !all_ended(in, STATE_SESSIONS, now))
		return false;
	if (in->messages && natsSubscription_QueuedMsgs(in->messages, &queued) == NATS_OK && queued > 0)
		return false;
	in_leave_room(in);
	bufpipe_shutdown(in->port->pipe);
	in->state->counts.ends++;
	return true;
}

/*
 * Compares the count of ends in a frame with the ends that have come.  If it is larger, an end was lost.  If
 * nobody listened at that time, nobody missed it.
 */
static enum in_verdict catch_up(struct in *in)
{
	struct state_session *session = &in->state->in.sessions[in->session];
	enum in_verdict verdict = IN_GOES_ON;

	if (in->frame.kind != FRAME_END && in->frame.ends > session->ends) {
		if (session->away)
			STATE_SET(session->ends, in->frame.ends);
		else
			verdict = end_stream(in);
	}
	STATE_SET(session->away, 0);
	if (verdict == IN_ENDS && in->frame.kind != FRAME_PROBE && in->frame.kind != FRAME_LEAVE)
		return IN_ENDED_BEFORE;
	return verdict;
}

/* Another bridge may go on with the stream, in a session of its own. */
static void sender_leaves(struct in *in)
{
	STATE_SET(in->state->in.sessions[in->session].open, 0);
	in->senders[in->session].reply[0] = 0;
}

/* Takes the next chunk of a long message.  True: the message is complete and is the current one. */
static bool add_chunk(struct in *in)
{
	struct in_whole *whole = &in->senders[in->session].whole;
	const struct frame *frame = &in->frame;

	if (frame->index == 0 || !whole->data || whole->number != frame->first) {
		in_forget_whole(in);
		if (frame->index != 0 || frame->whole_len > in->config->longest || in->line->nats.queue)
			goto corrupt;
		whole->data = in_reserve(in, frame->whole_len);
		if (!whole->data)
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
		complain_ratelimited(
			&in->ratelimit, in->line,
			"a message came in chunks, which a queue scatters: let the server's max_payload be "
			"larger "
			"than the messages, and --buffer");
	return false;
}

bool in_next_message(struct in *in)
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
	/* A chunk that completes its message was put there by in_begin_frame. */
	return in->data != NULL;
}

enum in_verdict in_begin_frame(struct in *in)
{
	enum in_verdict end;
	int len = natsMsg_GetDataLength(in->msg);
	enum frame_verdict verdict =
		frame_read(&in->frame, natsMsg_GetData(in->msg), len < 0 ? 0 : (size_t)len);

	in->foreign = verdict == FRAME_FOREIGN;
	in->data = NULL;
	if (verdict == FRAME_CORRUPT) {
		in->state->counts.corrupt++;
		complain_ratelimited(&in->ratelimit, in->line,
				     "a frame is damaged, or of a later version: dropped");
		in->frame.kind = FRAME_END;
		in->frame.body_len = 0;
		return IN_GOES_ON;
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
		return IN_GOES_ON;
	}
	in->number = in->frame.first;
	look_up_session(in, in->frame.first);
	end = catch_up(in);
	if (end != IN_GOES_ON)
		return end;
	switch (in->frame.kind) {
	case FRAME_BATCH:
		break;
	case FRAME_PROBE:
		note_losses(in, in->number);
		break;
	case FRAME_LEAVE:
		note_losses(in, in->number);
		sender_leaves(in);
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
	return IN_GOES_ON;
}
