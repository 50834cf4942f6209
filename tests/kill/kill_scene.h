/* SPDX-License-Identifier: MIT */
/*
 * The trial of test_kill_step.c. It has four processes: the worker, which traces and kills; the victim; a
 * co-owner of the victim's end, which goes on after the victim's death; and the peer at the other end.
 */
#ifndef TESTS_KILL_SCENE_H
#define TESTS_KILL_SCENE_H

#include "kill/stepper.h"

enum verb {
	SEND,
	SENDV,
	SEND_MANY,
	RESERVE,
	SEND_LONG,
	GIVE_UP, /* a long send whose time is up in the middle */
	SHUTDOWN_SENDER,
	CLOSE_SENDER, /* of the sending end */
	RECV,
	RECV_MANY,
	PEEK,
	RECV_LONG,
	SHUTDOWN_RECEIVER,
	CLOSE_RECEIVER,
};

/* What the peer does while the victim is in its call. */
enum peer { STOPPED, ON_FUTEX, ON_SOCKET, BUSY };

enum fill { EMPTY, SOME, NEARLY_FULL, FULL };

struct plan {
	enum verb verb;
	unsigned flags;
	enum fill fill;
	enum peer peer;
	unsigned delay_ms; /* of a busy peer */
	bool last;         /* the victim is the only holder of its end */
	bool crowd;        /* the co-owner uses the end at the same time */
	bool deaf;         /* the victim sends, and finds that the receiving end was shut down */
	size_t object_size;
};

/* A trial, for a campaign whose plan is a struct plan. */
int scene_run(const void *plan, struct trial *trial);

#endif
