/* SPDX-License-Identifier: MIT */
#include "connect/path.h"

#include "base/fd.h"
#include "base/packet.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>

#define BACKLOG SOMAXCONN
/*
 * An owner needs the lock for a few system calls.  If it takes longer than this, the owner has
 * been stopped.
 */
#define LOCK_PATIENCE NSEC_PER_SEC
#define LOCK_PAUSE    (NSEC_PER_SEC / 1000)
/* ".NAME.lock" */
#define LOCK_SIZE (PATH_SIZE + 6)

/*
 * Takes a lock on a file beside the socket, under which everybody binds and listens.
 * Without it, two servers that start at the same time could both replace a stale
 * socket, and the second would displace the first, which is alive by then.  Also, a
 * socket between bind and listen looks like a stale one.
 *
 * The lock is on a file of our own.  A lock on the directory would not do: anybody
 * who can read the directory could hold it for as long as they like.  Others cannot
 * open our file, and we need no right to read the directory.  The owner of the lock
 * removes the file.  So if the file has no name once we have locked it, it belonged
 * to another owner, and we open it again.  A killed process leaves the file behind
 * unlocked; the next server uses and removes it.
 */
static int lock_once(const struct path *path, const char *name)
{
	struct stat st;
	int r;
	int fd = fd_own(
		openat(path->directory, name, O_RDWR | O_CREAT | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, 0600));

	if (fd < 0)
		return fd;
	if (fstat(fd, &st) < 0)
		r = -errno;
	else if (flock(fd, LOCK_EX | LOCK_NB) < 0)
		/* Root can open the file of a stranger, but must not wait for the stranger's lock. */
		r = errno != EWOULDBLOCK ? -errno : st.st_uid == geteuid() ? -EAGAIN : -EADDRINUSE;
	else if (fstat(fd, &st) < 0)
		r = -errno;
	else if (!st.st_nlink)
		r = -EAGAIN;
	else
		return fd;
	close(fd);
	return r;
}

static int lock(const struct path *path, const char *name, const struct sleeper *caller)
{
	struct sleeper s = *caller; /* not cancellable: the caller has more to clean up than this file */

	s.deadline = time_now() + LOCK_PATIENCE;
	for (;;) {
		int r = lock_once(path, name);

		if (r != -EAGAIN)
			return r;
		r = sleep_until(&s, -1, time_now() + LOCK_PAUSE, -1);
		if (r < 0)
			return r == -ETIMEDOUT ? -EADDRINUSE : r;
	}
}

/* Unlock explicitly, because a child that another thread forked meanwhile has the same open file. */
static void unlock(const struct path *path, const char *name, int fd)
{
	unlinkat(path->directory, name, 0);
	flock(fd, LOCK_UN);
	close(fd);
}

/* Somebody listens there: 0.  -ECONNREFUSED: a file was left behind. */
static int probe(const struct sockaddr_un *at, socklen_t len)
{
	int fd = fd_own(socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
	int r = 0;

	if (fd < 0)
		return fd;
	/* The listener may be a stranger that sends descriptors whose close sleeps. */
	packet_forbid_rights(fd);
	if (connect(fd, (const struct sockaddr *)at, len) < 0)
		r = -errno;
	packet_close(fd);
	return r;
}

/* Under the lock. */
static int bind_anew(const struct path *path, int socket, const struct sockaddr_un *at, socklen_t len)
{
	struct stat st;

	if (bind(socket, (const struct sockaddr *)at, len) == 0)
		return 0;
	if (errno != EADDRINUSE)
		return -errno;
	if (fstatat(path->directory, path->name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return -EADDRINUSE;
	if (!S_ISSOCK(st.st_mode))
		return -EEXIST;
	if (probe(at, len) != -ECONNREFUSED)
		return -EADDRINUSE;
	if (unlinkat(path->directory, path->name, 0) < 0 ||
	    bind(socket, (const struct sockaddr *)at, len) < 0)
		return -errno;
	return 0;
}

/* Under the lock, so nobody takes the file for a stale one before it listens. */
static int bind_and_listen(struct path *path, int socket, const struct sockaddr_un *at, socklen_t len,
			   unsigned mode)
{
	struct stat st;
	int r = bind_anew(path, socket, at, len);

	if (r < 0)
		return r;
	if (fstatat(path->directory, path->name, &st, AT_SYMLINK_NOFOLLOW) < 0) {
		r = -errno;
		unlinkat(path->directory, path->name, 0);
		return r;
	}
	path->device = st.st_dev;
	path->inode = st.st_ino;
	/* chmod before listen, so that nobody can connect whom the mode excludes. */
	if ((mode && fchmodat(path->directory, path->name, mode, AT_SYMLINK_NOFOLLOW) < 0) ||
	    listen(socket, BACKLOG) < 0) {
		r = -errno;
		path_remove(path);
	}
	return r;
}

/* Keeps the directory open, so that the file can be removed after the program has changed its directory. */
static int open_directory(struct path *path, const char *text)
{
	char directory[PATH_SIZE];
	char *slash;

	strcpy(directory, text);
	slash = strrchr(directory, '/');
	strcpy(path->name, slash + 1);
	if (!path->name[0])
		return -EINVAL;
	slash[slash == directory] = '\0';
	return fd_own(open(directory, O_PATH | O_DIRECTORY | O_CLOEXEC));
}

int path_listen(struct path *path, int socket, const struct sockaddr_un *at, socklen_t len, const char *text,
		unsigned mode, const struct sleeper *sleeper)
{
	char name[LOCK_SIZE];
	int locked;
	int r;

	*path = PATH_NONE;
	path->directory = open_directory(path, text);
	if (path->directory < 0)
		return path->directory;
	snprintf(name, sizeof(name), ".%s.lock", path->name);
	locked = lock(path, name, sleeper);
	if (locked < 0) {
		path_forget(path);
		return locked;
	}
	r = bind_and_listen(path, socket, at, len, mode);
	unlock(path, name, locked);
	if (r < 0)
		path_forget(path);
	return r;
}

void path_remove(struct path *path)
{
	struct stat st;

	if (path->directory < 0)
		return;
	if (fstatat(path->directory, path->name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
	    st.st_dev == path->device && st.st_ino == path->inode)
		unlinkat(path->directory, path->name, 0);
	path_forget(path);
}

void path_forget(struct path *path)
{
	if (path->directory >= 0)
		close(path->directory);
	path->directory = -1;
}
