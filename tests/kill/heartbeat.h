/* SPDX-License-Identifier: MIT */
/*
 * Whether the machine wakes sleepers on time. A test that measures how long others sleep must not blame
 * them for a CPU that is busy, or that a hypervisor takes away. So a thread on each CPU sleeps again and
 * again for a short time, and what is measured while one of these threads is late does not count.
 */
#ifndef TESTS_HEARTBEAT_H
#define TESTS_HEARTBEAT_H

#include <stdbool.h>

void heartbeat_start(void);
void heartbeat_stop(void);

/* Whether the thread of each CPU woke up on time lately. */
bool heartbeat_is_regular(void);

#endif
