/* SPDX-License-Identifier: MIT */
/* Allocates shared pages before they are used, so that a lack of memory is an error and not a SIGBUS. */
#ifndef BUFPIPE_MEMORY_POPULATE_H
#define BUFPIPE_MEMORY_POPULATE_H

#include <stddef.h>

/*
 * Allocates each page that begins within len bytes from an address, which must be
 * mapped writable.  0, or -ENOMEM, after which some of the pages may exist.  The
 * first 4 bytes of each page must not be in use: if the kernel has no call for
 * this, they are overwritten.
 */
int populate(void *at, size_t len);

#endif
