/* SPDX-License-Identifier: MIT */
/*
 * What two strangers agree on, and the limits of what each accepts from the other.
 * Neither side creates, touches or locks memory beyond its own limit.
 */
#ifndef BUFPIPE_CONNECT_AGREE_H
#define BUFPIPE_CONNECT_AGREE_H

#include "connect/handshake.h"

/*
 * The most bytes of messages that the other side may choose.  sized: the user gave a size, which
 * is the limit.
 */
uint64_t agree_size_limit(const struct bufpipe_options *checked, bool sized);

/* The bytes of the rings of a pipe with these directions. */
uint64_t agree_memory(const struct bufpipe_options *checked, unsigned directions);

/* The most bytes of rings that a listener makes or maps for all pending connectors. */
uint64_t agree_memory_limit(const struct bufpipe_options *checked, uint64_t size_limit);

/* For the listener: decides what the pipe with this connector will be.  -EBADMSG, -EPROTOTYPE, -EMSGSIZE. */
int agree_on_offer(const struct bufpipe_options *listener, uint64_t size_limit,
		   const struct handshake *wishes, struct bufpipe_options *agreed,
		   unsigned *connector_directions);

/*
 * For the connector: checks an offer against its wishes, which may be NULL.  -EBADMSG,
 * -EPROTOTYPE, -E2BIG.
 */
int agree_to_offer(const struct handshake *offer, const struct bufpipe_options *wishes,
		   struct bufpipe_options *agreed);

#endif
