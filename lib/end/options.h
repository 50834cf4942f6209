/* SPDX-License-Identifier: MIT */
/* The options of a pipe: checked, with defaults, and what they make of a ring. */
#ifndef BUFPIPE_END_OPTIONS_H
#define BUFPIPE_END_OPTIONS_H

#include "bufpipe.h"
#include "memory/region.h"

/* Which end a connector wants to have. */
#define ROLE_FLAGS (BUFPIPE_RECEIVE | BUFPIPE_SEND)
/* What has a meaning only at an address. */
#define MEETING_FLAGS (ROLE_FLAGS | BUFPIPE_WAIT_FOR_LISTENER)

/* The least buffer_size of a generic pipe: one fragment of a long message must fit. */
#define LEAST_SIZE 64

/* Copies the options and fills in the defaults; NULL gives the defaults.  0 or -EINVAL. */
int options_check(struct bufpipe_options *checked, const struct bufpipe_options *options);

/* The bytes for messages: buffer_size, or the objects of a static pipe with their headers. */
uint64_t options_size(const struct bufpipe_options *checked);

/* The identity of the region of an end with these options.  flags are LAYOUT_*. */
struct identity options_identity(const struct bufpipe_options *options, unsigned flags);

#endif
