/* SPDX-License-Identifier: MIT */
/* Core NATS: a subscription, and confirmations as out_core.c reads them. */
#include "in.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MS 1000000LL
/* Much less than OUT_WINDOW, so a sender seldom waits for a confirmation. */
#define CONFIRM_BYTES ((uint64_t)256 << 10)
/* So that senders know that we exist, even while the pipe is full. */
#define ALIVE_NS  (1000 * MS)
#define SILENT_NS (30000 * MS)
/* Several senders may have more in transit than one.  What exceeds this is dropped, and counted as lost. */
#define PENDING_BYTES (24 << 20)

static bool init(struct in *in)
{
	const uint8_t *random = in->state->in.consumer;

	/* From the state, so that a worker that takes over from a dead one confirms under the same name. */
	memcpy(in->member, in->line->nats.queue ? "m" : "b", 2);
	for (size_t i = 0; i < sizeof(in->state->in.consumer); i++)
		snprintf(in->member + 1 + 2 * i, 3, "%02x", random[i]);
	if (in->line->nats.queue)
		snprintf(in->name, sizeof(in->name), "q%s", in->line->nats.queue);
	else
		snprintf(in->name, sizeof(in->name), "%s", in->member);
	return true;
}

static void open(struct in *in)
{
	const struct nats_address *nats = &in->line->nats;
	natsStatus status;

	if (nats->queue)
		status = natsConnection_QueueSubscribeSync(&in->messages, in->link.nc, in->line->in_subject,
							   nats->queue);
	else
		status = natsConnection_SubscribeSync(&in->messages, in->link.nc, in->line->in_subject);
	if (status == NATS_OK)
		status = natsSubscription_SetPendingLimits(in->messages, -1, PENDING_BYTES);
	if (status != NATS_OK)
		complain_ratelimited(&in->ratelimit, in->line, "%s: subscribing to %s: %s", nats->servers,
				     in->line->in_subject, natsStatus_GetText(status));
}

static void confirm(struct in *in, unsigned session, int64_t now)
{
	struct in_sender *sender = &in->senders[session];
	char text[200];
	int len;

	if (!sender->reply[0] || in->link.state != LINK_UP)
		return;
	len = snprintf(text, sizeof(text), "%s %lu %lu %lu %lu %s", in->name,
		       in->state->in.sessions[session].next, sender->bytes, sender->messages,
		       in->state->in.sessions[session].ends, in->member);
	if (natsConnection_Publish(in->link.nc, sender->reply, text, len) != NATS_OK)
		return;
	sender->bytes = 0;
	sender->messages = 0;
	sender->confirmed_ns = now;
}

static void done(struct in *in, natsMsg *msg)
{
	struct in_sender *sender;
	const char *reply = natsMsg_GetReply(msg);
	uint64_t queued = 0;

	if (!in->in_session || in->foreign || !reply)
		return;
	sender = &in->senders[in->session];
	snprintf(sender->reply, sizeof(sender->reply), "%s", reply);
	sender->heard_ns = now_ns();
	/* Frames are counted whole, as the sender counts them. */
	if (in->frame.kind != FRAME_PROBE && in->frame.kind != FRAME_LEAVE)
		sender->bytes += (uint64_t)natsMsg_GetDataLength(msg);
	natsSubscription_QueuedMsgs(in->messages, &queued);
	if (queued == 0 || sender->bytes >= CONFIRM_BYTES || in->frame.kind == FRAME_PROBE)
		confirm(in, in->session, sender->heard_ns);
}

/* Frames that were dropped here are counted by their numbers; messages of programs without a bridge have none. */
static void tell_dropped(struct in *in)
{
	int64_t dropped = 0;

	if (!atomic_exchange_explicit(&in->link.slow, false, memory_order_relaxed))
		return;
	natsSubscription_GetDropped(in->messages, &dropped);
	complain_ratelimited(&in->ratelimit, in->line,
			     "messages come faster than the program takes them: %ld were dropped",
			     (long)dropped);
}

static void tick(struct in *in, int64_t now)
{
	tell_dropped(in);
	for (unsigned i = 0; i < STATE_SESSIONS; i++) {
		struct in_sender *sender = &in->senders[i];

		if (sender->reply[0] && now - sender->heard_ns > SILENT_NS && !in->blocked)
			sender->reply[0] = 0;
		else if (sender->reply[0] && now - sender->confirmed_ns >= ALIVE_NS)
			confirm(in, i, now);
	}
}

static void say_bye(struct in *in, const char *reply, const char *name)
{
	char text[100];
	int len = snprintf(text, sizeof(text), "%s bye", name);

	natsConnection_Publish(in->link.nc, reply, text, len);
}

/*
 * Senders need not wait for what we shall not confirm.  If the connection broke, we
 * come back, and then tell them at once that we are there.
 */
static void close(struct in *in)
{
	if (in->link.state != LINK_UP || natsConnection_IsClosed(in->link.nc))
		return;
	for (unsigned i = 0; i < STATE_SESSIONS; i++) {
		struct in_sender *sender = &in->senders[i];

		if (!sender->reply[0])
			continue;
		say_bye(in, sender->reply, in->name);
		if (in->line->nats.queue)
			say_bye(in, sender->reply, in->member);
		sender->reply[0] = 0;
	}
}

static bool is_status(struct in *in, natsMsg *msg)
{
	(void)in;
	(void)msg;
	return false;
}

const struct in_mode in_by_core = {
	.init = init,
	.open = open,
	.close = close,
	.tick = tick,
	.is_status = is_status,
	.done = done,
};
