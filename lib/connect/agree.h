/* SPDX-License-Identifier: MIT */
/*
 * What two strangers agree on, and how much of it each leaves to the other.
 * Neither makes, touches or locks anything beyond its own limit.
 */
#ifndef BUFPIPE_CONNECT_AGREE_H
#define BUFPIPE_CONNECT_AGREE_H

#include "connect/handshake.h"

/* Bytes of messages that the other side may choose.  sized: the user named a size, which is then the limit. */
uint64_t agree_size_limit(const struct bufpipe_options *checked, bool sized);

/* Bytes of rings, of a pipe with these directions. */
uint64_t agree_memory(const struct bufpipe_options *checked, unsigned directions);

/* Bytes of rings that a listener makes or maps for all that it has not yet accepted. */
uint64_t agree_memory_limit(const struct bufpipe_options *checked, uint64_t size_limit);

/* The listener's part: what a pipe with this connector will be.  -EBADMSG, -EPROTOTYPE, -EMSGSIZE. */
int agree_on_offer(const struct bufpipe_options *listener, uint64_t size_limit,
		   const struct handshake *wishes, struct bufpipe_options *agreed,
		   unsigned *connector_directions);

/* The connector's: whether the offer is what it wished for.  wishes may be NULL.  -EBADMSG, -EPROTOTYPE, -E2BIG. */
int agree_to_offer(const struct handshake *offer, const struct bufpipe_options *wishes,
		   struct bufpipe_options *agreed);

#endif
