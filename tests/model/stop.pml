/* SPDX-License-Identifier: MIT */
/*
 * A blocked call is stopped from its own end: section 6 of docs/waiting.md. It sleeps on a word that only the other
 * side changes, so the call that stops it wakes it again and again until its flag is down. One waiter and one process
 * that stops it, with a store buffer each.
 *
 * The claim is that the waiter does not stay asleep, or Spin finds an invalid end state. The bound on the number of
 * wake-ups is left out: behind it the sleep ends by itself.
 *
 * The names are mutants; a comment where each is used says what it breaks.
 */

bool stopped;		/* what everyone sees */
bool flag;
bool asleep;

chan wbuf = [2] of { bool };	/* the waiter's store buffer: values of the flag */
chan sbuf = [1] of { bool };	/* the store buffer of the process that stops it */

proctype flush_waiter()
{
end:
	do
	:: wbuf ? flag
	od
}

proctype flush_stopper()
{
end:
	do
	:: sbuf ? stopped
	od
}

proctype waiter()
{
#ifdef LOOKS_FIRST
	/* A process that stops the call now sees no flag, and wakes nobody. */
	bool seen = stopped;

	wbuf ! true;
	empty(wbuf);
	if
	:: seen -> goto out
	:: else
	fi;
#else
	wbuf ! true;
#ifndef NO_WAITER_FENCE
	empty(wbuf);		/* order */
#endif
	if
	:: stopped -> goto out
	:: else
	fi;
#endif
	/* A waiter that is held up here misses a wake-up that comes only once. */
	asleep = true;
	!asleep;
out:
	wbuf ! false
}

proctype stopper()
{
	sbuf ! true;
#ifndef NO_STOPPER_FENCE
	empty(sbuf);		/* the fence in wait_stop */
#endif
#ifdef WAKE_ONCE
	asleep = false
#else
	do
	:: asleep = false;
		if
		:: !flag -> break
		:: else
		fi
	od
#endif
}

init {
	atomic {
		run flush_waiter();
		run flush_stopper();
		run waiter();
		run stopper()
	}
}
