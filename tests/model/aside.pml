/* SPDX-License-Identifier: MIT */
/*
 * Fairness of the robust lock: a thread that had it for long steps aside, and sleeps until another thread has taken
 * it. If nobody takes the lock, the sleep ends by itself after some milliseconds. The claim: if another thread takes
 * the lock after the first one has announced its sleep, this ends the sleep. So in this model the sleep ends by
 * itself only if no thread took the lock after the announcement.
 *
 * The other names are mutants.
 */

#ifndef TAKERS
#define TAKERS 3
#endif
#define ASIDE 1

byte changes;	/* grows by 2 with each take; and ASIDE */
bool queued;	/* the thread that stepped aside is asleep on changes in the kernel */
bool mutex;
bool stepped;	/* it has set ASIDE */
byte after;	/* how often the lock was taken since then */
byte finished;

inline took()
{
	if
	:: stepped -> after++
	:: else
	fi
}

inline wake()
{
	if
	:: found & ASIDE -> queued = false
	:: else
	fi
}

proctype aside()
{
	byte value;

	atomic { changes = changes | ASIDE; value = changes; stepped = true };
	/* What the kernel does at once: it compares, and puts the thread to sleep. */
#ifdef SLEEPS_UNCOMPARED
	queued = true;
#else
	atomic {
		if
		:: changes == value -> queued = true
		:: else
		fi
	};
#endif
	if
	:: !queued
	:: finished == TAKERS && after == 0
	fi
}

proctype taker()
{
	byte found, next;

	atomic { !mutex -> mutex = true };
	found = changes;
	next = (found & 254) + 2;
#ifdef WAKES_FIRST
	wake();
#endif
#ifdef OVERWRITES
	/* A plain store does not tell what it replaces. */
	atomic { changes = next; took() };
#else
	atomic { found = changes; changes = next; took() };
#endif
#ifndef WAKES_FIRST
	wake();
#endif
	mutex = false;
	finished++
}

init {
	byte i;

	atomic {
		run aside();
		do
		:: i < TAKERS -> run taker(); i++
		:: else -> break
		od
	}
}
