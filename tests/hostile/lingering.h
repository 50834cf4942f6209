/* SPDX-License-Identifier: MIT */
/*
 * Attackers that send descriptors whose close sleeps. Their victims run twice: as on a new kernel, where
 * most of these descriptors cannot be sent, and as before Linux 6.16.
 */
#ifndef TESTS_HOSTILE_LINGERING_H
#define TESTS_HOSTILE_LINGERING_H

#include "hostile/hostile.h"

/*
 * Sends a lingering socket from a process that ends at once, so that it exists only in the queue. Returns
 * whether it could be sent. Nobody accepts the other side, which therefore stays in this process.
 */
bool send_lingering(int to, const void *bytes, size_t len);
/* Makes a lingering socket. Its other side stays open in this process. */
int lingering_here(void);

/* An attacker in a process of its own. It does something, reports whether it could, and stays. */
struct attacker {
	struct child child;
	int told;
	int tell;
	void (*attack)(struct attacker *);
	int socket;
	int not_mine; /* or 0 */
	uid_t uid;
	char address[64];
	bool sent;
};

void attacker_start(struct attacker *a, void (*attack)(struct attacker *));
/* Waits until the attacker has attacked. Returns whether the kernel allowed it. */
bool attacker_has_sent(struct attacker *a);
void attacker_stop(struct attacker *a);
/* An attack of a client: a lingering socket comes in place of the region. */
void offer_lingering(struct attacker *a);

/* Runs the victim in a process of its own, once with and once without the protection of new kernels. */
void on_each_kernel(void (*victim)(void *old));
/* What a victim begins with. Returns the time. */
int64_t begin_on(const int *old);
/* Whether this kernel lets a socket take no descriptors, so that an attacker cannot send any. */
bool kernel_forbids_rights(void);

/* Listens at an address of its own, which it notes in the attacker. */
bufpipe_listener_t *listen_for(struct attacker *a);
int readable(int fd);

#endif
