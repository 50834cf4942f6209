/* SPDX-License-Identifier: MIT */
/* The connecting side of the handshake in handshake.h. */
#include "connect/address.h"
#include "connect/handshake.h"
#include "connect/packet.h"

#include <poll.h>
#include <stdlib.h>
#include <sys/socket.h>

static int wait_readable(int socket, int64_t deadline, int interruptible)
{
	struct pollfd p = { .fd = socket, .events = POLLIN };

	for (;;) {
		int64_t now = time_now();
		struct timespec left = time_spec(deadline > now ? deadline - now : 0);
		int n = ppoll(&p, 1, deadline == TIME_FOREVER ? NULL : &left, NULL);

		if (n > 0)
			return 0;
		if (n == 0)
			return deadline == TIME_TRY ? -EAGAIN : -ETIMEDOUT;
		if (errno != EINTR || interruptible)
			return -errno;
	}
}

static int send_wishes(int socket, const struct bufpipe_options *options)
{
	struct handshake wishes = handshake_make(WISHES);

	if (options) {
		wishes.flags = directions_wanted(options);
		wishes.buffer_size = options->buffer_size;
		wishes.object_size = options->object_size;
		wishes.object_count = options->object_count;
	} else {
		wishes.flags = WISH_ANY;
	}
	return packet_send(socket, &wishes, sizeof(wishes), NULL, 0, 0);
}

/* The errors with which a listener may refuse; it may send anything. */
static int refusal(int error)
{
	switch (error) {
	case -EPROTOTYPE:
	case -EMSGSIZE:
	case -EPROTONOSUPPORT:
	case -EBADMSG:
	case -ENOMEM:
	case -EMFILE:
	case -ENFILE:
		return error;
	default:
		return -ECONNREFUSED;
	}
}

/* The answer, with the listener's region in *fd; or the error with which it refused. */
static int receive_offer(int socket, struct handshake *offer, int *fd)
{
	struct handshake peeked = { 0 };
	ssize_t n = recv(socket, &peeked, sizeof(peeked), MSG_PEEK | MSG_DONTWAIT);

	if (n == 0)
		return -ECONNRESET;
	if (n == sizeof(peeked) && peeked.magic == HANDSHAKE_MAGIC && peeked.type == REFUSAL)
		return refusal(peeked.error);
	return handshake_receive(socket, offer, OFFER, fd);
}

/* A size of 0 was no wish. */
static bool as_wished(uint64_t offered, uint64_t wished)
{
	return !wished || offered == wished;
}

/* Takes over what the offer says, as far as it is what was wished. */
static int accept_offer(const struct handshake *offer, const struct bufpipe_options *wishes,
			struct bufpipe_options *agreed)
{
	struct bufpipe_options o = { 0 };

	if (!offer->flags || offer->flags & ~(uint32_t)(LAYOUT_SENDS | LAYOUT_RECEIVES))
		return -EBADMSG;
	if (wishes) {
		o = *wishes;
		if (directions_duplex(directions_wanted(wishes)) != directions_duplex(offer->flags))
			return -EPROTOTYPE;
		if (directions_wanted(wishes) && directions_wanted(wishes) != offer->flags)
			return -EPROTOTYPE;
		if (!as_wished(offer->object_size, wishes->object_size) ||
		    !as_wished(offer->object_count, wishes->object_count) ||
		    !as_wished(offer->buffer_size, wishes->buffer_size))
			return -EPROTOTYPE;
	}
	o.flags &= ~(unsigned)(BUFPIPE_DUPLEX | BUFPIPE_SEND | BUFPIPE_RECEIVE);
	if (directions_duplex(offer->flags))
		o.flags |= BUFPIPE_DUPLEX;
	o.buffer_size = offer->buffer_size;
	o.object_size = offer->object_size;
	o.object_count = offer->object_count;
	return options_check(agreed, &o) < 0 ? -EBADMSG : 0;
}

static int make_end(bufpipe_t **pipe, int socket, const struct handshake *offer, struct region *theirs,
		    const struct bufpipe_options *o)
{
	struct handshake reply = handshake_make(REGION);
	struct identity id = options_identity(o, directions_identity(offer->flags, o));
	struct region ours = REGION_NONE;
	int shared_fd = -1;
	int r = region_create(&ours, &shared_fd, &id, o->name, o->flags);

	if (r < 0)
		return r;
	r = end_open(pipe, &ours, theirs, socket, o);
	if (r < 0) {
		close(shared_fd);
		region_drop(&ours);
		return r;
	}
	/* Last, so that nobody counts on an end that we could not make. */
	r = packet_send(socket, &reply, sizeof(reply), &shared_fd, 1, MSG_DONTWAIT);
	close(shared_fd);
	if (r < 0) {
		free(*pipe);
		region_drop(&ours);
	}
	return r;
}

static int shake_hands(bufpipe_t **pipe, int socket, const struct bufpipe_options *options, int64_t deadline)
{
	struct bufpipe_options o;
	struct identity expected;
	struct handshake offer = { 0 };
	struct region theirs = REGION_NONE;
	int fd = -1;
	int r = send_wishes(socket, options);

	if (r == 0)
		r = wait_readable(socket, deadline, options && options->flags & BUFPIPE_INTERRUPTIBLE);
	if (r == 0)
		r = receive_offer(socket, &offer, &fd);
	if (r < 0)
		return r == -EPIPE ? -ECONNRESET : r;
	r = accept_offer(&offer, options, &o);
	if (r == 0) {
		expected = options_identity(&o, directions_mirrored(offer.flags));
		r = region_attach(&theirs, fd, 0, o.flags, &expected);
	}
	if (r < 0) {
		close(fd);
		return r;
	}
	r = make_end(pipe, socket, &offer, &theirs, &o);
	if (r < 0)
		region_drop(&theirs);
	return r == -EPIPE ? -ECONNRESET : r;
}

int bufpipe_connect(bufpipe_t **pipe, const char *address, const struct bufpipe_options *options,
		    int64_t timeout_ns)
{
	int64_t deadline = time_deadline(timeout_ns);
	struct bufpipe_options checked;
	bufpipe_t *made = NULL;
	int socket;
	int r;

	if (!pipe || !address || !timeout_valid(timeout_ns) || options_check(&checked, options) < 0)
		return -EINVAL;
	socket = address_connect(address, deadline);
	if (socket < 0)
		return socket;
	r = shake_hands(&made, socket, options, deadline);
	if (r < 0) {
		close(socket);
		return r;
	}
	end_settle(made);
	*pipe = made;
	return 0;
}
