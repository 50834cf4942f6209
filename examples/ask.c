/* SPDX-License-Identifier: MIT */
/*
 * A client for the services here: sends each argument as a message, and prints the
 * answer to it.
 *
 *   ask ADDRESS MESSAGE...
 */
#include <bufpipe.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#define SECONDS 1000000000ll

int main(int argc, char **argv)
{
	/* The service may be started after this client. */
	const struct bufpipe_options options = { .flags = BUFPIPE_DUPLEX | BUFPIPE_WAIT_FOR_LISTENER };
	char answer[1024];
	bufpipe_t *pipe;
	ssize_t len;
	int r;

	if (argc < 3) {
		fprintf(stderr, "usage: ask ADDRESS MESSAGE...\n");
		return 2;
	}
	r = bufpipe_connect(&pipe, argv[1], &options, 60 * SECONDS);
	if (r == -EINVAL) {
		fprintf(stderr, "ask: '%s' is not an address: use @name, /path or ./path\n", argv[1]);
		return 2;
	}
	if (r < 0) {
		fprintf(stderr, "ask: %s: %s\n", argv[1], strerror(-r));
		return 1;
	}
	for (int i = 2; i < argc; i++) {
		r = bufpipe_send(pipe, argv[i], strlen(argv[i]), 60 * SECONDS);
		len = r < 0 ? r : bufpipe_recv(pipe, answer, sizeof(answer), 60 * SECONDS);
		if (len < 0) {
			fprintf(stderr, "ask: %s\n", strerror((int)-len));
			bufpipe_close(pipe);
			return 1;
		}
		printf("%.*s\n", (int)len, answer);
	}
	bufpipe_close(pipe);
	return 0;
}
