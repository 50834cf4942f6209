/* SPDX-License-Identifier: MIT */
/* The futex operations of io_uring, which liburing 2.3 does not have. */
#ifndef BUFPIPE_POLL_URING_H
#define BUFPIPE_POLL_URING_H

#include <linux/futex.h>
#include <linux/io_uring.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#define URING_OP_FUTEX_WAIT 51 /* IORING_OP_FUTEX_WAIT, from Linux 6.7 */
#define URING_FUTEX_U32     2  /* FUTEX2_SIZE_U32, shared */

/*
 * Whether io_uring is allowed and has futexes.  Asks the ring once; with -1 it guesses from the
 * version of the kernel.
 */
bool uring_has_futex(int ring);

/* Fills in all of the request but user_data. */
static inline void uring_prep_futex_wait(struct io_uring_sqe *sqe, const _Atomic uint32_t *word,
					 uint32_t value)
{
	memset(sqe, 0, sizeof(*sqe));
	sqe->opcode = URING_OP_FUTEX_WAIT;
	sqe->fd = URING_FUTEX_U32;
	sqe->addr = (uintptr_t)word;
	sqe->off = value;
	sqe->addr3 = FUTEX_BITSET_MATCH_ANY;
}

#endif
