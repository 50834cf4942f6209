/* SPDX-License-Identifier: MIT */
/*
 * An attack of a peer, from three processes in turn: one of another user, one of the same user, and a child
 * that inherited everything from the victim. Meanwhile the victim makes every call. The tests check the
 * result and the duration of each call, the victim's own and shared memory, its descriptors and mappings,
 * and that another pipe still works.
 */
#ifndef TESTS_HOSTILE_ATTACK_H
#define TESTS_HOSTILE_ATTACK_H

#include "hostile/hostile.h"

/*
 * How long a call may take beyond its timeout during an attack, not counting the time in which it waits for
 * a CPU.
 */
#define LATE NSEC_PER_SEC

/* Repeats step as the attack. No call may take longer than its timeout and late. */
void attack_from_each(flip_step *step, int64_t late);

/* The state of one of the two waiters of the rogue's end. */
struct waiter_state *rogue_waiter(const struct duel *d, uint64_t random);
/* A step: one of these waiters claims to sleep, in any way there is and in some that there are not. */
void rogue_wave_flags(const struct duel *d, uint64_t random);

#endif
