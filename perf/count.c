/* SPDX-License-Identifier: MIT */
/*
 * perf/count runs this program. It sends and receives N messages of 64 bytes in one thread, on a pipe with
 * these flags.
 */
#include <bufpipe.h>
#include <stdlib.h>

int main(int argc, char **argv)
{
	struct bufpipe_options options = { .flags = argc > 2 ? (unsigned)atoi(argv[2]) : 0 };
	int n = argc > 1 ? atoi(argv[1]) : 0;
	char message[64] = { 0 };
	bufpipe_t *ends[2];

	if (bufpipe_create(ends, &options) < 0)
		return 1;
	for (int i = 0; i < n; i++) {
		if (bufpipe_send(ends[1], message, sizeof(message), 0) < 0 ||
		    bufpipe_recv(ends[0], message, sizeof(message), 0) < 0)
			return 1;
	}
	bufpipe_close(ends[0]);
	bufpipe_close(ends[1]);
	return 0;
}
