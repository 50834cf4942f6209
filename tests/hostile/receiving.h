/* SPDX-License-Identifier: MIT */
/* Every way in which a victim receives from the ring of a rogue. */
#ifndef TESTS_HOSTILE_RECEIVING_H
#define TESTS_HOSTILE_RECEIVING_H

#include "hostile/hostile.h"

/* The capacity of the victim's buffers. They are on the heap, so that AddressSanitizer notices one byte too many. */
#define CAP 3000

enum receiving { RECV, NEXT, PEEK, RECV_MANY, RECEIVING_COUNT };

ssize_t receive(bufpipe_t *p, enum receiving how, int64_t timeout_ns);
/*
 * Checks that the call returns in time, and returns wanted; or, if wanted is 0, any result that blames only
 * the rogue.
 */
void assert_soon(const struct duel *d, enum receiving how, int64_t timeout_ns, ssize_t wanted);
/* Checks that the victim receives again when its peer behaves. */
void assert_recovers(const struct duel *d, const char *text, size_t len);

#endif
