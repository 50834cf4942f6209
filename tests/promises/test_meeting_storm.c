/* SPDX-License-Identifier: MIT */
/*
 * A thousand clients and a server that sleeps, forks, runs out of descriptors and restarts. What a client
 * sent after a successful connect is received, or the client learns that it may not have been.
 */
#include "support.h"

#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>

enum { CROWDS = 20, VISITS = 50, CLIENTS = CROWDS * VISITS, WORDS = 3 };

struct word {
	int client;
	int number;
};

struct ledger {
	_Atomic char received[CLIENTS][WORDS];
	_Atomic char acknowledged[CLIENTS];
	_Atomic int learned;
	_Atomic int crowds_done;
};

static struct ledger *ledger;
static char directory[] = "/tmp/bufpipe-test-XXXXXX";
static char path[64];
static char lock_path[64];

/*
 * A server that was killed leaves its socket file. One that was just about to listen leaves its lock file as
 * well.
 */
static void leave(void)
{
	unlink(path);
	unlink(lock_path);
	check_eq(rmdir(directory), 0);
}

static void begin(void)
{
	support_begin();
	support_clean_up = leave;
	check(mkdtemp(directory) != NULL);
	snprintf(path, sizeof(path), "%s/socket", directory);
	snprintf(lock_path, sizeof(lock_path), "%s/.socket.lock", directory);
	ledger = mmap(NULL, sizeof(*ledger), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	check(ledger != MAP_FAILED);
}

TestSuite(meeting_storm, .init = begin, .timeout = 300);

/* Longer than a storm takes on a busy machine. */
#define VERY_LONG (200 * SEC)

static int send_words(bufpipe_t *pipe, int client)
{
	int r = 0;

	for (int i = 0; r == 0 && i < WORDS; i++)
		r = bufpipe_send(pipe, &(struct word){ client, i }, sizeof(struct word), VERY_LONG);
	return r;
}

/*
 * Connects, sends and leaves. On a busy machine a handshake may be silent for so long that a server without
 * descriptors drops the client. The client then learns it and comes again.
 */
static void crowd(void *arg)
{
	int first = *(int *)arg;
	bufpipe_t *pipe;
	int r;

	for (int i = 0; i < VISITS; i++) {
		while ((r = bufpipe_connect(&pipe, path, NULL, VERY_LONG)) == -ECONNRESET)
			;
		check_eq(r, 0);
		check_eq(send_words(pipe, first + i), 0);
		bufpipe_close(pipe);
	}
}

static int hear_words(bufpipe_t *pipe)
{
	struct word word;
	int n = 0;

	while (n < WORDS && bufpipe_recv(pipe, &word, sizeof(word), PLENTY) == sizeof(word)) {
		check(word.client >= 0 && word.client < CLIENTS && word.number == n);
		check_eq(ledger->received[word.client][n]++, 0);
		n++;
	}
	return n;
}

static void idle(void *arg)
{
	(void)arg;
	for (;;)
		pause();
}

/*
 * Another part of the program takes all descriptors for a while. 1 if a client was served nevertheless, with
 * the descriptor of a client that was dropped.
 */
static int run_out(bufpipe_listener_t *listener)
{
	static int held[1024];
	struct rlimit before;
	bufpipe_t *pipe;
	int n = 0;
	int r;

	getrlimit(RLIMIT_NOFILE, &before);
	setrlimit(RLIMIT_NOFILE, &(struct rlimit){ (rlim_t)descriptors_open() + 20, before.rlim_max });
	while (n < 1024 && (held[n] = dup(0)) >= 0)
		n++;
	r = bufpipe_accept(listener, &pipe, 30 * MSEC);
	while (n > 0)
		close(held[--n]);
	setrlimit(RLIMIT_NOFILE, &before);
	check(r == 0 || r == -EMFILE || r == -ETIMEDOUT);
	if (r < 0)
		return 0;
	check_eq(hear_words(pipe), WORDS);
	bufpipe_close(pipe);
	return 1;
}

Test(meeting_storm, whatever_the_server_does_all_that_was_sent_arrives)
{
	enum { WORKERS = 5 };
	struct child crowds[CROWDS];
	struct child workers[WORKERS];
	bufpipe_listener_t *listener;
	bufpipe_t *pipe;
	int first[CROWDS];

	check_eq(bufpipe_listen(&listener, path, NULL), 0);
	for (int i = 0; i < CROWDS; i++) {
		first[i] = i * VISITS;
		crowds[i] = child_start(crowd, &first[i]);
	}
	for (int i = 0; i < CLIENTS; i++) {
		if (i == CLIENTS / 2)
			sleep_ns(5500 * MSEC); /* longer than a silent connector may take */
		else if (i % 100 == 50)
			sleep_ns(50 * MSEC);
		if (i % (CLIENTS / WORKERS) == 3)
			workers[i / (CLIENTS / WORKERS)] = child_start(idle, NULL);
		if (i % 100 == 20)
			i += run_out(listener);
		check_eq(bufpipe_accept(listener, &pipe, PLENTY), 0);
		check_eq(hear_words(pipe), WORDS);
		bufpipe_close(pipe);
	}
	for (int i = 0; i < CROWDS; i++)
		child_join(&crowds[i]);
	for (int i = 0; i < WORKERS; i++)
		child_kill(&workers[i]);
	bufpipe_listener_close(listener);
}

static const struct bufpipe_options duplex = { .flags = BUFPIPE_DUPLEX };

/* Waits for the answer: either the server has received the message, or the server is gone. */
static void careful_crowd(void *arg)
{
	const struct bufpipe_options patient = { .flags = BUFPIPE_DUPLEX | BUFPIPE_WAIT_FOR_LISTENER };
	int first = *(int *)arg;
	bufpipe_t *pipe;
	char answer;
	ssize_t r;

	for (int i = 0; i < VISITS; i++) {
		check_eq(bufpipe_connect(&pipe, path, &patient, VERY_LONG), 0);
		r = send_words(pipe, first + i);
		if (r == 0)
			r = bufpipe_recv(pipe, &answer, 1, VERY_LONG);
		if (r == 1)
			ledger->acknowledged[first + i] = 1;
		else
			ledger->learned++;
		check(r == 1 || r == -EPIPE);
		bufpipe_close(pipe);
	}
	ledger->crowds_done++;
}

/* A worker that has nothing to do with the clients closes what it inherited. */
static void fork_worker(bufpipe_listener_t *listener, bufpipe_t *pipe)
{
	pid_t parent = getpid();

	if (fork())
		return;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	bufpipe_listener_close(listener);
	bufpipe_close(pipe);
	while (getppid() == parent)
		sleep_ns(10 * MSEC);
	_exit(0);
}

/* A worker of the former server may not have closed the listener yet. */
static bufpipe_listener_t *listen_after_another(void)
{
	int64_t end = clock_ns() + PLENTY;
	bufpipe_listener_t *listener;
	int r;

	while ((r = bufpipe_listen(&listener, path, &duplex)) == -EADDRINUSE && clock_ns() < end)
		sleep_ns(MSEC);
	check_eq(r, 0);
	return listener;
}

static void serve(void *arg)
{
	bufpipe_listener_t *listener = listen_after_another();
	bufpipe_t *pipe;

	(void)arg;
	for (int i = 0; bufpipe_accept(listener, &pipe, -1) == 0; i++) {
		if (i == 10)
			fork_worker(listener, pipe);
		if (hear_words(pipe) == WORDS)
			bufpipe_send(pipe, "y", 1, 0);
		bufpipe_close(pipe);
	}
}

Test(meeting_storm, a_client_whose_server_was_killed_learns_it)
{
	struct child crowds[CROWDS];
	struct child server = child_start(serve, NULL);
	int first[CROWDS];
	int acknowledged = 0;

	for (int i = 0; i < CROWDS; i++) {
		first[i] = i * VISITS;
		crowds[i] = child_start(careful_crowd, &first[i]);
	}
	for (int restarts = 0; restarts < 30 && ledger->crowds_done < CROWDS; restarts++) {
		sleep_ns((restarts % 3) * 20 * MSEC + MSEC);
		if (restarts % 4 == 1)
			kill(server.pid, SIGSTOP);
		sleep_ns(20 * MSEC);
		child_kill(&server);
		server = child_start(serve, NULL);
	}
	for (int i = 0; i < CROWDS; i++)
		child_join(&crowds[i]);
	child_kill(&server);
	for (int i = 0; i < CLIENTS; i++) {
		acknowledged += ledger->acknowledged[i];
		for (int w = 0; w < WORDS; w++)
			check(ledger->received[i][w] || !ledger->acknowledged[i]);
	}
	check_eq(acknowledged + ledger->learned, CLIENTS);
	check(acknowledged > 0);
}
