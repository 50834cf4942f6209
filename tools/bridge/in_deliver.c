/* SPDX-License-Identifier: MIT */
/*
 * Puts one message into the pipe, exactly once.
 *
 * Before a message is committed, an intent is stored: its session, its number, and
 * the place in the ring where it will be.  After the commit the next number of the
 * session is stored.  If a worker is killed in between, the next worker must find
 * out whether the message was committed.  It reserves room.  If the room is at the
 * place in the intent, nothing was committed; if it is elsewhere, the message was.
 */
#include "in.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct in_sending {
	pthread_t thread;
	bufpipe_t *pipe;
	const char *data;
	size_t len;
	int wake;
	int result;
	atomic_bool done; /* release by the thread, acquire by the loop: result is whole */
};

static void *send_in_thread(void *argument)
{
	struct in_sending *sending = argument;
	const uint64_t one = 1;

	sending->result = bufpipe_send(sending->pipe, sending->data, sending->len, -1);
	atomic_store_explicit(&sending->done, true, memory_order_release);
	if (write(sending->wake, &one, sizeof(one)) < 0)
		return NULL;
	return NULL;
}

void in_join(struct in *in)
{
	if (!in->sending)
		return;
	pthread_join(in->sending->thread, NULL);
	free(in->sending);
	in->sending = NULL;
}

/* In pieces: a thread waits while the program takes them. */
static int deliver_long(struct in *in, const char *data, size_t len)
{
	struct in_sending *sending = in->sending;
	int r;

	if (!sending) {
		sending = calloc(1, sizeof(*sending));
		if (!sending)
			return -EAGAIN;
		*sending = (struct in_sending){
			.pipe = in->port->pipe, .data = data, .len = len, .wake = in->link.wake
		};
		in->sending = sending;
		if (pthread_create(&sending->thread, NULL, send_in_thread, sending) != 0) {
			free(sending);
			in->sending = NULL;
		}
		return -EAGAIN;
	}
	if (!atomic_load_explicit(&sending->done, memory_order_acquire))
		return -EAGAIN;
	r = sending->result;
	in_join(in);
	return r;
}

static struct state_session *session_of(struct in *in)
{
	return &in->state->in.sessions[in->session];
}

static void delivered(struct in *in, size_t len)
{
	struct state_session *session = session_of(in);

	STATE_SET(session->next, in->number + 1);
	STATE_SET(session->open, in->port->generation);
	in->state->counts.messages++;
	in->state->counts.bytes += len;
	in->senders[in->session].messages++;
}

/* Whether a predecessor died while it delivered this very message into this very pipe. */
static bool is_doubtful(const struct in *in)
{
	const struct state_in *state = &in->state->in;

	return state->intent_session == in->session + 1 && state->intent_number == in->number;
}

static void declare(struct in *in, uint64_t position)
{
	struct state_in *state = &in->state->in;

	/* Invalid while it changes. */
	STATE_SET(state->intent_session, 0);
	STATE_SET(state->intent.position, position);
	STATE_SET(state->intent.generation, in->port->generation);
	STATE_SET(state->intent_number, in->number);
	STATE_SET(state->intent_session, in->session + 1);
}

/* True: the message is in the pipe already. */
static bool settle(struct in *in, uint64_t position)
{
	const struct state_mark *intent = &in->state->in.intent;

	if (!is_doubtful(in))
		return false;
	if (intent->generation == in->port->generation && intent->position != POSITION_UNKNOWN &&
	    position != POSITION_UNKNOWN)
		return intent->position != position;
	/* The pipe is another one, or the message went in fragments: it is sent once more. */
	in->state->counts.doubts++;
	return false;
}

/*
 * Called before anything else goes into a pipe that a predecessor used.  The message
 * that it was delivering when it died may not come again, and if it was delivered, it
 * must not be counted as lost.
 */
int in_settle(struct in *in)
{
	struct state_in *state = &in->state->in;
	struct state_session *session;
	uint64_t position;
	void *room;
	int r;

	if (!in->unsettled)
		return 0;
	session = &state->sessions[state->intent_session ? state->intent_session - 1 : 0];
	if (!state->intent_session || session->next != state->intent_number ||
	    state->intent.generation != in->port->generation || state->intent.position == POSITION_UNKNOWN) {
		in->unsettled = false;
		return 0;
	}
	r = bufpipe_reserve(in->port->pipe, &room, 1, 0);
	if (r < 0)
		return r;
	position = position_of(&in->positions, room);
	bufpipe_cancel(in->port->pipe);
	if (position != POSITION_UNKNOWN && position != state->intent.position) {
		STATE_SET(session->next, state->intent_number + 1);
		STATE_SET(session->open, in->port->generation);
		in->state->counts.messages++;
	}
	in->unsettled = false;
	return 0;
}

/*
 * One long message at a time is put together in the pipe itself.  If the worker dies
 * meanwhile, nothing of it is in the pipe, as with every message that is not committed.
 */
char *in_reserve(struct in *in, size_t len)
{
	void *room;

	/* What a predecessor may have delivered is settled first, in in_deliver. */
	if (in->room || in->sending || in->unsettled || is_doubtful(in) || !in->port->pipe ||
	    len > in->buffer_size || bufpipe_reserve(in->port->pipe, &room, len, 0) < 0)
		return NULL;
	in->room = room;
	in->room_session = in->session;
	return room;
}

/* Others need the pipe, or it is closed: continue the message in memory. */
void in_leave_room(struct in *in)
{
	struct in_whole *whole = &in->senders[in->room_session].whole;
	char *data;

	if (!in->room)
		return;
	data = malloc(whole->len);
	if (data)
		memcpy(data, in->room, whole->have);
	if (in->data == in->room)
		in->data = data;
	/* Without memory it is lost, which the next number will show. */
	if (!data)
		*whole = (struct in_whole){ 0 };
	whole->data = data;
	in->room = NULL;
	bufpipe_cancel(in->port->pipe);
}

static int deliver_in_place(struct in *in, size_t len)
{
	int r;

	declare(in, position_of(&in->positions, in->room));
	r = bufpipe_commit(in->port->pipe, len);
	if (r < 0) {
		in_leave_room(in);
		return r;
	}
	in->room = NULL;
	in->senders[in->session].whole.data = NULL;
	delivered(in, len);
	return 0;
}

int in_deliver(struct in *in, const char *data, size_t len)
{
	bufpipe_t *pipe = in->port->pipe;
	uint64_t position;
	void *room;
	int r;

	if (in->room && data == in->room)
		return deliver_in_place(in, len);
	in_leave_room(in);
	if (in->sending || len > in->buffer_size) {
		if (!in->sending) {
			settle(in, POSITION_UNKNOWN);
			declare(in, POSITION_UNKNOWN);
		}
		r = deliver_long(in, data, len);
		if (r == 0)
			delivered(in, len);
		return r;
	}
	r = bufpipe_reserve(pipe, &room, len, 0);
	if (r < 0)
		return r;
	position = position_of(&in->positions, room);
	if (settle(in, position)) {
		bufpipe_cancel(pipe);
		delivered(in, len);
		return 0;
	}
	memcpy(room, data, len);
	declare(in, position);
	r = bufpipe_commit(pipe, len);
	if (r == 0)
		delivered(in, len);
	return r;
}

void in_forget_whole(struct in *in)
{
	struct in_whole *whole = &in->senders[in->session].whole;

	in_join(in);
	if (in->room && whole->data == in->room) {
		bufpipe_cancel(in->port->pipe);
		in->room = NULL;
	} else {
		free(whole->data);
	}
	*whole = (struct in_whole){ 0 };
}
