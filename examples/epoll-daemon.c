/* SPDX-License-Identifier: MIT */
/*
 * A daemon around epoll(7): pipes beside a signal, as beside any other descriptor.
 * It sends back each message in upper case, and ends at SIGTERM.
 *
 *   epoll-daemon ADDRESS                       ask ADDRESS "hello"
 *
 * bufpipe_fd is readable when there is something to receive, bufpipe_room_fd when there
 * is room. Each client has one of the two in the epoll: which one, that depends on what
 * it waits for.
 */
#include <bufpipe.h>
#include <ctype.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <unistd.h>

struct client {
	struct client *next;
	bufpipe_t *pipe;
	int watched; /* the descriptor in the epoll, or -1 */
	ssize_t len; /* of the message in text that has to be sent back, or -1 */
	char text[1024];
};

static struct client *clients;
static int loop;

static int watch(struct client *client, int fd)
{
	struct epoll_event event = { .events = EPOLLIN, .data.ptr = client };

	if (fd == client->watched)
		return 0;
	if (client->watched >= 0)
		epoll_ctl(loop, EPOLL_CTL_DEL, client->watched, NULL);
	client->watched = fd;
	return fd < 0 ? fd : epoll_ctl(loop, EPOLL_CTL_ADD, fd, &event);
}

static void forget(struct client *client)
{
	struct client **at = &clients;

	while (*at != client)
		at = &(*at)->next;
	*at = client->next;
	watch(client, -1); /* before its end is closed, because the descriptor belongs to the end */
	bufpipe_close(client->pipe);
	free(client);
}

/*
 * One message at a time, so that all clients take turns. If there is more, the descriptor is readable again.
 */
static void serve(struct client *client)
{
	ssize_t r = 0;
	int fd;

	if (client->len < 0) {
		r = bufpipe_recv(client->pipe, client->text, sizeof(client->text), 0);
		if (r >= 0)
			client->len = r;
		for (ssize_t i = 0; i < r; i++)
			client->text[i] = (char)toupper((unsigned char)client->text[i]);
	}
	if (client->len >= 0) {
		r = bufpipe_send(client->pipe, client->text, (size_t)client->len, 0);
		if (r == 0)
			client->len = -1;
	}
	/* The try that ended with -EAGAIN has armed the descriptor for that. */
	fd = client->len < 0 ? bufpipe_fd(client->pipe) : bufpipe_room_fd(client->pipe);
	if ((r < 0 && r != -EAGAIN) || watch(client, fd) < 0)
		forget(client);
}

static void welcome(bufpipe_listener_t *listener)
{
	struct client *client;
	bufpipe_t *pipe;

	while (bufpipe_accept(listener, &pipe, 0) == 0) {
		client = calloc(1, sizeof(*client));
		if (!client) {
			bufpipe_close(pipe);
			continue;
		}
		*client = (struct client){ .next = clients, .pipe = pipe, .watched = -1, .len = -1 };
		clients = client;
		serve(client);
	}
}

int main(int argc, char **argv)
{
	const struct bufpipe_options options = { .flags = BUFPIPE_DUPLEX };
	struct epoll_event event = { .events = EPOLLIN };
	bufpipe_listener_t *listener;
	sigset_t mask;
	int r, signals;

	if (argc != 2) {
		fprintf(stderr, "usage: epoll-daemon ADDRESS\n");
		return 2;
	}
	sigemptyset(&mask);
	sigaddset(&mask, SIGTERM);
	sigprocmask(SIG_BLOCK, &mask, NULL);
	r = bufpipe_listen(&listener, argv[1], &options);
	if (r < 0) {
		fprintf(stderr, "epoll-daemon: %s: %s\n", argv[1], strerror(-r));
		return 1;
	}
	loop = epoll_create1(EPOLL_CLOEXEC);
	signals = signalfd(-1, &mask, SFD_CLOEXEC);
	event.data.ptr = &signals;
	epoll_ctl(loop, EPOLL_CTL_ADD, signals, &event);
	event.data.ptr = listener;
	epoll_ctl(loop, EPOLL_CTL_ADD, bufpipe_listener_fd(listener), &event);

	/* One event at a time, so that none belongs to a client that an earlier one has freed. */
	while ((r = epoll_wait(loop, &event, 1, -1)) == 1 || (r < 0 && errno == EINTR)) {
		if (r == 1 && event.data.ptr == &signals)
			break;
		if (r == 1 && event.data.ptr == listener)
			welcome(listener);
		else if (r == 1)
			serve(event.data.ptr);
	}
	while (clients)
		forget(clients);
	bufpipe_listener_close(listener);
	close(signals);
	close(loop);
	return 0;
}
