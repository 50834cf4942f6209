/* SPDX-License-Identifier: MIT */
/*
 * Graceful shutdown: a collector with a thread for each client, which ends at SIGTERM
 * without losing what has arrived.
 *
 *   graceful ADDRESS                           collects
 *   graceful ADDRESS MESSAGES                  sends so many, and stays until the collector ends
 *
 * A thread that is blocked in bufpipe_recv cannot look at a flag. bufpipe_stop wakes it:
 * its calls return what has arrived, and then -EPIPE. The client's next send is -EPIPE as
 * well, so it knows from where on to repeat elsewhere.
 */
#include <bufpipe.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

enum { MOST = 64 };

static struct worker {
	bufpipe_t *pipe;
	pthread_t thread;
} workers[MOST];
static int count;
static atomic_ulong collected;

static void *collect(void *pipe)
{
	char message[1024];

	while (bufpipe_recv(pipe, message, sizeof(message), -1) >= 0)
		atomic_fetch_add(&collected, 1);
	return NULL;
}

static void welcome(bufpipe_listener_t *listener)
{
	struct worker *worker;

	while (count < MOST) {
		worker = &workers[count];
		if (bufpipe_accept(listener, &worker->pipe, 0) < 0)
			return;
		if (pthread_create(&worker->thread, NULL, collect, worker->pipe) == 0)
			count++;
		else
			bufpipe_close(worker->pipe);
	}
}

static int produce(const char *address, long messages)
{
	const struct bufpipe_options options = { .flags = BUFPIPE_SEND | BUFPIPE_WAIT_FOR_LISTENER };
	struct bufpipe_pollfd end = { 0 };
	long sent = 0;

	if (bufpipe_connect(&end.pipe, address, &options, -1) < 0)
		return 1;
	while (sent < messages && bufpipe_send(end.pipe, &sent, sizeof(sent), -1) == 0)
		sent++;
	printf("%ld sent\n", sent);
	fflush(stdout);
	while (!(end.revents & BUFPIPE_HUP) && bufpipe_wait(&end, 1, -1) >= 0)
		;
	puts("the collector has ended");
	bufpipe_close(end.pipe);
	return 0;
}

static int collect_all(const char *address)
{
	const struct bufpipe_options options = { .flags = BUFPIPE_RECEIVE };
	bufpipe_listener_t *listener;
	struct pollfd polled[2];
	sigset_t mask;
	int r;

	/*
	 * Blocked before the first thread starts, and all threads inherit that. So the signal arrives through
	 * the descriptor alone.
	 */
	sigemptyset(&mask);
	sigaddset(&mask, SIGTERM);
	sigaddset(&mask, SIGINT);
	pthread_sigmask(SIG_BLOCK, &mask, NULL);
	r = bufpipe_listen(&listener, address, &options);
	if (r < 0) {
		fprintf(stderr, "graceful: %s: %s\n", address, strerror(-r));
		return 1;
	}
	polled[0] = (struct pollfd){ .fd = signalfd(-1, &mask, SFD_CLOEXEC), .events = POLLIN };
	polled[1] = (struct pollfd){ .fd = bufpipe_listener_fd(listener), .events = POLLIN };
	while (!polled[0].revents) {
		welcome(listener);
		/* When all places are taken, further clients wait in the backlog. */
		if (poll(polled, count < MOST ? 2 : 1, -1) < 0)
			break;
	}

	/*
	 * First stop admitting clients, then end the streams, then wait for the threads that work on what has
	 * arrived.
	 */
	bufpipe_listener_close(listener);
	for (int i = 0; i < count; i++)
		bufpipe_stop(workers[i].pipe);
	for (int i = 0; i < count; i++) {
		pthread_join(workers[i].thread, NULL);
		bufpipe_close(workers[i].pipe);
	}
	close(polled[0].fd);
	printf("%lu messages collected\n", atomic_load(&collected));
	return 0;
}

int main(int argc, char **argv)
{
	if (argc == 2)
		return collect_all(argv[1]);
	if (argc == 3 && atol(argv[2]) > 0)
		return produce(argv[1], atol(argv[2]));
	fprintf(stderr, "usage: graceful ADDRESS [MESSAGES]\n");
	return 2;
}
