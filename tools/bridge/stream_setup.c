/* SPDX-License-Identifier: MIT */
/*
 * Requests to a JetStream server before a lane continues.  They run in the thread of
 * a link, on a separate connection, so they may wait.
 */
#include "in.h"
#include "out.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* How long the server recognises duplicates. */
#define DUPLICATES_NS (120 * SECOND_NS)
/* When the server forgets a consumer that nobody asks.  Our state says where to continue. */
#define FORGOTTEN_NS (SECOND_NS * 3600 * 24 * 7)
/* In a queue, a message that was not acknowledged comes again after this time. */
#define QUEUE_WAIT_NS (30 * SECOND_NS)
/* For a single bridge this never happens: it makes a new request instead. */
#define ALONE_WAIT_NS (SECOND_NS * 3600 * 24)

/*
 * How many frames may be unacknowledged: more than a message of 1 GiB has chunks, which are acknowledged
 * together with the last one.  How much is asked for bounds the memory.
 */
#define MOST_PENDING 100000

/* The server has no JetStream, or does not permit this.  Somebody must change that; until then it is tried again. */
static enum link_result refuse(struct link *link, natsStatus status, const char *doing)
{
	link_say_why(link, "%s: stream %s: %s: %s", link->line->nats.servers, link->line->nats.stream, doing,
		     link_reason(status));
	return LINK_RETRY;
}

static natsStatus create(struct link *link, jsCtx *js)
{
	const struct line_config *line = link->line;
	const char *subjects[2] = { line->out_subject, line->in_subject };
	jsStreamConfig config;

	jsStreamConfig_Init(&config);
	config.Name = line->nats.stream;
	config.Subjects = subjects;
	config.SubjectsLen = line->duplex ? 2 : 1;
	config.Storage = js_FileStorage;
	config.Duplicates = DUPLICATES_NS;
	if (line->nats.max_bytes) {
		config.MaxBytes = (int64_t)line->nats.max_bytes;
		/* A full stream stops the sender, rather than losing the oldest. */
		config.Discard = js_DiscardNew;
	}
	return js_AddStream(NULL, js, &config, NULL, NULL);
}

static enum link_result find_stream(struct link *link, jsCtx *js, jsStreamInfo **info)
{
	natsStatus status = js_GetStreamInfo(info, js, link->line->nats.stream, NULL, NULL);

	if (status == NATS_NOT_FOUND && link->line->nats.create) {
		status = create(link, js);
		if (status == NATS_OK)
			status = js_GetStreamInfo(info, js, link->line->nats.stream, NULL, NULL);
	}
	if (status == NATS_NOT_FOUND) {
		link_say_why(link, "%s: there is no stream %s; ?create would make it",
			     link->line->nats.servers, link->line->nats.stream);
		return LINK_FATAL;
	}
	return status == NATS_OK ? LINK_OK : refuse(link, status, "looking for it");
}

/* Whether a subject is one of those that a stream collects. */
static bool collects(const jsStreamConfig *config, const char *subject)
{
	for (int i = 0; i < config->SubjectsLen; i++) {
		const char *pattern = config->Subjects[i];
		const char *at = subject;

		while (*pattern && *at) {
			if (*pattern == '>')
				return true;
			if (*pattern == '*') {
				at += strcspn(at, ".");
				pattern++;
			} else if (*pattern++ != *at++) {
				break;
			}
		}
		if (!*pattern && !*at)
			return true;
	}
	return false;
}

static enum link_result check_subject(struct link *link, const jsStreamInfo *info, const char *subject)
{
	if (collects(info->Config, subject))
		return LINK_OK;
	link_say_why(link, "%s: stream %s does not collect the subject %s", link->line->nats.servers,
		     link->line->nats.stream, subject);
	return LINK_FATAL;
}

/* Looks at the last message of our subject in the stream.  If we sent it, all that we sent before has arrived, too. */
static void look_at_last(struct out *out, jsCtx *js)
{
	natsMsg *msg = NULL;
	struct frame frame;

	out->last_known = false;
	if (js_GetLastMsg(&msg, js, out->line->nats.stream, out->line->out_subject, NULL, NULL) != NATS_OK)
		return;
	if (frame_read(&frame, natsMsg_GetData(msg), (size_t)natsMsg_GetDataLength(msg)) == FRAME_OK &&
	    memcmp(frame.session, out->state->out.session, FRAME_SESSION) == 0) {
		out->last_known = true;
		/* The count of chunks is no count of messages, and the last one may be missing. */
		out->last_next = frame.first + (frame.kind == FRAME_CHUNKED ? 0 : frame.count);
	}
	natsMsg_Destroy(msg);
}

enum link_result out_prepare_stream(struct link *link, natsConnection *nc)
{
	struct out *out = link->owner;
	enum link_result result;
	jsStreamInfo *info = NULL;
	jsCtx *js = NULL;
	natsStatus status = natsConnection_JetStream(&js, nc, NULL);

	if (status != NATS_OK)
		return refuse(link, status, "JetStream");
	result = find_stream(link, js, &info);
	if (result == LINK_OK)
		result = check_subject(link, info, link->line->out_subject);
	if (result == LINK_OK)
		look_at_last(out, js);
	jsStreamInfo_Destroy(info);
	jsCtx_Destroy(js);
	return result;
}

static void set_start(jsConsumerConfig *config, const struct in *in, const jsConsumerInfo *before)
{
	const struct nats_address *nats = &in->line->nats;

	if (in->state->in.stream_next) {
		config->DeliverPolicy = js_DeliverByStartSequence;
		config->OptStartSeq = in->state->in.stream_next;
		return;
	}
	switch (nats->start) {
	case START_DEFAULT:
		/* A state that was lost: what the server knows is at most a little less. */
		if (!before || before->AckFloor.Stream == 0)
			break;
		config->DeliverPolicy = js_DeliverByStartSequence;
		config->OptStartSeq = before->AckFloor.Stream + 1;
		return;
	case START_NEW:
		config->DeliverPolicy = js_DeliverNew;
		return;
	case START_SEQUENCE:
		config->DeliverPolicy = js_DeliverByStartSequence;
		config->OptStartSeq = nats->start_sequence;
		return;
	case START_TIME:
		config->DeliverPolicy = js_DeliverByStartTime;
		config->OptStartTime = nats->start_time_ns;
		return;
	case START_FIRST:
		break;
	}
	config->DeliverPolicy = js_DeliverAll;
}

/* Makes the consumer, which begins where we want to go on.  The consumer of a queue stays as it is, if there is one. */
static natsStatus make_consumer(struct in *in, jsCtx *js)
{
	const char *stream = in->line->nats.stream;
	const char *queue = in->line->nats.queue;
	jsConsumerInfo *before = NULL;
	jsConsumerConfig config;
	natsStatus status = js_GetConsumerInfo(&before, js, stream, in->consumer, NULL, NULL);

	if (status != NATS_OK && status != NATS_NOT_FOUND)
		return status;
	if (status == NATS_OK && queue) {
		jsConsumerInfo_Destroy(before);
		return NATS_OK;
	}
	jsConsumerConfig_Init(&config);
	config.Durable = in->consumer;
	/*
	 * One acknowledgement covers all messages before it, so chunks need none of their own.  A work queue
	 * and a queue require one for each message.
	 */
	config.AckPolicy = queue || in->workqueue ? js_AckExplicit : js_AckAll;
	config.AckWait = queue ? QUEUE_WAIT_NS : ALONE_WAIT_NS;
	config.MaxAckPending = MOST_PENDING;
	config.FilterSubject = in->line->in_subject;
	config.InactiveThreshold = queue ? 0 : FORGOTTEN_NS;
	set_start(&config, in, before);
	/* A work queue has removed what was acknowledged, so go on with the first message that is left. */
	if (in->workqueue) {
		config.DeliverPolicy = js_DeliverAll;
		config.OptStartSeq = 0;
	}
	jsConsumerInfo_Destroy(before);
	if (status == NATS_OK)
		status = js_DeleteConsumer(js, stream, in->consumer, NULL, NULL);
	if (status == NATS_OK || status == NATS_NOT_FOUND)
		status = js_AddConsumer(NULL, js, stream, &config, NULL, NULL);
	return status;
}

enum link_result in_prepare_stream(struct link *link, natsConnection *nc)
{
	struct in *in = link->owner;
	enum link_result result;
	jsStreamInfo *info = NULL;
	jsCtx *js = NULL;
	natsStatus status = natsConnection_JetStream(&js, nc, NULL);

	if (status != NATS_OK)
		return refuse(link, status, "JetStream");
	result = find_stream(link, js, &info);
	if (result == LINK_OK)
		result = check_subject(link, info, link->line->in_subject);
	if (result == LINK_OK && info->Config->Retention == js_InterestPolicy && !link->line->nats.queue) {
		link_say_why(link, "%s: stream %s keeps messages by interest, which needs a queue here",
			     link->line->nats.servers, link->line->nats.stream);
		result = LINK_FATAL;
	}
	if (result == LINK_OK) {
		in->workqueue = info->Config->Retention == js_WorkQueuePolicy;
		status = make_consumer(in, js);
		if (status != NATS_OK)
			result = refuse(link, status, "making a consumer");
	}
	jsStreamInfo_Destroy(info);
	jsCtx_Destroy(js);
	return result;
}
