/* SPDX-License-Identifier: MIT */
/* Memory for shared pages before they are used, so that a refusal is an error and not a SIGBUS. */
#ifndef BUFPIPE_MEMORY_POPULATE_H
#define BUFPIPE_MEMORY_POPULATE_H

#include <stddef.h>

/*
 * Makes the kernel provide each page that begins in len bytes at an address,
 * which is mapped writable.  0, or -ENOMEM: then some of them may be there.
 * Nothing in use may stand at the beginning of such a page: where the kernel
 * cannot do it in one call, 4 bytes there become anything.
 */
int populate(void *at, size_t len);

#endif
