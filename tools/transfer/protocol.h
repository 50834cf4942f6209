/* SPDX-License-Identifier: MIT */
/*
 * The protocol of send and recv, over a duplex pipe.
 *
 * 1. The sender says hello, if it accepts the user of the receiver. A client that leaves without saying hello is
 *    not a sender, and the receiver ignores it.
 * 2. The receiver welcomes the sender when it is that sender's turn. Until then the sender only waits: it may
 *    have connected just before the receiver stopped listening, or others may come first.
 * 3. Each message of the sender that is not empty is data. An empty one marks the end.
 * 4. The receiver says how it ended: it has written everything out, nobody reads its output any more, or it
 *    has failed.
 *
 * So each side can tell an orderly end from a death. The end of the stream alone does not tell.
 */
#ifndef PROTOCOL_H
#define PROTOCOL_H

/* Messages of one byte. */
enum {
	SAY_HELLO = 'S',   /* the sender's first */
	SAY_WELCOME = 'W', /* the receiver's first */
	SAY_REFUSED = 'R', /* or this, from a receiver of another program */
	SAY_DONE = 'D',
	SAY_UNREAD = 'Q', /* nobody reads the receiver's output any more */
	SAY_FAILED = 'F', /* the receiver could not write everything */
};

#endif
