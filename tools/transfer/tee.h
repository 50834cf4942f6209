/* SPDX-License-Identifier: MIT */
/* --tee: a file that gets a copy of all that passes. */
#ifndef TEE_H
#define TEE_H

#include <stddef.h>

/* Each returns 0, or STATUS_FAILED after a message. Without a file they do nothing. */
int tee_open(const char *path);
int tee_write(const void *data, size_t len);
int tee_close(void);

#endif
