/* SPDX-License-Identifier: MIT */
#include "connect/unread.h"

#include "base/packet.h"

#include <linux/sockios.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <unistd.h>

bool unread_is_left(int socket)
{
	int bytes;

	return ioctl(socket, SIOCOUTQ, &bytes) == 0 && bytes > 0;
}

static void drop(struct unread *u, int i)
{
	packet_close(u->at[i].socket);
	u->at[i] = u->at[--u->n];
}

static int count_of(const struct unread *u, uid_t uid)
{
	int n = 0;

	for (int i = 0; i < u->n; i++)
		n += u->at[i].uid == uid;
	return n;
}

/*
 * How many offers a user may leave unread: a quarter of the places that other users
 * leave free.  So a few users cannot take all places, and the first user does not
 * take most of them.
 */
static int share_of(const struct unread *u, int own)
{
	int share = (UNREAD_MAX - (u->n - own)) / 4;

	return share > UNREAD_LEAST_SHARE ? share : UNREAD_LEAST_SHARE;
}

static bool can_spare_descriptors(void)
{
	struct rlimit limit;

	return getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur >= UNREAD_LEAST_LIMIT;
}

bool unread_keep(struct unread *u, int socket, uid_t uid)
{
	/*
	 * Not for our own user: its processes could do worse anyway, and the honest ones must not
	 * be kept out.
	 */
	if (uid == geteuid() || !unread_is_left(socket) || !can_spare_descriptors())
		return false;
	if (u->n == UNREAD_MAX)
		return false;
	if (u->n == 0)
		u->next = time_now() + UNREAD_LOOK;
	u->at[u->n].socket = socket;
	u->at[u->n++].uid = uid;
	return true;
}

static void release(struct unread *u)
{
	/* From the end, because drop moves the last entry into the free place. */
	for (int i = u->n; i-- > 0;) {
		if (!unread_is_left(u->at[i].socket))
			drop(u, i);
	}
}

void unread_release(struct unread *u, int64_t now)
{
	if (u->n == 0 || now < u->next)
		return;
	u->next = now + UNREAD_LOOK;
	release(u);
}

bool unread_too_many(struct unread *u, uid_t uid, int waiting)
{
	int own;

	release(u);
	own = count_of(u, uid);
	return own + waiting >= share_of(u, own);
}

int unread_forget(struct unread *u)
{
	int n = u->n;

	while (u->n)
		drop(u, u->n - 1);
	return n;
}
