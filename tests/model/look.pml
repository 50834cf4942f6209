/* SPDX-License-Identifier: MIT */
/*
 * Looks without the turn: ring_glance and ring_used in lib/ring/ring.h; section 1 of docs/waiting.md. A sender and a
 * receiver move along a ring of two places, lap after lap, and a third looks once at it, held up anywhere.
 *
 * The claims: If a look for messages says "none", that was true at some moment during it, and it never says "the end"
 * before there is one. What a look for room says was true at some moment during it. It says that all of the ring is
 * free if the ring stayed empty during the look, even when the sender is held up for ever between the header and the tail.
 *
 * A record is a header and one place of payload; the payload looks like the end of the stream.
 *
 * The other names are mutants, each explained where it bites.
 */

#ifndef N
#define N 5		/* records at most */
#endif
#define SIZE 6		/* places: two records, and room for one header more */
#define LIMIT 4
#define LOOKS 3

#define NONE 0
#define WHOLE 1
#define END 2

byte ring[SIZE];
byte head;		/* positions; their place is the position modulo SIZE */
byte tail;		/* may lag by one record */
byte sent;		/* where the ring itself ends: header stored */
bool looking;
bool was_empty, was_filled;	/* at some moment during the look there was nothing; or something */
byte least, most;	/* bytes in the ring during the look; least as far as the tail tells */

#define used (sent - head)
#define told (tail > head -> tail - head : 0)

inline note()
{
	if
	:: looking ->
		if
		:: used == 0 -> was_empty = true
		:: else -> was_filled = true
		fi;
		if
		:: told < least -> least = told
		:: else
		fi;
		if
		:: used > most -> most = used
		:: else
		fi
	:: else
	fi
}

active proctype sender()
{
	byte seen, i;

	do
	:: i < N ->
		do
		:: tail - seen + 2 <= LIMIT -> break
		:: tail - seen + 2 > LIMIT -> head > seen; seen = head
		od;
		i++;
		ring[(tail + 1) % SIZE] = END;	/* the payload */
		ring[(tail + 2) % SIZE] = NONE;
		d_step { ring[tail % SIZE] = WHOLE; sent = sent + 2; note() };
		/* The sender may be killed here. Then the tail stays behind. */
		if
		:: break
		:: skip
		fi;
		d_step { tail = tail + 2; note() }
	:: break
	od;
end:	skip
}

active proctype receiver()
{
end:
	do
	:: d_step { ring[head % SIZE] == WHOLE -> head = head + 2; note() }
	od
}

#ifndef ROOM
active proctype looker()
{
	byte at, header, looks;

	d_step { looking = true; least = 255; note() };
	do
	:: looks == LOOKS ->
		header = WHOLE;
		break
	:: looks < LOOKS ->
		looks++;
		at = head;
		header = ring[at % SIZE];
#ifdef LOOK_ONCE
		/* The head has moved on by a lap: the payload of another record is read as a header. */
		break
#else
		if
		:: head == at -> break
		:: else
		fi
#endif
	od;
	assert(header != END);
	assert(header != NONE || was_empty)
}
#else
active proctype looker()
{
	byte at, end, looks;
	short bytes;

	d_step { looking = true; least = 255; note() };
	do
	:: looks == LOOKS ->
		bytes = 0;
		goto flows
	:: looks < LOOKS ->
		looks++;
#ifdef TAIL_FIRST
		/* Receiver and sender go on meanwhile, so the look finds fewer bytes than there ever were. */
		end = tail;
		at = head;
		break
#else
		at = head;
		end = tail;
#ifdef HEAD_ONCE
		/* Both go on by a lap between the two loads, so the look finds more bytes than there ever were. */
		break
#else
		if
		:: head == at -> break
		:: else
		fi
#endif
#endif
	od;
	skip;
	d_step {
		bytes = end - at;
#ifdef UNSIGNED
		/* If the tail lags behind the head, the difference wraps around, and the ring seems full for ever. */
		bytes = (bytes < 0 -> 255 : bytes);
#else
		bytes = (bytes < 0 -> 0 : bytes);
#endif
		looking = false
	};
	assert(bytes >= least);
	assert(bytes <= most);
flows:
	skip
}
#endif
