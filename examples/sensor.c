/* SPDX-License-Identifier: MIT */
/*
 * Shows a pipe between two languages. This is the side in C: it sends samples of a fixed
 * layout to the program that connects. sensor.py reads them.
 *
 *   sensor ADDRESS SAMPLES
 *
 * A static pipe refuses a partner with another object size, so the two programs cannot
 * mistake each other's layout for their own length.
 */
#include <bufpipe.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Fixed widths and no padding: '<QdI4x' for Python's struct module. */
struct sample {
	uint64_t number;
	double value;
	uint32_t state;
	uint32_t reserved;
};

int main(int argc, char **argv)
{
	const struct bufpipe_options options = {
		.flags = BUFPIPE_SEND,
		.object_size = sizeof(struct sample),
		.object_count = 256,
	};
	struct sample sample = { .state = 1 };
	bufpipe_listener_t *listener;
	bufpipe_t *pipe = NULL;
	uint64_t samples;
	char *end;
	int r;

	samples = argc == 3 ? strtoull(argv[2], &end, 10) : 0;
	if (!samples || *end) {
		fprintf(stderr, "usage: sensor ADDRESS SAMPLES\n");
		return 2;
	}
	r = bufpipe_listen(&listener, argv[1], &options);
	if (r == 0)
		r = bufpipe_accept(listener, &pipe, -1);
	if (r < 0) {
		fprintf(stderr, "sensor: %s: %s\n", argv[1], strerror(-r));
		return 1;
	}
	for (; r == 0 && sample.number < samples; sample.number++) {
		sample.value = (double)sample.number / 4;
		r = bufpipe_send(pipe, &sample, sizeof(sample), -1);
	}
	/* This ends the stream in order: the reader receives everything, and then gets EOFError. */
	bufpipe_close(pipe);
	bufpipe_listener_close(listener);
	return r < 0;
}
