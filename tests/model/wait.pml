/* SPDX-License-Identifier: MIT */
/*
 * One publisher, one waiter, and a store buffer for each, as x86 has them: stores leave a process in order
 * but late, loads do not wait for them. The publisher executes no fence after its store; the waiter's
 * membarrier makes up for it.
 *
 * The claim is that the waiter gets everything that is published. If it sleeps for ever instead, Spin finds an invalid end
 * state: the waiter blocked in a sleep that does not time out, the buffers empty, the publisher gone. The
 * publisher may stop after any message, so no later message makes up for a lost wake-up.
 *
 *	FENCE		the publisher is not registered: membarrier misses it, it fences after each store
 *	NEED_FENCE	the waiter has no membarrier: it fences itself and asks the publisher to
 *	NEED=2		the waiter wants two steps of the word at once, as one that waits for room does
 *	SLEEP_FOREVER	the sleep after the first membarrier has no bound either
 *
 * The other names are mutants; a comment where each is used says what it breaks.
 */

#ifndef N
#define N 3	/* steps of the word that the publisher makes at most */
#endif
#ifndef NEED
#define NEED 1
#endif

#define WORD 0
#define EVENTS 1
#define RAISES 2
#define FLAGS 3
byte mem[4];	/* what everyone sees */

/* A real store never waits for room in the buffer; store asserts that this depth is enough for that. */
#ifndef DEPTH
#define DEPTH 12
#endif
chan pbuf = [DEPTH] of { byte, byte };	/* the publisher's store buffer: address, value */
chan wbuf = [DEPTH] of { byte, byte };	/* the waiter's */

#define NONE 0
#define FUTEX 1
#define DOORBELL 2
#define MODE(w) ((w) & 3)
#define FENCE_BIT 4

#ifdef NEED_FENCE
#define ATTACHED FENCE_BIT
#else
#define ATTACHED 0
#endif

/* The fast path may pass over a plain zero only. With the fence bit in it, it would pass over the fence. */
#ifdef QUIET_HAS_FENCE_BIT
#define QUIET ATTACHED
#else
#define QUIET 0
#endif

byte total;		/* the publisher stops after so many steps */
bool asleep;		/* the waiter is queued on the event count */
bool readable;		/* a byte waits in the socket; more than one is the same */
hidden byte addr, val;

#define drained(buf) empty(buf)

inline store(buf, a, v)
{
	assert(nfull(buf));
	buf ! a, v
}

/* A locked instruction or a system call waits until its own stores are in memory. */
inline fence(buf)
{
	drained(buf)
}

proctype flush(chan buf)
{
end:
	do
	:: d_step { buf ? addr, val -> mem[addr] = val; addr = 0; val = 0 }
	od
}

proctype publisher()
{
	byte word, events, w, r, rung, ring;

	do
	:: word == total ->
		break
	:: word < total ->
		word++;
		store(pbuf, WORD, word);
#ifdef FENCE
		fence(pbuf);
#endif
		w = mem[FLAGS];
		if
		:: w != QUIET && (w & FENCE_BIT) ->
			fence(pbuf);
			w = mem[FLAGS]
		:: else
		fi;
		if
		:: w == QUIET || MODE(w) == NONE ->
			skip
		:: else ->
			r = mem[RAISES];
			/*
			 * The two loads may lie far apart, with a whole wait of the other side between them:
			 * the mode is of an old raise, the count of a new one. So the pair must be
			 * remembered: by the count alone the doorbell would seem rung when only the futex was woken.
			 */
#ifdef RUNG_FORGETS_MODE
			ring = r * 4;
#else
			ring = r * 4 + MODE(w);
#endif
			if
			:: ring == rung ->
				skip
			:: else ->
				rung = ring;
				events++;
				store(pbuf, EVENTS, events);
				atomic { drained(pbuf) -> asleep = false };
				if
				:: MODE(w) == DOORBELL -> readable = true
				:: else
				fi
			fi
		fi;
		d_step { w = 0; r = 0; ring = 0 }
	od
}

/* The kernel compares with memory and queues the caller in one step. A caller that is not queued goes on as if woken. */
inline futex_wait(expected)
{
	atomic {
		drained(wbuf) ->
		if
		:: mem[EVENTS] == expected -> asleep = true
		:: else
		fi
	}
}

/* At some moment of the call each registered process has an empty buffer, the caller at its start. */
inline membarrier()
{
	fence(wbuf);
#if !defined(NEED_FENCE) && !defined(FENCE) && !defined(UNREGISTERED)
	fence(pbuf)
#else
	skip
#endif
}

inline raise(mode)
{
	raises++;
	store(wbuf, RAISES, raises);
	store(wbuf, FLAGS, ATTACHED + mode)
}

#define there (mem[WORD] >= got + NEED)

proctype waiter()
{
	byte got, raises, ev;

#ifdef LATE_ATTACH
	/* The other side may already publish, and may have read the flags before this store. */
	store(wbuf, FLAGS, ATTACHED);
#endif
try:
	if
	:: got == total -> goto done
	:: got < total && there -> goto take
	:: got < total && !there
	fi;
again:
	ev = mem[EVENTS];
#ifdef RAISE_ONCE
	if
	:: raises == 0 || mem[FLAGS] == ATTACHED -> raise(FUTEX)
	:: else -> store(wbuf, FLAGS, ATTACHED + FUTEX)
	fi;
#else
	raise(FUTEX);
#endif
	if
	:: there -> goto found
	:: !there
	fi;

	/* The first sleep is short, because no barrier was executed before it. */
	futex_wait(ev);
	if
	:: !asleep -> goto woken
	:: atomic { asleep -> asleep = false }
	fi;

#ifndef NO_MEMBARRIER
	membarrier();
#endif
	if
	:: there -> goto found
	:: !there
	fi;
#ifdef EVENTS_AFTER_LOOK
	ev = mem[EVENTS];
#endif
	futex_wait(ev);
	if
	:: !asleep -> goto woken
#ifndef SLEEP_FOREVER
	:: atomic { asleep -> asleep = false }
#endif
	fi;

	ev = 0;
#ifndef DRAIN_AFTER_RAISE
	readable = false;
#endif
#ifdef NO_DOORBELL_RAISE
	store(wbuf, FLAGS, ATTACHED + DOORBELL);
#else
	raise(DOORBELL);
#endif
#ifdef DRAIN_AFTER_RAISE
	readable = false;
#endif
#ifndef NO_DOORBELL_MEMBARRIER
	membarrier();
#endif
	if
	:: there -> goto found
	:: !there
	fi;
	readable;

woken:
	ev = 0;
	if
	:: there -> goto found
	:: !there -> goto again
	fi;
found:
	ev = 0;
	store(wbuf, FLAGS, ATTACHED);
take:
	got = got + NEED;
	goto try;
done:
	skip
}

init {
	atomic {
		do
		:: total + NEED <= N -> total = total + NEED
		:: total > 0 -> break
		od;
#ifndef LATE_ATTACH
		mem[FLAGS] = ATTACHED;
#endif
		run flush(pbuf);
		run flush(wbuf);
		run publisher();
		run waiter()
	}
}
