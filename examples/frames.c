/* SPDX-License-Identifier: MIT */
/*
 * Large frames in place: a camera writes each picture directly into the pipe, and a
 * viewer reads it there. Nothing is copied.
 *
 *   frames [FRAMES]
 */
#include <bufpipe.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

enum { WIDTH = 1280, HEIGHT = 720, PIXELS = WIDTH * HEIGHT };

struct frame {
	uint64_t number;
	uint32_t pixels[PIXELS];
};

static int film(bufpipe_t *pipe, int frames)
{
	struct frame *frame;
	void *room;

	for (int i = 0; i < frames; i++) {
		if (bufpipe_reserve(pipe, &room, sizeof(*frame), -1) < 0)
			return 1;
		frame = room;
		frame->number = (uint64_t)i;
		for (unsigned p = 0; p < PIXELS; p++)
			frame->pixels[p] = (uint32_t)i + p;
		/* From here on the frame belongs to the viewer. */
		if (bufpipe_commit(pipe, sizeof(*frame)) < 0)
			return 1;
	}
	return 0;
}

static int view(bufpipe_t *pipe, int frames)
{
	const void *message;
	uint64_t sum = 0;
	int seen = 0;

	while (bufpipe_peek(pipe, &message, -1) == sizeof(struct frame)) {
		const struct frame *frame = message;

		if (frame->number != (uint64_t)seen)
			return 1;
		for (unsigned p = 0; p < PIXELS; p++)
			sum += frame->pixels[p] - (uint32_t)seen;
		seen++;
		/* This gives the room back to the camera. */
		bufpipe_release(pipe);
	}
	printf("%d frames, mean pixel %.1f\n", seen, seen ? (double)sum / seen / PIXELS : 0.0);
	return seen != frames;
}

int main(int argc, char **argv)
{
	/*
	 * A static pipe of four frames of one size. The camera writes one while the viewer reads another.
	 * Huge pages are only asked for; they help with so much memory.
	 */
	const struct bufpipe_options options = {
		.object_size = sizeof(struct frame),
		.object_count = 4,
		.flags = BUFPIPE_HUGEPAGES,
		.name = "frames",
	};
	int frames = argc > 1 ? atoi(argv[1]) : 50;
	int status, result;
	bufpipe_t *ends[2];
	pid_t camera;
	int r;

	if (frames <= 0) {
		fprintf(stderr, "usage: frames [FRAMES]\n");
		return 2;
	}
	r = bufpipe_create(ends, &options);
	if (r < 0) {
		fprintf(stderr, "frames: the pipe: %s\n", bufpipe_strerror(r));
		return 1;
	}
	camera = fork();
	if (camera == 0) {
		bufpipe_close(ends[0]);
		_exit(film(ends[1], frames));
	}
	bufpipe_close(ends[1]);
	result = view(ends[0], frames);
	bufpipe_close(ends[0]);
	return camera < 0 || waitpid(camera, &status, 0) < 0 || status != 0 || result;
}
