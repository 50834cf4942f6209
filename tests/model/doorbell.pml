/* SPDX-License-Identifier: MIT */
/*
 * One socket is the doorbell of a duplex end with two holders: section 2 of docs/waiting.md. A byte is news for every
 * waiter that sleeps on the socket, in both directions. Each sleeper has an epoll of its own, edge-triggered, and
 * nobody empties the queue.
 *
 *	BLOCKED		a blocked receive, which sleeps on the event count and then on the socket
 *	FD		bufpipe_fd of the same direction in another holder, in an edge-triggered loop
 *	SET		a set without io_uring that waits for room: the other direction
 *	PEEKER		one more holder of the receiving direction has the turn for a while, and may put the message back
 *	DEATH		a holder of the sending end may be killed anywhere; another one takes its lock
 *	ALIVE		the other side never hangs up
 *	LEADER_DIES	the blocked receive may be killed anywhere; another one leads
 *
 * The claim is that each waiter gets everything that is published, or learns that the other side hung up. Otherwise
 * Spin finds an invalid end state. Only the sleep on the event count has a time limit; the sleep on the socket follows
 * it.
 *
 * ADDS_MODE is no mutant: if a successor adds its mode to that of a dead leader, publishers ring both ways, so no news
 * is lost. The other names are mutants; a comment where each is used says what it breaks.
 */

#ifndef N
#define N 2		/* messages at most, */
#endif
#ifndef ROOM
#define ROOM 1		/* and steps of room */
#endif
#ifndef TRIMS
#define TRIMS 1
#endif

#define FUTEX 1
#define BELL 2
#define POLLED 4
#define RUNG_NOTHING 255

/* By direction: messages, room. */
byte stored[2];		/* what the publisher has stored, */
byte visible[2];	/* and what has left its store buffer */
byte taken;		/* messages that were received */
byte raises[2], flags[2], rung[2], events;
byte most[2];
byte publishers;	/* that are still at work */

byte queue;		/* bytes in the socket */
bool hung_up;
bool joined[3], edge[3];	/* by waiter: the socket is in its epoll; events not taken yet */
bool asleep;		/* the blocked call, on the event count */

byte lock;		/* of the sending end: who has it */
bool owner_died;
byte turn;		/* of the receiving end: the peeker has it */
byte trimmers;

#define there (visible[0] > taken)
#define over(d) (publishers == 0 && visible[d] == most[d] && !hung_up)
#define readable(w) (edge[w] && (queue > 0 || hung_up))

#define BY_BLOCKED 0
#define BY_FD 1
#define BY_SET 2

proctype store_buffer(byte d)
{
end:
	do
	:: d_step { visible[d] < stored[d] -> visible[d]++ }
	od
}

/* A byte or a hang-up that arrives is an event in each epoll that has the socket. */
inline arrive()
{
	edge[0] = joined[0];
	edge[1] = joined[1];
	edge[2] = joined[2]
}

#ifdef DEATH
#define die \
	if \
	:: atomic { me == 1 -> owner_died = true; lock = 0; goto gone } \
	:: skip \
	fi
#else
#define die skip
#endif

inline answer(d)
{
	d_step { f = flags[d]; a = raises[d] * 8 + f };
	if
	:: f ->
		if
		:: a != rung[d] ->
			/* A locked instruction: its own stores are visible then. */
			atomic {
				visible[d] == stored[d] ->
				if
				:: d == 0 ->
					events++;
					if
					:: f & FUTEX -> asleep = false
					:: else
					fi
				:: else
				fi
			};
			die;
			if
			:: f & (BELL | POLLED) -> d_step { queue++; arrive() }
			:: else
			fi;
			die;
			rung[d] = a
		:: else
		fi
	:: else
	fi;
	d_step { f = 0; a = 0 }
}

proctype gives_room()
{
	byte me, f, a;

	do
	:: stored[1] < most[1] -> stored[1]++; answer(1)
	:: else -> break
	od;
gone:
	publishers--
}

proctype sends(byte me)
{
	byte f, a;
	bool recovered;

	do
	::
#ifdef DEATH
	atomic {
		lock == 0 && visible[0] == stored[0] ->
		lock = me;
		recovered = owner_died;
		owner_died = false
	};
#endif
	if
	:: recovered ->
		recovered = false;
#ifndef NO_RECOVERY_RING
		/* Ring whatever was recorded, because no raise has this number. */
		rung[0] = RUNG_NOTHING;
		answer(0)
#endif
	:: else
	fi;
	if
	:: stored[0] < most[0] -> stored[0]++; die; answer(0); die; lock = 0
	:: else -> lock = 0; break
	fi
	od;
gone:
	publishers--
}

/* At the end the other side hangs up, or lives on and says nothing. */
proctype closer()
{
	if
	:: atomic { publishers == 0 -> hung_up = true; arrive() }
	:: publishers == 0
	fi
}

proctype trimmer()
{
	byte n, i;

	do
	:: i < TRIMS ->
		i++;
#ifndef TWO_TRIM
		/* doorbell_lock: without it two could count the same bytes, and each would take off all but one. */
		atomic { trimmers == 0 -> trimmers = 1 };
#endif
		n = queue;
		do
#ifdef TRIM_ALL
		/* With an empty queue the kernel drops the events that nobody has taken yet. */
		:: n > 0 ->
#else
		:: n > 1 ->
#endif
			n--;
			if
			:: queue > 0 -> queue--
			:: else
			fi
		:: else -> break
		od;
		trimmers = 0
	:: break
	od
}

inline membarrier(d)
{
#ifdef NO_MEMBARRIER
	skip
#else
	visible[d] == stored[d]
#endif
}

/* If the queue is empty when the kernel looks, there is no event. */
inline sleep(w, done)
{
	do
	:: readable(w) -> break
	:: atomic { edge[w] && !readable(w) -> edge[w] = false }
	:: atomic { done -> goto finished }
	od
}

#ifdef LEADER_DIES
#define leader_dies \
	if \
	:: atomic { !dead -> dead = true; joined[BY_BLOCKED] = false; edge[BY_BLOCKED] = false; goto again } \
	:: skip \
	fi
#else
#define leader_dies skip
#endif

proctype blocked()
{
	byte ev;
	bool dead;

again:
	ev = 0;
	do
	:: atomic { there && turn == 0 -> taken++ }
	:: atomic { taken == most[0] && !hung_up && publishers == 0 -> goto finished }
	:: !there || turn -> break
	od;
	ev = events;
#ifdef ADDS_MODE
	atomic { raises[0]++; flags[0] = flags[0] | FUTEX };
#else
	atomic { raises[0]++; flags[0] = (flags[0] & POLLED) | FUTEX };
#endif
	leader_dies;
	membarrier(0);
	if
	:: there -> goto found
	:: else
	fi;
	atomic {
		if
		:: events == ev -> asleep = true
		:: else
		fi
	};
	if
	:: !asleep -> goto found
	:: atomic { asleep -> asleep = false }
	fi;
	ev = 0;
	leader_dies;
	/* A socket with bytes in it, or a hang-up, is an event as soon as it is added. */
	d_step { joined[BY_BLOCKED] = true; edge[BY_BLOCKED] = true };
#ifndef TAKE_LATE
	edge[BY_BLOCKED] = false;
#endif
#ifdef ADDS_MODE
	atomic { raises[0]++; flags[0] = flags[0] | BELL };
#else
	atomic { raises[0]++; flags[0] = (flags[0] & POLLED) | BELL };
#endif
#ifdef TAKE_LATE
	/* A publisher that was held up may have rung for this raise already, because of an older message. */
	edge[BY_BLOCKED] = false;
#endif
	leader_dies;
	membarrier(0);
	if
	:: there -> goto found
	:: else
	fi;
#ifndef NO_HANG_UP_LOOK
	/* The edge of the hang-up may have been taken already. */
	if
	:: hung_up -> goto hangs_up
	:: else
	fi;
#endif
	sleep(BY_BLOCKED, over(0) && taken == most[0]);
	leader_dies;
found:
	skip;
	d_step { ev = 0; joined[BY_BLOCKED] = false; edge[BY_BLOCKED] = false };
	flags[0] = flags[0] & POLLED;
	goto again;
hangs_up:
	/* Look once more after the hang-up: the peer may have published just before it closed. */
	if
	:: there && turn == 0 -> goto found
	:: there && turn -> goto found
	:: !there
	fi;
finished:
	skip
}

proctype loop_fd()
{
	bool timer;

	joined[BY_FD] = true;
	goto arm;
busy:
	skip;
#ifdef NO_ARM_WHEN_BUSY
	/* This edge is taken, and the holder that has the turn may put the message back without a new edge. */
	goto wait;
#endif
arm:
	timer = false;
#ifndef TAKE_LATE
	edge[BY_FD] = false;
#endif
	atomic { raises[0]++; flags[0] = flags[0] | POLLED };
#ifdef TAKE_LATE
	edge[BY_FD] = false;
#endif
	membarrier(0);
	if
	:: there -> timer = true
	:: else ->
#ifndef NO_HANG_UP_LOOK
		if
		:: hung_up -> goto hangs_up
		:: else
		fi
#endif
	fi;
wait:
	do
	:: readable(BY_FD) -> break
	:: atomic { edge[BY_FD] && !readable(BY_FD) -> edge[BY_FD] = false }
	/* The timer fires when the turn is free; before that the try would fail again. */
	:: timer && !turn -> break
	:: atomic { over(0) && taken == most[0] -> goto finished }
	od;
	skip;
	/* The loop is edge-triggered: only a new event wakes it again. */
	d_step { edge[BY_FD] = false; timer = false };
	do
	:: turn -> goto busy
	:: atomic { !turn && there -> taken++ }
	:: !turn && !there -> goto arm
	od;
hangs_up:
	if
	:: there -> goto busy_end
	:: !there -> goto finished
	fi;
busy_end:
	timer = true;
	goto wait;
finished:
	skip
}

proctype polled_set()
{
	byte got;

	joined[BY_SET] = true;
	do
	:: got < visible[1] -> got++
	:: got >= visible[1] ->
#ifndef TAKE_LATE
		edge[BY_SET] = false;
#endif
#ifdef DRAINS
		/* With the bytes goes the news that other waiters have not looked at yet. */
		queue = 0;
#endif
		atomic { raises[1]++; flags[1] = POLLED };
#ifdef TAKE_LATE
		edge[BY_SET] = false;
#endif
		membarrier(1);
		if
		:: got < visible[1]
		:: got >= visible[1] ->
			if
			:: hung_up -> goto finished
			:: else
			fi;
			sleep(BY_SET, over(1) && got == most[1])
		fi
	od;
finished:
	skip
}

proctype peeker()
{
	do
	:: atomic { there && turn == 0 -> turn = 1 };
		if
		:: atomic { taken++; turn = 0 }
		:: turn = 0
		fi;
		break
	:: publishers == 0 -> break
	od
}

init {
	atomic {
		rung[0] = RUNG_NOTHING;
		rung[1] = RUNG_NOTHING;
#if defined(BLOCKED) || defined(FD)
		do
		:: most[0] < N -> most[0]++
		:: most[0] > 0 -> break
		od;
		run store_buffer(0);
		run sends(1);
		publishers++;
#ifdef DEATH
		run sends(2);
		publishers++;
#endif
#endif
#ifdef SET
		most[1] = ROOM;
		run store_buffer(1);
		run gives_room();
		publishers++;
		run polled_set();
#endif
#ifdef BLOCKED
		run blocked();
#endif
#ifdef FD
		run loop_fd();
#endif
#ifdef PEEKER
		run peeker();
#endif
		run trimmer();
#ifndef ALIVE
		run closer();
#endif
#ifdef TWO_TRIM
		run trimmer()
#endif
	}
}
