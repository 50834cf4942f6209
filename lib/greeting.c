/* SPDX-License-Identifier: MIT */
#include "greeting.h"

#include "packet.h"

#include <sys/socket.h>

struct greeting greeting_make(enum greeting_type type)
{
	return (struct greeting){ .magic = GREETING_MAGIC, .version = LAYOUT_VERSION, .type = type };
}

int greeting_receive(int socket, struct greeting *g, enum greeting_type wanted, int *fd)
{
	int r = packet_recv(socket, g, sizeof(*g), fd, fd ? 1 : 0, MSG_DONTWAIT);

	if (r < 0)
		return r;
	if (g->magic != GREETING_MAGIC || (g->version == LAYOUT_VERSION && g->type != wanted))
		r = -EBADMSG;
	else if (g->version != LAYOUT_VERSION)
		r = -EPROTONOSUPPORT;
	if (r < 0 && fd)
		close(*fd);
	return r;
}

unsigned ways_mirrored(unsigned layout_flags)
{
	return (layout_flags & LAYOUT_SENDS ? LAYOUT_RECEIVES : 0) |
	       (layout_flags & LAYOUT_RECEIVES ? LAYOUT_SENDS : 0);
}

unsigned ways_identity(unsigned ways, const struct bufpipe_options *o)
{
	return ways | (o->flags & BUFPIPE_SHARED ? LAYOUT_SHARED : 0);
}

unsigned ways_wanted(const struct bufpipe_options *o)
{
	if (o->flags & BUFPIPE_DUPLEX)
		return LAYOUT_SENDS | LAYOUT_RECEIVES;
	if (o->flags & BUFPIPE_SEND)
		return LAYOUT_SENDS;
	return o->flags & BUFPIPE_RECEIVE ? LAYOUT_RECEIVES : 0;
}

int ways_duplex(unsigned ways)
{
	return ways == (LAYOUT_SENDS | LAYOUT_RECEIVES);
}
