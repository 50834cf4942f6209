/* SPDX-License-Identifier: MIT */
/* The packet in which an end travels to another process: see handover.c. */
#ifndef BUFPIPE_CONNECT_PARCEL_H
#define BUFPIPE_CONNECT_PARCEL_H

#include "memory/layout.h"

struct parcel {
	uint64_t magic;
	uint32_t version;
	uint32_t flags;
	int64_t spin_ns;
};

/* Differs from HANDSHAKE_MAGIC, so that a parcel is never taken for a packet of the handshake. */
#define PARCEL_MAGIC (LAYOUT_MAGIC ^ 0x646e65ull)

#endif
