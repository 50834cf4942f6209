/* SPDX-License-Identifier: MIT */
#ifndef TESTS_NEED_URING_H
#define TESTS_NEED_URING_H

#include "support.h"

#include <bufpipe_uring.h>
#include <liburing.h>

/* Skips the test where a program cannot wait for pipes in an io_uring of its own. */
static inline void need_uring(void)
{
	struct io_uring_sqe sqe;
	bufpipe_t *ends[2];
	int r;

	pipe_open(ends, NULL);
	r = bufpipe_prep_wait_hup(&sqe, ends[IN]);
	pipe_close(ends);
	if (r == -ENOSYS)
		cr_skip_test("io_uring is forbidden here, or the kernel is older than 6.7");
}

#endif
