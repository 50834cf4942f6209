/* SPDX-License-Identifier: MIT */
/* Handing an end to another process: the three descriptors of the end, and the options for waiting. */
#include "base/packet.h"
#include "base/probe.h"
#include "base/stray.h"
#include "connect/parcel.h"
#include "end/end.h"
#include "end/options.h"

enum { FD_OURS, FD_THEIRS, FD_SOCKET, FD_COUNT };

int bufpipe_send_end(int socket, bufpipe_t *p)
{
	struct parcel parcel = { .magic = PARCEL_MAGIC, .version = LAYOUT_VERSION };
	int fds[FD_COUNT];
	int r;

	if (!p || socket < 0)
		return -EINVAL;
	if (direction_is_open(&p->out) || direction_is_open(&p->in) || p->in.state & DIRECTION_PARTIAL)
		return -EBUSY;
	if (!region_can_travel(&p->ours))
		return -EOPNOTSUPP;
	parcel.flags = p->flags;
	parcel.spin_ns = p->out.wait.spin_ns;
	fds[FD_OURS] = p->ours.fd;
	fds[FD_THEIRS] = p->theirs.fd;
	fds[FD_SOCKET] = p->socket;
	r = packet_send(socket, &parcel, sizeof(parcel), fds, FD_COUNT, 0);
	if (r == 0)
		PROBE(hand_over, p->socket, socket);
	return r;
}

static int check(const struct parcel *parcel, struct bufpipe_options *options)
{
	struct bufpipe_options o = { .flags = parcel->flags, .spin_ns = parcel->spin_ns };

	if (parcel->magic != PARCEL_MAGIC)
		return -EBADMSG;
	if (parcel->version != LAYOUT_VERSION)
		return -EPROTONOSUPPORT;
	return options_check(options, &o) < 0 ? -EBADMSG : 0;
}

/* Replaces each descriptor that it has taken over by -1. */
static int unpack(bufpipe_t **pipe, int fds[FD_COUNT], const struct bufpipe_options *options)
{
	struct region ours = REGION_NONE;
	struct region theirs = REGION_NONE;
	int r = packet_check_socket(fds[FD_SOCKET]);

	if (r < 0)
		return r;
	r = region_attach(&ours, fds[FD_OURS], 1, options->flags, NULL);
	if (r < 0)
		return r;
	fds[FD_OURS] = -1;
	r = region_attach(&theirs, fds[FD_THEIRS], 0, options->flags, NULL);
	if (r == 0) {
		fds[FD_THEIRS] = -1;
		r = end_open(pipe, &ours, &theirs, fds[FD_SOCKET], options);
	}
	if (r < 0) {
		region_drop(&ours);
		region_drop(&theirs);
		return r;
	}
	fds[FD_SOCKET] = -1;
	return 0;
}

int bufpipe_recv_end(int socket, bufpipe_t **pipe)
{
	struct bufpipe_options options;
	struct parcel parcel;
	int fds[FD_COUNT];
	int r;

	if (!pipe || socket < 0)
		return -EINVAL;
	r = packet_recv(socket, &parcel, sizeof(parcel), fds, FD_COUNT, 0);
	if (r < 0)
		return r;
	r = check(&parcel, &options);
	if (r == 0)
		r = unpack(pipe, fds, &options);
	if (r == 0)
		PROBE(take_over, (*pipe)->socket, socket);
	for (int i = 0; r < 0 && i < FD_COUNT; i++) {
		if (fds[i] >= 0)
			stray_close(fds[i]);
	}
	return r;
}
