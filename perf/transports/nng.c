/* SPDX-License-Identifier: MIT */
/*
 * nng: a pair of pair0 sockets over its ipc transport.  The library starts
 * threads when it is first used and does not survive a fork after that, so
 * only the process of each side uses it.
 */
#include "../transport.h"
#include "name.h"

#include <errno.h>
#include <nng/nng.h>
#include <nng/protocol/pair0/pair.h>
#include <semaphore.h>
#include <stdlib.h>
#include <time.h>

#define BUFFER_MAX 8192 /* messages; more are refused */

struct pair {
	char address[NAME_MAX_LEN + 16];
	int messages;
	bool is_open;
	bool has_sent; /* its last call was a send, so a message may be in transit when it closes */
	sem_t gone;    /* the other side has closed */
	nng_socket socket;
};

static int error_of(int code)
{
	switch (code) {
	case 0:
		return 0;
	case NNG_ENOMEM:
		return -ENOMEM;
	case NNG_ECLOSED:
		return -EPIPE;
	default:
		return -EIO;
	}
}

static int pair_open(void **state, const struct shape *shape)
{
	struct pair *p = calloc(1, sizeof(*p));
	size_t count = shape->ring / shape->len / 2;
	char name[NAME_MAX_LEN];

	if (!p)
		return -ENOMEM;
	make_name(name, "nng");
	snprintf(p->address, sizeof(p->address), "abstract://%s", name);
	p->messages = count < 1 ? 1 : count > BUFFER_MAX ? BUFFER_MAX : (int)count;
	*state = p;
	return 0;
}

static int dial(nng_socket socket, const char *address)
{
	const struct timespec moment = { .tv_nsec = 1000000 };
	int code = NNG_ECONNREFUSED;

	for (int i = 0; i < 10000 && (code == NNG_ECONNREFUSED || code == NNG_ENOENT); i++) {
		if (i)
			nanosleep(&moment, NULL);
		code = nng_dial(socket, address, NULL, 0);
	}
	return code;
}

static void on_gone(nng_pipe pipe, nng_pipe_ev event, void *state)
{
	struct pair *p = state;

	(void)pipe;
	(void)event;
	sem_post(&p->gone);
}

static int pair_take(void *state, enum side side)
{
	struct pair *p = state;
	int code = nng_pair0_open(&p->socket);

	p->is_open = !code;
	sem_init(&p->gone, 0, 0);
	if (!code)
		code = nng_pipe_notify(p->socket, NNG_PIPE_EV_REM_POST, on_gone, p);
	if (!code)
		code = nng_socket_set_int(p->socket, NNG_OPT_SENDBUF, p->messages);
	if (!code)
		code = nng_socket_set_int(p->socket, NNG_OPT_RECVBUF, p->messages);
	if (!code)
		code = nng_socket_set_size(p->socket, NNG_OPT_RECVMAXSZ, 0);
	if (!code && side == SIDE_LEAD)
		code = nng_listen(p->socket, p->address, NULL, 0);
	else if (!code)
		code = dial(p->socket, p->address);
	return error_of(code);
}

static int pair_send(void *state, const void *buf, size_t len)
{
	struct pair *p = state;
	union {
		const void *from;
		void *unchanged; /* nng_send takes no const, and copies */
	} data = { .from = buf };

	p->has_sent = true;
	return error_of(nng_send(p->socket, data.unchanged, len, 0));
}

static ssize_t pair_recv(void *state, void *buf, size_t len)
{
	struct pair *p = state;
	int code = nng_recv(p->socket, buf, &len, 0);

	p->has_sent = false;
	return code ? error_of(code) : (ssize_t)len;
}

/* Closing drops what is not sent yet, so the side that sent last waits until the other one has received it and closed. */
static void pair_close(void *state)
{
	struct pair *p = state;
	struct timespec latest;

	clock_gettime(CLOCK_REALTIME, &latest);
	latest.tv_sec += 5;
	if (p->is_open && p->has_sent)
		sem_timedwait(&p->gone, &latest);
	if (p->is_open)
		nng_close(p->socket);
	free(p);
}

static const char *pair_version(void)
{
	static char text[32];

	snprintf(text, sizeof(text), "nng %s", nng_version());
	return text;
}

const struct transport transport_nng = {
	.name = "nng",
	.about = "nng pair0 sockets over ipc",
	.room = "NNG_OPT_SENDBUF and NNG_OPT_RECVBUF, half of the messages each, 8192 at most; the socket's "
		"buffer comes on top",
	.flags = TRANSPORT_EXTRA,
	.open = pair_open,
	.take = pair_take,
	.send = pair_send,
	.recv = pair_recv,
	.close = pair_close,
	.version = pair_version,
};
