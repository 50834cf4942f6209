/* SPDX-License-Identifier: MIT */
/*
 * The choice between a membarrier of the waiter and a fence of the publisher: section 4 of docs/waiting.md. One
 * publisher without a fence after its store, with a store buffer, and one waiter that at each raise may want
 * publishers to fence, or take that back. It sleeps without bound whenever it believes that its raise is ordered.
 *
 * The claim is that the waiter gets all there is, or Spin finds an invalid end state. A waiter may be killed once,
 * at each step. The next holder of its end goes on from what shared memory says.
 *
 *	WAITERS=2	two waiters, which are both to be told of each message; the first leads, and it alone asks for
 *			fences and takes them back, while the other goes by what it finds
 *	WEAK		the waiter's changes of the flags become visible late, as on weaker processors than x86
 *
 * The other names are mutants; a comment where each is used says what it breaks.
 */

#ifndef N
#define N 3		/* messages at most */
#endif
#ifndef WAITERS
#define WAITERS 1
#endif

#define MODE 1
#define FENCE 2
#define FENCED 4
#define BOTH (FENCE | FENCED)

byte word;		/* what everyone sees */
byte flags;
byte events;
byte raises;
byte total;		/* the publisher stops after so many messages */
bool asleep[WAITERS];
bool dead;		/* the one death has happened */

chan pbuf = [N] of { byte };	/* the publisher's store buffer: values of the word */
chan wbuf = [6] of { byte };	/* the waiter's: values of the flags */
byte mine;			/* the flags as the waiter itself sees them */

proctype flush_publisher()
{
end:
	do
	:: pbuf ? word
	od
}

proctype flush_waiter()
{
end:
	do
	:: wbuf ? flags
	od
}

proctype publisher()
{
	byte next, f, rung;

	do
	:: next == total ->
		break
	:: next < total ->
		next++;
		pbuf ! next;
		f = flags;
		if
		:: f == 0 ->
			skip
		:: else ->
			f = flags;		/* wait_ring loads them again */
#ifndef NO_FENCE
			if
			:: f & FENCE ->
				empty(pbuf);
#ifndef ONE_LOAD
				/* With the flags from before the fence, the publisher would miss a mode that went up meanwhile. */
				f = flags
#endif
			:: else
			fi;
#endif
			if
			:: f & MODE && rung != raises ->
				/* Each raise is answered once; of two waiters the mode stays up. */
				atomic {
					empty(pbuf) ->
					rung = raises;
					events++;
					asleep[0] = false;
#if WAITERS > 1
					asleep[1] = false;
#endif
				}
			:: else
			fi
		fi;
		f = 0
	od
}

/* One atomic change of the flags; the waiter learns what they were. */
#ifdef WEAK
#define see mine
#define change(clear, set) \
	mine = (mine & (7 - (clear))) | (set); \
	assert(nfull(wbuf)); \
	wbuf ! mine
#define fence() empty(wbuf)
#else
#define see flags
#define change(clear, set) flags = (flags & (7 - (clear))) | (set)
#define fence() skip
#endif

/*
 * If both changed FENCE, one could take both bits back and raise FENCE anew, and then the other, whose membarrier came
 * before all that, would set FENCED. Where both are up no membarrier has been since FENCE went up.
 */
#ifdef NOT_SOLE
#define leads true
#else
#define leads (me == 0)
#endif

#define may_die \
	if \
	:: atomic { !dead -> dead = true; goto successor } \
	:: skip \
	fi

proctype waiter(byte me)
{
	byte got, ev, found;
	bool unfenced, want;

	goto try;
successor:
	/* What the dead waiter stored becomes visible. Its local variables are gone. */
	fence();
	atomic { unfenced = false; found = 0; ev = 0 };
try:
	if
	:: got == total -> goto done
	:: got < total && word > got -> goto take
	:: got < total && word <= got
	fi;
	ev = events;
	/* Whether publications are sparse is an estimate, so every answer must be safe. */
	want = false;
	if
	:: leads -> want = true
	:: skip
	fi;
	if
	:: !want && leads && (see & FENCE) ->
#ifdef KEEPS_FENCED
		/* An old FENCED beside a new FENCE: one that dies before its membarrier leaves both up. */
		change(FENCE, 0);
#else
		change(BOTH, 0);
#endif
		unfenced = false
	:: else
	fi;
	may_die;
	atomic {
		raises++;
		found = see & BOTH;
#ifdef EARLY_FENCED
		/* Set before the membarrier: if this waiter dies now, its successor believes in a membarrier that never happened. */
		change(0, MODE | (want -> BOTH : 0));
#else
		change(0, MODE | (want -> FENCE : 0));
#endif
		unfenced = unfenced || (want && found != BOTH)
	};
	may_die;
	fence();
#ifdef HALF_FENCED
	/* FENCE alone says nothing about a publisher that read the flags before it was set. */
	if
	:: found & FENCE
#else
	if
	:: found == BOTH
#endif
	:: else ->
#ifndef NO_MEMBARRIER
		empty(pbuf);
#endif
		may_die;
		if
		:: unfenced ->
			unfenced = false;
			change(0, FENCED)
		:: else
		fi
	fi;
	found = 0;
	may_die;
	if
	:: word > got -> goto found_it
	:: word <= got
	fi;
	/* futex_wait: the kernel compares and queues in one step. */
	atomic {
		fence() ->
		if
		:: events == ev -> asleep[me] = true
		:: else
		fi
	};
	!asleep[me];
	goto try;
found_it:
	skip;
#if WAITERS == 1
	change(MODE, 0);
#endif
take:
	ev = 0;
	got++;
	/* It spins for the next message, and needs no fences for that. */
	if
	:: leads && (see & FENCE) ->
#ifdef KEEPS_FENCED
		change(FENCE, 0);
#else
		change(BOTH, 0);
#endif
		unfenced = false
	:: skip
	fi;
	goto try;
done:
	skip
}

init {
	atomic {
		do
		:: total < N -> total++
		:: total > 0 -> break
		od;
		run flush_publisher();
#ifdef WEAK
		run flush_waiter();
#endif
		run publisher();
		run waiter(0);
#if WAITERS > 1
		run waiter(1)
#endif
	}
}
