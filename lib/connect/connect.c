/* SPDX-License-Identifier: MIT */
/* The connecting side of the handshake in handshake.h. */
#include "base/packet.h"
#include "base/probe.h"
#include "base/stray.h"
#include "connect/address.h"
#include "connect/agree.h"
#include "end/options.h"

#include <stdlib.h>
#include <sys/socket.h>

/* The pause before another attempt, after a listener went away. */
#define PAUSE (NSEC_PER_SEC / 100)

static int send_wishes(int socket, const struct bufpipe_options *options)
{
	struct handshake wishes = handshake_make(WISHES);
	int r;

	if (options) {
		wishes.flags = directions_wanted(options) |
			       (options->flags & BUFPIPE_NO_HANDOVER ? HANDSHAKE_SEALED : 0);
		wishes.buffer_size = options->buffer_size;
		wishes.object_size = options->object_size;
		wishes.object_count = options->object_count;
	} else {
		wishes.flags = WISH_ANY;
	}
	r = packet_send(socket, &wishes, sizeof(wishes), NULL, 0, MSG_DONTWAIT);
	/* The listener has hung up, but its refusal may be in the queue. */
	return r == -EPIPE || r == -ECONNRESET ? 0 : r;
}

/* Maps the error of a refusal, in which a hostile listener may send anything, to a documented one. */
static int refusal(int error)
{
	switch (error) {
	case -EPROTOTYPE:
	case -EMSGSIZE:
	case -EPROTONOSUPPORT:
	case -EBADMSG:
	case -ENOBUFS:
	case -EUSERS:
		return error;
	default:
		return -EACCES;
	}
}

/*
 * Receives the offer, with the listener's region in *fd; or returns the error with which the
 * listener refused.
 */
static int receive_offer(int socket, struct handshake *offer, int *fd)
{
	struct handshake peeked = { 0 };
	int r;
	ssize_t n = recv(socket, &peeked, sizeof(peeked), MSG_PEEK | MSG_DONTWAIT);

	/*
	 * If the listener closed with our packet unread, the first recv fails with ECONNRESET,
	 * before its refusal.
	 */
	if (n < 0 && errno == ECONNRESET)
		n = recv(socket, &peeked, sizeof(peeked), MSG_PEEK | MSG_DONTWAIT);
	if (n == 0)
		return -ECONNRESET;
	if (n == sizeof(peeked) && peeked.magic == HANDSHAKE_MAGIC && peeked.type == REFUSAL)
		return refusal(peeked.error);
	r = handshake_look(socket, offer, OFFER, fd);
	if (r == 0)
		packet_take(socket);
	return r;
}

static int make_end(bufpipe_t **pipe, int socket, const struct handshake *offer, struct region *theirs,
		    const struct bufpipe_options *o)
{
	struct handshake reply = handshake_make(REGION);
	struct identity id = options_identity(o, directions_identity(offer->flags, o));
	struct region ours = REGION_NONE;
	int shared_fd = -1;
	int r = end_make_region(&ours, &shared_fd, &id, o);

	if (r < 0)
		return r;
	r = end_open(pipe, &ours, theirs, socket, o);
	if (r < 0) {
		close(shared_fd);
		region_drop(&ours);
		return r;
	}
	end_guard(*pipe);
	/* This comes last, because the listener has a pipe as soon as it has our region. */
	r = packet_send(socket, &reply, sizeof(reply), &shared_fd, 1, MSG_DONTWAIT);
	close(shared_fd);
	if (r < 0) {
		free(*pipe);
		region_drop(&ours);
	}
	return r;
}

static int await_offer(int socket, const struct sleeper *sleeper)
{
	int r;

	if (sleep_spared(sleeper, socket))
		return 0;
	do
		r = sleep_until(sleeper, socket, TIME_FOREVER, socket);
	while (r == 0);
	return r < 0 ? r : 0;
}

static int shake_hands(bufpipe_t **pipe, int socket, const struct bufpipe_options *options,
		       const struct sleeper *sleeper)
{
	struct bufpipe_options o;
	struct identity expected;
	struct handshake offer = { 0 };
	struct region theirs = REGION_NONE;
	int fd = -1;
	int r = send_wishes(socket, options);

	if (r == 0)
		r = await_offer(socket, sleeper);
	if (r == 0)
		r = receive_offer(socket, &offer, &fd);
	if (r < 0)
		return r;
	r = agree_to_offer(&offer, options, &o);
	offer.flags &= ~HANDSHAKE_SEALED;
	if (r == 0) {
		expected = options_identity(&o, directions_mirrored(offer.flags));
		r = region_attach(&theirs, fd, 0, o.flags, &expected);
	}
	if (r < 0) {
		stray_close(fd);
		return r;
	}
	r = make_end(pipe, socket, &offer, &theirs, &o);
	if (r < 0)
		region_drop(&theirs);
	return r;
}

static int connect_once(bufpipe_t **pipe, const char *address, const struct bufpipe_options *options,
			bool for_listener, const struct sleeper *sleeper)
{
	int socket = address_connect(address, for_listener, sleeper);
	int r;

	if (socket < 0)
		return socket;
	r = shake_hands(pipe, socket, options, sleeper);
	if (r < 0)
		packet_close(socket);
	return r == -EPIPE ? -ECONNRESET : r;
}

int bufpipe_connect(bufpipe_t **pipe, const char *address, const struct bufpipe_options *options,
		    int64_t timeout_ns)
{
	int64_t deadline = time_deadline(timeout_ns);
	struct bufpipe_options checked;
	bufpipe_t *made = NULL;
	struct sleeper s;
	bool for_listener;
	int r;

	if (!pipe || !address || !timeout_valid(timeout_ns) || options_check(&checked, options) < 0)
		return -EINVAL;
	for_listener = checked.flags & BUFPIPE_WAIT_FOR_LISTENER;
	s = sleeper_begin(deadline, checked.flags & BUFPIPE_INTERRUPTIBLE);
	s.at_once = checked.spin_ns == BUFPIPE_NO_SPIN;
	do
		r = connect_once(&made, address, options, for_listener, &s);
	while (r == -ECONNRESET && for_listener && deadline != TIME_TRY &&
	       (r = sleep_until(&s, -1, time_now() + PAUSE, -1)) == 0);
	if (r == 0) {
		PROBE(connect, address, made->socket);
		end_settle(made);
		*pipe = made;
	} else {
		PROBE(connect, address, r);
	}
	sleeper_end(&s);
	return r;
}
