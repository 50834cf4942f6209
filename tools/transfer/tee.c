/* SPDX-License-Identifier: MIT */
#include "tee.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "../common.h"

static struct {
	const char *path;
	int fd;
} copy = { .fd = -1 };

static int failed(int error)
{
	if (!stop_signal())
		complain("%s: %s", copy.path, strerror(error));
	return STATUS_FAILED;
}

int tee_open(const char *path)
{
	if (!path)
		return 0;
	copy.path = path;
	/* A FIFO is opened when somebody reads it; a signal ends that. */
	copy.fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
	return copy.fd < 0 ? failed(errno) : 0;
}

int tee_write(const void *data, size_t len)
{
	int error = copy.fd < 0 ? 0 : write_all(copy.fd, data, len);

	return error < 0 ? failed(-error) : 0;
}

int tee_close(void)
{
	int fd = copy.fd;

	copy.fd = -1;
	/* Some filesystems report only at the close that there was no room. */
	return fd >= 0 && close(fd) < 0 ? failed(errno) : 0;
}
