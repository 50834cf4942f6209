/* SPDX-License-Identifier: MIT */
/*
 * A listening socket in the filesystem: binding it, also in the place of a stale one,
 * and removing it.
 */
#ifndef BUFPIPE_CONNECT_PATH_H
#define BUFPIPE_CONNECT_PATH_H

#include "connect/sleep.h"

#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

/* The longest path that the kernel accepts, with a final 0. */
#define PATH_SIZE (sizeof(((struct sockaddr_un *)0)->sun_path) + 1)

/* The place of the file, independent of the working directory.  directory is -1 if there is no file. */
struct path {
	int directory;
	char name[PATH_SIZE];
	dev_t device;
	ino_t inode;
};

#define PATH_NONE ((struct path){ .directory = -1 })

/*
 * Binds the socket to the address and listens.  The path must have a final 0.  mode
 * is that of the file; 0 uses the umask.
 *   -EADDRINUSE  another process listens there, or is about to
 *   -EEXIST      something is there that is not a socket
 *   -EINTR       a signal handler ran
 */
int path_listen(struct path *path, int socket, const struct sockaddr_un *at, socklen_t len, const char *text,
		unsigned mode, const struct sleeper *sleeper);

/* Removes the file if it is still ours. */
void path_remove(struct path *path);

/* Closes the directory and leaves the file. */
void path_forget(struct path *path);

#endif
