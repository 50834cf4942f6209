/* SPDX-License-Identifier: MIT */
/*
 * Preloaded into a bridge: kills the worker just before or just after one of the
 * calls between which a message, or the end of a stream, is counted, committed or
 * released.  CALL is commit, release, publish (into a stream), end (which is
 * published without a stream) or shutdown.
 *
 *   BUFPIPE_TEST_KILL=CALL,before|after,EVERY
 *
 * Each worker dies at a call of its own, of a random number up to EVERY.
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

/* Not <nats/nats.h>: this is built for any test. */
int natsConnection_PublishMsg(void *nc, void *msg);
int natsConnection_PublishRequest(void *nc, const char *subject, const char *reply, const void *data,
				  int len);

/* Where a frame says what it is, and what an end says there: see frame.h. */
#define AT_KIND 4
#define END     3

static void *real(const char *name)
{
	return dlsym(RTLD_NEXT, name);
}

/* Whether to kill this process here. */
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

int bufpipe_release(bufpipe_t *pipe)
{
	int (*call)(bufpipe_t *) = real("bufpipe_release");
	int r;

	die_if_due("release", "before");
	r = call(pipe);
	die_if_due("release", "after");
	return r;
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

int bufpipe_shutdown(bufpipe_t *pipe)
{
	int (*call)(bufpipe_t *) = real("bufpipe_shutdown");
	int r;

	die_if_due("shutdown", "before");
	r = call(pipe);
	die_if_due("shutdown", "after");
	return r;
}
