/* SPDX-License-Identifier: MIT */
/*
 * The robust lock as glibc takes it and the kernel hands it on: an owner word with a waiters bit and an
 * owner-died bit, a list of held locks and one pending operation for each thread, which the kernel reads when
 * the thread dies.
 *
 * The claims: the lock never has two owners, and nobody sleeps for ever on a lock that is free or whose owner is dead (an
 * invalid end state here). One process dies, at any step, waiting or holding.
 *
 * A time limit for each sleep is part of the claim. Between the exchange that frees the word and the wake-up that
 * follows it, another process may take the lock without the waiters bit. If the process that should wake, or the one
 * that was woken, dies just then, the kernel sees another owner and wakes nobody, and the new owner does not know
 * that somebody sleeps.
 *
 *	UNBOUNDED	sleeps have no bound; true only with one of these:
 *	ALWAYS_WAITERS	the lock is always taken with the waiters bit, so every unlock wakes
 *	DEATH_INSIDE	only an owner dies, before it frees the word
 *
 * The other names are mutants.
 */

#ifndef P
#define P 3	/* processes */
#endif
#ifndef ROUNDS
#define ROUNDS 2
#endif

#define OWNER(w) ((w) & 15)
#define WAITERS 16
#define DIED 32

#ifdef ALWAYS_WAITERS
#define TAKE WAITERS
#else
#define TAKE 0
#endif

byte word;
byte inside;
byte victim;
bool queued[P + 1];	/* asleep on the word in the kernel */
bool listed[P + 1];	/* on the robust list */
bool pending[P + 1];	/* list_op_pending */
bool holds[P + 1];	/* for DEATH_INSIDE only */

#ifdef DEATH_INSIDE
#define HOLD holds[me] = true
#else
#define HOLD skip
#endif

#define cas(ok, old, new) \
	atomic { \
		if \
		:: word == old -> word = new; ok = true \
		:: else -> old = word; ok = false \
		fi \
	}

/* Any sleeper may be woken. The kernel wakes the one that came first, which is one of these cases. */
inline wake_one()
{
	atomic {
		if
		:: queued[1] -> queued[1] = false
		:: queued[2] -> queued[2] = false
#if P > 2
		:: queued[3] -> queued[3] = false
#endif
#if P > 3
		:: queued[4] -> queued[4] = false
#endif
		:: else
		fi
	}
}

/* What the kernel does when a thread dies. The pending operation may be on a lock that is free already. */
inline exit_robust_list()
{
	atomic {
		queued[me] = false;
		if
		:: in -> in = false; inside--
		:: else
		fi;
		old = word
	}
#ifdef NO_PENDING
	if
	:: listed[me] && OWNER(old) == me
#else
	if
	:: pending[me] && OWNER(old) == 0 ->
		wake_one()
	:: (listed[me] || pending[me]) && OWNER(old) == me
#endif
		->
		/* A waiter may set its bit between the read and the exchange. */
		do
		:: cas(ok, old, ((old & WAITERS) | DIED));
			if
			:: ok -> break
			:: else
			fi
		od;
#ifndef NO_DEATH_WAKE
		if
		:: old & WAITERS -> wake_one()
		:: else
		fi
#endif
	:: else
	fi
}

proctype user(byte me)
{
	byte old, assume, round;
	bool ok, in;

	{
	do
	:: round == ROUNDS -> break
	:: round < ROUNDS ->
		round++;
		pending[me] = true;
		assume = TAKE;
		old = word;
retry:
		if
		:: old == 0 ->
			atomic {
				cas(ok, old, (me | assume));
				if
				:: ok -> HOLD; goto locked
				:: else -> goto retry
				fi
			}
		:: old & DIED ->
			atomic {
				cas(ok, old, (me | (old & WAITERS) | assume));
				if
				:: ok -> HOLD; goto locked
				:: else -> goto retry
				fi
			}
		:: else
		fi;
		if
		:: old & WAITERS
		:: else ->
			cas(ok, old, (old | WAITERS));
			if
			:: ok -> old = old | WAITERS
			:: else -> goto retry
			fi
		fi;
		/* Others may sleep behind the same bit: whoever has slept keeps it set on taking the lock. */
#ifndef FORGET_WAITERS
		assume = WAITERS;
#endif
		atomic {
			if
			:: word == old -> queued[me] = true
			:: else
			fi
		};
		/* A time-out with the word unchanged leads straight back here, so it is left out. */
		if
		:: !queued[me]
#ifndef UNBOUNDED
		:: atomic { queued[me] && word != old -> queued[me] = false; assume = TAKE }
#endif
		fi;
		old = word;
		goto retry;
locked:
		listed[me] = true;
		pending[me] = false;

		atomic { inside++; in = true };
		assert(inside == 1);
		atomic { inside--; in = false };

		pending[me] = true;
		listed[me] = false;
		atomic { old = word; word = 0; holds[me] = false };
		if
		:: old & WAITERS -> wake_one()
		:: else
		fi;
		d_step { pending[me] = false; old = 0; assume = 0; ok = false }
	od
	} unless { victim == me };
	if
	:: victim == me -> exit_robust_list()
	:: else
	fi
}

/* At most one process dies. */
#ifdef DEATH_INSIDE
#define mortal(i) (victim == 0 && holds[i])
#else
#define mortal(i) (victim == 0)
#endif
proctype killer()
{
end:
	if
	:: atomic { mortal(1) -> victim = 1 }
	:: atomic { mortal(2) -> victim = 2 }
#if P > 2
	:: atomic { mortal(3) -> victim = 3 }
#endif
	fi
}

init {
	atomic {
		run user(1);
		run user(2);
#if P > 2
		run user(3);
#endif
#if P > 3
		run user(4);
#endif
		run killer()
	}
}
