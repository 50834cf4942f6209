/* SPDX-License-Identifier: MIT */
/*
 * The connection of one lane to a NATS server.
 *
 * libnats never reconnects by itself here.  One link_epoch is one TCP connection,
 * which keeps the order of what is published.  When it ends, nothing that was not
 * acknowledged is certain, and the lane starts again with the next epoch.  If
 * libnats reconnected by itself, it would send later messages before it reported
 * that earlier ones were lost.
 *
 * To connect to a server and to ask it something may take seconds, so a thread does
 * that.  Once connected, the socket belongs to the worker's loop.
 */
#ifndef BRIDGE_LINK_H
#define BRIDGE_LINK_H

#include <nats/nats.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "config.h"

struct link;

enum link_state { LINK_DOWN, LINK_CONNECTING, LINK_UP };

/* How the thread ended.  After LINK_RETRY the lane tries again; after LINK_FATAL that would not help. */
enum link_result { LINK_OK, LINK_RETRY, LINK_FATAL };

struct link {
	const struct bridge_config *config;
	const struct line_config *line;
	/*
	 * Called in the thread, with a connection of its own on which calls
	 * may wait, before the real one is made; NULL: nothing to prepare.
	 */
	enum link_result (*prepare)(struct link *link, natsConnection *nc);
	void *owner;
	int wake; /* eventfd of the loop */

	enum link_state state;
	uint64_t epoch;
	natsConnection *nc; /* while up */
	int fd;
	int64_t next_try_ns;
	int64_t pause_ns;
	int64_t down_since_ns;
	bool given_up;

	pthread_t thread;
	atomic_bool thread_done; /* release by the thread, acquire by the loop: the results below are whole */
	enum link_result result;
	natsConnection *made;
	int made_fd;
	char why[300];

	atomic_bool wants_write; /* libnats has something in its buffer; relaxed: the eventfd follows */
	atomic_bool slow;        /* libnats had to drop messages; relaxed: it is told some time later */
	atomic_bool failed;      /* the server said so on the connection; release: refusal is written */
	char refusal[200];
};

enum link_event { LINK_UNCHANGED, LINK_CAME_UP, LINK_WENT_DOWN, LINK_GAVE_UP };

void link_init(struct link *link, const struct bridge_config *config, const struct line_config *line,
	       int wake);
/* To be called from time to time: connects, takes the connection that the thread has made, and notices its end. */
enum link_event link_tick(struct link *link, int64_t now);
/* The socket has something to read. */
void link_read(struct link *link);
/* Writes as much as the socket takes.  Returns whether something remains. */
bool link_flush(struct link *link);
/* Bytes that wait to be written. */
size_t link_pending(const struct link *link);
/* Ends the connection when it is not usable any more.  The reason must have been stored in why. */
void link_drop(struct link *link);
void link_say_why(struct link *link, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* A text that says why a call of libnats in this thread has just failed. */
const char *link_reason(natsStatus status);
/* At the very end: waits for the thread, too. */
void link_close(struct link *link);

#endif
