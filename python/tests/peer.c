/* SPDX-License-Identifier: MIT */
/*
 * The other side of a test in Python, in C: "peer listen ADDRESS" accepts one
 * duplex pipe, "peer connect ADDRESS" connects to one; it answers each message
 * with the same bytes in reverse, until the end of the stream.  "peer hand
 * SOCKET" hands the receiving end of a pipe over a socket that it inherited,
 * and sends through the other.
 */
#include <bufpipe.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int fail(const char *what, long error)
{
	fprintf(stderr, "%s: %s\n", what, strerror((int)-error));
	return 1;
}

static int answer(bufpipe_t *pipe)
{
	static char message[1 << 20];
	ssize_t n;
	int r = 0;

	while (r == 0 && (n = bufpipe_recv(pipe, message, sizeof(message), -1)) >= 0) {
		for (ssize_t i = 0; i < n / 2; i++) {
			char c = message[i];

			message[i] = message[n - 1 - i];
			message[n - 1 - i] = c;
		}
		r = bufpipe_send(pipe, message, (size_t)n, -1);
	}
	bufpipe_close(pipe);
	if (r < 0)
		return fail("send", r);
	return n == -EPIPE ? 0 : fail("recv", n);
}

static int do_listen(const char *address)
{
	struct bufpipe_options options = { .buffer_size = 4096, .flags = BUFPIPE_DUPLEX };
	bufpipe_listener_t *listener;
	bufpipe_t *pipe;
	int r = bufpipe_listen(&listener, address, &options);

	if (r < 0)
		return fail("listen", r);
	puts("listening");
	fflush(stdout);
	r = bufpipe_accept(listener, &pipe, -1);
	bufpipe_listener_close(listener);
	return r < 0 ? fail("accept", r) : answer(pipe);
}

static int do_connect(const char *address)
{
	struct bufpipe_options options = { .flags = BUFPIPE_DUPLEX };
	bufpipe_t *pipe;
	int r = bufpipe_connect(&pipe, address, &options, -1);

	return r < 0 ? fail("connect", r) : answer(pipe);
}

static int do_hand(int socket, unsigned flags)
{
	struct bufpipe_options options = { .flags = flags };
	bufpipe_t *ends[2];
	int r = bufpipe_create(ends, &options);

	if (r < 0)
		return fail("create", r);
	r = bufpipe_send_end(socket, ends[0]);
	bufpipe_close(ends[0]);
	if (r < 0)
		return fail("send_end", r);
	r = bufpipe_send(ends[1], "from C", 6, -1);
	bufpipe_close(ends[1]);
	return r < 0 && r != -EPIPE ? fail("send", r) : 0;
}

int main(int argc, char **argv)
{
	if (argc == 3 && !strcmp(argv[1], "listen"))
		return do_listen(argv[2]);
	if (argc == 3 && !strcmp(argv[1], "connect"))
		return do_connect(argv[2]);
	if (argc == 3 && !strcmp(argv[1], "hand"))
		return do_hand(atoi(argv[2]), BUFPIPE_SHARED);
	if (argc == 3 && !strcmp(argv[1], "hand-unshared"))
		return do_hand(atoi(argv[2]), 0);
	return 2;
}
