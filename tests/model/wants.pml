/* SPDX-License-Identifier: MIT */
/*
 * Holders of a shared end wait for different room: section 3 of docs/waiting.md. They keep the least position that one
 * of them wants in one word, with the number of the raise for which it holds. A ring wakes all whose mode the
 * publisher has seen, and is given once for each raise.
 *
 * That the publisher's store is visible to the look behind a raise is the claim of wait.pml, so here each store is
 * visible at once. The claim is that nobody who wants no more than there is stays asleep, or Spin finds an invalid
 * end state. One holder wants more than there will be, and may.
 *
 *	DIES	a holder may be killed while it raises its flag
 *
 * The other names are mutants; a comment where each is used says what it breaks.
 */

#ifndef HOLDERS
#define HOLDERS 2
#endif
#ifndef PUBLISHERS
#define PUBLISHERS 1
#endif
#ifndef ROOM
#define ROOM 2
#endif

byte head, raises, flags;
byte wanted, holds;		/* a position, and the number of raises for which it is valid */
byte rung_raises, rung_modes;
bool woken[HOLDERS];
byte given;			/* room that publishers have begun to give */

proctype publisher()
{
	byte position, f, r, i;

	do
	:: d_step { given < ROOM -> given++; head++; position = head };
		f = flags;
		if
		:: f ->
			r = raises;
			if
			:: r == rung_raises && f == rung_modes
			:: else ->
				if
#ifdef NO_NUMBER
				/* A holder may have been counted, but may not have stored what it wants yet. */
				:: position < wanted
#else
				:: holds == r && position < wanted
#endif
				:: else ->
					d_step {
						i = 0;
						do
						:: i < HOLDERS -> woken[i] = woken[i] || (f >> i & 1); i++
						:: else -> break
						od;
						i = 0
					};
					d_step { rung_raises = r; rung_modes = f }
				fi
			fi
		:: else
		fi;
		d_step { f = 0; r = 0; position = 0 }
	:: d_step { given == ROOM -> skip }; break
	od
}

/* Each has a mode of its own, which stays up. */
proctype holder(byte me, wish)
{
	byte before, modes, r, found, found_holds, least;
	bool all;

	do
	:: woken[me] = false;
		before = raises;
#ifdef MODE_LATE
		/* The holder that is counted next may take this one for awake, and replace what it wants. */
		d_step { modes = flags; r = raises; raises++ };
		flags = flags | (1 << me);
#else
		d_step { modes = flags; flags = flags | (1 << me) };
		d_step { r = raises; raises++ };
#endif
#ifdef DIES
		if
		:: me == 0 -> goto gone
		:: skip
		fi;
#endif
		d_step { found = wanted; found_holds = holds };
#ifdef MODES_IGNORED
		all = rung_raises == r;
#else
		all = rung_raises == r && (modes & ~rung_modes) == 0;
#endif
		least = wish;
		if
		:: !all && found < least -> least = found
		:: else
		fi;
#ifdef OVERWRITES
		least = wish;
#endif
		if
#ifndef NO_NUMBER
#ifndef UNCOUNTED
		/* The modes are from before another was counted. */
		:: r != before
#endif
		:: !all && found_holds != r
#endif
		:: else ->
			d_step {
				if
				:: wanted == found && holds == found_holds -> wanted = least; holds = r + 1
				:: else
				fi
			}
		fi;
		d_step { before = 0; modes = 0; r = 0; found = 0; found_holds = 0; least = 0; all = false };
		if
		:: head >= wish -> break
		:: else
		fi;
		if
		:: wish > ROOM ->
end_wish:		woken[me]
		:: else -> woken[me]
		fi
	od;
gone:
	skip
}

init {
	atomic {
		byte i = 0;

		do
		:: i < PUBLISHERS -> run publisher(); i++
		:: else -> break
		od;
		run holder(0, ROOM);
		run holder(1, ROOM + 1);
#if HOLDERS > 2
		run holder(2, 1)
#endif
	}
}
