/* SPDX-License-Identifier: MIT */
#include "transport.h"

extern const struct transport transport_bufpipe;
extern const struct transport transport_bufpipe_static;
extern const struct transport transport_bufpipe_zero;
extern const struct transport transport_bufpipe_shared;
extern const struct transport transport_socketpair;
extern const struct transport transport_mq;
#ifdef HAVE_BOOST
extern const struct transport transport_boost;
#endif
extern const struct transport transport_line;
extern const struct transport transport_ring;
extern const struct transport transport_set;
extern const struct transport transport_set_epoll;

/* clang-format off */
const struct transport *const transports[] = {
	&transport_pipe,
	&transport_bufpipe,
	&transport_bufpipe_static,
	&transport_bufpipe_zero,
	&transport_bufpipe_shared,
	&transport_socketpair,
	&transport_mq,
#ifdef HAVE_BOOST
	&transport_boost,
#endif
	&transport_line,
	&transport_ring,
	&transport_epoll,
	&transport_set,
	&transport_set_epoll,
	NULL,
};
/* clang-format on */
