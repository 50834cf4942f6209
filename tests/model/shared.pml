/* SPDX-License-Identifier: MIT */
/*
 * Shared ends: two receivers that block (a leader, and a follower that waits for the lead lock), one that only tries, a
 * publisher, and one death at any step of a receiver. Memory is sequentially consistent here, because wait.pml has
 * the store buffers. So the short and the long sleep are one, and there are no barriers. Robust locks are assumed to
 * be correct, which lock.pml shows.
 *
 * The claim: when no process can move any more, every message has been taken.
 *
 *	SLEEP_FOREVER	the sleep on the event count has no bound either
 *	SENDER_DIES	two publishers share the sending end and one of them dies; one receiver blocks, one
 *			tries. A message that was published and not rung for is found after the next publish. STRICT
 *			requires that without a next publish, and fails: see README.md.
 *
 * The other names are mutants.
 */

#ifndef N
#define N 2	/* messages of each publisher at most */
#endif
#ifndef TRIES
#define TRIES 1
#endif

#define NONE 0
#define FUTEX 1
#define DOORBELL 2

/* Processes by number: 1 and 2 block, 3 tries, 4 and 5 publish. */
byte victim;

/* Locks hold their owner's number. The kernel frees them at its death. */
byte recv_lock, lead_lock, send_lock;

byte published, events, rung;	/* the sending end's words */
byte ring;			/* what the holder of the send lock is about to ring; raise looks at it */
byte taken, raises, flags;	/* the receiving end's words */
bool asleep;			/* the leader is queued on the event count */
bool readable;			/* the doorbell's byte */
bool unrung;			/* the last message may not have been rung for yet */

/* The kernel, for a process that has died. */
inline release_all(who)
{
	if
	:: recv_lock == who -> recv_lock = 0
	:: else
	fi;
	if
	:: send_lock == who -> send_lock = 0
	:: else
	fi;
	if
	:: lead_lock == who ->
		asleep = false;
#ifndef NO_HAND_ON
		lead_lock = 0
#endif
	:: else
	fi
}

/*
 * Counts are only compared for equality, and what was rung for an older raise equals nothing that can still
 * come: it is forgotten, and the new count is any that no ring under way remembers. That keeps the search
 * small.
 */
inline raise()
{
	d_step {
		raises = (ring / 4 == 1 -> 2 : 1);
		rung = 0
	}
}

/*
 * A step is what others can see: taking a lock goes with the first thing done under it, giving it back with
 * the last. Death between the read of the record and the new position redelivers it.
 */
inline try(found)
{
	atomic {
		recv_lock == 0;
		if
		:: taken < published -> recv_lock = me; found = true
		:: else
		fi
	};
	if
	:: found -> d_step { taken++; recv_lock = 0 }
	:: else
	fi
}

proctype receiver(byte me)
{
	byte ev;
	bool found;

	{
	skip;
recv:
	try(found);
	if
	:: found ->
		found = false;
#ifdef ANYONE_LOWERS
		flags = NONE;
#endif
		goto recv
	:: else
	fi;
end_follow:
	atomic { lead_lock == 0 -> lead_lock = me };
again:
	ev = events;
	raise();
	flags = FUTEX;
	if
	:: taken < published -> goto woken
	:: else
	fi;
	atomic { asleep = (events == ev); ev = 0 };
end_sleep:
	if
	:: !asleep -> goto woken
#ifndef SLEEP_FOREVER
	:: atomic { asleep -> asleep = false }
#endif
	fi;
	readable = false;
#ifndef NO_DOORBELL_RAISE
	raise();
#endif
	flags = DOORBELL;
	if
	:: taken < published -> goto woken
	:: else
	fi;
end_poll:
	readable;
woken:
	ev = 0;
	if
	:: taken < published
	:: else -> goto again
	fi;
	flags = NONE;
	lead_lock = 0;
	goto recv
	} unless { victim == me }
}

proctype trier(byte me)
{
	byte tries;
	bool found;

	{
	do
	:: tries < TRIES ->
		tries++;
		try(found);
#if defined(TRY_LOWERS) || defined(ANYONE_LOWERS)
		if
		:: found -> flags = NONE
		:: else
		fi;
#endif
		found = false
	:: break
	od
	} unless { victim == me }
}

proctype publisher(byte me)
{
	byte count, w;

	{
	do
	:: count < N ->
		d_step { send_lock == 0 -> send_lock = me; count++; published++; unrung = true };
		w = flags;
		if
		:: w == NONE -> skip
		:: else ->
			/* Mode and count together, as in wait.pml. */
#ifdef RUNG_FORGETS_MODE
			ring = raises * 4;
#else
			ring = raises * 4 + w;
#endif
			if
			:: ring == rung
			:: else ->
#ifdef RUNG_FIRST
				rung = (ring / 4 == raises -> ring : 0);
#endif
				events++;
				asleep = false;
				if
				:: w == DOORBELL -> readable = true
				:: else
				fi;
				/* This store comes last. Otherwise a death in between would leave a ring recorded that was never given. */
#ifndef RUNG_FIRST
				rung = (ring / 4 == raises -> ring : 0)
#else
				skip
#endif
			fi
		fi;
		d_step { w = 0; ring = 0; unrung = false; send_lock = 0 }
	:: break
	od
	} unless { victim == me }
}

/* A process that tries or publishes may also just stop. So its death makes a difference only while it has the lock. */
proctype killer()
{
end:
	if
#ifdef SENDER_DIES
	:: d_step { send_lock == 4 -> victim = 4; release_all(4) }
#else
	:: d_step { victim = 1; release_all(1) }
	:: d_step { recv_lock == 3 -> victim = 3; release_all(3) }
#endif
	:: skip
	fi
}

#if defined(SENDER_DIES) && !defined(STRICT)
#define excused (victim == 4 && unrung)
#else
#define excused false
#endif

init {
	atomic {
		run receiver(1);
		run trier(3);
		run publisher(4);
#ifdef SENDER_DIES
		run publisher(5);
#else
		run receiver(2);
#endif
		run killer()
	};
	timeout;
	assert(taken == published || excused)
}
