/* SPDX-License-Identifier: MIT */
/*
 * Static probes (USDT) for bpftrace, perf and similar tools; bufpipe-probes(7) lists them.  A probe is one nop in
 * the code, and a note in the file with its place and its arguments.  Probes are on cold paths only: the compiler
 * has to keep the arguments available, which on a hot path could cost more than the nop.
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

/* Reports through a probe what is impossible in the memory of the peer, and returns -EPROTO. */
static inline int protocol_error(const char *what)
{
	(void)what;
	PROBE(protocol_error, what);
	return -EPROTO;
}

#endif
