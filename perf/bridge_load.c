/* SPDX-License-Identifier: MIT */
/*
 * One measurement for perf/bridge: messages through NATS by libnats alone, or
 * through pipes whose other sides are bridges.
 *
 *   bridge-load plain URL SUBJECT SIZE COUNT      libnats publisher to libnats subscriber
 *   bridge-load pipe FROM TO SIZE COUNT           pipe to pipe
 *   bridge-load plain-slow URL SUBJECT SIZE COUNT the same at 1000 a second
 *   bridge-load pipe-slow FROM TO SIZE COUNT
 *   bridge-load sync|async URL SUBJECT SIZE COUNT libnats publishing into a stream
 *   bridge-load send FROM SIZE COUNT              into a pipe, and no more
 *
 * Prints messages a second; of the slow ones the median of the time from one side
 * to the other, in microseconds.
 */
#include <bufpipe.h>
#include <nats/nats.h>

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define MOST_SAMPLES 100000

struct load {
	const char *from, *to; /* a URL and a subject, or two pipes */
	size_t size;
	uint64_t count;
	bool slow;
};

static char *message;

static int64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000000000LL + now.tv_nsec;
}

static void fail(const char *what, const char *why)
{
	fprintf(stderr, "bridge-load: %s: %s\n", what, why);
	exit(1);
}

static void check(natsStatus status, const char *what)
{
	if (status != NATS_OK)
		fail(what, natsStatus_GetText(status));
}

/* at_once: without it, libnats may hold messages back for up to a millisecond. */
static natsConnection *connect_plain(const char *url, bool at_once)
{
	natsOptions *options;
	natsConnection *nc;

	check(natsOptions_Create(&options), "options");
	check(natsOptions_SetURL(options, url), "url");
	check(natsOptions_SetSendAsap(options, at_once), "options");
	check(natsConnection_Connect(&nc, options), url);
	natsOptions_Destroy(options);
	return nc;
}

static bufpipe_t *connect_pipe(const char *address, unsigned flags)
{
	struct bufpipe_options options = { .flags = flags };
	bufpipe_t *pipe;

	for (int tries = 0; tries < 3000; tries++) {
		if (bufpipe_connect(&pipe, address, &options, 1000000000) == 0)
			return pipe;
		usleep(10000);
	}
	fail(address, "nobody is there");
	return NULL;
}

/* What both receivers do with a message, which contains the sender's clock. */
struct tally {
	uint64_t seen;
	int64_t first_ns; /* when the first message was sent */
	int64_t *times;
};

static void tally(struct tally *t, const char *data)
{
	int64_t sent_ns;

	memcpy(&sent_ns, data, sizeof(sent_ns));
	if (t->seen == 0)
		t->first_ns = sent_ns;
	if (t->seen < MOST_SAMPLES)
		t->times[t->seen] = now_ns() - sent_ns;
	t->seen++;
}

static int by_time(const void *a, const void *b)
{
	int64_t x = *(const int64_t *)a;
	int64_t y = *(const int64_t *)b;

	return (x > y) - (x < y);
}

static void report(const struct tally *t, const struct load *load)
{
	size_t middle = t->seen / 2;

	if (!load->slow) {
		printf("%.0f\n", (double)t->seen * 1e9 / (double)(now_ns() - t->first_ns));
		return;
	}
	qsort(t->times, t->seen, sizeof(*t->times), by_time);
	printf("%.1f\n", (double)t->times[middle] / 1e3);
}

static void stamp(const struct load *load)
{
	int64_t now = now_ns();

	memcpy(message, &now, sizeof(now));
	if (load->slow)
		usleep(1000);
}

static void publish_plain(const struct load *load)
{
	natsConnection *nc = connect_plain(load->from, load->slow);

	for (uint64_t n = 0; n < load->count; n++) {
		stamp(load);
		if (load->slow)
			stamp(&(struct load){ .size = load->size });
		check(natsConnection_Publish(nc, load->to, message, (int)load->size), "publish");
	}
	check(natsConnection_FlushTimeout(nc, 60000), "flush");
	natsConnection_Destroy(nc);
}

static void receive_plain(const struct load *load, int ready, struct tally *t)
{
	natsConnection *nc = connect_plain(load->from, load->slow);
	natsSubscription *sub;
	natsMsg *msg;

	check(natsConnection_SubscribeSync(&sub, nc, load->to), "subscribe");
	check(natsSubscription_SetPendingLimits(sub, -1, -1), "limits");
	check(natsConnection_Flush(nc), "flush");
	if (write(ready, "", 1) != 1)
		exit(1);
	while (t->seen < load->count) {
		check(natsSubscription_NextMsg(&msg, sub, 60000), "receive");
		tally(t, natsMsg_GetData(msg));
		natsMsg_Destroy(msg);
	}
}

static void send_pipe(const struct load *load)
{
	bufpipe_t *pipe = connect_pipe(load->from, BUFPIPE_SEND);

	for (uint64_t n = 0; n < load->count; n++) {
		stamp(load);
		if (load->slow)
			stamp(&(struct load){ .size = load->size });
		if (bufpipe_send(pipe, message, load->size, -1) < 0)
			fail("send", load->from);
	}
	bufpipe_shutdown(pipe);
	bufpipe_close(pipe);
}

static void receive_pipe(const struct load *load, int ready, struct tally *t)
{
	bufpipe_t *pipe = connect_pipe(load->to, BUFPIPE_RECEIVE);
	char *data = malloc(load->size + 8);

	if (!data || write(ready, "", 1) != 1)
		exit(1);
	while (t->seen < load->count) {
		if (bufpipe_recv(pipe, data, load->size, 60000000000) < 0)
			fail("receive", load->to);
		tally(t, data);
	}
	bufpipe_close(pipe);
}

static int through(const struct load *load, void (*send)(const struct load *),
		   void (*receive)(const struct load *, int, struct tally *))
{
	struct tally t = { .times = malloc(MOST_SAMPLES * sizeof(*t.times)) };
	int ready[2];
	char byte;
	int status;

	if (!t.times || pipe(ready) < 0)
		fail("start", "no memory");
	if (fork() == 0) {
		receive(load, ready[1], &t);
		report(&t, load);
		exit(0);
	}
	if (read(ready[0], &byte, 1) != 1)
		fail("start", "the receiver died");
	send(load);
	return wait(&status) > 0 && status == 0 ? 0 : 1;
}

static int into_stream(const struct load *load, bool async)
{
	natsConnection *nc = connect_plain(load->from, load->slow);
	jsCtx *js;
	int64_t begin_ns;

	check(natsConnection_JetStream(&js, nc, NULL), "JetStream");
	begin_ns = now_ns();
	for (uint64_t n = 0; n < load->count; n++) {
		if (async)
			check(js_PublishAsync(js, load->to, message, (int)load->size, NULL), "publish");
		else
			check(js_Publish(NULL, js, load->to, message, (int)load->size, NULL, NULL),
			      "publish");
	}
	if (async)
		check(js_PublishAsyncComplete(js, &(jsPubOptions){ .MaxWait = 60000 }), "complete");
	printf("%.0f\n", (double)load->count * 1e9 / (double)(now_ns() - begin_ns));
	jsCtx_Destroy(js);
	natsConnection_Destroy(nc);
	return 0;
}

int main(int argc, char **argv)
{
	struct load load = { 0 };
	const char *mode = argc > 1 ? argv[1] : "";

	if (argc == 5 && strcmp(mode, "send") == 0) {
		load = (struct load){ .from = argv[2], .size = strtoul(argv[3], NULL, 10) };
		load.count = strtoull(argv[4], NULL, 10);
	} else if (argc == 6) {
		load = (struct load){ .from = argv[2], .to = argv[3], .size = strtoul(argv[4], NULL, 10) };
		load.count = strtoull(argv[5], NULL, 10);
	}
	if (load.size < 8 || load.count == 0)
		fail("usage", "see the head of perf/bridge_load.c");
	load.slow = strstr(mode, "-slow") != NULL;
	message = calloc(1, load.size);
	if (!message)
		fail("start", "no memory");
	if (strncmp(mode, "plain", 5) == 0)
		return through(&load, publish_plain, receive_plain);
	if (strncmp(mode, "pipe", 4) == 0)
		return through(&load, send_pipe, receive_pipe);
	if (strcmp(mode, "send") == 0) {
		send_pipe(&load);
		return 0;
	}
	return into_stream(&load, strcmp(mode, "async") == 0);
}
