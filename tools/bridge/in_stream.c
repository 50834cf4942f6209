/* SPDX-License-Identifier: MIT */
/*
 * JetStream: a durable consumer, asked for a bounded number of frames at a time.
 *
 * The state records what has been delivered: the next number of each session,
 * exactly, and the next message of the stream to look at, roughly.  The server
 * learns this from acknowledgements, and we never rely on what it knows.  Each
 * connection makes the consumer anew, beginning with the message of the stream that
 * the state names.  So the order is that of the stream, and nothing waits for a timeout.
 *
 * A queue is different: its members share one consumer, which is kept.  So a
 * message may be delivered twice if a member dies before it has acknowledged it.
 */
#include "in.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MS 1000000LL
/* How many frames may be on the way to us.  With 256 KiB each, they take most of our memory. */
#define ASK       32u
#define EXPIRE_NS (20000 * MS)
/* The server answers a request after this time at the latest.  If it does not, it has forgotten us. */
#define SILENCE_NS (EXPIRE_NS + 5000 * MS)
/* How often a member of a queue tells the server that it is still working on a message. */
#define STILL_NS (10000 * MS)

static bool init(struct in *in)
{
	const struct nats_address *nats = &in->line->nats;
	size_t at;

	if (nats->queue || nats->consumer) {
		snprintf(in->consumer, sizeof(in->consumer), "%s",
			 nats->queue ? nats->queue : nats->consumer);
	} else {
		at = (size_t)snprintf(in->consumer, sizeof(in->consumer), "bufpipe-");
		for (unsigned i = 0; i < sizeof(in->state->in.consumer); i++)
			at += (size_t)snprintf(in->consumer + at, sizeof(in->consumer) - at, "%02x",
					       in->state->in.consumer[i]);
	}
	in->link.prepare = in_prepare_stream;
	return true;
}

static void ask(struct in *in, int64_t now)
{
	char subject[300], reply[100], body[100];
	natsStatus status;
	int len;

	in->request = !in->request;
	in->asked[in->request] = ASK;
	in->asked_ns = now;
	snprintf(subject, sizeof(subject), "$JS.API.CONSUMER.MSG.NEXT.%s.%s", in->line->nats.stream,
		 in->consumer);
	snprintf(reply, sizeof(reply), "%s.%u", in->inbox, in->request);
	len = snprintf(body, sizeof(body), "{\"batch\":%u,\"expires\":%lld}", ASK, EXPIRE_NS);
	status = natsConnection_PublishRequest(in->link.nc, subject, reply, body, len);
	if (status != NATS_OK)
		complain_ratelimited(&in->ratelimit, in->line, "%s: asking stream %s: %s",
				     in->line->nats.servers, in->line->nats.stream,
				     natsStatus_GetText(status));
}

static void forget_acks(struct in *in)
{
	while (in->n_acks > 0)
		free(in->acks[--in->n_acks]);
	free(in->acks);
	in->acks = NULL;
}

/* Without memory the chunk stays in the work queue, where it does no harm. */
static void keep_ack(struct in *in, const char *reply)
{
	char **more = realloc(in->acks, (in->n_acks + 1) * sizeof(*more));

	if (!more)
		return;
	in->acks = more;
	more[in->n_acks] = strdup(reply);
	if (more[in->n_acks])
		in->n_acks++;
}

static void open(struct in *in)
{
	char subject[sizeof(in->inbox) + 4];
	natsStatus status;

	snprintf(subject, sizeof(subject), "%s.*", in->inbox);
	status = natsConnection_SubscribeSync(&in->messages, in->link.nc, subject);
	if (status == NATS_OK)
		status = natsSubscription_SetPendingLimits(in->messages, -1, -1);
	if (status != NATS_OK) {
		complain_ratelimited(&in->ratelimit, in->line, "%s: subscribing: %s", in->line->nats.servers,
				     natsStatus_GetText(status));
		return;
	}
	in->asked[0] = 0;
	in->asked[1] = 0;
	forget_acks(in);
	ask(in, now_ns());
}

static void close(struct in *in)
{
	/* The consumer is made anew for the next program, at the message after those that were delivered. */
	forget_acks(in);
	link_say_why(&in->link, "the program left");
	link_drop(&in->link);
}

/* The requests are served one after the other. */
static void count_message(struct in *in)
{
	unsigned older = !in->request;

	if (in->asked[older] > 0)
		in->asked[older]--;
	else if (in->asked[in->request] > 0)
		in->asked[in->request]--;
}

/* What the server says about a request: it has expired, or the consumer is gone. */
static bool is_status(struct in *in, natsMsg *msg)
{
	const char *subject = natsMsg_GetSubject(msg);
	const char *status = NULL;
	size_t prefix = strlen(in->inbox);

	if (strncmp(subject, in->inbox, prefix) != 0) {
		count_message(in);
		return false;
	}
	if (natsMsg_IsNoResponders(msg)) {
		in->asked_ns = 0;
		return true;
	}
	natsMsgHeader_Get(msg, "Status", &status);
	if (status && strcmp(status, "100") != 0)
		in->asked[subject[prefix + 1] == '1'] = 0;
	/* 409: the consumer is deleted, or the server shuts down. */
	if (status && strcmp(status, "409") == 0)
		in->asked_ns = 0;
	return true;
}

static void acknowledge(struct in *in, const char *reply)
{
	if (in->link.state == LINK_UP)
		natsConnection_Publish(in->link.nc, reply, "+ACK", 4);
}

static void done(struct in *in, natsMsg *msg)
{
	const char *reply = natsMsg_GetReply(msg);
	struct in_whole *whole = in->in_session ? &in->senders[in->session].whole : NULL;
	uint64_t sequence, time_ns;

	if (!reply || !in_stream_place(msg, &sequence, &time_ns))
		return;
	/* While a long message is incomplete, all of its chunks must come again after a crash. */
	if (whole && whole->data && in->frame.kind == FRAME_CHUNKED) {
		if (in->workqueue)
			keep_ack(in, reply);
		return;
	}
	STATE_SET(in->state->in.stream_next, sequence + 1);
	for (size_t n = 0; n < in->n_acks; n++)
		acknowledge(in, in->acks[n]);
	forget_acks(in);
	acknowledge(in, reply);
}

static void tick(struct in *in, int64_t now)
{
	const char *reply = in->msg ? natsMsg_GetReply(in->msg) : NULL;

	if (in->link.state != LINK_UP)
		return;
	if (!in->msg && now - in->asked_ns > SILENCE_NS) {
		link_say_why(&in->link, "%s: consumer %s of stream %s does not answer",
			     in->line->nats.servers, in->consumer, in->line->nats.stream);
		atomic_store_explicit(&in->link.failed, true, memory_order_relaxed);
		snprintf(in->link.refusal, sizeof(in->link.refusal), "consumer %s does not answer",
			 in->consumer);
		return;
	}
	if (in->line->nats.queue && reply && now >= in->still_ns) {
		natsConnection_Publish(in->link.nc, reply, "+WPI", 4);
		in->still_ns = now + STILL_NS;
	}
	if (in->asked[0] + in->asked[1] <= ASK / 2 && !worker_drains(in->port->worker))
		ask(in, now);
}

const struct in_mode in_by_stream = {
	.init = init,
	.open = open,
	.close = close,
	.tick = tick,
	.is_status = is_status,
	.done = done,
};
