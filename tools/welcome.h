/* SPDX-License-Identifier: MIT */
/* Which users may stand at the other end. */
#ifndef WELCOME_H
#define WELCOME_H

#include <stdbool.h>
#include <sys/types.h>

#include <bufpipe.h>

/*
 * Whether this is our own user or root. Another one is welcome only with any_user; if not, a message names
 * the address. The overflow uid stands for all users that this user namespace does not know. It is
 * therefore never our own, not even for a process that has it.
 */
bool user_is_welcome(uid_t uid, const char *address, bool any_user);
/* The same for the user at the other end of a pipe. */
bool peer_is_welcome(const bufpipe_t *pipe, const char *address, bool any_user);

#endif
