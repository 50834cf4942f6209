/* SPDX-License-Identifier: MIT */
#include "link.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MS 1000000LL
/* Pauses between attempts.  They begin short, for a server that restarts, and grow, for one that is away. */
#define PAUSE_FIRST_NS (50 * MS)
#define PAUSE_LAST_NS  (5000 * MS)
/* How long a server has to accept a connection. */
#define CONNECT_MS 5000
/* A server that leaves this many pings unanswered is gone. */
#define PING_INTERVAL_MS 5000
#define PINGS_OUT        2

void link_say_why(struct link *link, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(link->why, sizeof(link->why), format, args);
	va_end(args);
}

/* libnats puts a place in its own source before its text, and has none for some failures. */
const char *link_reason(natsStatus status)
{
	natsStatus last = status;
	const char *text = nats_GetLastError(&last);
	const char *behind = text && *text == '(' ? strstr(text, "): ") : NULL;

	if (behind)
		text = behind + strlen("): ");
	return text && *text ? text : natsStatus_GetText(status);
}

void link_init(struct link *link, const struct bridge_config *config, const struct line_config *line,
	       int wake)
{
	link->config = config;
	link->line = line;
	link->wake = wake;
	link->fd = -1;
	link->pause_ns = PAUSE_FIRST_NS;
	link->down_since_ns = now_ns();
}

static void wake_loop(const struct link *link)
{
	const uint64_t one = 1;

	/* This fails only if the counter is full, and then the loop wakes up anyway. */
	if (write(link->wake, &one, sizeof(one)) < 0)
		return;
}

/* What libnats calls in an event loop.  The worker looks at each link by itself, so these calls do little. */
static natsStatus on_attach(void **user, void *loop, natsConnection *nc, natsSock socket)
{
	struct link *link = loop;

	(void)nc;
	link->made_fd = (int)socket;
	*user = link;
	return NATS_OK;
}

static natsStatus on_read(void *user, bool add)
{
	(void)user;
	(void)add;
	return NATS_OK;
}

static natsStatus on_write(void *user, bool add)
{
	struct link *link = user;

	if (atomic_exchange_explicit(&link->wants_write, add, memory_order_relaxed) != add && add)
		wake_loop(link);
	return NATS_OK;
}

static natsStatus on_detach(void *user)
{
	(void)user;
	return NATS_OK;
}

static void on_closed(natsConnection *nc, void *closure)
{
	(void)nc;
	wake_loop(closure);
}

static void on_error(natsConnection *nc, natsSubscription *sub, natsStatus status, void *closure)
{
	struct link *link = closure;
	const char *text = NULL;

	(void)sub;
	if (status == NATS_SLOW_CONSUMER) {
		atomic_store_explicit(&link->slow, true, memory_order_relaxed);
		return;
	}
	if (atomic_load_explicit(&link->failed, memory_order_acquire))
		return;
	natsConnection_GetLastError(nc, &text);
	snprintf(link->refusal, sizeof(link->refusal), "%s",
		 text && *text ? text : natsStatus_GetText(status));
	atomic_store_explicit(&link->failed, true, memory_order_release);
	wake_loop(link);
}

static natsStatus set_servers(natsOptions *options, const char *servers)
{
	/* The list is short, and the addresses were checked before. */
	char *copy = strdup(servers);
	const char *list[16];
	natsStatus status;
	int n = 0;
	char *rest = copy;
	char *one;

	if (!copy)
		return NATS_NO_MEMORY;
	while (n < 16 && (one = strtok_r(rest, ",", &rest)))
		list[n++] = one;
	status = natsOptions_SetServers(options, list, n);
	free(copy);
	return status;
}

static natsStatus set_auth(natsOptions *options, const struct nats_auth *auth, bool tls)
{
	natsStatus status = NATS_OK;

	if (auth->user)
		status = natsOptions_SetUserInfo(options, auth->user, auth->password);
	if (status == NATS_OK && auth->token)
		status = natsOptions_SetToken(options, auth->token);
	if (status == NATS_OK && auth->creds)
		status = natsOptions_SetUserCredentialsFromFiles(options, auth->creds, NULL);
	if (status == NATS_OK && auth->nkey)
		status = natsOptions_SetNKeyFromSeed(options, auth->nkey, auth->seed);
	if (status == NATS_OK && (tls || auth->ca || auth->cert))
		status = natsOptions_SetSecure(options, true);
	if (status == NATS_OK && auth->ca)
		status = natsOptions_LoadCATrustedCertificates(options, auth->ca);
	if (status == NATS_OK && auth->cert)
		status = natsOptions_LoadCertificatesChain(options, auth->cert, auth->key);
	return status;
}

static natsStatus make_options(natsOptions **made, struct link *link, bool in_loop)
{
	const struct nats_address *nats = &link->line->nats;
	natsOptions *options;
	natsStatus status = natsOptions_Create(&options);

	if (status != NATS_OK)
		return status;
	status = set_servers(options, nats->servers);
	if (status == NATS_OK)
		status = set_auth(options, &link->config->auth, strncmp(nats->servers, "tls:", 4) == 0);
	if (status == NATS_OK)
		status = natsOptions_SetName(options, link->line->text);
	natsOptions_SetAllowReconnect(options, false);
	natsOptions_SetTimeout(options, CONNECT_MS);
	natsOptions_SetPingInterval(options, PING_INTERVAL_MS);
	natsOptions_SetMaxPingsOut(options, PINGS_OUT);
	natsOptions_SetNoEcho(options, true);
	natsOptions_SetMaxPendingMsgs(options, 65536);
	natsOptions_SetErrorHandler(options, on_error, link);
	if (status == NATS_OK && in_loop) {
		natsOptions_SetIOBufSize(options, 256 * 1024);
		natsOptions_SetClosedCB(options, on_closed, link);
		status = natsOptions_SetEventLoop(options, link, on_attach, on_read, on_write, on_detach);
	}
	if (status == NATS_OK)
		*made = options;
	else
		natsOptions_Destroy(options);
	return status;
}

static natsStatus connect_once(natsConnection **nc, struct link *link, bool in_loop)
{
	natsOptions *options = NULL;
	natsStatus status = make_options(&options, link, in_loop);

	if (status == NATS_OK) {
		status = natsConnection_Connect(nc, options);
		natsOptions_Destroy(options);
	}
	if (status != NATS_OK)
		link_say_why(link, "%s: %s", link->line->nats.servers, link_reason(status));
	return status;
}

static enum link_result prepare(struct link *link)
{
	natsConnection *nc = NULL;
	enum link_result result;

	if (!link->prepare)
		return LINK_OK;
	if (connect_once(&nc, link, false) != NATS_OK)
		return LINK_RETRY;
	result = link->prepare(link, nc);
	natsConnection_Destroy(nc);
	return result;
}

static void *connect_in_thread(void *argument)
{
	struct link *link = argument;

	link->result = prepare(link);
	if (link->result == LINK_OK && connect_once(&link->made, link, true) != NATS_OK)
		link->result = LINK_RETRY;
	nats_ReleaseThreadMemory();
	atomic_store_explicit(&link->thread_done, true, memory_order_release);
	wake_loop(link);
	return NULL;
}

static void wait_before_next_try(struct link *link, int64_t now)
{
	/* Random, so that many bridges that lost one server do not come back at the same moment. */
	link->next_try_ns =
		now + link->pause_ns / 2 + (int64_t)((uint64_t)random() % (uint64_t)link->pause_ns);
	link->pause_ns *= 2;
	if (link->pause_ns > PAUSE_LAST_NS)
		link->pause_ns = PAUSE_LAST_NS;
}

static void begin_to_connect(struct link *link, int64_t now)
{
	atomic_store_explicit(&link->thread_done, false, memory_order_relaxed);
	atomic_store_explicit(&link->failed, false, memory_order_relaxed);
	link->made = NULL;
	if (pthread_create(&link->thread, NULL, connect_in_thread, link) == 0)
		link->state = LINK_CONNECTING;
	else
		wait_before_next_try(link, now);
}

static enum link_event take_result(struct link *link, int64_t now)
{
	pthread_join(link->thread, NULL);
	link->state = LINK_DOWN;
	/* One of many pipes waits until somebody makes its stream. */
	if (link->result == LINK_FATAL && link->config->n == 1) {
		link->given_up = true;
		return LINK_GAVE_UP;
	}
	if (link->result != LINK_OK) {
		wait_before_next_try(link, now);
		return LINK_WENT_DOWN;
	}
	link->nc = link->made;
	link->fd = link->made_fd;
	link->state = LINK_UP;
	link->epoch++;
	link->pause_ns = PAUSE_FIRST_NS;
	return LINK_CAME_UP;
}

void link_drop(struct link *link)
{
	if (link->state != LINK_UP)
		return;
	/*
	 * If libnats finds anything in its buffer, such as the end of a subscription,
	 * it waits half a second for an answer, which only this thread could read.
	 */
	link_flush(link);
	natsConnection_Destroy(link->nc);
	link->nc = NULL;
	link->fd = -1;
	link->state = LINK_DOWN;
	link->down_since_ns = now_ns();
	wait_before_next_try(link, link->down_since_ns);
}

enum link_event link_tick(struct link *link, int64_t now)
{
	int64_t give_up_ns = link->config->give_up_ns;

	switch (link->state) {
	case LINK_UP:
		if (atomic_load_explicit(&link->failed, memory_order_acquire))
			link_say_why(link, "%s: %s", link->line->nats.servers, link->refusal);
		else if (natsConnection_IsClosed(link->nc))
			link_say_why(link, "%s: the connection broke", link->line->nats.servers);
		else
			return LINK_UNCHANGED;
		return LINK_WENT_DOWN;
	case LINK_CONNECTING:
		if (!atomic_load_explicit(&link->thread_done, memory_order_acquire))
			return LINK_UNCHANGED;
		return take_result(link, now);
	case LINK_DOWN:
		if (link->given_up)
			return LINK_UNCHANGED;
		if (give_up_ns >= 0 && now - link->down_since_ns > give_up_ns) {
			link->given_up = true;
			return LINK_GAVE_UP;
		}
		if (now >= link->next_try_ns)
			begin_to_connect(link, now);
	}
	return LINK_UNCHANGED;
}

void link_read(struct link *link)
{
	if (link->state == LINK_UP)
		natsConnection_ProcessReadEvent(link->nc);
}

size_t link_pending(const struct link *link)
{
	int pending = link->state == LINK_UP ? natsConnection_Buffered(link->nc) : 0;

	return pending > 0 ? (size_t)pending : 0;
}

bool link_flush(struct link *link)
{
	size_t before = link_pending(link);
	size_t after;

	if (before == 0)
		return false;
	natsConnection_ProcessWriteEvent(link->nc);
	after = link_pending(link);
	atomic_store_explicit(&link->wants_write, after > 0, memory_order_relaxed);
	return after > 0;
}

void link_close(struct link *link)
{
	if (link->state == LINK_CONNECTING) {
		pthread_join(link->thread, NULL);
		natsConnection_Destroy(link->made);
		link->state = LINK_DOWN;
	}
	link_drop(link);
}
