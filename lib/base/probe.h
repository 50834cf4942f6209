/* SPDX-License-Identifier: MIT */
/*
 * Static probes (USDT) for bpftrace, perf and the like; bufpipe-probes(7) lists them. A probe is one nop in the
 * code, and a note in the file that tells where it stands and where its arguments are. Probes stand on cold paths
 * only: the compiler has to have the arguments at hand, and on a hot path that could cost more than the nop.
 */
#ifndef BUFPIPE_BASE_PROBE_H
#define BUFPIPE_BASE_PROBE_H

#include <errno.h>

#ifdef HAVE_PROBES
#define SDT_USE_VARIADIC
#include <sys/sdt.h>
#define PROBE(name, ...) STAP_PROBEV(bufpipe, name, __VA_ARGS__)
#else
#define PROBE(name, ...) ((void)0)
#endif

/* Tells what of the peer's memory is impossible, in a few words, and returns -EPROTO. */
static inline int protocol_error(const char *what)
{
	(void)what;
	PROBE(protocol_error, what);
	return -EPROTO;
}

#endif
