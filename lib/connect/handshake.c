/* SPDX-License-Identifier: MIT */
#include "connect/handshake.h"

#include "base/packet.h"
#include "base/stray.h"

#include <sys/socket.h>

struct handshake handshake_make(enum handshake_type type)
{
	return (struct handshake){ .magic = HANDSHAKE_MAGIC, .version = LAYOUT_VERSION, .type = type };
}

int handshake_look(int socket, struct handshake *g, enum handshake_type wanted, int *fd)
{
	int r = packet_look(socket, g, sizeof(*g), fd);

	if (r < 0)
		return r;
	if (g->magic != HANDSHAKE_MAGIC || (g->version == LAYOUT_VERSION && g->type != wanted))
		r = -EBADMSG;
	else if (g->version != LAYOUT_VERSION)
		r = -EPROTONOSUPPORT;
	if (r < 0 && fd)
		stray_close(*fd);
	return r;
}

void handshake_refuse(int socket, int error)
{
	struct handshake refusal = handshake_make(REFUSAL);

	refusal.error = error;
	packet_send(socket, &refusal, sizeof(refusal), NULL, 0, MSG_DONTWAIT);
}

unsigned directions_mirrored(unsigned layout_flags)
{
	return (layout_flags & LAYOUT_SENDS ? LAYOUT_RECEIVES : 0) |
	       (layout_flags & LAYOUT_RECEIVES ? LAYOUT_SENDS : 0);
}

unsigned directions_identity(unsigned directions, const struct bufpipe_options *o)
{
	return directions | (o->flags & BUFPIPE_SHARED ? LAYOUT_SHARED : 0);
}

unsigned directions_wanted(const struct bufpipe_options *o)
{
	if (o->flags & BUFPIPE_DUPLEX)
		return LAYOUT_SENDS | LAYOUT_RECEIVES;
	if (o->flags & BUFPIPE_SEND)
		return LAYOUT_SENDS;
	return o->flags & BUFPIPE_RECEIVE ? LAYOUT_RECEIVES : 0;
}

int directions_duplex(unsigned directions)
{
	return directions == (LAYOUT_SENDS | LAYOUT_RECEIVES);
}
