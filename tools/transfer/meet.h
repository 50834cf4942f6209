/* SPDX-License-Identifier: MIT */
/* How a sender finds its receiver. */
#ifndef MEET_H
#define MEET_H

#include <bufpipe.h>

#include "settings.h"

/*
 * Tries until a receiver welcomes this sender, the time is up, or a signal asks this
 * process to end.  0 or a negative errno, as complain_address takes it.
 */
int meet_receiver(bufpipe_t **pipe, const struct settings *settings);

#endif
