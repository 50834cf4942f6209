/* SPDX-License-Identifier: MIT */
/*
 * Messages over a descriptor that carries only bytes.  Both sides know the length
 * here.  A program would need a length word and a second read; their cost is left out.
 */
#ifndef PERF_STREAM_H
#define PERF_STREAM_H

#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

static inline int stream_send(int fd, const void *buf, size_t len)
{
	const char *from = buf;

	while (len) {
		ssize_t n = write(fd, from, len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		from += n;
		len -= (size_t)n;
	}
	return 0;
}

static inline ssize_t stream_recv(int fd, void *buf, size_t len)
{
	char *to = buf;
	size_t got = 0;

	while (got < len) {
		ssize_t n = read(fd, to + got, len - got);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			return -EPIPE;
		got += (size_t)n;
	}
	return (ssize_t)got;
}

/* Sets the size even beyond the limit of the system, if this user may do that. */
static inline int set_buffer(int fd, int option, int force, size_t size)
{
	int bytes = (int)size;

	if (setsockopt(fd, SOL_SOCKET, force, &bytes, sizeof(bytes)) == 0)
		return 0;
	return setsockopt(fd, SOL_SOCKET, option, &bytes, sizeof(bytes)) ? -errno : 0;
}

#endif
