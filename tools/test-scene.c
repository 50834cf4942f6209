/* SPDX-License-Identifier: MIT */
/* Pipes in the states that an operator meets, until standard input ends; for test-inspect.sh. */
#include <bufpipe.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

static pid_t children[2];

static void make(bufpipe_t *ends[2], const char *name, unsigned flags)
{
	struct bufpipe_options options = { .name = name, .flags = flags };

	if (bufpipe_create(ends, &options) < 0)
		exit(1);
}

static void fill(bufpipe_t *end)
{
	char message[100] = { 0 };

	while (bufpipe_send(end, message, sizeof(message), 0) >= 0)
		;
}

/* True in a child, which ends with this process. */
static int is_child(unsigned i)
{
	children[i] = fork();
	if (children[i] == 0)
		prctl(PR_SET_PDEATHSIG, SIGKILL);
	return children[i] == 0;
}

int main(void)
{
	bufpipe_t *no_handover[2], *leaked[2], *no_sender[2], *no_receiver[2];
	char message[100] = { 0 };

	/* A sender that waits for room in a pipe without descriptors; nobody receives. */
	make(no_handover, "scene-no-handover", BUFPIPE_NO_HANDOVER);
	if (is_child(0)) {
		while (bufpipe_send(no_handover[1], message, sizeof(message), -1) >= 0)
			;
		_exit(1);
	}
	/* A sending end that its process closes after one message, and that a child has inherited without its knowledge. */
	make(leaked, "scene-leaked", 0);
	if (is_child(1)) {
		pause();
		_exit(1);
	}
	if (bufpipe_send(leaked[1], message, sizeof(message), 0) < 0)
		return 1;
	bufpipe_close(leaked[1]);
	make(no_sender, "scene-no-sender", 0);
	fill(no_sender[1]);
	bufpipe_close(no_sender[1]);
	make(no_receiver, "scene-no-receiver", 0);
	fill(no_receiver[1]);
	bufpipe_close(no_receiver[0]);
	printf("%d %d\n", (int)children[0], (int)children[1]);
	fflush(stdout);
	while (read(STDIN_FILENO, message, sizeof(message)) > 0)
		;
	for (unsigned i = 0; i < 2; i++) {
		kill(children[i], SIGKILL);
		waitpid(children[i], NULL, 0);
	}
	bufpipe_close(no_receiver[1]);
	bufpipe_close(no_sender[0]);
	bufpipe_close(leaked[0]);
	bufpipe_close(no_handover[0]);
	bufpipe_close(no_handover[1]);
	return 0;
}
