/* SPDX-License-Identifier: MIT */
/*
 * The turn of a shared end under the quick lock. A process takes the quick lock by a compare-and-swap and releases
 * it by a plain store, with a store buffer for each process as in wait.pml. Or the owner of the robust lock claims
 * it; only that process may sleep on the word.
 *
 * The claims: the lock never has two owners, and the process that sleeps on the word is woken (otherwise Spin finds
 * an invalid end state). One process dies, at any step. No sleep has a time limit.
 *
 *	FENCE		membarrier reaches nobody, so a process that releases the lock executes a fence
 *	BLIND		there is no membarrier, and nobody executes a fence, so the sleep has a time limit
 *
 * The other names are mutants.
 */

#ifndef P
#define P 3	/* processes */
#endif
#ifndef ROUNDS
#define ROUNDS 1
#endif

#define CLAIMED 8
#define DIED 16
#define OWNER(w) ((w) & 7)

#define WORD 0
#define AWAITED 1
byte mem[2];		/* what everyone sees */
chan buf[P + 1] = [3] of { byte, byte };

byte lock;		/* the robust lock, assumed to be correct: the kernel passes it on after a death */
byte inside;
byte victim;
bool queued[P + 1];	/* asleep on the word */
bool pending[P + 1];	/* list_op_pending: its own process stores it, and the kernel reads it when that process dies */

hidden byte addr, val;

#define drained(i) empty(buf[i])

inline store(a, v)
{
	assert(nfull(buf[me]));
	buf[me] ! a, v
}

proctype flush(byte who)
{
end:
	do
	:: d_step { buf[who] ? addr, val -> mem[addr] = val; addr = 0; val = 0 }
	od
}

/* At most one process sleeps, the owner of the robust lock; but a dead one may still be queued for a moment. */
inline wake()
{
	atomic {
		if
		:: queued[1] -> queued[1] = false
		:: queued[2] -> queued[2] = false
#if P > 2
		:: queued[3] -> queued[3] = false
#endif
		:: else
		fi
	}
}

/* The stores of every other process become visible at some moment of the call. */
inline membarrier()
{
#if !defined(NO_MEMBARRIER) && !defined(BLIND) && !defined(FENCE)
	drained(1);
	drained(2);
#if P > 2
	drained(3);
#endif
#endif
	drained(me)
}

inline try_claim()
{
	drained(me);
	atomic {
		if
		:: OWNER(mem[WORD]) == 0 -> mem[WORD] = CLAIMED; ok = true
		:: else -> ok = false
		fi
	}
}

/* What the kernel does when a thread dies that has noted the lock as its pending operation. */
inline die()
{
	drained(me);
	atomic {
		queued[me] = false;
		if
		:: in -> in = false; inside--
		:: else
		fi
	};
#ifndef NO_PENDING
	if
	:: pending[me] && mem[WORD] == 0 -> wake()
	:: pending[me] && OWNER(mem[WORD]) == me ->
		/* Nobody but the owner writes the word while the lock is taken. */
		mem[WORD] = DIED;
#ifndef NO_WAITERS_BIT
		wake()
#endif
	:: else
	fi;
#endif
	atomic {
		if
		:: lock == me -> lock = 0
		:: else
		fi
	}
}

proctype user(byte me)
{
	byte old, round;
	bool ok, in;

	{
	do
	:: round == ROUNDS -> break
	:: round < ROUNDS ->
		round++;
		if
		:: mem[AWAITED] -> goto claim
		:: else
		fi;
		pending[me] = true;
		drained(me);
		atomic {
			if
			:: mem[WORD] == 0 -> mem[WORD] = me; ok = true
			:: else -> ok = false
			fi
		};
		if
		:: !ok -> pending[me] = false; goto claim
		:: else
		fi;
		atomic { inside++; in = true };
		assert(inside == 1);
		atomic { inside--; in = false };
#ifdef LOOK_FIRST
		ok = mem[AWAITED];
		store(WORD, 0);
#else
		store(WORD, 0);
#ifdef FENCE
		drained(me);
#endif
		ok = mem[AWAITED];
#endif
		if
		:: ok -> drained(me); wake()
		:: else
		fi;
		pending[me] = false;
		goto next;
claim:
		atomic { lock == 0 -> lock = me };
		/* The lock may have been released by now, or not. */
		try_claim();
		if
		:: ok -> goto claimed
		:: else
		fi;
		store(AWAITED, 1);
		do
		:: try_claim();
			if
			:: ok -> break
			:: else
			fi;
			membarrier();
			old = mem[WORD];
			if
			:: OWNER(old) == 0
			:: else ->
				atomic {
					if
					:: mem[WORD] == old -> queued[me] = true
					:: else
					fi
				};
				if
				:: !queued[me]
#ifdef BLIND
				:: atomic { queued[me] && mem[WORD] != old -> queued[me] = false }
#endif
				fi
			fi
		od;
claimed:
		store(AWAITED, 0);
		atomic { inside++; in = true };
		assert(inside == 1);
		atomic { inside--; in = false };
		store(WORD, 0);
		drained(me);
		lock = 0;
next:
		skip;
		d_step { old = 0; ok = false }
	od
	} unless { victim == me };
	if
	:: victim == me -> die()
	:: else
	fi
}

/* At most one process dies. */
proctype killer()
{
end:
	if
	:: victim == 0 -> victim = 1
	:: victim == 0 -> victim = 2
#if P > 2
	:: victim == 0 -> victim = 3
#endif
	fi
}

init {
	atomic {
		run flush(1);
		run flush(2);
		run user(1);
		run user(2);
#if P > 2
		run flush(3);
		run user(3);
#endif
		run killer()
	}
}
