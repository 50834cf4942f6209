/* SPDX-License-Identifier: MIT */
/*
 * Preloaded into a bridge, this library kills the worker just before or just after
 * a call that moves a message, or the end of a stream, one step further.
 *
 *   BUFPIPE_TEST_KILL=CALL,before|after,EVERY
 *
 * CALL is commit, release, publish (into a stream), end (the end of a stream, over
 * core NATS) or shutdown.  Each worker dies at the Nth such call, where N is a random
 * number from 1 to EVERY.
 */
#include <dlfcn.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include <bufpipe.h>

/* Declared here, because this library is built without the headers of NATS. */
int natsConnection_PublishMsg(void *nc, void *msg);
int natsConnection_PublishRequest(void *nc, const char *subject, const char *reply, const void *data,
				  int len);

/* The offset of the kind in a frame, and the kind of an end: see tools/bridge/frame.h. */
#define AT_KIND 4
#define END     3

static void *real(const char *name)
{
	return dlsym(RTLD_NEXT, name);
}

/* Counts the calls, and tells whether the worker dies at this one. */
static bool is_due(const char *call, const char *when)
{
	static unsigned left;
	static bool ready;
	static char wanted_call[32], wanted_when[8];
	unsigned every, random;
	const char *text = getenv("BUFPIPE_TEST_KILL");

	if (!ready && text && sscanf(text, "%31[^,],%7[^,],%u", wanted_call, wanted_when, &every) == 3) {
		if (getrandom(&random, sizeof(random), 0) != sizeof(random))
			return false;
		left = random % every + 1;
	}
	ready = true;
	return strcmp(call, wanted_call) == 0 && strcmp(when, wanted_when) == 0 && left > 0 && --left == 0;
}

static void die_if_due(const char *call, const char *when)
{
	if (is_due(call, when))
		kill(getpid(), SIGKILL);
}

int bufpipe_commit(bufpipe_t *pipe, size_t len)
{
	int (*call)(bufpipe_t *, size_t) = real("bufpipe_commit");
	int r;

	die_if_due("commit", "before");
	r = call(pipe, len);
	die_if_due("commit", "after");
	return r;
}

/* A call with no argument but the pipe. */
static int call_and_die(const char *call, const char *function, bufpipe_t *pipe)
{
	int (*original)(bufpipe_t *) = real(function);
	int r;

	die_if_due(call, "before");
	r = original(pipe);
	die_if_due(call, "after");
	return r;
}

int bufpipe_release(bufpipe_t *pipe)
{
	return call_and_die("release", "bufpipe_release", pipe);
}

int bufpipe_shutdown(bufpipe_t *pipe)
{
	return call_and_die("shutdown", "bufpipe_shutdown", pipe);
}

int natsConnection_PublishMsg(void *nc, void *msg)
{
	int (*call)(void *, void *) = real("natsConnection_PublishMsg");
	int r;

	die_if_due("publish", "before");
	r = call(nc, msg);
	die_if_due("publish", "after");
	return r;
}

int natsConnection_PublishRequest(void *nc, const char *subject, const char *reply, const void *data, int len)
{
	int (*call)(void *, const char *, const char *, const void *, int) =
		real("natsConnection_PublishRequest");
	bool ends = len > AT_KIND && memcmp(data, "bpF1", 4) == 0 && ((const char *)data)[AT_KIND] == END;
	int r;

	if (ends)
		die_if_due("end", "before");
	r = call(nc, subject, reply, data, len);
	if (ends)
		die_if_due("end", "after");
	return r;
}
