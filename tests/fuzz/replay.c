/* SPDX-License-Identifier: MIT */
/*
 * In place of libFuzzer: runs the files of a corpus, and after each of them, for
 * its share of some seconds, what a generator makes of its bytes.  The same
 * numbers at each run.
 *
 * Usage: SECONDS DIRECTORY...
 */
#include "fuzz/input.h"

#include <dirent.h>
#include <signal.h>
#include <unistd.h>

#define LONGEST 2000

/* What ran last: a failure prints it, so that it can be made a file of the corpus. */
static uint8_t bytes[LONGEST];
static size_t length;

static uint64_t next_random(uint64_t *state)
{
	uint64_t x = *state += 0x9e3779b97f4a7c15ull;

	x = (x ^ x >> 31) * 0xd6e8feb86659fd93ull;
	return x ^ x >> 32;
}

static void print_input(int signal)
{
	static const char digits[] = "0123456789abcdef";
	char text[2 * LONGEST + 1];
	size_t n = 0;

	for (size_t i = 0; i < length; i++) {
		text[n++] = digits[bytes[i] / 16];
		text[n++] = digits[bytes[i] % 16];
	}
	text[n++] = '\n';
	/* If the write fails, nothing can be done about it. */
	if (write(2, text, n) < 0)
		_exit(1);
	raise(signal); /* the handler was for one signal */
}

/* Runs the file as it is, and then mutants of it until its share of the time is over. */
static void replay(const char *path, int64_t share)
{
	uint8_t seed[LONGEST];
	FILE *file = fopen(path, "rb");
	uint64_t state = 1;
	int64_t until;
	size_t len;

	if (!file) {
		perror(path);
		exit(2);
	}
	len = fread(seed, 1, sizeof(seed), file);
	fclose(file);
	length = len;
	memcpy(bytes, seed, len);
	LLVMFuzzerTestOneInput(bytes, length);
	until = time_now() + share;
	while (time_now() < until) {
		length = next_random(&state) % 2 ? len : next_random(&state) % sizeof(bytes);
		for (size_t i = 0; i < length; i++)
			bytes[i] =
				i < len && next_random(&state) % 8 ? seed[i] : (uint8_t)next_random(&state);
		LLVMFuzzerTestOneInput(bytes, length);
	}
}

static int is_visible(const struct dirent *entry)
{
	return entry->d_name[0] != '.';
}

static void replay_directory(const char *path, int64_t time)
{
	struct dirent **names;
	char file[4096];
	int n = scandir(path, &names, is_visible, alphasort);

	if (n <= 0) {
		fprintf(stderr, "%s: no corpus\n", path);
		exit(2);
	}
	for (int i = 0; i < n; i++) {
		snprintf(file, sizeof(file), "%s/%s", path, names[i]->d_name);
		replay(file, time / n);
		free(names[i]);
	}
	free(names);
	printf("%s: %d files\n", path, n);
}

int main(int argc, char **argv)
{
	struct sigaction action = { .sa_handler = print_input, .sa_flags = (int)SA_RESETHAND | SA_NODEFER };
	double seconds = argc > 2 ? atof(argv[1]) : 0;

	sigaction(SIGABRT, &action, NULL);
	for (int i = 2; i < argc; i++)
		replay_directory(argv[i], (int64_t)(seconds * (double)NSEC_PER_SEC));
	return argc > 2 ? 0 : 2;
}
