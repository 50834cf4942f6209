/* SPDX-License-Identifier: MIT */
#include "transport.h"

extern const struct transport transport_bufpipe;
extern const struct transport transport_bufpipe_static;
extern const struct transport transport_bufpipe_zero;
extern const struct transport transport_bufpipe_shared;
extern const struct transport transport_socketpair;
extern const struct transport transport_line;
extern const struct transport transport_ring;

/* clang-format off */
const struct transport *const transports[] = {
	&transport_pipe,
	&transport_bufpipe,
	&transport_bufpipe_static,
	&transport_bufpipe_zero,
	&transport_bufpipe_shared,
	&transport_socketpair,
	&transport_line,
	&transport_ring,
	NULL,
};
/* clang-format on */
