/* SPDX-License-Identifier: MIT */
/*
 * The handshake, by which two strangers become the two ends of a pipe.  They exchange
 * three packets on the connection, which stays the socket of the pipe:
 *
 *   connector -> listener   WISHES   what it would like
 *   listener -> connector   OFFER    what it will be, with the listener's region;
 *                                    or REFUSAL with an error
 *   connector -> listener   REGION   with the connector's region
 *
 * Each side creates and seals the region that it writes.
 */
#ifndef BUFPIPE_CONNECT_HANDSHAKE_H
#define BUFPIPE_CONNECT_HANDSHAKE_H

#include "end/end.h"

#define HANDSHAKE_MAGIC (LAYOUT_MAGIC ^ 0x6f6c6c6568ull)

enum handshake_type { WISHES = 1, OFFER, REFUSAL, REGION };

/* Flags describe the connector: LAYOUT_SENDS means that the connector sends. */
enum {
	WISH_ANY = 1u << 31,
	HANDSHAKE_SEALED = 1u << 30, /* BUFPIPE_NO_HANDOVER is wished for, or is offered to both sides */
};

struct handshake {
	uint64_t magic;
	uint32_t version;
	uint32_t type;
	int32_t error; /* REFUSAL: a negative errno */
	uint32_t flags;
	uint64_t buffer_size;
	uint64_t object_size;
	uint64_t object_count;
};

struct handshake handshake_make(enum handshake_type type);

/*
 * Peeks at the next packet, which must have the wanted type and, if fd is not NULL, a
 * memfd.  It stays in the queue until packet_take.  Does not wait: -EAGAIN.  Other
 * errors are -EBADMSG, -EPROTONOSUPPORT and those of packet_look.
 */
int handshake_look(int socket, struct handshake *handshake, enum handshake_type wanted, int *fd);

void handshake_refuse(int socket, int error);

/* Swaps LAYOUT_SENDS and LAYOUT_RECEIVES: the directions of the other side. */
unsigned directions_mirrored(unsigned directions);

/* The directions that a side with these options insists on; 0 if it accepts any. */
unsigned directions_wanted(const struct bufpipe_options *options);

int directions_duplex(unsigned directions);

/* The flags of the region of a side that has these directions. */
unsigned directions_identity(unsigned directions, const struct bufpipe_options *options);

#endif
