/* SPDX-License-Identifier: MIT */
/* Copies from several pieces as from one. */
#ifndef BUFPIPE_END_GATHER_H
#define BUFPIPE_END_GATHER_H

#include "base/sys.h"

#include <sys/uio.h>

/* The position of a gathering copy. */
struct cursor {
	const struct iovec *piece;
	size_t offset;
};

static inline void gather(char *to, size_t len, struct cursor *from)
{
	while (len) {
		/* NOLINTNEXTLINE(clang-analyzer-core.UndefinedBinaryOperatorResult): len is the sum of the pieces */
		size_t n = from->piece->iov_len - from->offset;

		if (n > len)
			n = len;
		copy_bytes(to, (const char *)from->piece->iov_base + from->offset, n);
		to += n;
		len -= n;
		from->offset += n;
		if (from->offset == from->piece->iov_len) {
			from->piece++;
			from->offset = 0;
		}
	}
}

#endif
