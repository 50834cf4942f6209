/* SPDX-License-Identifier: MIT */
#include "transport.h"

extern const struct transport transport_bufpipe;
extern const struct transport transport_bufpipe_static;
extern const struct transport transport_bufpipe_zero;
extern const struct transport transport_bufpipe_shared;
extern const struct transport transport_bufpipe_sleeping;
extern const struct transport transport_socketpair;
extern const struct transport transport_unix_stream;
extern const struct transport transport_tcp;
extern const struct transport transport_eventfd;
extern const struct transport transport_mq;
#ifdef HAVE_BOOST
extern const struct transport transport_boost;
#endif
#ifdef HAVE_LIBQB
extern const struct transport transport_libqb;
#endif
#ifdef HAVE_ICEORYX
extern const struct transport transport_iceoryx;
extern const struct transport transport_iceoryx_zero;
#endif
#ifdef HAVE_ZEROMQ
extern const struct transport transport_zeromq;
#endif
#ifdef HAVE_NNG
extern const struct transport transport_nng;
#endif
#ifdef HAVE_CK
extern const struct transport transport_ck;
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
	&transport_bufpipe_sleeping,
	&transport_socketpair,
	&transport_unix_stream,
	&transport_tcp,
	&transport_eventfd,
	&transport_mq,
#ifdef HAVE_BOOST
	&transport_boost,
#endif
#ifdef HAVE_LIBQB
	&transport_libqb,
#endif
#ifdef HAVE_ICEORYX
	&transport_iceoryx,
	&transport_iceoryx_zero,
#endif
#ifdef HAVE_ZEROMQ
	&transport_zeromq,
#endif
#ifdef HAVE_NNG
	&transport_nng,
#endif
#ifdef HAVE_CK
	&transport_ck,
#endif
	&transport_line,
	&transport_ring,
	&transport_epoll,
	&transport_set,
	&transport_set_epoll,
	NULL,
};
/* clang-format on */
