/* SPDX-License-Identifier: MIT */
#include "base/fd.h"

#include <fcntl.h>

int fd_move_up(int low)
{
	int fd = fcntl(low, F_DUPFD_CLOEXEC, FD_FIRST);
	int r = fd < 0 ? -errno : fd;

	sys_close(low);
	/* fcntl returns EINVAL if the limit of descriptors is 3 or less. */
	return r == -EINVAL ? -EMFILE : r;
}
