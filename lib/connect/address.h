/* SPDX-License-Identifier: MIT */
/* Addresses where two strangers meet: a path, an abstract name, a socket that was passed on. */
#ifndef BUFPIPE_CONNECT_ADDRESS_H
#define BUFPIPE_CONNECT_ADDRESS_H

#include <stdint.h>
#include <sys/types.h>
#include <sys/un.h>

/* A socket that listens, and the file that must go with it. */
struct listening {
	int fd;
	int adopted; /* the caller's, until listening has succeeded */
	char path[sizeof(((struct sockaddr_un *)0)->sun_path)]; /* empty: no file of ours */
	dev_t device;
	ino_t inode;
};

int address_listen(struct listening *listening, const char *address);

/* Closes, and removes the file if it is still ours. */
void address_unlisten(struct listening *listening);

/* Undoes address_listen for a call that failed: as above, but a socket that was passed on stays open. */
void address_give_up(struct listening *listening);

/* A connected socket, or a negative errno.  Absolute deadline. */
int address_connect(const char *address, int64_t deadline);

#endif
