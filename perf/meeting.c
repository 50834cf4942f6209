/* SPDX-License-Identifier: MIT */
/*
 * What it takes for two processes to meet: a client connects, sends 64 bytes, gets
 * them back and closes.  Beside it the same over a Unix stream socket, and a
 * Unix pipe and a pipe of ours that one process makes and closes.
 *
 * All cases take turns in each round, and the figures are medians of the
 * rounds, with the smallest and the largest.
 */
#include <bufpipe.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { ROUNDS = 21, TIMES = 100, LEN = 64 };

struct state {
	struct sockaddr_un at; /* of the Unix stream socket */
	socklen_t at_length;
	char address[64]; /* of the listener of bufpipes */
	double connected; /* ns that bufpipe_connect alone took, in all */
};

static double now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

/* The servers: each answers one message of one client, and waits for it to close. */
static void serve_socket(int listener)
{
	char message[LEN];
	int fd;

	while ((fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC)) >= 0) {
		while (read(fd, message, LEN) == LEN && write(fd, message, LEN) == LEN)
			;
		close(fd);
	}
}

static void serve_bufpipe(bufpipe_listener_t *listener)
{
	char message[LEN];
	bufpipe_t *pipe;

	while (bufpipe_accept(listener, &pipe, -1) == 0) {
		while (bufpipe_recv(pipe, message, LEN, -1) == LEN && !bufpipe_send(pipe, message, LEN, -1))
			;
		bufpipe_close(pipe);
	}
}

static int meet_socket(struct state *s)
{
	char message[LEN] = { 0 };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int r = fd < 0 || connect(fd, (struct sockaddr *)&s->at, s->at_length) ||
		write(fd, message, LEN) != LEN || read(fd, message, LEN) != LEN;

	if (fd >= 0)
		close(fd);
	return r;
}

static int meet_bufpipe(struct state *s)
{
	char message[LEN] = { 0 };
	double begin = now_ns();
	bufpipe_t *pipe;
	int r;

	if (bufpipe_connect(&pipe, s->address, NULL, -1))
		return -1;
	s->connected += now_ns() - begin;
	r = bufpipe_send(pipe, message, LEN, -1) || bufpipe_recv(pipe, message, LEN, -1) != LEN;
	bufpipe_close(pipe);
	return r;
}

static int make_pipe(struct state *s)
{
	char message[LEN] = { 0 };
	int fds[2];
	int r;

	(void)s;
	if (pipe(fds))
		return -1;
	r = write(fds[1], message, LEN) != LEN || read(fds[0], message, LEN) != LEN;
	close(fds[0]);
	close(fds[1]);
	return r;
}

static int make_bufpipe(struct state *s)
{
	char message[LEN] = { 0 };
	bufpipe_t *ends[2];
	int r;

	(void)s;
	if (bufpipe_create(ends, NULL))
		return -1;
	r = bufpipe_send(ends[1], message, LEN, -1) || bufpipe_recv(ends[0], message, LEN, -1) != LEN;
	bufpipe_close(ends[0]);
	bufpipe_close(ends[1]);
	return r;
}

enum { SOCKET, BUFPIPE, PIPE, CREATE, CASES, CONNECT = CASES, ALL };
static int (*const cases[CASES])(struct state *) = { meet_socket, meet_bufpipe, make_pipe, make_bufpipe };

static int prepare(struct state *s)
{
	struct bufpipe_options duplex = { .flags = BUFPIPE_DUPLEX };
	bufpipe_listener_t *listener;
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	/* Abstract names, by the number of this process. */
	s->at.sun_family = AF_UNIX;
	s->at_length = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 +
				   (size_t)snprintf(s->at.sun_path + 1, sizeof(s->at.sun_path) - 1,
						    "bufpipe-bench-meeting-%d-socket", (int)getpid()));
	snprintf(s->address, sizeof(s->address), "@bufpipe-bench-meeting-%d", (int)getpid());
	if (fd < 0 || bind(fd, (struct sockaddr *)&s->at, s->at_length) || listen(fd, 8) ||
	    bufpipe_listen(&listener, s->address, &duplex))
		return -1;
	for (int i = 0; i < 2; i++) {
		switch (fork()) {
		case -1:
			return -1;
		case 0:
			prctl(PR_SET_PDEATHSIG, SIGKILL);
			if (i == 0)
				serve_socket(fd);
			else
				serve_bufpipe(listener);
			_exit(1);
		}
	}
	return 0;
}

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static void print(const char *what, double *ns)
{
	qsort(ns, ROUNDS, sizeof(*ns), compare);
	printf("%-46s %6.1f us  (%.1f - %.1f)\n", what, ns[ROUNDS / 2] / 1e3, ns[0] / 1e3,
	       ns[ROUNDS - 1] / 1e3);
}

int main(void)
{
	static double ns[ALL][ROUNDS];
	struct state s = { 0 };

	if (prepare(&s)) {
		fprintf(stderr, "bufpipe-bench-meeting: cannot make what is to be measured\n");
		return 1;
	}
	for (int round = -1; round < ROUNDS; round++) { /* the first only warms up */
		s.connected = 0;
		for (int i = 0; i < CASES; i++) {
			double begin = now_ns();

			for (int k = 0; k < TIMES; k++) {
				if (cases[i](&s)) {
					fprintf(stderr, "bufpipe-bench-meeting: a call failed\n");
					return 1;
				}
			}
			if (round >= 0)
				ns[i][round] = (now_ns() - begin) / TIMES;
		}
		if (round >= 0)
			ns[CONNECT][round] = s.connected / TIMES;
	}
	printf("Two processes, %d rounds in turns, one message of %d bytes and its answer\n", ROUNDS, LEN);
	print("Unix stream socket: connect, ask, close", ns[SOCKET]);
	print("bufpipe: connect, ask, close", ns[BUFPIPE]);
	print("bufpipe: connect alone", ns[CONNECT]);
	printf("One process, one message\n");
	print("Unix pipe: make, write, read, close", ns[PIPE]);
	print("bufpipe: make, send, receive, close", ns[CREATE]);
	return fflush(stdout) ? 1 : 0;
}
