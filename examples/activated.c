/* SPDX-License-Identifier: MIT */
/*
 * Socket activation: systemd listens, and starts this program when the first client
 * comes. It tells the time, and ends when nobody has asked for ten seconds. The socket
 * stays with systemd, so the next client starts it again.
 *
 *   cp activated.socket activated.service /etc/systemd/system/
 *   systemctl start activated.socket           ask /run/bufpipe-clock "now"
 */
#include <bufpipe.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define IDLE_NS (10 * 1000000000ll)

static void tell_time(bufpipe_set_t *set, bufpipe_t *pipe)
{
	char question[64], answer[64];
	time_t now = time(NULL);
	ssize_t r = bufpipe_recv(pipe, question, sizeof(question), 0);

	if (r == -EAGAIN)
		return;
	if (r >= 0) {
		strftime(answer, sizeof(answer), "%Y-%m-%d %H:%M:%S", localtime(&now));
		r = bufpipe_send(pipe, answer, strlen(answer), 0);
	}
	if (r < 0) {
		bufpipe_set_remove(set, pipe);
		bufpipe_close(pipe);
	}
}

static void welcome(bufpipe_set_t *set, bufpipe_listener_t *listener)
{
	bufpipe_t *pipe;

	while (bufpipe_accept(listener, &pipe, 0) == 0) {
		if (bufpipe_set_add(set, pipe, BUFPIPE_IN, NULL) < 0)
			bufpipe_close(pipe);
	}
}

int main(int argc, char **argv)
{
	const struct bufpipe_options options = { .flags = BUFPIPE_DUPLEX };
	int64_t idle = argc > 1 ? atoll(argv[1]) * 1000000 : IDLE_NS;
	struct bufpipe_event events[16];
	bufpipe_listener_t *listener;
	bufpipe_set_t *set;
	int n;

	if (idle <= 0) {
		fprintf(stderr, "usage: activated [MILLISECONDS]\n");
		return 2;
	}
	/* Listens on the descriptor that LISTEN_FDS names. Fails if nobody has passed one. */
	n = bufpipe_listen(&listener, "systemd:", &options);
	if (n < 0) {
		if (n == -ENOENT)
			fprintf(stderr,
				"activated: systemd must start this program and pass it the socket\n");
		else
			fprintf(stderr, "activated: the socket from systemd: %s\n", strerror(-n));
		return 1;
	}
	if (bufpipe_set_create(&set, 0) < 0 ||
	    bufpipe_set_add_fd(set, bufpipe_listener_fd(listener), POLLIN, NULL) < 0)
		return 1;
	do {
		n = bufpipe_set_wait(set, events, 16, idle);
		for (int i = 0; i < n; i++) {
			if (events[i].pipe)
				tell_time(set, events[i].pipe);
			else
				welcome(set, listener);
		}
	} while (n > 0 || n == -EINTR);
	bufpipe_set_destroy(set);
	bufpipe_listener_close(listener);
	return n < 0;
}
