/* SPDX-License-Identifier: MIT */
/* The processes of test_kill_soak.c: each sends or receives, in one direction of a pipe, and waits in its own way. */
#ifndef TESTS_SOAK_LIFE_H
#define TESTS_SOAK_LIFE_H

#include "kill/waiter.h"

#include <stdatomic.h>

enum {
	SOAK_FLOWS = 6,          /* one for each direction of a pipe */
	SOAK_CREW = 5,           /* senders and receivers of a flow, at most */
	SOAK_MESSAGES = 1 << 16, /* of a flow */
	SOAK_LONGEST = 300,
};

/*
 * Some waiters do not look by themselves. After this time they look, as docs/waiting.md advises their
 * callers to do.
 */
#define SOAK_TIMER (6 * SEC)

struct soak_message {
	uint32_t number;
	uint32_t len;
	uint32_t check;
};

/* What became of a message. */
enum { SOAK_SENT = 1, SOAK_SEEN = 2, SOAK_TAKEN = 4 };
enum soak_doing { SOAK_STARTS, SOAK_WAITS, SOAK_GOES_ON };

/* A process. */
struct soak_place {
	atomic_int doing;
	atomic_int kind;
	char hand[SOAK_LONGEST]; /* a receiver: where it receives */
};

struct soak_flow {
	atomic_uint next;  /* number */
	atomic_uint moved; /* steps of any kind */
	atomic_uint sent, received;
	_Atomic uint8_t state[SOAK_MESSAGES];
	struct soak_place places[SOAK_CREW];
};

/* In memory that all processes share. */
struct soak {
	atomic_int stop; /* senders finish what they have begun and end, */
	atomic_int fill; /* or send until nobody receives */
	atomic_int failed;
	char text[256];
	struct soak_flow flows[SOAK_FLOWS];
};

/* Whether a buffer begins with the head of a message. */
bool soak_is_head(const struct soak_message *message);

/* A number below n. */
uint32_t soak_random(unsigned *state, uint32_t n);

/* The life of one process. random decides how it waits. */
_Noreturn void soak_live(struct soak *soak, int flow, int place, bufpipe_t *end, bool sends, unsigned random);

#endif
