/* SPDX-License-Identifier: MIT */
/*
 * Each attack of a peer, from three processes: one of another user, one of the same user, and a child that
 * inherited all that its parent had. Meanwhile the victim makes every call. Asserted are its results, the time
 * of each call, its own and its shared memory, its descriptors and mappings, and that another pipe goes on.
 */
#ifndef TESTS_HOSTILE_ATTACK_H
#define TESTS_HOSTILE_ATTACK_H

#include "hostile/hostile.h"

/* What a call that is attacked may take beyond its timeout, without the time in which it waits for a CPU. */
#define LATE NSEC_PER_SEC

/* The attack is step, repeated without end. No call may take longer than late beyond its timeout. */
void attack_from_each(flip_step *step, int64_t late);

/* The state of one of the two waiters of the rogue's end. */
struct waiter_state *rogue_waiter(const struct duel *d, uint64_t random);
/* A step: one of them claims to sleep in any way. */
void rogue_wave_flags(const struct duel *d, uint64_t random);

#endif
