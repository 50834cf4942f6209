/* SPDX-License-Identifier: MIT */
/*
 * Request and reply: a service that keeps words for many clients, in one thread.
 *
 *   service ADDRESS                            ask ADDRESS "put colour blue" "get colour"
 *
 * A set waits for all clients, the listener and SIGTERM. A client that sends requests
 * and does not fetch its answers delays nobody: its answer is kept until there is room.
 * At SIGTERM the service ends at once, because its words are in memory only. graceful.c
 * shows how to end without losing what has arrived.
 */
#include <bufpipe.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

enum { WORDS = 100, LONGEST = 256 };

struct client {
	struct client *next;
	bufpipe_t *pipe;
	char answer[LONGEST];
	size_t len; /* length of an answer that had no room; 0 if there is none */
};

static struct client *clients;

static struct word {
	char key[32];
	char value[64];
} words[WORDS];

static struct word *find(const char *key)
{
	for (int i = 0; i < WORDS; i++) {
		if (strcmp(words[i].key, key) == 0)
			return &words[i];
	}
	return NULL;
}

/* The request comes from a stranger. The widths of sscanf check each length in it. */
static size_t answer_to(const char *request, char *answer)
{
	char key[32];
	char value[64];
	struct word *word;

	if (sscanf(request, "put %31s %63s", key, value) == 2) {
		word = find(key);
		if (!word)
			word = find(""); /* a free one */
		if (!word)
			return (size_t)snprintf(answer, LONGEST, "error: no place left");
		strcpy(word->key, key);
		strcpy(word->value, value);
		return (size_t)snprintf(answer, LONGEST, "ok");
	}
	if (sscanf(request, "get %31s", key) == 1) {
		word = find(key);
		return (size_t)snprintf(answer, LONGEST, "%s", word ? word->value : "error: no such word");
	}
	return (size_t)snprintf(answer, LONGEST, "error: put KEY VALUE, or get KEY");
}

static void forget(bufpipe_set_t *set, struct client *client)
{
	struct client **at = &clients;

	while (*at != client)
		at = &(*at)->next;
	*at = client->next;
	bufpipe_set_remove(set, client->pipe);
	bufpipe_close(client->pipe);
	free(client);
}

/* Waits for room while an answer is still to be sent, and otherwise for requests. */
static void serve(bufpipe_set_t *set, struct client *client)
{
	char request[LONGEST];
	ssize_t r = 0;

	if (!client->len) {
		r = bufpipe_recv(client->pipe, request, sizeof(request) - 1, 0);
		if (r >= 0) {
			request[r] = 0;
			client->len = answer_to(request, client->answer);
		}
	}
	if (r >= 0) {
		r = bufpipe_send(client->pipe, client->answer, client->len, 0);
		if (r == 0)
			client->len = 0;
	}
	/* The client's pipe ends if its request is too long, or if it is gone. */
	if ((r < 0 && r != -EAGAIN) ||
	    bufpipe_set_modify(set, client->pipe, client->len ? BUFPIPE_OUT : BUFPIPE_IN, client) < 0)
		forget(set, client);
}

static void welcome(bufpipe_set_t *set, bufpipe_listener_t *listener)
{
	struct client *client;
	bufpipe_t *pipe;

	while (bufpipe_accept(listener, &pipe, 0) == 0) {
		client = calloc(1, sizeof(*client));
		if (!client) {
			bufpipe_close(pipe);
			continue;
		}
		*client = (struct client){ .next = clients, .pipe = pipe };
		clients = client;
		if (bufpipe_set_add(set, pipe, BUFPIPE_IN, client) < 0)
			forget(set, client);
	}
}

/* A descriptor that is readable when SIGTERM has come, which from now on does not end the process by itself. */
static int signal_to_stop(void)
{
	sigset_t mask;

	sigemptyset(&mask);
	sigaddset(&mask, SIGTERM);
	sigprocmask(SIG_BLOCK, &mask, NULL);
	return signalfd(-1, &mask, SFD_CLOEXEC);
}

/* Returns 0 at SIGTERM, or the error of bufpipe_set_wait. */
static int serve_all(bufpipe_set_t *set)
{
	struct bufpipe_event events[16];
	int n;

	while ((n = bufpipe_set_wait(set, events, 16, -1)) >= 0 || n == -EINTR) {
		for (int i = 0; i < n; i++) {
			/* The user pointer of a pipe is its client, that of the listener is the listener. */
			if (events[i].pipe)
				serve(set, events[i].user);
			else if (events[i].user)
				welcome(set, events[i].user);
			else
				return 0;
		}
	}
	return n;
}

int main(int argc, char **argv)
{
	const struct bufpipe_options options = { .flags = BUFPIPE_DUPLEX, .buffer_size = 4080 };
	bufpipe_listener_t *listener;
	bufpipe_set_t *set = NULL;
	int signals, r;

	if (argc != 2) {
		fprintf(stderr, "usage: service ADDRESS\n");
		return 2;
	}
	signals = signal_to_stop();
	r = bufpipe_listen(&listener, argv[1], &options);
	if (r < 0) {
		fprintf(stderr, "service: %s: %s\n", argv[1], bufpipe_strerror(r));
		return 1;
	}
	r = bufpipe_set_create(&set, 0);
	if (r == 0)
		r = bufpipe_set_add_fd(set, bufpipe_listener_fd(listener), POLLIN, listener);
	if (r == 0)
		r = bufpipe_set_add_fd(set, signals, POLLIN, NULL);
	if (r == 0)
		r = serve_all(set);
	if (r < 0)
		fprintf(stderr, "service: the set: %s\n", bufpipe_strerror(r));
	while (clients)
		forget(set, clients);
	bufpipe_set_destroy(set);
	bufpipe_listener_close(listener);
	close(signals);
	return r < 0;
}
