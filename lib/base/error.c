/* SPDX-License-Identifier: MIT */
/* The meaning of each error in this library.  It is more specific than that of strerror. */
#include "bufpipe.h"

#include <errno.h>

static const struct {
	int error;
	const char *meaning;
} meanings[] = {
	{ EINVAL, "an argument is invalid" },
	{ EBADF, "the end does not have this direction, or there is no such descriptor" },
	{ EAGAIN, "the call would have to wait" },
	{ ETIMEDOUT, "the time is up" },
	{ EINTR, "a signal handler ran" },
	{ EPIPE, "the stream has ended" },
	{ EMSGSIZE, "the message does not fit, or the size is more than the other side allows" },
	{ EBUSY, "something must be finished first: a reservation, a peek, or another wait" },
	{ ECANCELED, "the sender gave up the message" },
	{ EPROTO, "the other end broke the protocol of the shared memory" },
	{ EBADMSG, "what arrived is not what was expected, or the two sides do not fit together" },
	{ EPROTONOSUPPORT, "the other side uses another version of the shared memory" },
	{ EOPNOTSUPP, "this end cannot do that" },
	{ E2BIG, "the other side's pipe is larger than allowed" },
	{ EACCES, "permission denied, or refused by the other side" },
	{ EADDRINUSE, "another listener uses this address" },
	{ EEXIST, "it exists already; for an address: something there is not a socket" },
	{ ENOENT, "it does not exist" },
	{ ECONNREFUSED, "nobody listens at this address" },
	{ ECONNRESET, "the other side left before the pipe was made" },
	{ EPROTOTYPE, "the two sides want different kinds or directions of a pipe" },
	{ ENOTSOCK, "the descriptor is not a socket" },
	{ ESOCKTNOSUPPORT, "the descriptor is of the wrong kind" },
	{ ENAMETOOLONG, "the address is too long" },
	{ ESHUTDOWN, "the process that made the listener has closed it" },
	{ EUSERS, "the listener has too many clients of this user" },
	{ ENOBUFS, "the listener has run out of descriptors or memory" },
	{ ENOMEM, "out of memory, or beyond a limit of locked memory" },
	{ EMFILE, "this process has too many descriptors open" },
	{ ENFILE, "the system has too many files open" },
	{ ENOSPC, "this user has too many watches of epoll" },
	{ EPERM, "not permitted" },
	{ EFBIG, "larger than the limit of file sizes" },
	{ ENOSYS, "this kernel or build cannot do that" },
};

const char *bufpipe_strerror(int error)
{
	if (error >= 0)
		return "success";
	for (unsigned i = 0; i < sizeof(meanings) / sizeof(meanings[0]); i++) {
		/* Not -error: that overflows for INT_MIN. */
		if (error == -meanings[i].error)
			return meanings[i].meaning;
	}
	return "unknown error";
}
