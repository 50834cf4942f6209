/* SPDX-License-Identifier: MIT */
/*
 * Two strangers become the two ends of a pipe.  On the connection, which stays
 * the socket of the pipe, three packets are exchanged:
 *
 *   connector -> listener   WISHES   what it would like
 *   listener -> connector   OFFER    what it will be, with the listener's region;
 *                                    or REFUSAL with an error
 *   connector -> listener   REGION   with the connector's region
 *
 * Each side creates and seals the region that it writes.
 */
#ifndef BUFPIPE_GREETING_H
#define BUFPIPE_GREETING_H

#include "end.h"

#define GREETING_MAGIC (LAYOUT_MAGIC ^ 0x6f6c6c6568ull)

enum greeting_type { WISHES = 1, OFFER, REFUSAL, REGION };

/* Flags are seen from the connector: LAYOUT_SENDS means that it sends. */
enum { WISH_ANY = 1u << 31 };

struct greeting {
	uint64_t magic;
	uint32_t version;
	uint32_t type;
	int32_t error; /* REFUSAL: a negative errno */
	uint32_t flags;
	uint64_t buffer_size;
	uint64_t object_size;
	uint64_t object_count;
};

struct greeting greeting_make(enum greeting_type type);

/* A greeting of the wanted type, with a descriptor if fd is not NULL; does not wait.  -EBADMSG, -EPROTONOSUPPORT. */
int greeting_receive(int socket, struct greeting *greeting, enum greeting_type wanted, int *fd);

/* LAYOUT_SENDS and LAYOUT_RECEIVES, as the other side has them. */
unsigned ways_mirrored(unsigned ways);

/* The ways that a side with these options insists on; 0 when either is welcome. */
unsigned ways_wanted(const struct bufpipe_options *options);

int ways_duplex(unsigned ways);

/* The flags of the region of a side that goes these ways. */
unsigned ways_identity(unsigned ways, const struct bufpipe_options *options);

#endif
