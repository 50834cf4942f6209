/* SPDX-License-Identifier: MIT */
#include "welcome.h"

#include <stdio.h>
#include <unistd.h>

#include "common.h"

/* The overflow uid: the kernel shows it for every user that this user namespace does not know. */
static uid_t overflow_uid(void)
{
	unsigned uid = 65534;
	FILE *file = fopen("/proc/sys/kernel/overflowuid", "re");

	if (file) {
		if (fscanf(file, "%u", &uid) != 1)
			uid = 65534;
		fclose(file);
	}
	return uid;
}

bool user_is_welcome(uid_t uid, const char *address, bool any_user)
{
	if (any_user)
		return true;
	/* Root may do anything to this process anyway. */
	if (uid == 0 || (uid == geteuid() && uid != overflow_uid()))
		return true;
	complain("%s: refused user %u; --any-user would allow it", address, uid);
	return false;
}

bool peer_is_welcome(const bufpipe_t *pipe, const char *address, bool any_user)
{
	struct bufpipe_info info;

	return any_user ||
	       (bufpipe_get_info(pipe, &info) == 0 && user_is_welcome(info.uid, address, any_user));
}
